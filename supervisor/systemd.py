"""The supervisor as a service of systemd: a system unit for root, a user unit for everyone else."""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from supervisor import keeper
from supervisor.control import ControlClient, SupervisorAway
from supervisor.homelock import held
from supervisor.paths import CHECKOUT
from supervisor.settings import ENV_FILE, WORKER_NAMES, Settings

Say = Callable[[str], None]

_USAGE: Final = 2  # the exit code for settings that cannot be used: the next try would end alike
_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 30.0
_USERS_SYSTEMD_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1
#: What the unit itself says, so that the service stays the one of this home whatever ``.env`` says later.
_SAID_BY_UNIT: Final = ("AUTONOUS_HOME", "AUTONOUS_PROJECT", "DOCKER_HOST")


class NoSystemd(Exception):
    """No systemd runs here; the message is one line for the user."""


class ServiceFailed(Exception):
    """systemd did not do as it was told; the message is one line for the user."""


@dataclass(frozen=True)
class Machine:
    """Where units are, for which user, and what the environment says."""

    root: Path = Path("/")
    uid: int = field(default_factory=os.getuid)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def has_systemd(self) -> bool:
        """Whether it runs, not only lies there."""
        return (self.root / "run/systemd/system").is_dir()

    @property
    def units(self) -> Path:
        """The directory of this user's own units."""
        if self.uid == 0:
            return self.root / "etc/systemd/system"
        configuration = self.environ.get("XDG_CONFIG_HOME") or Path(self.environ.get("HOME", ""), ".config")
        return Path(configuration, "systemd/user")


