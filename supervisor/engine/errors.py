"""What the Docker SDK raises, as errors of our own.

::

EngineError
├── EngineUnreachable   nobody answers on the socket, or it stopped answering
├── ImageMissing        no such image
├── ContainerGone       no such container (any more)
├── NameTaken           another container has that name
├── BuildFailed         the build ended with an error; .log has its last lines
├── NoSpace             the engine's disk is full
└── SpecViolated        the engine made something else than the spec says; it was removed again
"""

from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, StreamParseError


class EngineError(Exception):
    """Something the engine did not do; the message is one line for the user."""


class EngineUnreachable(EngineError):
    """Nobody answers on the engine's socket."""


class ImageMissing(EngineError):
    """There is no such image."""


class ContainerGone(EngineError):
    """There is no such container any more."""


class NameTaken(EngineError):
    """Another container has this name."""


class BuildFailed(EngineError):
    """A build ended with an error; ``log`` holds its last lines."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class NoSpace(EngineError):
    """No space is left on the engine's disk."""


class SpecViolated(EngineError):
    """The engine made a container other than it was asked to."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever the SDK raises inside into an EngineError that says what was tried."""
    try:
        yield
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        urllib3.exceptions.HTTPError,
        StreamParseError,  # the engine was killed in the middle of a line
    ) as error:
        raise EngineUnreachable(f"the engine does not answer ({what})") from error
    except ImageNotFound as error:
        raise ImageMissing(f"no such image ({what})") from error
    except NotFound as error:
        explanation = str(error.explanation)
        if "No such image" in explanation:
            raise ImageMissing(f"no such image ({what})") from error
        raise ContainerGone(f"not there any more ({what})") from error
    except APIError as error:
        raise _from_api(error, what) from error
    except DockerException as error:
        raise EngineUnreachable(f"the engine does not answer ({what})") from error


def _from_api(error: APIError, what: str) -> EngineError:
    explanation = " ".join(str(error.explanation or error).split())
    if "no space left on device" in explanation:
        return NoSpace(f"no space left on the engine's disk ({what})")
    if error.status_code == requests.codes.conflict and "is already in use" in explanation:
        return NameTaken(f"the name is taken ({what})")
    return EngineError(f"{what}: {explanation}")
