"""What every tool that takes a path must refuse, and what it may reach."""

import contextlib
import ctypes
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.worker.tools.calling import call, call_apart, refusal, without_privileges, workplace

#: Every tool that takes a path, with what else it needs.
TAKES_PATH: dict[str, dict[str, object]] = {
    "ls": {},
    "find": {},
    "grep": {"pattern": "secret"},
    "read": {},
    "write": {"content": "mine"},
    "edit": {"old_text": "secret", "new_text": "mine"},
    "bash": {"command": "cat *"},
}
ON_FILES = ("grep", "read", "write", "edit")
SECRET = "the secret text\n"


def at(tool: str, path: str) -> dict[str, object]:
    return {**TAKES_PATH[tool], "cwd" if tool == "bash" else "path": path}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "f").write_text(SECRET)
    return directory


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    directory = tmp_path / "inside"
    directory.mkdir()
    (directory / "f").write_text("own text\n")
    return directory


@pytest.mark.parametrize("tool", TAKES_PATH)
def test_no_way_leads_out(tool: str, inside: Path, outside: Path) -> None:
    """An absolute path, ``..``, links to directories and files, and links over links: refused, and nothing written."""
    (inside / "link").symlink_to(outside)
    (inside / "relative").symlink_to("../outside")
    (inside / "sub").mkdir()
    (inside / "sub/link").symlink_to("../link")
    (inside / "file").symlink_to(outside / "f")
    end = "" if tool in ("ls", "find", "bash") else "/f"
    paths = [f"{outside}{end}", f"../outside{end}", f"link{end}", f"relative{end}", f"sub/link{end}", "/etc", "/"]
    paths += [f"sub/../../outside{end}", "file"]
    for path in paths:
        assert refusal(tool, workplace(inside), **at(tool, path)) == "outside_root", path
    assert (outside / "f").read_text() == SECRET
    assert sorted(p.name for p in outside.iterdir()) == ["f"]


@pytest.mark.parametrize("tool", TAKES_PATH)
def test_the_kernels_faces_are_no_files(tool: str) -> None:
    """Where everything may be reached, /proc, /sys and /dev may not."""
    for path in ("/proc", "/proc/self/environ", "/proc/self/root/etc/hosts", "/sys", "/dev/null", "/dev"):
        assert refusal(tool, workplace(Path("/")), **at(tool, path)) == "outside_root", path


@pytest.mark.parametrize("tool", ON_FILES)
def test_what_is_no_file_is_refused_at_once(tool: str, inside: Path) -> None:
    """A FIFO, on which a reader would wait for ever, and a socket."""
    os.mkfifo(inside / "fifo")
    with contextlib.chdir(inside), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        for path in ("fifo", "sock"):
            assert refusal(tool, workplace(inside), **at(tool, path)) == "outside_root"


@pytest.mark.parametrize("tool", TAKES_PATH)
def test_links_that_stay_inside_are_followed(tool: str, inside: Path) -> None:
    """Relative ones and absolute ones, also into another root, and ``..`` that stays inside."""
    other = inside.parent / "other"
    other.mkdir()
    (other / "f").write_text("the secret of mine\n")
    (inside / "to").symlink_to(other)
    (inside / "sub").mkdir()
    (inside / "sub/back").symlink_to("../to")
    where = workplace(inside, roots=(inside, other))
    end = "" if tool in ("ls", "find", "bash") else "/f"
    for path in (f"to{end}", f"sub/back{end}", f"sub/../to{end}", f"{other}{end}"):
        (other / "f").write_text("the secret of mine\n")
        result = (call_apart if tool == "bash" else call)(tool, where, **at(tool, path))
        assert result.ok, result
        if tool in ("grep", "read", "bash"):
            assert "the secret of mine" in result.stdout
    assert (inside / "to").is_symlink()


@pytest.mark.parametrize("tool", TAKES_PATH)
def test_a_parent_that_is_swapped_meanwhile_leads_nowhere(tool: str, inside: Path, outside: Path) -> None:
    """While somebody swaps a directory for a link that leads out, again and again, nothing outside is ever touched."""
    here, link = inside / "d", inside / "l"
    here.mkdir()
    (here / "f").write_text("own text\n")
    link.symlink_to(outside)
    done = threading.Event()
    exchange = ctypes.CDLL(None).renameat2
    swap_them = (-100, bytes(here), -100, bytes(link), 2)  # AT_FDCWD, RENAME_EXCHANGE: each is there at any time

    def swap() -> None:
        while not done.is_set():
            assert exchange(*swap_them) == 0

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        run = call_apart if tool == "bash" else call
        for _ in range(5 if tool == "bash" else 100):
            for path in ("d/f" if tool in ON_FILES else "d", "." if tool in ("ls", "find", "grep") else "l"):
                assert "the secret text" not in run(tool, workplace(inside), **at(tool, path)).stdout
    finally:
        done.set()
        swapper.join()
    assert (outside / "f").read_text() == SECRET
    assert sorted(p.name for p in outside.iterdir()) == ["f"]


@pytest.mark.parametrize("tool", TAKES_PATH)
@pytest.mark.parametrize(
    ("path", "code"),
    [("", "bad_path"), ("a\0b", "bad_path"), ("missing/deeper", "not_found"), ("f/deeper", "not_a_directory")],
)
def test_paths_that_are_none(tool: str, path: str, code: str, inside: Path) -> None:
    """Empty, with a zero byte, missing, below a file: each with its code."""
    if tool == "write" and code == "not_found":
        code = ""
        assert call(tool, workplace(inside), **at(tool, path)).ok  # its directory is made
    else:
        assert refusal(tool, workplace(inside), **at(tool, path)) == code


def test_a_missing_root_is_told(tmp_path: Path) -> None:
    """That the workspace is not there is the tool's error, with its name."""
    result = call("ls", workplace(tmp_path / "gone"))
    assert result.meta["code"] == "not_found"
    assert str(tmp_path / "gone") in result.stderr


@pytest.mark.parametrize("tool", TAKES_PATH)
def test_what_may_not_be_read_is_told(tool: str, inside: Path) -> None:
    """Permissions bind, and the code says so."""
    for top in (inside, *inside.parents):
        if top.stat().st_mode & 0o005 != 0o005:  # pytest's own directories are closed to others
            top.chmod(top.stat().st_mode | 0o055)
    closed = inside / "closed"
    closed.mkdir()
    (closed / "f").write_text("secret")
    (inside / "f").chmod(0)
    closed.chmod(0)
    paths = ["closed/f"] if tool in ON_FILES else ["closed"]
    paths += ["f"] if tool in ("read", "write", "edit") else []
    try:
        with without_privileges():
            for path in paths:
                assert refusal(tool, workplace(inside), **at(tool, path)) == "permission_denied", path
            if tool in ("find", "grep"):
                result = call(tool, workplace(inside), **at(tool, "."))
                assert (result.ok, result.meta["unreadable_directories"]) == (True, 1)
    finally:
        closed.chmod(0o700)


def test_a_workspace_that_is_a_link(tmp_path: Path, inside: Path) -> None:
    """A root may be named by a link; both names reach it."""
    named = tmp_path / "named"
    named.symlink_to(inside)
    where: Any = workplace(named)
    for path in ("f", f"{named}/f", f"{inside}/f"):
        assert call("read", where, path=path).stdout == "own text\n"
