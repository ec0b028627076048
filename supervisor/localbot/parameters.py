"""The parameters of a Bot API call, whichever way they were sent: query, JSON, form or multipart with files."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request

from supervisor.localbot.errors import ApiError, BadRequest

#: Bytes that one call may bring; Telegram takes documents of 50 MB.
LARGEST_BODY: Final = 50 * 1024 * 1024
_BOUNDARY: Final = re.compile(r'boundary="?([^";]+)"?')
_NUMBER: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_NAME: Final = re.compile(r'\bname="([^"]*)"')
_FILE_NAME: Final = re.compile(r'\bfilename="([^"]*)"')
_CONTENT_TYPE: Final = re.compile(r"^content-type:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Upload:
    """A file that came with a call."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Parameters:
    """Typed access to what a caller sent. A value that does not fit is a ``BadRequest``."""

    values: dict[str, Any]
    files: dict[str, Upload] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A string, empty when it was not sent."""
        value = self.values.get(name, "")
        if not isinstance(value, str):
            return json.dumps(value)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadRequest("strings must be encoded in UTF-8") from None
        return value

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number. Like Telegram it is read from digits in a string, too."""
        value = self.values.get(name)
        if value in (None, ""):
            return default
        if not _NUMBER.fullmatch(str(value)):
            raise BadRequest(f"parameter {name} is no number")
        return int(str(value))

    def seconds(self, name: str) -> float:
        """A time in seconds, fractions allowed, 0 when it was not sent."""
        try:
            return float(self.values.get(name) or 0)
        except (TypeError, ValueError):
            raise BadRequest(f"parameter {name} is no number") from None

    def flag(self, name: str) -> bool:
        """A truth value."""
        return str(self.values.get(name, "")).lower() in {"true", "1", "yes"}

    def parsed(self, name: str) -> Any:
        """A value that a form carries as JSON text; ``None`` when it was not sent."""
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value else None
        except (ValueError, RecursionError):
            raise BadRequest(f"can't parse {name} JSON object") from None


async def read_parameters(request: Request, largest: int = LARGEST_BODY) -> Parameters:
    """The parameters of a call, with the body read to its end. ``ApiError`` when it is over ``largest`` bytes."""
    values: dict[str, Any] = dict(request.query_params)
    files: dict[str, Upload] = {}
    body = await _body(request, largest)
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("application/json"):
        try:
            sent = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            sent = None
        if not isinstance(sent, dict):
            raise BadRequest("can't parse JSON object")
        values |= sent
    elif content_type.startswith("multipart/form-data"):
        _read_multipart(content_type, body, values, files)
    else:
        values |= dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return Parameters(values, files)


async def _body(request: Request, largest: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise ApiError(413, "Request Entity Too Large")
    return bytes(body)


def _read_multipart(content_type: str, body: bytes, values: dict[str, Any], files: dict[str, Upload]) -> None:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadRequest("multipart body without a boundary")
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = head.decode("utf-8", "replace")
        name, file_name, kind = (p.search(headers) for p in (_NAME, _FILE_NAME, _CONTENT_TYPE))
        if name is None:
            raise BadRequest("multipart body with a nameless part")
        if file_name is None:
            values[name[1]] = content.decode("utf-8", "replace")
        else:
            mime = kind[1] if kind else "application/octet-stream"
            files[name[1]] = Upload(unquote(file_name[1]), mime, content)
