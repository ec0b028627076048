"""The supervisor as a service: the unit's text, and what systemd is told, by a program in ``systemctl``'s place."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor import settings as settings_module
from supervisor.settings import Settings
from supervisor.systemd import Machine, NoSystemd, ServiceFailed, SystemdService

ROOT = Path(__file__).resolve().parents[2]
#: Notes what it is told, and fails where the test says so.
PROGRAM = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
with Path(os.environ["TOLD"]).open("a") as told:
    print(json.dumps([Path(sys.argv[0]).name, *sys.argv[1:]]), file=told)
print(os.environ.get("SAYS", ""))
if set(os.environ.get("FAIL_AT", "").split()) & set(sys.argv):
    sys.exit("it did not work\\nbecause the test says so")
"""


class Systemd:
    """A machine of its own with these programs on its path."""

    def __init__(self, directory: Path, environ: Mapping[str, str] | None = None, *, uid: int = 0) -> None:
        self.told_file = directory / "told"
        programs = directory / "bin"
        programs.mkdir()
        for name in ("systemctl", "loginctl"):
            (programs / name).write_text(PROGRAM)
            (programs / name).chmod(0o755)
        (directory / "run/systemd/system").mkdir(parents=True)
        own = {"PATH": f"{programs}:{os.environ['PATH']}", "TOLD": str(self.told_file), "HOME": str(directory / "user")}
        self.machine = Machine(root=directory, uid=uid, environ={**own, **(environ or {})})

    @property
    def told(self) -> list[list[str]]:
        lines = self.told_file.read_text().splitlines() if self.told_file.exists() else []
        return [json.loads(line) for line in lines]


def settings(home: Path, **values: str) -> Settings:
    return settings_module.load({"AUTONOUS_HOME": str(home), **values}, env_file=home / "no.env")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where no installation is yet."""
    return tmp_path / "home"


def test_the_system_unit(tmp_path: Path, home: Path) -> None:
    """Restarts on failure, leaves containers alone, waits for the engine, and says whose home it is."""
    unit = SystemdService(settings(home), Systemd(tmp_path).machine).unit().splitlines()
    for line in (
        "After=docker.service",
        f'Environment="AUTONOUS_HOME={home}"',
        'Environment="AUTONOUS_PROJECT=autonous"',
        f'ExecStart="{sys.executable}" -m supervisor run',
        "KillMode=process",
        "Restart=on-failure",
        "WantedBy=multi-user.target",
    ):
        assert line in unit


def test_the_user_unit(tmp_path: Path, home: Path) -> None:
    """Wants nothing of the system's, and starts with the user's own systemd."""
    unit = SystemdService(settings(home), Systemd(tmp_path, uid=1000).machine).unit()
    assert "docker.service" not in unit
    assert "User=" not in unit
    assert "WantedBy=default.target" in unit


def test_no_secret_is_in_the_unit(tmp_path: Path, home: Path) -> None:
    """Whatever the shell that installs it holds."""
    keys = {"OPENAI_API_KEY": "sk-very-secret", "TELEGRAM_BOT_TOKEN": "12345:very-secret"}
    machine = Systemd(tmp_path, keys).machine
    assert "very-secret" not in SystemdService(settings(home, **keys), machine).unit()


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("with spaces", "with spaces"),
        ("100%", "100%%"),
        ('"quotes"', r"\"quotes\""),
        ("back\\slash", r"back\\slash"),
        ("$HOME", "$HOME"),
    ],
)
def test_homes_with_odd_names(tmp_path: Path, name: str, written: str) -> None:
    """Are written by the rules for quoted words; the log's path, which is not quoted, knows only the percent sign."""
    unit = SystemdService(settings(Path("/x", name)), Systemd(tmp_path).machine).unit().splitlines()
    assert f'Environment="AUTONOUS_HOME=/x/{written}"' in unit
    assert f"StandardOutput=append:/x/{name.replace('%', '%%')}/logs/supervisor.log" in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", ["plain", 'with spaces, 100% and "quotes"', "dollar$HOME", "back\\slash"])
def test_systemd_understands_it(tmp_path: Path, name: str) -> None:
    """Also with a home that has a name of the odd kind."""
    home = tmp_path / name
    (home / "logs").mkdir(parents=True)
    unit = tmp_path / "autonous-test.service"
    machine = Systemd(tmp_path, uid=1000).machine
    unit.write_text(SystemdService(settings(home), machine).unit())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def test_install(tmp_path: Path, home: Path) -> None:
    """Written, enabled, and said how to be rid of it."""
    systemd = Systemd(tmp_path)
    service = SystemdService(settings(home), systemd.machine)
    said: list[str] = []
    assert not service.installed
    service.install(said.append)
    assert (tmp_path / "etc/systemd/system/autonous.service").read_text() == service.unit()
    assert systemd.told == [["systemctl", "daemon-reload"], ["systemctl", "enable", "autonous.service"]]
    assert service.installed
    assert said[-1].startswith("To remove it: `systemctl disable --now autonous.service && rm ")


