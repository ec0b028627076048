"""Which directories can be granted at all."""

import os
import socket
from pathlib import Path

import pytest

from supervisor.contract import GrantOrder
from supervisor.ledger import Access
from supervisor.toolbox.grantable import NotGrantable, Walls, overlapping, place, still_there
from tests.supervisor.fakes.installation import Installation


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "ground"
    (made / "data" / "deep").mkdir(parents=True)
    (made / "home" / ".ssh").mkdir(parents=True)
    (made / "home" / "projects").mkdir()
    (made / "autonous" / "workspace").mkdir(parents=True)
    (made / "link").symlink_to(made / "data")
    (made / "file").write_text("")
    return made


@pytest.fixture
def walls(ground: Path) -> Walls:
    return Walls(roots=(ground,), private=(ground / "autonous",), home=ground / "home")


@pytest.mark.parametrize("what", ["data", "data/", "data/deep", "//data", "./data", "home/projects"])
def test_what_can_be_granted(walls: Walls, ground: Path, what: str) -> None:
    """A directory under a root, however it is written."""
    directory, mode = walls.check(f"{ground}/{what}", "rw", 24)
    assert directory == Path(os.path.normpath(f"{ground}/{what}"))
    assert mode is Access.READ_WRITE


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("data/../data", "bad_path"),
        ("data\n", "bad_path"),
        ("data\0", "bad_path"),
        ("none", "bad_path"),
        ("link", "symlink"),
        ("link/deep", "symlink"),
        ("file", "not_a_directory"),
        ("file/deep", "bad_path"),
        ("", "not_grantable"),  # around the home and autonous
        ("home", "not_grantable"),
        ("home/.ssh", "not_grantable"),
        ("autonous", "not_grantable"),
        ("autonous/workspace", "not_grantable"),
    ],
)
def test_what_cannot(walls: Walls, ground: Path, what: str, code: str) -> None:
    """With a word for programs and a line for the owner."""
    with pytest.raises(NotGrantable) as caught:
        walls.check(f"{ground}/{what}", "ro", 1)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/usr/share", "/proc/self", "/dev", "/run", "/var", "/bin", "/tmp", "data"]
)
def test_the_systems_own_is_never_granted(path: str) -> None:
    """Not even where a root would allow it."""
    walls = Walls(roots=tuple(Path("/").iterdir()), private=(), home=Path("/home/nobody"))
    with pytest.raises(NotGrantable):
        walls.check(path, "ro", 1)


def test_a_socket_is_not_granted(walls: Walls, ground: Path) -> None:
    """Whoever listens there."""
    with socket.socket(socket.AF_UNIX) as listener:
        previous = Path.cwd()
        os.chdir(ground)
        try:
            listener.bind("s")
        finally:
            os.chdir(previous)
        with pytest.raises(NotGrantable, match="no directory"):
            walls.check(str(ground / "s"), "rw", 1)


@pytest.mark.parametrize("hours", [0, -1, 24.01, float("nan"), float("inf")])
def test_for_a_day_at_most(walls: Walls, ground: Path, hours: float) -> None:
    """And for some time at all."""
    with pytest.raises(NotGrantable) as caught:
        walls.check(str(ground / "data"), "ro", hours)
    assert caught.value.code == "bad_time"


def test_without_roots_nothing_can_be_granted(ground: Path) -> None:
    """The line names the setting."""
    with pytest.raises(NotGrantable, match="AUTONOUS_GRANTABLE_ROOTS"):
        Walls(roots=(), private=(), home=ground).check(str(ground / "data"), "ro", 1)
    with pytest.raises(NotGrantable) as caught:
        Walls(roots=(ground,), private=(), home=Path("/nowhere")).check(str(ground / "data"), "x", 1)
    assert caught.value.code == "bad_mode"


def test_a_directory_that_was_replaced_is_another_one(ground: Path) -> None:
    """By a symlink, by a directory of the same name, or by nothing."""
    data = ground / "data"
    known = place(data)
    assert still_there(str(data), known)
    data.rename(ground / "moved")
    assert not still_there(str(data), known)
    data.symlink_to(ground / "moved")
    assert not still_there(str(data), known)
    data.unlink()
    data.mkdir()
    assert not still_there(str(data), known)


def test_what_overlaps() -> None:
    """Inside of one another, or the same; a common beginning of the name is none."""
    assert overlapping(Path("/srv/a"), ["/srv/b", "/srv/a/b"]) == "/srv/a/b"
    assert overlapping(Path("/srv/a/b"), ["/srv/a"]) == "/srv/a"
    assert overlapping(Path("/srv/a"), ["/srv/a"]) == "/srv/a"
    assert overlapping(Path("/srv/a"), ["/srv/ab"]) is None


def test_what_is_ours_is_not_granted_by_its_real_path(ground: Path) -> None:
    """A home of autonous, or of the user, that is reached through a symlink is closed where it really is."""
    (ground / "ours").symlink_to(ground / "autonous")
    (ground / "me").symlink_to(ground / "home")
    walls = Walls(roots=(ground,), private=(ground / "ours",), home=ground / "me")
    for what in ("autonous", "autonous/workspace", "home", "home/.ssh"):
        with pytest.raises(NotGrantable) as caught:
            walls.check(f"{ground}/{what}", "ro", 1)
        assert caught.value.code == "not_grantable"


@pytest.mark.parametrize("what", ["home", "home/state", "elsewhere"])
def test_an_installation_behind_symlinks_is_closed(tmp_path: Path, what: str) -> None:
    """The ledger stays out of every toolbox though the home, or a part of it, really is somewhere else."""
    ground = tmp_path.resolve()
    for made in ("home", "elsewhere"):
        (ground / made).mkdir()
    (ground / "link").symlink_to(ground / "home")
    (ground / "home" / "revisions.git").symlink_to(ground / "elsewhere")
    with Installation(ground / "link") as installation:
        installation.change(grantable_roots=(ground,))
        grants = installation.start(rolling=False).grants
        order = GrantOrder(path=str(ground / what), mode="ro", hours=1, user_id=1, chat_id=1)
        with pytest.raises(NotGrantable, match="autonous itself lives there"):
            grants.add(order, parent_id=0)
