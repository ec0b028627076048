"""The local bot as a process of its own."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from supervisor.localbot.client import LocalBotAway, LocalBotClient
from supervisor.localbot.process import ensure, stop
from supervisor.paths import Paths
from tests.supervisor.localbot_support import TOKEN, short_directory

ENVIRONMENT = {**os.environ, "AUTONOUS_LOCALBOT_TOKEN": TOKEN}


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def command(directory: Path, prefix: str = "") -> list[str]:
    sockets = ["--socket", str(directory / f"{prefix}bot.sock"), "--user-socket", str(directory / f"{prefix}user.sock")]
    paths = [*sockets, "--database", str(directory / "bot.db")]
    return [sys.executable, "-m", "supervisor.localbot", *paths]


def refusal(arguments: list[str], environment: dict[str, str] = ENVIRONMENT) -> tuple[int, str]:
    """Exit code and last line of a process that must not serve."""
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr.strip().splitlines()[-1]


@contextmanager
def process(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """A local bot that serves, killed at the end if it still lives."""
    with subprocess.Popen(command(directory), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "serving" in running.stdout.readline()
        try:
            yield running
        finally:
            running.kill()


def test_sigterm_ends_it_at_once_with_an_open_poll(directory: Path) -> None:
    """An open long poll does not delay the end; exit code 0, no socket left."""
    with process(directory) as running, LocalBotClient(directory / "user.sock") as user:
        transport = httpx.HTTPTransport(uds=str(directory / "bot.sock"))

        def poll() -> None:
            with httpx.Client(transport=transport) as http, pytest.raises(httpx.TransportError):
                http.get(f"http://localhost/bot{TOKEN}/getUpdates?timeout=50", timeout=60)

        poller = threading.Thread(target=poll)
        poller.start()
        while not user.polls():
            time.sleep(0.01)
        started = time.perf_counter()
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0
        assert time.perf_counter() - started < 1
        poller.join(5)
        assert list(directory.glob("*.sock")) == []
        with pytest.raises(LocalBotAway, match="does not answer"):
            user.send("anyone?")


def test_killed_process_loses_nothing(directory: Path) -> None:
    """After SIGKILL the next process takes the stale socket and the queue over."""
    with process(directory) as running, LocalBotClient(directory / "user.sock") as user:
        sent = user.send("remember")
        running.kill()
        running.wait(5)
    with process(directory), LocalBotClient(directory / "user.sock") as user:
        http = httpx.Client(transport=httpx.HTTPTransport(uds=str(directory / "bot.sock")))
        (update,) = http.get(f"http://localhost/bot{TOKEN}/getUpdates").json()["result"]
        assert (update["update_id"], update["message"]["text"]) == (sent.update_id, "remember")


def test_second_process_on_the_database_is_refused(directory: Path) -> None:
    """One line names the process that serves it, which goes on."""
    with process(directory) as running, LocalBotClient(directory / "user.sock") as user:
        code, line = refusal(command(directory, "other-"))
        assert (code, line) == (1, f"localbot: process {running.pid} serves {directory / 'bot.db'} already")
        assert user.send("still there?").message_id == 1


def test_unusable_input_is_one_line(directory: Path) -> None:
    """No token, a bad one, a path that is too long, a file that is no database: one line and an exit code."""
    bare = {name: value for name, value in os.environ.items() if name != "AUTONOUS_LOCALBOT_TOKEN"}
    assert refusal(command(directory), bare)[0] == 2
    code, line = refusal(command(directory), {**bare, "AUTONOUS_LOCALBOT_TOKEN": "secret"})
    assert (code, "secret" in line) == (1, False)
    assert refusal(command(directory, "x" * 100))[0] == 1
    assert refusal(command(directory / "missing"))[0] == 1
    (directory / "bot.db").write_text("this is no database" * 100)
    assert refusal(command(directory)) == (1, "localbot: file is not a database")


def test_new_database_continues_above_the_old_ids(directory: Path) -> None:
    """A database that was lost does not make update ids start over."""
    with process(directory), LocalBotClient(directory / "user.sock") as user:
        before = user.send("one").update_id
    sqlite3.connect(directory / "bot.db").close()
    for path in directory.glob("bot.db*"):
        path.unlink()
    time.sleep(1.1)
    with process(directory), LocalBotClient(directory / "user.sock") as user:
        after = user.send("one").update_id
    assert before is not None
    assert after is not None
    assert after > before


def test_workers_cannot_act_as_users(directory: Path) -> None:
    """In the directory that workers see no socket takes what users do; the one that does is the owner's alone."""
    paths = Paths(directory)
    paths.create(worker_uid=os.getuid())
    ensure(paths)
    try:
        with LocalBotClient(paths.localbot_user_socket) as user:
            user.send("hello")
        seen = [path for path in paths.contract_directory.rglob("*") if path.is_socket()]
        assert seen == [paths.localbot_socket]
        assert paths.contract_directory not in paths.localbot_user_socket.parents
        assert paths.localbot_user_socket.stat().st_mode & 0o777 == 0o600
        with LocalBotClient(paths.localbot_socket) as worker:
            for act in (
                worker.ping,
                worker.polls,
                worker.clear_faults,
                lambda: worker.send("x"),
                lambda: worker.press("x"),
            ):
                with pytest.raises(LocalBotAway, match="HTTP 404"):
                    act()
    finally:
        stop(paths)
    assert not paths.localbot_user_socket.exists()


def test_started_once(directory: Path) -> None:
    """Asked for again while it serves, it stays the process that it is."""
    paths = Paths(directory)
    paths.create(worker_uid=os.getuid())
    pids = set()
    try:
        for _ in range(2):
            ensure(paths)
            pids.add(paths.localbot_db.with_name("localbot.db.pid").read_text())
    finally:
        stop(paths)
    assert len(pids) == 1
