"""The contract over a real Unix socket: what a worker says, and what it is answered."""

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from supervisor.contract import (
    Announcement,
    Beat,
    Claim,
    Claimed,
    Command,
    Kept,
    KeptUpdate,
    Press,
    Pressed,
    Problem,
    Progress,
    Role,
    RoleGrant,
    Submission,
    Submitted,
    Taken,
    Told,
    Welcome,
    WorkerState,
)
from supervisor.server import contract_app
from supervisor.sessions import BEAT_SECONDS, Sessions, Signal, credential_hash
from supervisor.unixserver import UnixServer
from tests.supervisor.localbot_support import short_directory

SHA = "a" * 40
ANNOUNCEMENT = Announcement(sha=SHA, version="0", pid=1, schema_version=1, provider="dummy", source="dummy")
POSTS = ("/v1/announce", "/v1/beat", "/v1/claim", "/v1/updates", "/v1/press", "/v1/command", "/v1/kept/taken")
GETS = ("/v1/role", "/v1/updates/1234/progress", "/v1/status", "/v1/history", "/v1/kept")


@dataclass
class Desk:
    """A supervisor that remembers who asked what."""

    sessions: Sessions
    asked: list[tuple[str, object]] = field(default_factory=list)
    step: threading.Event = field(default_factory=threading.Event)

    def claim(self, worker_id: str, claim: Claim) -> Claimed:
        self.asked.append((worker_id, claim))
        return Claimed(accepted=claim.code == "right", owners=[7])

    def submit(self, worker_id: str, submission: Submission) -> Submitted | Problem:
        self.asked.append((worker_id, submission))
        if not submission.patch:
            return Problem(code="not_active", reason="only the active worker submits patches")
        return Submitted(tx_id="1234", status="created")

    def progress(self, tx_id: str) -> Iterator[Progress]:
        yield Progress(tx_id=tx_id, status="building", event="update.build.started")
        self.step.wait(10)
        yield Progress(tx_id=tx_id, status="staged", event="update.artifact.staged", final=True)

    def press(self, worker_id: str, press: Press) -> Pressed:
        self.asked.append((worker_id, press))
        return Pressed(text="approved", alert=True)

    def command(self, worker_id: str, command: Command) -> Told:
        self.asked.append((worker_id, command))
        return Told(text=f"you asked for {command.name}")

    def kept(self, worker_id: str) -> Kept:
        return Kept(updates=[KeptUpdate(id=3, raw="{}")])

    def taken(self, worker_id: str, taken: Taken) -> Kept:
        self.asked.append((worker_id, taken))
        return Kept()

    def status(self) -> object:
        return {"running": True}

    def history(self) -> object:
        return [{"tx_id": "1234"}]


@dataclass
class Server:
    """A desk that is served."""

    desk: Desk
    signal: Signal
    socket: Path

    def open(self, worker_id: str, *, sha: str = SHA, instance: int = 1) -> None:
        hashed = credential_hash(f"credential of {worker_id}")
        self.desk.sessions.open(worker_id, sha=sha, instance=instance, credential_hash=hashed)

    @contextmanager
    def worker(self, worker_id: str = "w", **headers: str) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer credential of {worker_id}", "Autonous-Protocol": "1", **headers}
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, base_url="http://supervisor", headers=headers, timeout=5) as client:
            yield client


@pytest.fixture
def server() -> Iterator[Server]:
    signal = Signal()
    desk = Desk(Sessions(signal))
    with short_directory() as directory, UnixServer(contract_app(desk), directory / "supervisor.sock") as running:
        served = Server(desk, signal, running.path)
        served.open("w", instance=5)
        yield served


def text(message: Any) -> str:
    written: str = message.model_dump_json()
    return written


