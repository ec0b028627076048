"""The local bot as a server: the Bot API for the bot's program on one socket, ``/local`` for its users on another.

Who can reach the users' socket speaks for them, presses buttons included, so it is never put where a worker sees it.
"""

import asyncio
import hmac
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from supervisor.localbot.botapi import BotApi
from supervisor.localbot.errors import ApiError, ClientGone
from supervisor.localbot.faults import Fault, FaultKind, Faults, Record
from supervisor.localbot.parameters import LARGEST_BODY, Parameters, read_parameters
from supervisor.localbot.polling import Polling
from supervisor.localbot.store import BotStore
from supervisor.localbot.userside import HANDLERS, UserSide
from supervisor.localbot.waiting import Bell
from supervisor.unixserver import MOST_CONNECTIONS, Connection, Endpoint, UnixServer, connection_of

_TOKEN = re.compile(r"(\d{1,15}):[A-Za-z0-9_-]+")


def create_server(
    store: BotStore,
    token: str,
    *,
    socket: Path,
    user_socket: Path,
    clock: Callable[[], float] = time.time,
    largest_body: int = LARGEST_BODY,
    most_connections: int = MOST_CONNECTIONS,
) -> UnixServer:
    """The server over one store: the Bot API on ``socket``, for anyone; the user's side on ``user_socket``, mode 0600.

    ``token`` is what the bot's program must show: digits, which are the bot's id, a colon, and letters, digits, ``_``
    or ``-``; ``ValueError`` when it is not like that. ``clock`` gives seconds since the Unix epoch.
    ``largest_body`` is what one call of the bot's program may bring, in bytes, ``most_connections`` what each socket
    holds at a time.
    """
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise ValueError("a bot token is digits, a colon, then letters, digits, _ or -")
    bell, faults, record = Bell(), Faults(), Record(clock)
    api = BotApi(store, int(found[1]), clock=clock, changed=bell.ring)
    bot_side = _BotSide(token, api, Polling(store, bell, record), faults, record, largest_body)
    bot_app = Starlette(routes=[Route("/bot{token}/{method}", bot_side.handle, methods=["GET", "POST"])])
    user_app = Starlette(routes=UserSide(store, bell, faults, record).routes(), exception_handlers=HANDLERS)
    users = Endpoint(user_app, user_socket, mode=0o600)
    return UnixServer(bot_app, socket, others=(users,), most_connections=most_connections)


class _BotSide:
    """Takes a call of the bot's program from the request to Telegram's form of the answer."""

    def __init__(
        self, token: str, api: BotApi, polling: Polling, faults: Faults, record: Record, largest_body: int
    ) -> None:
        self._token = token
        self._api = api
        self._polling = polling
        self._faults = faults
        self._record = record
        self._largest_body = largest_body

    async def handle(self, request: Request) -> Response:
        """One call: its fault if there is one, the method, the answer, the record."""
        method, connection = request.path_params["method"], connection_of(request.scope)
        parameters = Parameters({})
        fault: Fault | None = None
        try:
            self._check_token(request.path_params["token"])
            parameters = await read_parameters(request, self._largest_body)
            fault = self._faults.take(method)
            if fault is not None:
                await _suffer(fault, connection)
            result = await self._result(method, parameters, request, connection)
            status, answer = 200, {"ok": True, "result": result}
        except ApiError as error:
            status, answer = error.status, _refusal(error)
        except (ClientGone, ClientDisconnect):
            status, answer = 0, {}
        if fault is not None and fault.kind is FaultKind.DROP_AFTER:
            status = 0
            connection.drop()
            await asyncio.sleep(0)  # the connection is gone after this turn of the loop
        self._record.call(connection.mark, method, status, _chat_id(parameters))
        return JSONResponse(answer, status_code=status or 499)

    def _check_token(self, token: str) -> None:
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise ApiError(401, "Unauthorized")

    async def _result(self, method: str, parameters: Parameters, request: Request, connection: Connection) -> Any:
        if method.lower() == "getupdates":
            return await self._polling.get_updates(parameters, request.receive, connection.mark)
        return self._api.call(method, parameters)


async def _suffer(fault: Fault, connection: Connection) -> None:
    match fault.kind:
        case FaultKind.RETRY_AFTER:
            seconds = max(1, round(fault.seconds))  # Telegram gives whole seconds
            raise ApiError(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
        case FaultKind.ERROR:
            raise ApiError(fault.status, "Internal Server Error")
        case FaultKind.DELAY:
            await asyncio.sleep(fault.seconds)
        case FaultKind.DROP:
            connection.drop()
            await asyncio.sleep(0)  # the connection is gone after this turn of the loop
            raise ClientGone


def _refusal(error: ApiError) -> dict[str, Any]:
    answer: dict[str, Any] = {"ok": False, "error_code": error.status, "description": error.description}
    if error.retry_after is not None:
        answer["parameters"] = {"retry_after": error.retry_after}
    return answer


def _chat_id(parameters: Parameters) -> int | None:
    text = parameters.text("chat_id")
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None
