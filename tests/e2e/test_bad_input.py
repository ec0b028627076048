"""Input that cannot be used: one clear line on standard error, the right exit code, and nothing lost.

0 done, 1 refused or failed, 2 wrong usage or settings, 3 engine out of reach.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from supervisor.control import ControlClient
from tests.support import candidates
from tests.support.checkouts import copy_checkout
from tests.support.installation import Install, Installation

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NO_ENGINE = "unix:///nonexistent/docker.sock"
TOKEN = "this-is-no-token"


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up."""
    made = install()
    made.up()
    return made


@pytest.fixture
def unharmed(installation: Installation) -> Any:
    """What is there before a test is there after it."""
    status, updates = installation.status_at_once(), installation.updates()
    yield
    assert installation.status_at_once() == status
    assert installation.updates()[: len(updates)] == updates


@pytest.fixture(scope="module")
def never_up(install: Install) -> Installation:
    """One that was never brought up."""
    return install()


# -- patches


@pytest.mark.fault(
    21,
    what="refused before anything is built",
    user="a code and the reason",
    within="at once",
)
@pytest.mark.parametrize(
    ("given", "code"),
    [
        (b"this is not a patch\n", "not_a_patch"),
        (b"\xff\xfe\x00 neither is this", "not_a_patch"),
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"diff --git a/worker/app.py b/worker/app.py\n", "apply_failed"),
        (b"diff --git a/worker/x.py b/worker/x.py\n" + b"+x\n" * 300_000, "too_large"),
    ],
    ids=["text", "bytes", "empty", "blank", "a head alone", "300,000 lines"],
)
def test_what_is_no_patch(installation: Installation, unharmed: None, given: bytes, code: str) -> None:
    """Refused quickly, with its code."""
    begun = time.monotonic()
    line = installation.run("submit", "-", given=given).refusal()
    assert f"is refused [{code}]: " in line
    assert time.monotonic() - begun < 10


@pytest.mark.fault(21)
@pytest.mark.parametrize("path", ["supervisor/states.py", "tests/worker/conftest.py", "worker/../../escape.py"])
def test_a_patch_outside_its_area(installation: Installation, unharmed: None, path: str) -> None:
    """Refused, with the path, before anything is built."""
    patch = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x = 1\n"
    result = installation.run("submit", "-", "--wait", "--json", given=patch.encode()).expect(1)
    assert result.json["status"] == "refused"
    assert result.json["code"] in ("path_denied", "apply_failed")
    assert installation.show(result.json["tx_id"])["image_id"] is None


@pytest.mark.parametrize("name", ["missing.patch", "."])
def test_a_patch_that_cannot_be_read(installation: Installation, unharmed: None, tmp_path: Path, name: str) -> None:
    """The file is named."""
    assert f"{tmp_path / name} cannot be read" in installation.run("submit", str(tmp_path / name)).refusal()


# -- updates


@pytest.mark.parametrize("command", ["show", "diff", "logs", "approve", "cancel", "rollback"])
@pytest.mark.parametrize("tx", [UNKNOWN, "zzzz", "", "%", "_", "../../etc", "' OR 1=1 --"])
def test_an_update_that_does_not_exist(installation: Installation, unharmed: None, command: str, tx: str) -> None:
    """Whoever asks for it, and however it is written."""
    assert "update" in installation.run(command, tx).refusal()


def test_a_prefix_of_several_updates(installation: Installation) -> None:
    """Refused by every command, with a hint to give more of it."""
    client = ControlClient(installation.paths.control_socket)
    first: dict[str, str] = {}
    while True:
        tx = client.submit(patch_hex=b"no patch".hex(), title="", why="", force=False)["tx_id"]
        if tx[0] in first:
            break
        first[tx[0]] = tx
    for command in ("show", "cancel", "rollback", "approve"):
        assert "more than one" in installation.run(command, tx[0]).refusal()
    assert installation.show(tx)["tx_id"] == tx


# -- usage and settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stauts",), "no such command 'stauts'. Did you mean 'status'?"),
        (("show",), "missing argument 'TX'."),
        (("submit", "--wat", "-"), "no such option: --wat"),
        (("say",), "give either a text or --press LABEL"),
        (("history", "-n", "0"), "invalid value for '-n' / '--limit': "),
        (("status", "x"), "unexpected extra argument"),
    ],
)
def test_wrong_usage(never_up: Installation, arguments: tuple[str, ...], said: str) -> None:
    """2, one line that names it and where to read on, and nothing is made."""
    line = never_up.run(*arguments).refusal(2)
    assert said in line
    assert line.endswith("--help)")
    assert not never_up.home.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS", "soon"),
        ("AUTONOUS_DRAIN_SECONDS", "-1"),
        ("AUTONOUS_COMMANDER", "pigeon"),
        ("AUTONOUS_PROJECT", "Not A Name"),
        ("AUTONOUS_HOME", "relative/path"),
        ("OPENAI_BASE_URL", "not a url"),
        ("AUTONOUS_TELEGRAM_ALLOWED_USERS", "1,somebody"),
        ("SUPERVISOR_CRASH_THRESHOLD", "0"),
    ],
)
@pytest.mark.parametrize("command", ["up", "status"])
def test_a_value_that_cannot_be_used(never_up: Installation, command: str, name: str, value: str) -> None:
    """2; the line names it and says what is allowed."""
    line = never_up.run(command, settings={name: value}).refusal(2)
    assert name in line
    assert value in line
    assert "it must be" in line
    assert not never_up.home.exists()