def test_a_worker_announces_itself_and_is_welcome(server: Server) -> None:
    """The answer has its instance, the beat, its role and the owners."""
    server.desk.sessions.set_owners((7,))
    with server.worker() as client:
        answer = client.post("/v1/announce", content=text(ANNOUNCEMENT))
    welcome = Welcome.model_validate_json(answer.content)
    assert answer.status_code == 200
    assert (welcome.protocol, welcome.instance, welcome.beat_seconds, welcome.owners) == (1, 5, BEAT_SECONDS, [7])
    assert welcome.grant == RoleGrant(role=Role.STANDBY)
    session = server.desk.sessions.get("w")
    assert session is not None
    assert session.announcement == ANNOUNCEMENT


def test_a_worker_of_another_revision_is_refused(server: Server) -> None:
    """409 and a Problem; the supervisor remembers what was said."""
    with server.worker() as client:
        answer = client.post("/v1/announce", content=text(ANNOUNCEMENT.model_copy(update={"sha": "b" * 40})))
    assert answer.status_code == 409
    assert Problem.model_validate_json(answer.content).code == "sha_mismatch"
    session = server.desk.sessions.get("w")
    assert session is not None
    assert session.problem


def test_a_beat_is_heard_and_answered_with_the_role(server: Server) -> None:
    """The supervisor has the beat as it was sent."""
    server.desk.sessions.assign("w", Role.ACTIVE, epoch=9)
    said = Beat(state=WorkerState.ACTIVE, epoch=9, in_hand=2, polls_ok=3, poll_error="x", detail="y")
    with server.worker() as client:
        answer = client.post("/v1/beat", content=text(said))
    grant = RoleGrant.model_validate_json(answer.content)
    assert (grant.role, grant.epoch) == (Role.ACTIVE, 9)
    session = server.desk.sessions.get("w")
    assert session is not None
    assert session.beat == said


# -- the stream of roles


def test_the_role_is_told_at_once(server: Server) -> None:
    """The first line of the stream does not wait for a change."""
    with server.worker() as client:
        client.get("/v1/status")  # connected
        asked = time.monotonic()
        with client.stream("GET", "/v1/role") as answer:
            line = next(answer.iter_lines())
            assert time.monotonic() - asked < 0.2
        assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert RoleGrant.model_validate_json(line).role is Role.STANDBY


def test_a_change_of_role_is_told_within_50_ms(server: Server) -> None:
    """The median over twenty changes, from the assignment to the line in the worker's hands."""
    waits = []
    with server.worker() as client, client.stream("GET", "/v1/role") as answer:
        lines = answer.iter_lines()
        next(lines)
        for number in range(20):
            role = (Role.ACTIVE, Role.DRAIN)[number % 2]
            assigned = time.monotonic()
            server.desk.sessions.assign("w", role, epoch=number)
            while (grant := RoleGrant.model_validate_json(next(lines))).epoch != number:
                pass  # the present role once more, as a sign of life
            waits.append(time.monotonic() - assigned)
            assert grant.role is role
    assert statistics.median(waits) < 0.05


def test_a_silent_stream_gives_a_sign_of_life_every_beat(server: Server) -> None:
    """The present role comes again, so that a worker knows that its supervisor is there."""
    with server.worker() as client, client.stream("GET", "/v1/role") as answer:
        lines = answer.iter_lines()
        first = next(lines)
        started = time.monotonic()
        assert next(lines) == first
        assert BEAT_SECONDS * 0.8 < time.monotonic() - started < BEAT_SECONDS + 1


def test_quick_changes_end_with_the_latest(server: Server) -> None:
    """What is told may skip a role that was replaced at once, and never ends with an older one."""
    with server.worker() as client, client.stream("GET", "/v1/role") as answer:
        lines = answer.iter_lines()
        next(lines)
        for epoch in range(50):
            server.desk.sessions.assign("w", Role.ACTIVE, epoch=epoch)
        serials = []
        while (grant := RoleGrant.model_validate_json(next(lines))).epoch != 49:
            serials.append(grant.serial)
        assert [*serials, grant.serial] == sorted({*serials, grant.serial})


