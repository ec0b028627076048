"""A crash point can have its process wait instead of ending it."""

import threading
import time
from pathlib import Path

import pytest

from supervisor.crashpoints import CRASH_FILE, HOLD, crash_point, held_at

SECONDS = 10


def until_held(file: Path, place: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not held_at(file).exists() or held_at(file).read_text() != place:
        assert time.monotonic() < deadline, f"nobody waits at {place}"
        time.sleep(0.005)


def test_it_waits_there_until_the_file_says_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Place after place, and past the last one it goes on."""
    file = tmp_path / "here"
    monkeypatch.setenv(CRASH_FILE, str(file))
    file.write_text(f"{HOLD}first.*")
    passed: list[str] = []

    def walk() -> None:
        for place in ("first.before", "first.after", "second"):
            crash_point(place)
            passed.append(place)

    walker = threading.Thread(target=walk, daemon=True)
    walker.start()
    until_held(file, "first.before")
    assert passed == []
    file.write_text(f"{HOLD}second")
    until_held(file, "second")
    assert passed == ["first.before", "first.after"]
    file.unlink()
    walker.join(SECONDS)
    assert passed == ["first.before", "first.after", "second"]


def test_one_thread_waits_while_another_comes_by_a_second_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is a place of its own."""
    file = tmp_path / "here"
    monkeypatch.setenv(CRASH_FILE, str(file))
    died: list[int] = []
    monkeypatch.setattr("os.kill", lambda process, _: died.append(process))
    file.write_text(f"{HOLD}first\nsecond")
    walker = threading.Thread(target=crash_point, args=("first",), daemon=True)
    walker.start()
    until_held(file, "first")
    crash_point("third")
    assert died == []
    crash_point("second")
    assert len(died) == 1
    walker.join(SECONDS)
    assert not walker.is_alive()  # the file is gone
