"""A way to an engine that can be cut, as when the engine is restarted."""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024


class EngineProxy:
    """Passes on what comes to the Unix socket ``path`` to the engine behind ``engine``."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.url = f"unix://{path}"
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._unanswered = b""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection that is open now."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def lose_reply_to(self, request: bytes) -> None:
        """Pass on the next request that has this in it, and close its connection when the engine has answered."""
        self._unanswered = request

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(str(self._engine))
                self._open += [client, engine]
                lost = threading.Event()
                for pass_on, source, target in ((self._ask, client, engine), (self._answer, engine, client)):
                    threading.Thread(target=pass_on, args=(source, target, lost), daemon=True).start()

    def _ask(self, client: socket.socket, engine: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while chunk := client.recv(_CHUNK):
                if self._unanswered and self._unanswered in chunk:
                    self._unanswered = b""
                    lost.set()
                engine.sendall(chunk)
            engine.shutdown(socket.SHUT_WR)

    def _answer(self, engine: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while chunk := engine.recv(_CHUNK):
                if lost.is_set():
                    break
                client.sendall(chunk)
            client.shutdown(socket.SHUT_RDWR if lost.is_set() else socket.SHUT_WR)
