"""How soon a worker hears of a new role: from the supervisor's decision to the line on the worker's open stream."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from supervisor.contract import (
    Claim,
    Claimed,
    Command,
    Kept,
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
)
from supervisor.server import contract_app
from supervisor.sessions import Sessions, Signal, credential_hash
from supervisor.unixserver import UnixServer
from tests.bench.figures import By, Figure, seconds

_WORKER, _CREDENTIAL = "bench", "bench-credential"
_LIMIT_SECONDS = 0.05
_BETWEEN_SECONDS = 0.01


@dataclass
class _Desk:
    """Answers nothing: only roles are asked for here."""

    sessions: Sessions

    def claim(self, worker_id: str, claim: Claim) -> Claimed:
        return Claimed(accepted=False)

    def submit(self, worker_id: str, submission: Submission) -> Submitted | Problem:
        return Problem(code="bench", reason="no updates here")

    def progress(self, tx_id: str) -> Iterator[Progress]:
        return iter(())

    def status(self) -> object:
        return {}

    def press(self, worker_id: str, press: Press) -> Pressed:
        return Pressed()

    def command(self, worker_id: str, command: Command) -> Told:
        return Told()

    def kept(self, worker_id: str) -> Kept:
        return Kept()

    def taken(self, worker_id: str, taken: Taken) -> Kept:
        return Kept()

    def history(self) -> object:
        return []


def measure(directory: Path, changes: int) -> list[Figure]:
    """The contract's real server on a socket and a client with an open stream, ``changes`` times."""
    sessions = Sessions(Signal())
    sessions.open(_WORKER, sha="0" * 40, instance=1, credential_hash=credential_hash(_CREDENTIAL))
    heard: dict[int, float] = {}
    news = threading.Condition()
    socket = directory / "role.sock"

    def listen() -> None:
        with (
            httpx.Client(transport=httpx.HTTPTransport(uds=str(socket), verify=False)) as http,
            http.stream(
                "GET", "http://localhost/v1/role", headers={"Authorization": f"Bearer {_CREDENTIAL}"}
            ) as stream,
        ):
            for line in stream.iter_lines():
                at = time.perf_counter()
                with news:
                    heard[RoleGrant.model_validate_json(line).serial] = at
                    news.notify()
                if len(heard) > changes:
                    return

    taken = []
    with UnixServer(contract_app(_Desk(sessions)), socket):
        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        with news:
            assert news.wait_for(lambda: heard, 5), "the stream did not open"
        for serial in range(1, changes + 1):
            time.sleep(_BETWEEN_SECONDS)
            started = time.perf_counter()
            sessions.assign(_WORKER, Role.DRAIN if serial % 2 else Role.STANDBY)
            with news:
                assert news.wait_for(partial(heard.__contains__, serial), 5), "a change was not told"
            taken.append(heard[serial] - started)
        listener.join(5)
    return [
        Figure(
            "role change told to a worker",
            tuple(taken),
            seconds,
            "Sessions.assign to the line on an open stream, over the contract's server on a Unix socket",
            limit=_LIMIT_SECONDS,
            by=By.P99,
        )
    ]