def test_the_stream_of_a_worker_that_is_not_expected_any_more_ends(server: Server) -> None:
    """And whatever it says then is answered with 401."""
    with server.worker() as client:
        with client.stream("GET", "/v1/role") as answer:
            lines = answer.iter_lines()
            next(lines)
            server.desk.sessions.close("w")
            assert list(lines) == []
        assert client.post("/v1/beat", content=text(Beat(state=WorkerState.STANDBY))).status_code == 401


def test_a_stream_that_breaks_wakes_the_supervisor(server: Server) -> None:
    """It is often the first sign of a dead worker."""
    with server.worker() as client, client.stream("GET", "/v1/role") as answer:
        lines = answer.iter_lines()
        next(lines)
        before = server.signal.count
    assert server.signal.until(lambda: server.signal.count > before, BEAT_SECONDS + 2)


# -- who is who


def test_workers_are_told_apart_by_their_credential_alone(server: Server) -> None:
    """Whatever else they claim: each beats, is told its role and asks in its own name."""
    for number, name in enumerate(("x", "y"), start=1):
        server.open(name)
        server.desk.sessions.assign(name, Role.ACTIVE, epoch=number)
    beats = {"x": 11, "y": 22}
    for name, polls in beats.items():
        pretended = {"X-Worker": "w", "Autonous-Worker": "w"}
        with server.worker(name, **pretended) as client:
            body = {"state": "active", "polls_ok": polls, "worker_id": "w", "credential": "credential of w"}
            grant = RoleGrant.model_validate_json(client.post("/v1/beat", json=body).content)
            assert grant.epoch == ("x", "y").index(name) + 1
            client.post("/v1/claim", content=text(Claim(code=name, user_id=1, chat_id=1)))
    known = {session.worker_id: session.beat.polls_ok for session in server.desk.sessions.all()}
    assert known == {"w": 0, **beats}
    assert [(who, asked.code) for who, asked in server.desk.asked if isinstance(asked, Claim)] == [
        ("x", "x"),
        ("y", "y"),
    ]


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer wrong", "Basic credential of w", "credential of w"],
)
@pytest.mark.parametrize("route", [*POSTS, *GETS])
def test_an_unknown_credential_is_refused_everywhere(server: Server, route: str, header: str | None) -> None:
    """401 with a Problem on every route, before anything of the request is looked at."""
    with server.worker() as client:
        if header is None:
            del client.headers["Authorization"]
        else:
            client.headers["Authorization"] = header
        answer = client.post(route, content="{}") if route in POSTS else client.get(route)
    assert answer.status_code == 401
    assert Problem.model_validate_json(answer.content).code == "unknown_worker"
    assert server.desk.asked == []


# -- messages that do not fit


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"state": "active"', b"\xff\xfe", b'{"code": 1}'])
@pytest.mark.parametrize("route", POSTS)
def test_a_message_that_does_not_fit_is_told_where(server: Server, route: str, body: bytes) -> None:
    """422 with a Problem that names the message, never an error of the server's own."""
    with server.worker() as client:
        answer = client.post(route, content=body)
    assert answer.status_code == 422
    problem = Problem.model_validate_json(answer.content)
    assert problem.code == "bad_message"
    assert problem.reason.split(".")[0] in ("Announcement", "Beat", "Claim", "Submission", "Press", "Command", "Taken")
    assert server.desk.asked == []


def test_the_field_that_does_not_fit_is_named(server: Server) -> None:
    """So that whoever wrote the other side finds it."""
    with server.worker() as client:
        answer = client.post("/v1/beat", json={"state": "asleep"})
    assert Problem.model_validate_json(answer.content).reason.startswith("Beat.state: ")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_message_that_is_too_large_is_refused(server: Server, chunked: bool) -> None:
    """413 and a Problem, whether its length was told before or not."""
    patch = text(Submission(patch="x" * (2 * 1024 * 1024 + 1))).encode()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(patch), 65536):
            yield patch[start : start + 65536]

    with server.worker() as client:
        answer = client.post("/v1/updates", content=chunks() if chunked else patch)
    assert answer.status_code == 413
    assert Problem.model_validate_json(answer.content).code == "too_large"
    assert server.desk.asked == []


