"""What the doctor finds without a running installation: a home that is made up, and engines and clocks that are."""

import json
import os
import socketserver
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from supervisor import settings as settings_module
from supervisor.contract import EventType
from supervisor.doctor import sqlite
from supervisor.doctor.findings import Finding, Level
from supervisor.doctor.report import examine, exit_code
from supervisor.ledger import Ledger
from supervisor.settings import Settings
from tests.support.leftout import only_root

NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
INFO = {"OperatingSystem": "Debian GNU/Linux 12", "OSType": "linux", "Driver": "overlay2", "DockerRootDir": "/"}
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "Components": [{"Name": "Engine"}]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as `make up` leaves it, as far as no engine is needed."""
    found = tmp_path / "home"
    settings_of(found).paths.create(worker_uid=os.getuid())
    Ledger(found / "supervisor.db").close()
    return found


def settings_of(home: Path, **values: str) -> Settings:
    small = {"AUTONOUS_MIN_FREE_BYTES": "1"}
    return settings_module.load({"AUTONOUS_HOME": str(home), **small, **values}, env_file=home / "no.env")


def found(settings: Settings, check: str, environ: Mapping[str, str] = NO_ENGINE) -> Finding:
    """The one finding of this name."""
    findings = [finding for finding in examine(settings, environ) if finding.check == check]
    assert len(findings) == 1, findings
    return findings[0]


@contextmanager
def engine_that_says(version: Mapping[str, object], info: Mapping[str, object]) -> Iterator[dict[str, str]]:
    """An engine's two answers about itself; everything else it does not know. Gives the environment that names it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/version": version, "/info": info}
            body = json.dumps(answers.get(self.path, {"message": "not here"})).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
            pass

        def address_string(self) -> str:
            return "unix"

    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/docker.sock"
        with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            try:
                yield {"DOCKER_HOST": f"unix://{path}"}
            finally:
                server.shutdown()


@contextmanager
def bot_api_at(seconds: float) -> Iterator[str]:
    """A server whose clock is so many seconds off; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "secret" not in self.path
            self.send_response_only(404)
            self.send_header("Date", formatdate(time.time() + seconds, usegmt=True))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/bot"
        finally:
            server.shutdown()


def test_no_installation(tmp_path: Path) -> None:
    """Is said, with what makes one; looking makes nothing."""
    home = tmp_path / "none"
    finding = found(settings_of(home), "home")
    assert (finding.level, finding.remedy) == (Level.FAIL, "`make up`")
    assert not home.exists()


def test_the_engine_out_of_reach(home: Path) -> None:
    """3, whatever else is broken."""
    findings = examine(settings_of(home), NO_ENGINE)
    assert exit_code(findings) == 3
    assert next(f for f in findings if f.check == "engine").remedy


def test_an_engine_on_another_machine(home: Path) -> None:
    """3: it cannot be used from here."""
    findings = examine(settings_of(home), {"DOCKER_HOST": "ssh://elsewhere"})
    assert exit_code(findings) == 3
    assert "ssh://elsewhere" in next(f for f in findings if f.check == "engine").what


@pytest.mark.parametrize(
    ("version", "info", "level", "said"),
    [
        ({}, {}, Level.OK, "Docker 20.10.24, API 1.41, storage overlay2"),
        ({}, {"Driver": "vfs"}, Level.WARN, "whole size"),
        ({"Components": [{"Name": "Podman Engine"}]}, {}, Level.WARN, "Podman"),
        ({"ApiVersion": "1.40"}, {}, Level.FAIL, "1.41 or later"),
        ({}, {"SecurityOptions": ["name=rootless"]}, Level.FAIL, "rootless"),
        ({}, {"OperatingSystem": "Docker Desktop"}, Level.FAIL, "Docker Desktop"),
    ],
)
def test_kinds_of_engine(
    home: Path, version: dict[str, object], info: dict[str, object], level: Level, said: str
) -> None:
    """Each is named, and what is wrong with it."""
    with engine_that_says(VERSION | version, INFO | info) as environ:
        finding = found(settings_of(home), "engine kind", environ)
    assert finding.level is level
    assert said in finding.what
    assert bool(finding.remedy) is (level is not Level.OK)


def test_a_full_disk(home: Path) -> None:
    """Below the limit that the settings say, also where only the engine's disk is known."""
    settings = settings_of(home, AUTONOUS_MIN_FREE_BYTES=str(1 << 60))
    assert found(settings, "disk of the home").level is Level.FAIL
    assert found(settings_of(home), "disk of the home").level is Level.OK
    with engine_that_says(VERSION, INFO) as environ:
        assert found(settings, "disk of the engine", environ).level is Level.FAIL


@pytest.mark.parametrize(("seconds", "level"), [(-3600, Level.OK), (0, Level.OK), (20, Level.OK), (60, Level.WARN)])
def test_the_clock_against_what_the_ledger_knows(home: Path, seconds: float, level: Level) -> None:
    """An event from a time to come is told, with what to do; also when others were written since."""
    for written_at in (time.time() + seconds, time.time()):
        with Ledger(home / "supervisor.db", clock=partial(float, written_at)) as ledger:
            ledger.append(EventType.PROCESS_STARTED, {})
        finding = found(settings_of(home), "clock")
        assert finding.level is level
        assert ("s ahead of the clock" in finding.what, "NTP" in finding.remedy) == (level is Level.WARN,) * 2


