"""Quick looks at the engine without its SDK, whose import alone takes longer than ``status`` may."""

import http.client
import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from supervisor.hostengine import EngineMissing, socket_path
from supervisor.unixhttp import UnixConnection

_SECONDS: Final = 0.15


def container_runs(name: str, *, seconds: float = _SECONDS, environ: Mapping[str, str] = os.environ) -> bool | None:
    """Whether a container's process lives and is not paused; None when the engine does not say so in time."""
    try:
        status, found = _get(f"/containers/{quote(name)}/json", seconds, environ)
    except (EngineMissing, OSError, ValueError, http.client.HTTPException):
        return None
    if status == http.client.NOT_FOUND:
        return False
    if status != http.client.OK:
        return None
    return bool(found["State"]["Status"] == "running")


def describe(resource: str, *, seconds: float, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What the engine says at ``/info`` or ``/version``. Raises EngineMissing."""
    try:
        status, found = _get(resource, seconds, environ)
    except PermissionError:
        raise EngineMissing(f"you may not use the engine at {socket_path(environ)}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise EngineMissing(f"the engine at {socket_path(environ)} does not answer: {error}") from None
    if status != http.client.OK:
        raise EngineMissing(f"the engine at {socket_path(environ)} answers {resource} with status {status}")
    return found


def _get(resource: str, seconds: float, environ: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    connection = UnixConnection(socket_path(environ), seconds)
    try:
        connection.request("GET", resource)
        response = connection.getresponse()
        return response.status, dict(json.loads(response.read()))
    finally:
        connection.close()