def test_the_largest_patch_that_policy_takes_gets_through(server: Server) -> None:
    """256 KiB, also when each of its characters has to be escaped."""
    with server.worker() as client:
        answer = client.post("/v1/updates", content=text(Submission(patch="\x01" * 256 * 1024)))
    assert answer.status_code == 200


# -- what is passed on


def test_a_claim_is_passed_on(server: Server) -> None:
    """The desk decides."""
    with server.worker() as client:
        answers = [
            client.post("/v1/claim", content=text(Claim(code=code, user_id=1, chat_id=2))) for code in ("right", "no")
        ]
    assert [Claimed.model_validate_json(answer.content).accepted for answer in answers] == [True, False]


def test_a_submission_is_passed_on(server: Server) -> None:
    """Accepted is 200; what the desk does not take is 409 with its Problem."""
    with server.worker() as client:
        taken = client.post("/v1/updates", content=text(Submission(patch="diff")))
        refused = client.post("/v1/updates", content=text(Submission(patch="")))
    assert (taken.status_code, Submitted.model_validate_json(taken.content).tx_id) == (200, "1234")
    assert (refused.status_code, Problem.model_validate_json(refused.content).code) == (409, "not_active")


def test_progress_is_told_as_it_happens(server: Server) -> None:
    """Each step is a line of its own, the first before the second has happened, and the last is final."""
    with server.worker() as client, client.stream("GET", "/v1/updates/1234/progress") as answer:
        lines = answer.iter_lines()
        first = Progress.model_validate_json(next(lines))
        assert (first.status, first.final) == ("building", False)
        server.desk.step.set()
        last = [Progress.model_validate_json(line) for line in lines]
    assert [(step.status, step.final) for step in last] == [("staged", True)]


def test_a_press_is_passed_on(server: Server) -> None:
    """All of it, in the name of the worker that relays it; the answer is the desk's."""
    press = Press(data="s:nonce", user_id=1, chat_id=2, message_id=3, callback_id="4")
    with server.worker() as client:
        answer = client.post("/v1/press", content=text(press))
    assert Pressed.model_validate_json(answer.content) == Pressed(text="approved", alert=True)
    assert server.desk.asked == [("w", press)]


def test_a_direct_command_is_passed_on(server: Server) -> None:
    """All of it, in the name of the worker that relays it; the answer is the desk's."""
    command = Command(name="show", argument="1234", user_id=1, chat_id=2)
    with server.worker() as client:
        answer = client.post("/v1/command", content=text(command))
    assert Told.model_validate_json(answer.content).text == "you asked for show"
    assert server.desk.asked == [("w", command)]


def test_status_and_history_are_those_of_the_command_line(server: Server) -> None:
    """As plain JSON."""
    with server.worker() as client:
        assert json.loads(client.get("/v1/status").content) == {"running": True}
        assert json.loads(client.get("/v1/history").content) == [{"tx_id": "1234"}]


def test_routes_and_methods_that_do_not_exist_are_told_apart(server: Server) -> None:
    """A newer worker learns that an older supervisor does not know a route."""
    with server.worker() as client:
        assert client.get("/v1/nothing").status_code == 404
        assert client.get("/v1/beat").status_code == 405


def test_a_slow_desk_holds_nobody_up(server: Server) -> None:
    """Beats are answered while another worker's request waits for its answer."""
    server.open("x")
    route = "/v1/updates/1234/progress"
    with server.worker() as client, server.worker("x") as other, client.stream("GET", route) as answer:
        lines = answer.iter_lines()
        next(lines)  # now the next step keeps a thread of the desk waiting
        started = time.monotonic()
        assert other.post("/v1/beat", content=text(Beat(state=WorkerState.STANDBY))).status_code == 200
        assert time.monotonic() - started < 1
        server.desk.step.set()