class SystemdService:
    """The unit of one installation."""

    def __init__(self, settings: Settings, machine: Machine | None = None) -> None:
        self._settings = settings
        self._machine = machine or Machine()

    @property
    def name(self) -> str:
        """The unit's name, with the project's unless that is the usual one."""
        project = self._settings.project
        return "autonous.service" if project == "autonous" else f"autonous-{project}.service"

    @property
    def path(self) -> Path:
        """The unit's file."""
        return self._machine.units / self.name

    @property
    def installed(self) -> bool:
        """Whether there is a unit that is this home's, and a systemd that heeds it."""
        try:
            unit = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return False
        return self._machine.has_systemd and self._home_line in unit

    @property
    def active(self) -> bool:
        """Whether systemd runs it now."""
        return self._systemctl("is-active", "--quiet", self.name).returncode == 0

    @property
    def enabled(self) -> bool:
        """Whether it starts with the machine."""
        return self._systemctl("is-enabled", "--quiet", self.name).returncode == 0

    @property
    def remedy(self) -> str:
        """What takes it away again."""
        return (
            f"`{self._control} disable --now {self.name} && rm {self.path} && {self._control} daemon-reload`, "
            "then `make up`"
        )

    def unit(self) -> str:
        """The unit's text."""
        is_root = self._machine.uid == 0
        engine = ("After=docker.service", "Wants=docker.service") if is_root else ()
        said = {"AUTONOUS_HOME": str(self._settings.home), "AUTONOUS_PROJECT": self._settings.project}
        if host := self._machine.environ.get("DOCKER_HOST"):
            said["DOCKER_HOST"] = host
        lines = (
            "# Written by `supervisor install-service`.",
            "[Unit]",
            f"Description=autonous supervisor, project {self._settings.project}",
            *engine,
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            *(("User=root",) if is_root else ()),
            f"WorkingDirectory={_plain(CHECKOUT)}",
            f"# All other settings are read from {_plain(ENV_FILE)} at each start.",
            *(_environment(name, value) for name, value in said.items()),
            "Environment=PYTHONUNBUFFERED=1",
            f"ExecStart={_quoted(sys.executable)} -m supervisor run",
            "# Workers, which are containers, and the local bot go on without a supervisor.",
            "KillMode=process",
            "Restart=on-failure",
            "RestartSec=5",
            f"RestartPreventExitStatus={_USAGE}",
            "TimeoutStopSec=90",
            f"StandardOutput=append:{_plain(self._settings.paths.supervisor_log)}",
            "StandardError=inherit",
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if is_root else 'default.target'}",
        )
        return "\n".join(lines) + "\n"

    def install(self, say: Say) -> None:
        """Write and enable the unit; a supervisor that runs without it goes on under it, its workers untouched.

        Raises NoSystemd, ServiceFailed, HomeUnusable.
        """
        if not self._machine.has_systemd:
            raise NoSystemd(
                "systemd does not run on this machine; `make up` starts a keeper instead, which brings the supervisor "
                "back until the machine stops"
            )
        paths = self._settings.paths
        if not str(paths.home).isprintable():
            raise ServiceFailed("AUTONOUS_HOME cannot be written into a unit; give it a name of printable characters")
        paths.create(worker_uid=self._settings.worker_uid)
        lingers = self._let_linger()  # first: it is what starts a user's own systemd where there is no login
        was_there = self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.unit(), encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise ServiceFailed(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            self._do("daemon-reload")
            self._do("enable", self.name)
        except ServiceFailed:
            if not was_there:  # `up` would take it for the service
                self.path.unlink(missing_ok=True)
            raise
        say(f"Wrote and enabled {self.path}.")
        if not lingers:
            say(f"warning: {self._no_linger}")
        self.warn(say)
        if held(paths.lock):
            keeper.stop(paths)
            if not self.active:
                keeper.end_supervisor(paths)
            # Not `start`: to systemd one of its own that is only just ending is there, and it would start no other.
            self._do("restart", self.name)
            self._await_answer()
            say("The supervisor runs under systemd now.")
        else:
            say("It starts with the machine, or now by `make up`.")
        say(f"To remove it: {self.remedy}")

    def warn(self, say: Say) -> None:
        """Name the settings that this shell has and the service will not."""
        for name in self._only_here():
            say(f"warning: {name} is set in this shell and not in {ENV_FILE}; the service will not have it")

    def start(self) -> None:
        """Start it, unless it runs. Raises ServiceFailed."""
        self._do("start", self.name)

    def stop(self) -> None:
        """Stop it, also between two tries; the containers go on. Raises ServiceFailed."""
        self._do("stop", self.name)

    def remove(self) -> None:
        """Stop it and take it away. Raises ServiceFailed."""
        self._do("disable", "--now", self.name)
        self.path.unlink(missing_ok=True)
        self._do("daemon-reload")

    # -- inside

    @property
    def _home_line(self) -> str:
        return _environment("AUTONOUS_HOME", str(self._settings.home)) + "\n"

    @property
    def _control(self) -> str:
        return "systemctl" if self._machine.uid == 0 else "systemctl --user"

    def _await_answer(self) -> None:
        paths = self._settings.paths
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                ControlClient(paths.control_socket).status()
            except SupervisorAway:
                if time.monotonic() > deadline:
                    raise ServiceFailed(
                        f"the supervisor does not come up under systemd; see {paths.supervisor_log}"
                    ) from None
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _let_linger(self) -> bool:
        """Have it start with the machine, as a user's does only when the user lingers; whether it will."""
        if self._machine.uid == 0:
            return True
        user = getpass.getuser()
        # Asked first: where nobody may decide for the user, one who lingers already is refused it as well.
        known = self._run("loginctl", "show-user", "--property=Linger", user).stdout.strip()
        if known == "Linger=yes":
            return True
        if self._run("loginctl", "enable-linger", user).returncode != 0:
            return False
        deadline = time.monotonic() + _USERS_SYSTEMD_SECONDS
        while not self._reachable and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return True

    @property
    def _reachable(self) -> bool:
        return self._systemctl("show-environment").returncode == 0

    @property
    def _no_linger(self) -> str:
        way = f"`sudo loginctl enable-linger {getpass.getuser()}` has it run from the start of the machine on"
        return f"systemd runs for you only while you are logged in; {way}"

    def _only_here(self) -> list[str]:
        """The names of settings that this shell has and the service will not."""
        names = {*WORKER_NAMES, *(f.alias for f in Settings.model_fields.values() if f.alias)} - {*_SAID_BY_UNIT}
        in_file = dotenv_values(ENV_FILE) if ENV_FILE.is_file() else {}
        environ = self._machine.environ
        return sorted(name for name in names if environ.get(name) and environ[name] != in_file.get(name))

    def _do(self, *arguments: str) -> None:
        done = self._systemctl(*arguments)
        if done.returncode != 0:
            if self._machine.uid != 0 and not self._reachable:
                raise ServiceFailed(self._no_linger)
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ServiceFailed(f"`{self._control} {' '.join(arguments)}` failed: {reason}")

    def _systemctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._run(*self._control.split(), *arguments)

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        environ = dict(self._machine.environ)
        runtime = Path(f"/run/user/{self._machine.uid}")
        if self._machine.uid != 0 and "XDG_RUNTIME_DIR" not in environ and runtime.is_dir():
            environ["XDG_RUNTIME_DIR"] = str(runtime)  # where the user's own systemd listens
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                env=environ,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, "", str(error))


def _environment(name: str, value: str) -> str:
    return f"Environment={_quoted(f'{name}={value}')}"


def _quoted(text: str) -> str:
    """A word of a unit file. Variables are known in a command's arguments alone, so dollar signs stay."""
    text = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _plain(text: str | Path) -> str:
    """A value of a unit file that is not quoted."""
    return str(text).replace("%", "%%")
