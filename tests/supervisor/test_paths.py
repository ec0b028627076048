"""Where things are: socket paths that fit, private directories, and one line when the home cannot be used."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.paths import CHECKOUT, HomeUnusable, Paths
from supervisor.unixserver import LONGEST_PATH
from tests.supervisor.localbot_support import short_directory
from tests.support.leftout import only_root

UID = 10001


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory that is short enough for sockets."""
    with short_directory() as directory:
        yield directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def sockets(paths: Paths) -> list[Path]:
    """Every socket below the run directory; the exam's lie deepest."""
    exam = paths.run / "exam" / "0123abcd" / "contract"
    return [paths.contract_socket, paths.localbot_socket, paths.control_socket, exam / "supervisor.sock"]


def test_a_short_home_holds_its_own_sockets() -> None:
    """run/ is inside, as everything else."""
    home = Path("/home/owner/.local/state/autonous")
    assert Paths(home).run == home / "run"


@pytest.mark.parametrize("length", [20, 56, 57, 60, 61, 100, 500])
def test_every_socket_fits_however_long_the_home_is(length: int) -> None:
    """The kernel takes 107 bytes, some systems fewer."""
    home = Path("/" + "x" * (length - 1))
    paths = Paths(home)
    for socket in sockets(paths):
        assert len(os.fsencode(socket)) <= LONGEST_PATH, socket


def test_a_home_of_wide_characters_counts_in_bytes() -> None:
    """A short name may be long for the kernel."""
    paths = Paths(Path("/home") / ("ü" * 40))
    assert not paths.run.is_relative_to(paths.home)
    for socket in sockets(paths):
        assert len(os.fsencode(socket)) <= LONGEST_PATH


def test_long_homes_have_run_directories_of_their_own() -> None:
    """Two installations never share one, and each finds its own again."""
    homes = [Path("/" + "x" * 100 + str(number)) for number in range(50)]
    assert len({Paths(home).run for home in homes}) == len(homes)
    assert Paths(homes[0]).run == Paths(Path(str(homes[0]))).run


def test_the_run_directory_is_the_same_for_everybody_who_looks(tmp_path: Path) -> None:
    """Whatever temporary directory one has, the sockets of a long home are found."""
    script = (
        "from pathlib import Path; from supervisor.paths import Paths;"
        "print(Paths(Path('/' + 'x' * 100)).contract_socket)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == str(Paths(Path("/" + "x" * 100)).contract_socket)


def test_the_directories_are_made_private(short: Path) -> None:
    """Nobody but the owner gets into the home; below it only what containers must pass through is open."""
    paths = Paths(short / "deep" / "home")
    paths.create(worker_uid=UID)
    for private in (paths.home, paths.run, paths.snapshots, paths.logs, paths.state, paths.workspace):
        assert mode(private) == 0o700, private
    for passed in (paths.contract_directory, paths.run / "toolbox", paths.config):
        assert mode(passed) == 0o755, passed


def test_making_them_again_changes_nothing_inside(short: Path) -> None:
    """And closes a home that was open before."""
    paths = Paths(short / "home")
    paths.create(worker_uid=UID)
    paths.agent_db.write_bytes(b"kept")
    paths.home.chmod(0o777)
    paths.create(worker_uid=UID)
    assert paths.agent_db.read_bytes() == b"kept"
    assert mode(paths.home) == 0o700


def test_what_containers_write_belongs_to_their_user(short: Path) -> None:
    """And nothing else does."""
    only_root("hand a directory to another user")
    paths = Paths(short / "home")
    paths.create(worker_uid=UID)
    assert [d.stat().st_uid for d in (paths.state, paths.workspace)] == [UID, UID]
    kept = (paths.home, paths.run, paths.contract_directory, paths.config, paths.snapshots, paths.logs)
    assert {d.stat().st_uid for d in kept} == {0}


@pytest.mark.parametrize("obstacle", ["home", "parent", "logs", "state"])
def test_a_home_that_cannot_be_made_is_one_line(short: Path, obstacle: str) -> None:
    """A file where a directory should be: the line names the home, the reason and the place."""
    home = short / "parent" / "home"
    blocked = {"home": home, "parent": short / "parent", "logs": home / "logs", "state": home / "state"}[obstacle]
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.touch()
    with pytest.raises(HomeUnusable) as caught:
        Paths(home).create(worker_uid=UID)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"AUTONOUS_HOME={home} cannot be used: ")
    assert text.endswith("it must be a directory that you may write")


def test_a_home_on_a_read_only_place_is_one_line() -> None:
    """/proc takes no directory, not even root's."""
    with pytest.raises(HomeUnusable, match=r"^AUTONOUS_HOME=/proc/autonous cannot be used: "):
        Paths(Path("/proc/autonous")).create(worker_uid=UID)


@pytest.mark.parametrize("which", ["home", "run"])
def test_a_directory_of_another_users_is_refused(which: str) -> None:
    """Somebody who made it before us could read and replace what is put there. Root's own directories are root's."""
    only_root("make another user's directory")
    script = (
        "import sys; from pathlib import Path; from supervisor.paths import HomeUnusable, Paths\n"
        "import os; os.setuid(12345)\n"
        "try: Paths(Path(sys.argv[1])).create(worker_uid=12345)\n"
        "except HomeUnusable as error: print(error)"
    )
    with short_directory() as directory:
        directory.chmod(0o755)
        home = directory / "home"
        foreign = {"home": home, "run": home / "run"}[which]
        foreign.mkdir(parents=True)
        os.chown(home, 12345, -1)
        os.chown(foreign, 54321, -1)
        foreign.chmod(0o777)
        ended = subprocess.run(
            [sys.executable, "-c", script, str(home)], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
    assert "it belongs to user 54321" in ended.stdout, ended.stderr


def test_nothing_that_is_mounted_holds_what_is_private(tmp_path: Path) -> None:
    """The ledger, the repository and the control socket lie outside of every directory that a container sees."""
    paths = Paths(tmp_path)
    mounted = (paths.state, paths.contract_directory, paths.config, paths.workspace, paths.toolbox("w"))
    private = (paths.ledger, paths.lock, paths.revisions, paths.control_socket, paths.localbot_db, paths.logs)
    for directory in mounted:
        assert not any(path.is_relative_to(directory) for path in private), directory


def test_each_update_has_its_own_logs_and_each_worker_its_own_socket(tmp_path: Path) -> None:
    """By the full id."""
    paths = Paths(tmp_path)
    assert paths.steps("a") == paths.logs / "updates" / "a"
    assert paths.toolbox("w-1") != paths.toolbox("w-2")