def test_install_for_a_user(tmp_path: Path, home: Path) -> None:
    """In the user's own directory, by the user's own systemd, which is asked to stay without a login."""
    systemd = Systemd(tmp_path, uid=1000)
    SystemdService(settings(home), systemd.machine).install(lambda _: None)
    assert (tmp_path / "user/.config/systemd/user/autonous.service").exists()
    assert [told[:2] for told in systemd.told] == [
        ["loginctl", "show-user"],
        ["loginctl", "enable-linger"],
        *[["systemctl", "--user"]] * 3,
    ]
    assert [told[2] for told in systemd.told[2:]] == ["show-environment", "daemon-reload", "enable"]


def test_a_user_who_lingers_already(tmp_path: Path, home: Path) -> None:
    """Is not refused for it where the user may not decide that: nothing is asked and nothing warned of."""
    systemd = Systemd(tmp_path, {"FAIL_AT": "enable-linger", "SAYS": "Linger=yes"}, uid=1000)
    said: list[str] = []
    SystemdService(settings(home), systemd.machine).install(said.append)
    assert ["loginctl", "enable-linger"] not in [told[:2] for told in systemd.told]
    assert not any(line.startswith("warning") for line in said)


def test_a_user_who_may_not_linger(tmp_path: Path, home: Path) -> None:
    """Is told what would have it start with the machine."""
    systemd = Systemd(tmp_path, {"FAIL_AT": "enable-linger"}, uid=1000)
    said: list[str] = []
    SystemdService(settings(home), systemd.machine).install(said.append)
    assert any("only while you are logged in; `sudo loginctl enable-linger" in line for line in said)


def test_a_user_without_a_systemd_of_their_own(tmp_path: Path, home: Path) -> None:
    """Nobody logged in and nobody lingers: the way out is named, and no unit is left for `up` to stumble over."""
    systemd = Systemd(tmp_path, {"FAIL_AT": "enable-linger --user"}, uid=1000)
    service = SystemdService(settings(home), systemd.machine)
    with pytest.raises(ServiceFailed, match="sudo loginctl enable-linger"):
        service.install(lambda _: None)
    assert not service.installed


def test_settings_that_only_the_shell_has(tmp_path: Path, home: Path) -> None:
    """Are named, without their values: the service will not have them."""
    said: list[str] = []
    machine = Systemd(tmp_path, {"OPENAI_API_KEY": "sk-very-secret", "AUTONOUS_HOME": str(home)}).machine
    SystemdService(settings(home), machine).install(said.append)
    warnings = [line for line in said if line.startswith("warning")]
    assert len(warnings) == 1
    assert "OPENAI_API_KEY" in warnings[0]
    assert "very-secret" not in warnings[0]


def test_the_unit_of_another_home(tmp_path: Path, home: Path) -> None:
    """Is not taken for this one's; another project's has another name."""
    machine = Systemd(tmp_path).machine
    SystemdService(settings(home), machine).install(lambda _: None)
    assert not SystemdService(settings(tmp_path / "other"), machine).installed
    other = SystemdService(settings(tmp_path / "other", AUTONOUS_PROJECT="second"), machine)
    assert other.name == "autonous-second.service"


def test_start_stop_and_remove(tmp_path: Path, home: Path) -> None:
    """What systemd is told; after the last nothing is left."""
    systemd = Systemd(tmp_path)
    service = SystemdService(settings(home), systemd.machine)
    service.install(lambda _: None)
    service.start()
    service.stop()
    service.remove()
    assert [told[1] for told in systemd.told[2:]] == ["start", "stop", "disable", "daemon-reload"]
    assert not service.path.exists()


def test_a_systemd_that_refuses(tmp_path: Path, home: Path) -> None:
    """Its last word is told, and a unit that is not enabled does not stay, except one that was there."""
    systemd = Systemd(tmp_path, {"FAIL_AT": "enable"})
    service = SystemdService(settings(home), systemd.machine)
    with pytest.raises(ServiceFailed, match="because the test says so"):
        service.install(lambda _: None)
    assert not service.installed
    service.path.write_text(service.unit())
    with pytest.raises(ServiceFailed):
        service.install(lambda _: None)
    assert service.installed


def test_without_systemd(tmp_path: Path, home: Path) -> None:
    """One line, and nothing is written or made."""
    machine = Machine(root=tmp_path, uid=0, environ={})
    with pytest.raises(NoSystemd, match="systemd does not run on this machine"):
        SystemdService(settings(home), machine).install(lambda _: None)
    assert list(tmp_path.iterdir()) == []


def command(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "AUTONOUS_HOME": str(home / "home")}
    return subprocess.run(
        [sys.executable, "-m", "supervisor", "install-service", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_shows_the_unit(tmp_path: Path) -> None:
    """With --print, and does nothing else."""
    done = command(tmp_path, "--print")
    assert done.returncode == 0
    assert f'Environment="AUTONOUS_HOME={tmp_path / "home"}"' in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_the_command_without_systemd(tmp_path: Path) -> None:
    """1, one line, nothing made."""
    done = command(tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert list(tmp_path.iterdir()) == []
