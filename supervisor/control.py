"""The command line's way to a running supervisor: JSON over a socket that only its owner can open.

By the standard library alone, since every command pays for what it imports; the other end is ``control_server``.
"""

import http.client
import json
from pathlib import Path
from typing import Any, Final

from supervisor.unixhttp import UnixConnection

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
