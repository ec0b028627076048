"""The supervisor's end of the control socket, which its command line talks to."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from supervisor.ledger import LedgerError
from supervisor.revisions import RevisionsError
from supervisor.updates.decisions import Refusal

_LOG = structlog.get_logger()

_Handler = Callable[[Request], Awaitable[JSONResponse]]


class Controlled(Protocol):
    """What a supervisor does for its command line (:class:`supervisor.control.ControlClient`). Methods may block.

    Each raises an exception whose message is one line for the user.
    """

    def status(self) -> dict[str, Any]:
        """See ControlClient.status."""

    def hand_in(self, submission: dict[str, Any]) -> dict[str, Any]:
        """See ControlClient.submit."""

    def decide(self, decision: str, tx: str, by: str) -> dict[str, Any]:
        """See ControlClient.decide."""

    def take_down(self) -> None:
        """See ControlClient.down."""

    def upgrade(self, deps_image_id: str) -> dict[str, Any]:
        """See ControlClient.upgrade."""

    def reload(self, environment: dict[str, str]) -> None:
        """See ControlClient.reload."""


def control_app(supervisor: Controlled) -> Starlette:
    """The application behind the control socket."""

    async def status(_: Request) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(supervisor.status))

    async def submit(request: Request) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(supervisor.hand_in, await request.json()))

    async def decide(request: Request) -> JSONResponse:
        body = await request.json()
        decision = request.url.path.removeprefix("/")
        return JSONResponse(await run_in_threadpool(supervisor.decide, decision, body["tx"], body["by"]))

    async def down(_: Request) -> JSONResponse:
        supervisor.take_down()
        return JSONResponse({})

    async def upgrade(request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse(await run_in_threadpool(supervisor.upgrade, body["deps_image_id"]))

    async def reload(request: Request) -> JSONResponse:
        supervisor.reload((await request.json())["environment"])
        return JSONResponse({})

    def answered(handler: _Handler) -> _Handler:
        # Each failure becomes an answer here: one that got out would end the connection under it.
        async def endpoint(request: Request) -> JSONResponse:
            try:
                return await handler(request)
            except (Refusal, LedgerError, RevisionsError) as refusal:
                return JSONResponse({"reason": str(refusal)}, status_code=409)
            except Exception as error:
                _LOG.exception("a defect behind the control socket")
                reason = f"a defect of the supervisor: {type(error).__name__}: {error}; see `supervisor logs`"
                return JSONResponse({"reason": reason}, status_code=500)

        return endpoint

    return Starlette(
        routes=[
            Route("/status", answered(status)),
            Route("/submit", answered(submit), methods=["POST"]),
            *(Route(f"/{name}", answered(decide), methods=["POST"]) for name in ("approve", "cancel", "rollback")),
            Route("/down", answered(down), methods=["POST"]),
            Route("/reload", answered(reload), methods=["POST"]),
            Route("/upgrade", answered(upgrade), methods=["POST"]),
        ],
    )
