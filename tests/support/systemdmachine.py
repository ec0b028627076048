"""A machine that systemd runs: a container whose first process it is, with a disk that lasts and this machine's engine.

The workers of an installation in there are started by the engine outside, so its home has the same path on both sides;
and they are not the machine's own processes, so whoever ends the machine ends them as well.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import docker
import pytest
from docker.errors import NotFound

from supervisor.engine import engine_url
from supervisor.images.contexts import digest
from supervisor.specs import LABEL_PROJECT
from tests.support.installation import COMMAND_SECONDS, PASSED_ON, Installation, Result, wait_for
from tests.support.leftout import leave_out
from tests.support.privateengine import ROOTS
from tests.support.projects import new_project

RELEASE: Final = "bookworm"
PYTHON: Final = (3, 11)  # that release's own
_PACKAGES: Final = (
    *("ca-certificates", "dbus", "dbus-user-session", "git", "libpam-systemd", "procps", "python3", "python3-venv"),
    *("systemd", "systemd-sysv"),
)
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
_BOOT_SECONDS: Final = 60
_END_SECONDS: Final = 60
#: What tells systemd to shut the machine down in order.
_POWER_OFF: Final = "SIGRTMIN+3"
#: Capabilities, with their numbers, that a machine of somebody's own may lack; one that lacks cannot be handed on.
_MAY_LACK: Final = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_BOOT": 22, "SYS_RESOURCE": 24, "SYS_TIME": 25}


def why_not() -> str | None:
    """Why this machine cannot have another one inside; None when it can."""
    if os.getuid() != 0:
        return "only root can make a machine that systemd runs"
    if shutil.which("mmdebstrap") is None or not Path(_KEYRING).is_file():
        return "there is no mmdebstrap to make one that systemd runs, or no keyring of Debian's"
    if sys.version_info[:2] != PYTHON:
        return f"the packages here are not for Python {'.'.join(map(str, PYTHON))}, which a machine of {RELEASE} has"
    return None


class SystemdMachine:
    """The machine, up while it is entered, and a directory that both sides have at the same path."""

    def __init__(self) -> None:
        # Not the installation's own project: whatever of that it does not know, a supervisor removes.
        self._project = new_project("own")
        self.root = ROOTS / self._project  # where a killed run's leavings are looked for
        self._api = docker.APIClient(base_url=engine_url(), version="auto", timeout=COMMAND_SECONDS)
        self._id = ""

    def __enter__(self) -> Self:
        self.root.mkdir(mode=0o755)
        try:
            self._id = self._create(_image(self._api))
            self.power_on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._id:
            with suppress(NotFound):
                self._api.remove_container(self._id, force=True, v=True)
        self._api.close()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def engine_group(self) -> int:
        """Who may use the engine's socket."""
        return Path(engine_url().removeprefix("unix://")).stat().st_gid

    def run(
        self,
        *command: str,
        user: str = "root",
        cwd: str | Path = "/",
        given: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command in there to its end."""
        words = list(command)
        if given:
            file = self.root / f"given-{uuid.uuid4().hex}"
            file.write_bytes(given)
            words = ["sh", "-c", f'exec "$@" <{file}', "sh", *words]
        made = self._api.exec_create(self._id, words, user=user, workdir=str(cwd), environment=dict(environment or {}))
        out, err = self._api.exec_start(made["Id"], demux=True)
        code = self._api.exec_inspect(made["Id"])["ExitCode"]
        return Result(" ".join(command), code, (out or b"").decode(), (err or b"").decode())

    def make_python(self, checkout: Path) -> str:
        """An interpreter for a checkout, with the packages of this one."""
        venv = checkout / ".venv"
        self.run("/usr/bin/python3", "-m", "venv", "--without-pip", str(venv)).expect(0)
        site = venv / "lib" / f"python{'.'.join(map(str, PYTHON))}" / "site-packages"
        (site / "test.pth").write_text(f"{checkout}\n/opt/packages\n")
        return str(venv / "bin/python")

    def power_on(self) -> None:
        """Start it, and return when systemd has brought up all that starts with it."""
        self._api.start(self._id)
        # One unit or another of the distribution's may not like a container.
        up = ("running", "degraded")
        wait_for(lambda: self.run("systemctl", "is-system-running").out.strip() in up, _BOOT_SECONDS, "a machine")

    def shut_down(self) -> None:
        """Have systemd end everything in its order."""
        self._api.kill(self._id, _POWER_OFF)
        assert self._api.wait(self._id, timeout=_END_SECONDS)

    def cut_power(self) -> None:
        """All processes are gone at once; what is on the disk stays."""
        self._api.kill(self._id)
        self._api.wait(self._id, timeout=_END_SECONDS)

    def _create(self, image: str) -> str:
        packages = Path(pytest.__file__).parent.parent
        binds = [
            f"{self.root}:{self.root}",
            f"{packages}:/opt/packages:ro",
            f"{engine_url().removeprefix('unix://')}:/run/docker.sock",
        ]
        host = self._api.create_host_config(
            binds=binds,
            # All that this machine itself has; one that is not there cannot be given, as --privileged would.
            cap_add=["ALL"],
            cap_drop=_missing_capabilities(),
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            tmpfs={"/run": "exec", "/run/lock": "", "/tmp": "exec", **_cgroup_tmpfs()},
        )
        host["CgroupnsMode"] = "private"
        made = self._api.create_container(
            image, ["/sbin/init"], name=self._project, labels={LABEL_PROJECT: self._project}, host_config=host
        )
        return str(made["Id"])


class OnMachine(Installation):
    """An installation in such a machine, by one of its users; its settings are in ``.env``, as a service reads them."""

    def __init__(
        self, machine: SystemdMachine, directory: Path, checkout: Path, *, user: str = "root", docker_host: str = ""
    ) -> None:
        self.machine, self.user, self.user_home, self.docker_host = machine, user, directory, docker_host
        self.python = machine.make_python(checkout)
        super().__init__(directory / "home", checkout)

    @property
    def environment(self) -> dict[str, str]:
        """What the user's shell would have: the least."""
        named = {"DOCKER_HOST": self.docker_host} if self.docker_host else {}
        home = "/root" if self.user == "root" else str(self.user_home)
        own = {"HOME": home, "AUTONOUS_HOME": str(self.home), "AUTONOUS_PROJECT": self.project}
        assert not own.keys() & set(PASSED_ON) - {"HOME"}
        return {**own, **named}

    def run(self, *arguments: str, given: bytes = b"", settings: Mapping[str, str] | None = None) -> Result:
        """Run a command of the supervisor's in there."""
        command = [self.python, "-m", "supervisor", *arguments]
        return self._exec(command, given=given, environment=settings)

    def shell(self, line: str) -> Result:
        """A line that somebody was told to type."""
        return self._exec(["sh", "-c", line], environment=self._session())

    def systemctl(self, *arguments: str) -> Result:
        """A word to the systemd that has the service."""
        own = [] if self.user == "root" else ["--user"]
        return self._exec(["systemctl", *own, *arguments], environment=self._session())

    def purge(self) -> Result:
        """What ``make purge`` runs."""
        return self._exec([self.python, "-m", "supervisor.purge"])

    def end_workers(self) -> None:
        """As the end of the machine ends them."""
        for role in ("worker", "toolbox"):
            for container in self.containers(role):
                self.docker.kill(container["Id"])

    def _session(self) -> dict[str, str]:
        """What a login adds for whoever is not root: where the user's own systemd listens."""
        if self.user == "root":
            return {}
        uid = self.machine.run("id", "-u", self.user).expect(0).out.strip()
        return {"XDG_RUNTIME_DIR": f"/run/user/{uid}"}

    def _exec(
        self, command: Sequence[str], *, given: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> Result:
        variables = {**self.environment, **(environment or {})}
        return self.machine.run(*command, user=self.user, cwd=self.checkout, given=given, environment=variables)

    def _kill_holder(self, lock: Path) -> None:
        # Numbers of processes are the machine's own.
        held_by = lock.read_text().strip() if lock.exists() else ""
        if held_by:
            self.machine.run("kill", "-KILL", held_by)


def _missing_capabilities() -> list[str]:
    bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    bits = int(bounding.split()[1], 16)
    return [name for name, number in _MAY_LACK.items() if not bits >> number & 1]


def _cgroup_tmpfs() -> dict[str, str]:
    """With the first kind of control groups systemd mounts them itself where it finds an empty place."""
    return {} if Path("/sys/fs/cgroup/cgroup.controllers").exists() else {"/sys/fs/cgroup": ""}


def _image(api: Any) -> str:
    """The machine's disk as it is new, made once for each engine."""
    tag = f"autonous-test-systemd:{digest(RELEASE.encode(), *(name.encode() for name in _PACKAGES))}"
    with suppress(NotFound):
        return str(api.inspect_image(tag)["Id"])
    with tempfile.TemporaryDirectory(prefix="autonous-systemd-", dir="/var/tmp") as directory:
        root = Path(directory) / "root.tar"
        done = subprocess.run(
            [
                *("mmdebstrap", "--variant=essential", "--format=tar", f"--include={','.join(_PACKAGES)}"),
                *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
                *(RELEASE, str(root), *(["-"] if _sources() else [])),
            ],
            input=_sources(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            leave_out(f"no machine that systemd runs could be made: {(done.stderr.splitlines() or [''])[-1]}")
        api.import_image_from_file(str(root), *tag.split(":"), changes=["ENV container=docker"])
    return str(api.inspect_image(tag)["Id"])


def _sources() -> str:
    """The mirror that this machine's apt uses, when it knows the release; else it is mmdebstrap's choice."""
    wanted = [
        *("apt-get", "indextargets", "--format", f"deb [signed-by={_KEYRING}] $(REPO_URI) $(RELEASE) $(COMPONENT)"),
        *("Created-By: Packages", "Origin: Debian"),
    ]
    listed = subprocess.run(wanted, capture_output=True, text=True, check=False).stdout.splitlines()
    ends = tuple(f" {RELEASE}{part} main" for part in ("", "-updates", "-security"))
    return "".join(f"{line}\n" for line in listed if line.endswith(ends))
