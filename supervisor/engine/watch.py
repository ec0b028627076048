"""The engine's event stream."""

from collections.abc import Iterator
from contextlib import suppress

import docker

from supervisor.engine.errors import EngineUnreachable, translated
from supervisor.engine.values import EngineEvent, label_filters
from supervisor.specs import LABEL_PROJECT


class Watch:
    """An open event stream.

    Iterating ends on :meth:`close` and raises EngineUnreachable when the engine goes away.

    Events may be lost between two streams: whoever opens one looks at the containers first.
    """

    def __init__(self, url: str, project: str) -> None:
        self._closed = False
        with translated(url):
            self._client = docker.APIClient(base_url=url, version="auto", timeout=None)
            self._stream = self._client.events(
                decode=True, filters={"type": "container", "label": label_filters({LABEL_PROJECT: project})}
            )

    def __iter__(self) -> Iterator[EngineEvent]:
        with translated("event stream"):
            for event in self._stream:
                attributes = event["Actor"]["Attributes"]
                yield EngineEvent(event["Action"], event["Actor"]["ID"], attributes.get("name", ""), attributes)
        if not self._closed:
            raise EngineUnreachable("the engine closed its event stream")

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed = True
        with suppress(Exception):  # the SDK raises whatever its socket raises; it is closed either way
            self._stream.close()
        self._client.close()
