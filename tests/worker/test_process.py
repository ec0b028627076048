"""``python -m worker`` as a process: alone, with the dummies, and its exit codes."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.worker.fakes import TOKEN
from worker.models.dummy import OFFLINE_REPLY

BASE = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
SDKS = ("openai", "telegram", "httpx", "httpx2")


class Process:
    """A worker whose standard error goes to a file beside its database."""

    def __init__(self, database: Path, *prefix: str, **settings: str) -> None:
        environment = {**BASE, "AUTONOUS_DB_PATH": str(database), "AUTONOUS_COMMANDER": "dummy", **settings}
        self._log = database.parent / f"{uuid.uuid4()}.log"
        with self._log.open("w") as log:
            command = [sys.executable, *prefix, "-m", "worker"]
            self._process = subprocess.Popen(command, env=environment, stderr=log)

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        return self._process.wait(timeout=5)

    def terminate(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def wait_for(condition: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def rows(database: Path, sql: str) -> list[tuple[object, ...]]:
    try:
        with sqlite3.connect(database) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


def test_alone_with_the_dummies(tmp_path: Path) -> None:
    """With only a database and the dummies it answers, imports no SDK, and SIGTERM ends it with 0."""
    database = tmp_path / "agent.db"
    with Process(database, "-X", "importtime", AUTONOUS_DUMMY_COMMANDER_SCRIPT="msg:hello,ok") as process:
        wait_for(lambda: rows(database, "SELECT 1 FROM inbox"))
        wait_for(lambda: rows(database, "SELECT 1 FROM events WHERE event_type = 'reply.sent'"))
        assert process.terminate() == 0
        lines = process.stderr.splitlines()
    assert rows(database, "SELECT text FROM history WHERE role = 'assistant'") == [(OFFLINE_REPLY,)]
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    assert "peewee" in imported
    assert imported.isdisjoint(SDKS)


def test_each_start_takes_the_next_epoch(tmp_path: Path) -> None:
    """A second worker on the same database takes over, and the first one ends as fenced, with 3."""
    database = tmp_path / "agent.db"
    with Process(database, AUTONOUS_DUMMY_COMMANDER_SCRIPT="msg:hello") as first:
        wait_for(lambda: rows(database, "SELECT 1 FROM inbox"))
        with Process(database) as second:
            assert first.wait() == 3
            assert "fenced" in first.stderr
            assert "Traceback" not in first.stderr
            assert rows(database, "SELECT epoch FROM lease") == [(2,)]
            assert second.running


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TG_TIMEOUT", "soon"),
        ("AUTONOUS_DB_PATH", "/proc/no/agent.db"),
    ],
)
def test_bad_settings_end_with_2_and_one_line(tmp_path: Path, name: str, value: str) -> None:
    """A value that cannot be used stops the start with one line that names it."""
    with Process(tmp_path / "agent.db", **{name: value}) as process:
        assert process.wait() == 2
        (line,) = process.stderr.splitlines()
        assert name in line


def test_a_provider_without_its_sdk_ends_with_2_and_one_line(tmp_path: Path) -> None:
    """As any other setting that cannot be used."""
    (tmp_path / "anthropic.py").write_text("raise ImportError('no such SDK here')")
    settings = {
        "AUTONOUS_MODEL_PROVIDER": "anthropic",
        "ANTHROPIC_API_KEY": "sk-very-secret",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{BASE['PYTHONPATH']}",
    }
    with Process(tmp_path / "agent.db", **settings) as process:
        assert process.wait() == 2
        (line,) = process.stderr.splitlines()
        assert "AUTONOUS_MODEL_PROVIDER=anthropic" in line


def test_the_token_is_in_no_log_line(tmp_path: Path) -> None:
    """With Telegram out of reach the failures are logged, and the token is not."""
    settings = {
        "AUTONOUS_COMMANDER": "telegram",
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_API_BASE_URL": "http://127.0.0.1:9",
        "AUTONOUS_TELEGRAM_ALLOWED_USERS": "1",
    }
    with Process(tmp_path / "agent.db", **settings) as process:
        wait_for(lambda: "polling failed" in process.stderr)
        assert process.terminate() == 0
        assert TOKEN.partition(":")[2] not in process.stderr
