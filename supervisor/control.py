"""The command line's way to a running supervisor: JSON over a socket that only its owner can open.

The client uses the standard library alone, since every command pays for what it imports.
"""

import http.client
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from supervisor.unixhttp import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    Handler = Callable[[Request], Awaitable[JSONResponse]]

_SECONDS: Final = 30.0


class SupervisorAway(Exception):
    """No supervisor answers; the message is one line for the user."""


class ControlRefused(Exception):
    """The supervisor said no; the message is one line that says why."""


class ControlClient:
    """Asks the supervisor behind ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self) -> dict[str, Any]:
        """What ``supervisor status --json`` shows. Raises SupervisorAway."""
        return self._ask("GET", "/status")

    def submit(self, **submission: Any) -> dict[str, Any]:
        """Hand in a patch; gives ``tx_id, status, code, reason``."""
        return self._ask("POST", "/submit", submission)

    def decide(self, decision: str, tx: str, *, by: str = "terminal") -> dict[str, Any]:
        """``approve``, ``cancel`` or ``rollback``; gives ``tx_id, status, message, already``.

        Raises ControlRefused.
        """
        return self._ask("POST", f"/{decision}", {"tx": tx, "by": by})

    def down(self) -> dict[str, Any]:
        """End the workers and the supervisor; the answer comes before the end."""
        return self._ask("POST", "/down", {})

    def upgrade(self, deps_image_id: str) -> dict[str, Any]:
        """Take over what the checkout brings; gives ``tx_id, status, code, reason, conflicts``."""
        return self._ask("POST", "/upgrade", {"deps_image_id": deps_image_id})

    def reload(self, environment: dict[str, str]) -> dict[str, Any]:
        """Have the supervisor start anew, workers untouched, with these settings in its environment and ``.env``.

        The answer comes before the end.
        """
        return self._ask("POST", "/reload", {"environment": environment})

    def _ask(self, method: str, route: str, body: object = None) -> dict[str, Any]:
        connection = UnixConnection(self._path, _SECONDS)
        try:
            connection.request(
                method, route, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except TimeoutError as error:
            raise SupervisorAway(
                f"the supervisor did not answer within {_SECONDS:.0f} s; see `supervisor logs`"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SupervisorAway("the supervisor is not running; `make up` starts it") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ControlRefused(answer["reason"])
        return answer


class Controlled(Protocol):
    """What a supervisor does for its command line. Methods may block.

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


def control_app(supervisor: Controlled) -> "Starlette":
    """The application behind the control socket."""
    import structlog
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from supervisor.ledger import LedgerError
    from supervisor.revisions import RevisionsError
    from supervisor.updates.decisions import Refusal

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

    def answered(handler: "Handler") -> "Handler":
        log = structlog.get_logger()

        # Each failure becomes an answer here: one that got out would end the connection under it.
        async def endpoint(request: Request) -> JSONResponse:
            try:
                return await handler(request)
            except (Refusal, LedgerError, RevisionsError) as refusal:
                return JSONResponse({"reason": str(refusal)}, status_code=409)
            except Exception as error:
                log.exception("a defect behind the control socket")
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