def test_the_clock_where_nothing_is_known(home: Path) -> None:
    """With no event yet, a ledger that is damaged, or none."""
    ledger = home / "supervisor.db"
    assert found(settings_of(home), "clock").level is Level.OK
    ledger.write_bytes(b"no ledger" * 1000)
    assert found(settings_of(home), "clock").level is Level.OK
    ledger.unlink()
    assert found(settings_of(home), "clock").level is Level.OK


@pytest.mark.parametrize(("seconds", "level"), [(0, Level.OK), (-29, Level.OK), (60, Level.WARN), (-60, Level.WARN)])
def test_the_clock_against_the_bot_api(home: Path, seconds: float, level: Level) -> None:
    """More than half a minute is told; the token is in no address that is asked."""
    with bot_api_at(seconds) as url:
        settings = settings_of(home, TELEGRAM_BOT_TOKEN="12345:secret", TELEGRAM_API_BASE_URL=url)
        assert found(settings, "bot api").level is level


def test_a_bot_api_that_is_away(home: Path) -> None:
    """A warning: messages wait."""
    settings = settings_of(home, TELEGRAM_BOT_TOKEN="12345:secret", TELEGRAM_API_BASE_URL="http://127.0.0.1:9/bot")
    finding = found(settings, "bot api")
    assert finding.level is Level.WARN
    assert "does not answer" in finding.what


def test_a_home_that_others_may_enter(home: Path) -> None:
    """A warning with the command."""
    home.chmod(0o755)
    finding = found(settings_of(home), "home")
    assert (finding.level, finding.remedy) == (Level.WARN, f"`chmod 700 {home}`")


def test_a_file_of_somebody_else(home: Path) -> None:
    """Is named with its owner."""
    only_root("give a file away")
    os.chown(home / "supervisor.db", 12345, 12345)
    finding = found(settings_of(home), "home")
    assert finding.level is Level.FAIL
    assert f"{home / 'supervisor.db'} belongs to user 12345" in finding.what


def test_keys_are_named_and_not_shown(home: Path) -> None:
    """In nothing that is found, whatever it is about."""
    keys = {"TELEGRAM_BOT_TOKEN": "12345:very-secret", "OPENAI_API_KEY": "sk-very-secret"}
    with bot_api_at(0) as url:
        findings = examine(settings_of(home, **keys, TELEGRAM_API_BASE_URL=url), NO_ENGINE)
    assert "very-secret" not in repr(findings)
    assert [f.what for f in findings if f.check == "keys"] == [f"{name} is set" for name in keys]


def test_a_damaged_ledger(home: Path) -> None:
    """Is found, also where the damage lies past its beginning."""
    assert found(settings_of(home), "ledger").level is Level.OK
    ledger = home / "supervisor.db"
    content = bytearray(ledger.read_bytes())
    content[4096 * 2 : 4096 * 2 + 2000] = b"\xff" * 2000
    ledger.write_bytes(bytes(content))
    finding = found(settings_of(home), "ledger")
    assert finding.level is Level.FAIL
    assert finding.remedy


def test_a_ledger_of_a_newer_version(home: Path) -> None:
    """Is told from a damaged one."""
    with closing(sqlite3.connect(home / "supervisor.db")) as database:
        (table,) = database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%migration%'").fetchone()
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        newest = database.execute(f"SELECT * FROM {table} ORDER BY 1 DESC LIMIT 1").fetchone()
        values = (newest[0] + 1, *newest[1:])
        database.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})", values)
        database.commit()
    assert "a newer version wrote it" in found(settings_of(home), "ledger").what


@pytest.mark.parametrize("kind", ["text", "link", "pipe"])
def test_a_worker_database_that_is_none(home: Path, kind: str) -> None:
    """A worker can put anything in its place; the doctor neither follows it nor waits for it."""
    path = home / "state" / "agent.db"
    if kind == "text":
        path.write_text("this is no database, and long enough to be taken for the head of one" * 100)
    elif kind == "link":
        path.symlink_to(home / "supervisor.db")
    else:
        os.mkfifo(path)
    assert found(settings_of(home), "agent.db").level is Level.FAIL


def test_looking_at_a_database_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """No journal that its owner could not write."""
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE t (x)")
        database.commit()
    assert sqlite.fault(path) is None
    assert [file.name for file in tmp_path.iterdir()] == ["some.db"]


@pytest.mark.parametrize(("mode", "level"), [(0o600, Level.OK), (0o644, Level.WARN), (0o660, Level.WARN)])
def test_an_environment_file_that_others_may_read(home: Path, tmp_path: Path, mode: int, level: Level) -> None:
    """A warning with the command."""
    file = tmp_path / ".env"
    file.write_text("OPENAI_API_KEY=sk-very-secret\n")
    file.chmod(mode)
    findings = [f for f in examine(settings_of(home), NO_ENGINE, file) if f.check == "env file"]
    assert [(f.level, f.remedy) for f in findings] == [(level, f"`chmod 600 {file}`" if level is Level.WARN else "")]


def test_exit_codes() -> None:
    """0 with nothing but warnings, 1 when something is broken, 3 when that is the engine."""
    ok, warning = Finding("a", Level.OK, "x"), Finding("b", Level.WARN, "x", "y")
    broken, away = Finding("c", Level.FAIL, "x", "y"), Finding("engine", Level.FAIL, "x", "y")
    assert [exit_code(f) for f in ([ok], [ok, warning], [warning, broken], [broken, away])] == [0, 0, 1, 3]
