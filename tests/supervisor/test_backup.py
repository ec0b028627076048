"""Copies of a worker's database: consistent beside a writer, and harmless whatever lies in its place."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from supervisor.agent_db.backup import BackupFailed, backup


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "agent.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")
        database.execute("INSERT INTO pairs VALUES (1, 1)")
        database.commit()
    return path


def pairs(path: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute("SELECT a, b FROM pairs ORDER BY a").fetchall()


@contextmanager
def writer(path: Path) -> Iterator[None]:
    """Somebody who adds pairs all the time, each in one transaction of two steps."""
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            number = 1
            while not stop.is_set():
                number += 1
                database.execute("INSERT INTO pairs VALUES (?, 0)", (number,))
                database.execute("UPDATE pairs SET b = a WHERE a = ?", (number,))
                database.commit()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_copy_holds_what_was_committed(source: Path, tmp_path: Path) -> None:
    """Also what still lies in the write-ahead log of a database that is open."""
    with closing(sqlite3.connect(source)) as database:
        database.execute("INSERT INTO pairs VALUES (2, 2)")
        database.commit()
        database.execute("INSERT INTO pairs VALUES (3, 3)")
        backup(source, tmp_path / "copy.db")
    assert pairs(tmp_path / "copy.db") == [(1, 1), (2, 2)]


def test_a_copy_beside_a_writer_is_of_one_moment(source: Path, tmp_path: Path) -> None:
    """Never half of a transaction, and the writer is not held up for long."""
    with writer(source):
        for number in range(5):
            target = tmp_path / f"{number}.db"
            started = time.monotonic()
            backup(source, target)
            assert time.monotonic() - started < 5
            assert all(a == b for a, b in pairs(target))


def test_the_source_is_not_touched(source: Path, tmp_path: Path) -> None:
    """Same bytes, same times, and no files of SQLite's beside it but those that belong to a database in use."""
    before = source.read_bytes(), source.stat().st_mtime_ns
    backup(source, tmp_path / "copy.db")
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before


def test_the_target_is_replaced_whole(source: Path, tmp_path: Path) -> None:
    """What was there is gone, and so is what a copy that was cut short left behind."""
    target = tmp_path / "copy.db"
    target.write_bytes(b"what was there before")
    (tmp_path / "copy.db.partial").write_bytes(b"cut short")
    backup(source, target)
    assert pairs(target) == [(1, 1)]
    assert sorted(path.name for path in tmp_path.glob("copy.db*")) == ["copy.db"]


def test_a_copy_of_a_copy_is_the_same(source: Path, tmp_path: Path) -> None:
    """A snapshot is itself a database."""
    backup(source, tmp_path / "one.db")
    backup(tmp_path / "one.db", tmp_path / "two.db")
    assert pairs(tmp_path / "two.db") == [(1, 1)]


@pytest.mark.parametrize("kind", ["nothing", "link", "pipe", "directory", "text", "dangling"])
def test_what_is_no_database_is_one_line_and_leaves_the_target_alone(source: Path, tmp_path: Path, kind: str) -> None:
    """A worker can put anything in its database's place; the supervisor neither follows nor waits."""
    bad, target = tmp_path / "bad.db", tmp_path / "copy.db"
    target.write_bytes(b"what was there before")
    match kind:
        case "link":
            bad.symlink_to(source)
        case "pipe":
            os.mkfifo(bad)
        case "directory":
            bad.mkdir()
        case "text":
            bad.write_bytes(b"not a database, though it is long enough to look like one" * 100)
        case "dangling":
            bad.symlink_to(tmp_path / "gone")
    started = time.monotonic()
    with pytest.raises(BackupFailed) as caught:
        backup(bad, target)
    assert time.monotonic() - started < 5
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"what was there before"


@pytest.mark.parametrize("name", ["with space.db", "with?mode=rwc.db", "with#hash.db", "with%41.db", "ü.db"])
def test_any_name_is_only_a_name(source: Path, tmp_path: Path, name: str) -> None:
    """Nothing in it is read as an option of the connection."""
    odd = tmp_path / name
    odd.write_bytes(source.read_bytes())
    backup(odd, tmp_path / "copy.db")
    assert pairs(tmp_path / "copy.db") == [(1, 1)]