def test_a_secret_that_cannot_be_used_is_not_repeated(never_up: Installation) -> None:
    """It is named, and its value is not."""
    line = never_up.run("up", settings={"TELEGRAM_BOT_TOKEN": TOKEN}).refusal(2)
    assert "TELEGRAM_BOT_TOKEN" in line
    assert TOKEN not in line


def test_a_provider_without_its_key(never_up: Installation) -> None:
    """Explicit `openai` without a key stops the start."""
    assert "OPENAI_API_KEY" in never_up.run("up", settings={"AUTONOUS_MODEL_PROVIDER": "openai"}).refusal(2)


class TestEnvironmentFile:
    """`.env` at the root of the checkout."""

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "cannot be read"),
            (b"OPENAI_MODEL=\xff\xfe\n", "not UTF-8"),
            (b"OPENAI_MODEL=x\nsk-half-a-secret\n", "line 2"),
            (b"TG_TIMEOUT=never\n", "TG_TIMEOUT='never'"),
        ],
        ids=["directory", "bytes", "no assignment", "bad value"],
    )
    def test_one_that_cannot_be_used(self, install: Install, tmp_path: Path, content: bytes | None, said: str) -> None:
        """2; the line names the file or the value, and repeats no line of it."""
        checkout = copy_checkout(tmp_path / "checkout")
        file = checkout / ".env"
        file.mkdir() if content is None else file.write_bytes(content)
        line = install(checkout).run("up").refusal(2)
        assert said in line
        assert "half-a-secret" not in line


# -- home and engine


def test_a_home_that_cannot_be_made(install: Install, tmp_path: Path) -> None:
    """1; the line names it."""
    (tmp_path / "file").write_text("not a directory")
    made = install()
    home = str(tmp_path / "file" / "home")
    for command in ("up", "run"):
        line = made.run(command, settings={"AUTONOUS_HOME": home}).refusal()
        assert f"AUTONOUS_HOME={home} cannot be used" in line


@pytest.mark.parametrize("command", [["status"], ["history"], ["show", "abc"], ["events"], ["logs"], ["source", "x"]])
def test_looking_at_a_home_where_nothing_is(never_up: Installation, command: list[str]) -> None:
    """1, one line, and looking makes nothing."""
    never_up.run(*command).refusal()
    assert not never_up.home.exists()


@pytest.mark.parametrize("command", [["submit", "-"], ["approve", "x"], ["say", "hello"]])
def test_asking_where_nobody_is(never_up: Installation, command: list[str]) -> None:
    """1, and the line says what starts it."""
    assert "`make up` starts it" in never_up.run(*command, given=b"x").refusal()


def test_down_where_nothing_is(never_up: Installation) -> None:
    """There is nothing to end: done."""
    never_up.run("down").expect(0)


def test_a_ledger_that_is_no_database(install: Install) -> None:
    """1, and the file is left as it is."""
    made = install()
    made.home.mkdir(parents=True)
    made.paths.ledger.write_bytes(b"this is no database, but it is somebody's" * 200)
    content = made.paths.ledger.read_bytes()
    for command in ("status", "history", "up"):
        assert str(made.paths.ledger) in made.run(command).err.splitlines()[-1]
        made.run(command).expect(1)
    assert made.paths.ledger.read_bytes() == content


@pytest.mark.parametrize("host", [NO_ENGINE, "tcp://192.0.2.1:2375"])
def test_an_engine_that_is_out_of_reach(install: Install, host: str) -> None:
    """3; the line names where it was looked for. With an engine again it simply comes up."""
    made = install()
    assert host in made.run("up", settings={"DOCKER_HOST": host}).refusal(3)


def test_run_without_an_engine(installation: Installation, unharmed: None, install: Install) -> None:
    """In the foreground, too: 3 and one line."""
    made = install()
    assert "engine" in made.run("run", settings={"DOCKER_HOST": NO_ENGINE}).refusal(3)


def test_up_after_the_engine_was_out_of_reach(install: Install) -> None:
    """The failed attempt is in nobody's way."""
    made = install()
    made.run("up", settings={"DOCKER_HOST": NO_ENGINE}).expect(3)
    made.up()
    assert made.status()["active"]["health"] == "healthy"


def test_down_without_supervisor_and_engine(install: Install) -> None:
    """3: the workers cannot be ended; nothing is changed, and `down` with an engine ends them."""
    made = install()
    made.up()
    made.kill_supervisor()
    assert "engine" in made.run("down", settings={"DOCKER_HOST": NO_ENGINE}).err.splitlines()[-1]
    made.run("down", settings={"DOCKER_HOST": NO_ENGINE}).expect(3)
    assert len(made.containers()) == 1
    made.down()
    assert made.containers() == []


# -- several at once


def test_a_second_supervisor_on_one_home(installation: Installation, unharmed: None) -> None:
    """1; the process that holds it is named."""
    line = installation.run("run").refusal()
    assert f"process {installation.supervisor_pid()}" in line


def test_two_ups_at_once_on_an_empty_home(install: Install) -> None:
    """One installation comes of it: one first revision, one active worker."""
    made = install()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "supervisor", "up"],
            cwd=made.checkout,
            env=made.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=120)[1].decode(), process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, 0], ended
    assert len(made.history()) == 1
    assert len(made.containers()) == 1


def test_two_of_the_same_patch_at_once(installation: Installation, checkout: Path) -> None:
    """Each is an update of its own; none is lost."""
    patch = candidates.adds_a_module(checkout, "twice")
    client = ControlClient(installation.paths.control_socket)
    submitted = [client.submit(patch_hex=patch.hex(), title=name, why="", force=False) for name in ("one", "two")]
    assert len({answer["tx_id"] for answer in submitted}) == 2
    for answer in submitted:
        installation.run("cancel", answer["tx_id"]).expect(0)
    assert installation.settled()
