"""What the Docker SDK raises, as errors of our own."""

import http.server
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from supervisor.engine import Engine, EngineUnreachable

VERSION = b'{"ApiVersion":"1.41","Version":"20.10.0"}'


class _DiesInMidLine(http.server.BaseHTTPRequestHandler):
    """An engine that is killed while it writes a line of a stream."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path.endswith("/version"):
            self.send_header("Content-Length", str(len(VERSION)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(VERSION)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        half = b'{"Type":"container","Action":"di'
        self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half) + b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        pass

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def dying() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/e"
        with socketserver.ThreadingUnixStreamServer(path, _DiesInMidLine) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield Engine(f"unix://{path}")
            finally:
                server.shutdown()
                thread.join()


def test_half_a_line_means_that_the_engine_is_away(dying: Engine) -> None:
    """It was killed as it wrote; that is no defect of whoever reads."""
    with closing(dying.watch("p")) as watch, pytest.raises(EngineUnreachable):
        list(watch)
