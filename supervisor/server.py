"""The contract, served: HTTP and JSON over the Unix socket that workers dial.

Messages and routes are those of :mod:`supervisor.contract.messages`. The real supervisor and the exam each bring
a :class:`Desk`; what a worker meets is the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from supervisor.contract import (
    Announcement,
    Beat,
    Claim,
    Claimed,
    Command,
    Kept,
    Press,
    Pressed,
    Problem,
    Progress,
    Submission,
    Submitted,
    Taken,
    Told,
)
from supervisor.contract.messages import Message
from supervisor.sessions import BEAT_SECONDS, Sessions
from supervisor.toolroutes import ToolDesk, tool_routes

_LOG = structlog.get_logger()
_MAX_BODY_BYTES = 2 * 1024 * 1024
_NDJSON = "application/x-ndjson"

M = TypeVar("M", bound=Message)
Endpoint = Callable[[Request], Awaitable[Response]]


class Desk(Protocol):
    """Who answers the workers. Methods may block; they are called outside the event loop."""

    @property
    def sessions(self) -> Sessions:
        """The workers that are expected."""

    def claim(self, worker_id: str, claim: Claim) -> Claimed:
        """Somebody wants to own the bot."""

    def submit(self, worker_id: str, submission: Submission) -> Submitted | Problem:
        """The agent proposes a patch."""

    def progress(self, tx_id: str) -> Iterator[Progress]:
        """The steps of an update as they happen, until its end. Raises NotThere."""

    def press(self, worker_id: str, press: Press) -> Pressed:
        """Somebody pressed a button of a card."""

    def command(self, worker_id: str, command: Command) -> Told:
        """Somebody gave a command that no model has a say in."""

    def kept(self, worker_id: str) -> Kept:
        """What came for the bot while no worker ran."""

    def taken(self, worker_id: str, taken: Taken) -> Kept:
        """The worker has stored some of that; gives what is left."""

    def status(self) -> object:
        """What ``supervisor status --json`` says."""

    def history(self) -> object:
        """What ``supervisor history --json`` says."""


class NotThere(Exception):
    """A desk knows nothing of what was asked for; the message is one line that says of what."""


class _Refused(Exception):
    def __init__(self, status: int, problem: Problem) -> None:
        self.status = status
        self.problem = problem


def contract_app(desk: Desk, tools: ToolDesk | None = None) -> Starlette:
    """The application that workers talk to; without a desk for ``tools`` it has no routes for those."""
    sessions = desk.sessions

    def identify(request: Request) -> str:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        worker_id = sessions.authenticate(credential) if scheme.lower() == "bearer" else None
        if worker_id is None:
            raise _Refused(401, Problem(code="unknown_worker", reason="this credential is not known (any more)"))
        return worker_id

    async def announce(request: Request) -> Response:
        return _answer(sessions.announce(identify(request), await _read(request, Announcement)))

    async def beat(request: Request) -> Response:
        grant = sessions.beat(identify(request), await _read(request, Beat))
        if grant is None:
            raise _Refused(401, Problem(code="unknown_worker", reason="this worker is not expected any more"))
        return _json(grant)

    async def role(request: Request) -> Response:
        return StreamingResponse(_grants(sessions, identify(request)), media_type=_NDJSON)

    def relay(kind: type[M], answer: Callable[[str, M], Message]) -> Endpoint:
        async def handler(request: Request) -> Response:
            worker_id = identify(request)
            return _answer(await run_in_threadpool(answer, worker_id, await _read(request, kind)))

        return _guarded(handler)

    async def progress(request: Request) -> Response:
        identify(request)
        steps = await run_in_threadpool(desk.progress, request.path_params["tx_id"])
        lines = (step.model_dump_json() + "\n" async for step in iterate_in_threadpool(steps))
        return StreamingResponse(lines, media_type=_NDJSON)

    async def kept(request: Request) -> Response:
        return _json(await run_in_threadpool(desk.kept, identify(request)))

    async def status(request: Request) -> Response:
        identify(request)
        return JSONResponse(await run_in_threadpool(desk.status))

    async def history(request: Request) -> Response:
        identify(request)
        return JSONResponse(await run_in_threadpool(desk.history))

    return Starlette(
        routes=[
            Route("/v1/announce", _guarded(announce), methods=["POST"]),
            Route("/v1/beat", _guarded(beat), methods=["POST"]),
            Route("/v1/role", _guarded(role)),
            Route("/v1/claim", relay(Claim, desk.claim), methods=["POST"]),
            Route("/v1/updates", relay(Submission, desk.submit), methods=["POST"]),
            Route("/v1/updates/{tx_id}/progress", _guarded(progress)),
            Route("/v1/press", relay(Press, desk.press), methods=["POST"]),
            Route("/v1/command", relay(Command, desk.command), methods=["POST"]),
            Route("/v1/kept", _guarded(kept)),
            Route("/v1/kept/taken", relay(Taken, desk.taken), methods=["POST"]),
            Route("/v1/status", _guarded(status)),
            Route("/v1/history", _guarded(history)),
            *(tool_routes(tools, identify=identify, read=_read, answer=_answer, guarded=_guarded) if tools else ()),
        ]
    )


async def _grants(sessions: Sessions, worker_id: str) -> AsyncIterator[str]:
    """The worker's role now, at each change, and once every beat as a sign of life."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended, and the stream with it
            loop.call_soon_threadsafe(changed.set)

    stop = sessions.listen(worker_id, wake)
    try:
        while session := sessions.get(worker_id):
            changed.clear()
            yield session.grant.model_dump_json() + "\n"
            try:
                await asyncio.wait_for(changed.wait(), BEAT_SECONDS)
            except TimeoutError:
                continue
    finally:
        stop()


async def _read(request: Request, kind: type[M]) -> M:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise _Refused(413, Problem(code="too_large", reason=f"over {_MAX_BODY_BYTES} bytes"))
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{kind.__name__}.{where}: {first['msg']}"
        raise _Refused(422, Problem(code="bad_message", reason=reason)) from None


def _json(message: Message, status: int = 200) -> Response:
    return Response(message.model_dump_json(), status_code=status, media_type="application/json")


def _answer(message: Message) -> Response:
    return _json(message, 409 if isinstance(message, Problem) else 200)


def _guarded(handler: Endpoint) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except _Refused as refused:
            return _json(refused.problem, refused.status)
        except NotThere as error:
            return _json(Problem(code="not_there", reason=str(error)), 404)
        except ClientDisconnect:  # it died in the middle of a word; nobody reads the answer
            return Response(status_code=400)
        except Exception as error:  # a worker is answered whatever happens; the log has the rest
            _LOG.exception("a defect behind the contract")
            return _json(Problem(code="internal", reason=f"{type(error).__name__}: {error}"), 500)

    return endpoint
