"""The control socket: what the command line asks arrives, and whatever goes wrong is one line."""

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from supervisor.control import ControlClient, ControlRefused, SupervisorAway
from supervisor.control_server import control_app
from supervisor.ledger import AmbiguousPrefix, LedgerUnusable, UnknownUpdate
from supervisor.revisions import RevisionsError
from supervisor.unixserver import UnixServer
from supervisor.updates.decisions import Refusal
from tests.supervisor.fakes.controlled import FakeControlled
from tests.supervisor.localbot_support import short_directory


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "control.sock"


@pytest.fixture
def supervisor(path: Path) -> Iterator[FakeControlled]:
    controlled = FakeControlled()
    with UnixServer(control_app(controlled), path, mode=0o600):
        yield controlled


@pytest.fixture
def client(path: Path, supervisor: FakeControlled) -> ControlClient:
    return ControlClient(path)


Ask = Callable[[ControlClient], Any]
REQUESTS: dict[str, tuple[Ask, tuple[str, Any]]] = {
    "status": (lambda c: c.status(), ("status", None)),
    "submit": (
        lambda c: c.submit(patch_hex=b"diff \xff\x00".hex(), title="ü", why="", force=True),
        ("submit", {"patch_hex": "64696666 20ff00".replace(" ", ""), "title": "ü", "why": "", "force": True}),
    ),
    "approve": (lambda c: c.decide("approve", "1234"), ("approve", ("1234", "terminal"))),
    "cancel": (lambda c: c.decide("cancel", "1234", by="someone"), ("cancel", ("1234", "someone"))),
    "rollback": (lambda c: c.decide("rollback", "1234"), ("rollback", ("1234", "terminal"))),
    "down": (lambda c: c.down(), ("down", None)),
    "upgrade": (lambda c: c.upgrade("sha256:deps"), ("upgrade", "sha256:deps")),
    "reload": (lambda c: c.reload({"TG_TIMEOUT": "5"}), ("reload", {"TG_TIMEOUT": "5"})),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_asked_arrives_as_it_was_said(client: ControlClient, supervisor: FakeControlled, name: str) -> None:
    """Word for word, and the answer comes back."""
    ask, arrived = REQUESTS[name]
    assert isinstance(ask(client), dict)
    assert supervisor.asked == [arrived]


def test_a_decision_is_answered_with_what_came_of_it(client: ControlClient) -> None:
    """For the command line to print."""
    assert client.decide("approve", "1234") == {
        "tx_id": "1234",
        "status": "approved",
        "message": "approved",
        "already": False,
    }


EXPECTED = [
    Refusal("update 1234 is building; only a staged one can be approved"),
    UnknownUpdate("1234"),
    AmbiguousPrefix("1", ["11", "12"]),
    LedgerUnusable(Path("/x"), "disk I/O error"),
    RevisionsError("git is not installed, or cannot be run"),
]


@pytest.mark.parametrize("failure", EXPECTED, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("name", ["submit", "approve", "status"])
def test_a_refusal_reaches_the_command_line_word_for_word(
    client: ControlClient, supervisor: FakeControlled, failure: Exception, name: str
) -> None:
    """Whatever was asked: the one line that says why."""
    supervisor.fails = failure
    with pytest.raises(ControlRefused) as caught:
        REQUESTS[name][0](client)
    assert str(caught.value) == str(failure)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_defect_is_not_taken_for_a_supervisor_that_is_away(
    client: ControlClient, supervisor: FakeControlled, name: str
) -> None:
    """It is called what it is, and the supervisor goes on."""
    supervisor.fails = KeyError("oops")
    with pytest.raises(ControlRefused, match=r"^a defect of the supervisor: KeyError: 'oops'"):
        REQUESTS[name][0](client)
    assert client.status()["running"]


def test_a_request_that_does_not_fit_is_a_defect_of_the_asker(path: Path, supervisor: FakeControlled) -> None:
    """Answered in JSON with a reason, as everything is; and nothing was decided."""
    for body in (b"", b"{}", b"[]", b"{", b'{"tx": "1"}'):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as raw:
            answer = raw.post("http://supervisor/approve", content=body)
        assert answer.status_code == 500
        assert "reason" in answer.json()
    assert supervisor.asked == []


def test_the_socket_is_its_owners_alone(path: Path, supervisor: FakeControlled) -> None:
    """Whoever can open it may approve."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- away


def is_away(path: Path) -> str:
    with pytest.raises(SupervisorAway) as caught:
        ControlClient(path).status()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_socket_is_a_supervisor_that_is_away(path: Path) -> None:
    """With what to type next."""
    assert is_away(path) == "the supervisor is not running; `make up` starts it"
    assert is_away(path.parent / "nowhere" / "control.sock")


def test_a_socket_that_nobody_serves_is_a_supervisor_that_is_away(path: Path) -> None:
    """As a supervisor leaves it that was killed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    assert path.exists()
    assert is_away(path)


def test_a_supervisor_that_ended_is_away(path: Path) -> None:
    """From one moment to the next."""
    with UnixServer(control_app(FakeControlled()), path):
        assert ControlClient(path).status()["running"]
    assert is_away(path)


@pytest.mark.parametrize(
    "said",
    [b"", b"hello\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", b"\x00" * 100],
)
def test_whoever_else_answers_there_is_no_supervisor(path: Path, said: bytes) -> None:
    """Half an answer, or none that is one."""
    with answering(path, said):
        assert is_away(path)


@contextmanager
def answering(path: Path, said: bytes) -> Iterator[None]:
    """Somebody who says the same to everyone and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_several_commands_are_answered_at_once(path: Path, supervisor: FakeControlled) -> None:
    """Nobody waits for another."""
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(ControlClient(path).status())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
