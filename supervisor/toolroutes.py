"""The routes of the contract that are about tools; see :mod:`supervisor.contract.messages`."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from supervisor.contract import (
    Grant,
    GrantOrder,
    Grants,
    Problem,
    Revocation,
    ToolboxNoted,
    ToolboxOpened,
    ToolboxOrder,
    ToolboxTrouble,
)
from supervisor.contract.messages import Message

M = TypeVar("M", bound=Message)


class ToolDesk(Protocol):
    """Who answers. Methods may block; they are called outside the event loop."""

    def trouble(self, worker_id: str, trouble: ToolboxTrouble) -> ToolboxNoted:
        """A toolbox does not answer its worker."""

    def open(self, worker_id: str, order: ToolboxOrder) -> ToolboxOpened | Problem:
        """A call was granted the network."""

    def close(self, worker_id: str, toolbox_id: str) -> ToolboxNoted:
        """That call has ended."""

    def grants(self, worker_id: str) -> Grants:
        """What is granted now."""

    def grant(self, worker_id: str, order: GrantOrder) -> Grant | Problem:
        """An owner opens a directory to the tools."""

    def revoke(self, worker_id: str, number: int, revocation: Revocation) -> Grant | Problem:
        """An owner takes a grant back."""


class Reading(Protocol):
    """Reads a request's body as a message; refuses one that does not fit."""

    async def __call__(self, request: Request, kind: type[M], /) -> M:
        """The message."""


def tool_routes(
    desk: ToolDesk,
    *,
    identify: Callable[[Request], str],
    read: Reading,
    answer: Callable[[Message], Response],
    guarded: Callable[[Callable[[Request], Awaitable[Response]]], Callable[[Request], Awaitable[Response]]],
) -> list[Route]:
    """The routes, to be served with the others: ``identify`` gives the worker's id, ``answer`` makes a response."""

    async def trouble(request: Request) -> Response:
        worker_id = identify(request)
        return answer(await run_in_threadpool(desk.trouble, worker_id, await read(request, ToolboxTrouble)))

    async def open_(request: Request) -> Response:
        worker_id = identify(request)
        return answer(await run_in_threadpool(desk.open, worker_id, await read(request, ToolboxOrder)))

    async def close(request: Request) -> Response:
        worker_id = identify(request)
        return answer(await run_in_threadpool(desk.close, worker_id, request.path_params["toolbox_id"]))

    async def grants(request: Request) -> Response:
        return answer(await run_in_threadpool(desk.grants, identify(request)))

    async def grant(request: Request) -> Response:
        worker_id = identify(request)
        return answer(await run_in_threadpool(desk.grant, worker_id, await read(request, GrantOrder)))

    async def revoke(request: Request) -> Response:
        worker_id, number = identify(request), request.path_params["number"]
        return answer(await run_in_threadpool(desk.revoke, worker_id, number, await read(request, Revocation)))

    table = (
        ("POST", "/v1/toolbox/trouble", trouble),
        ("POST", "/v1/toolboxes", open_),
        ("DELETE", "/v1/toolboxes/{toolbox_id}", close),
        ("GET", "/v1/grants", grants),
        ("POST", "/v1/grants", grant),
        ("POST", "/v1/grants/{number:int}/revoke", revoke),
    )
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
