import json
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from supervisor import apt
from supervisor.hostengine import (
    DEFAULT_SOCKET,
    EXIT_NO_ENGINE,
    EngineMissing,
    clear_stale_pid,
    ensure_engine,
    find_engine,
    socket_path,
    unsuitable,
)

USUAL = {"OperatingSystem": "Debian GNU/Linux 12", "OSType": "linux", "SecurityOptions": ["name=seccomp"]}
ROOTLESS = {**USUAL, "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}


@contextmanager
def engine_that_says(info: Mapping[str, object], *, status: int = 200) -> Iterator[dict[str, str]]:
    """A server on a Unix socket that answers as an engine does; gives the environment that names it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"OK" if self.path == "/_ping" else json.dumps(info).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
            pass

        def address_string(self) -> str:
            return "unix"

    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/docker.sock"
        with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield {"DOCKER_HOST": f"unix://{path}"}
            finally:
                server.shutdown()
                thread.join()


def test_the_usual_socket_is_used_without_docker_host() -> None:
    """An unset and an empty DOCKER_HOST both mean the local engine."""
    assert socket_path({}) == DEFAULT_SOCKET
    assert socket_path({"DOCKER_HOST": ""}) == DEFAULT_SOCKET


def test_a_socket_named_by_docker_host_is_used() -> None:
    """A Unix socket elsewhere is still an engine of this machine."""
    assert socket_path({"DOCKER_HOST": "unix:///run/other.sock"}) == Path("/run/other.sock")


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:2375", "ssh://me@far", "http://far", "unix://relative", "nonsense"])
def test_an_engine_on_another_machine_is_refused(url: str) -> None:
    """The message names the value and what is allowed, in one line."""
    with pytest.raises(EngineMissing, match=r"DOCKER_HOST=.*unix:///path/to/docker\.sock") as refused:
        socket_path({"DOCKER_HOST": url})
    assert url in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_engine_that_answers_is_taken_without_a_word() -> None:
    """Nothing is installed, started or said when an engine is there."""
    said: list[str] = []
    with engine_that_says(USUAL) as environ:
        ensure_engine(said.append, interactive=False, environ=environ)
    assert said == []


@pytest.mark.parametrize(
    ("info", "word"),
    [
        (ROOTLESS, "rootless"),
        ({**USUAL, "OperatingSystem": "Docker Desktop"}, "Docker Desktop"),
        ({**USUAL, "OSType": "windows"}, "windows"),
        ({**USUAL, "SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}, "userns-remap"),
    ],
)
def test_an_engine_that_cannot_serve_is_refused_in_one_line(info: dict[str, object], word: str) -> None:
    """Engines whose containers do not share this machine's files and sockets are told apart by what they say."""
    with engine_that_says(info) as environ, pytest.raises(EngineMissing, match=word) as refused:
        find_engine(environ)
    assert "\n" not in str(refused.value)


def test_an_ordinary_engine_is_suitable() -> None:
    """Fields that an old engine leaves out count as ordinary."""
    assert unsuitable(USUAL) is None
    assert unsuitable({"SecurityOptions": None}) is None


def test_nobody_on_the_named_socket_is_told_and_nothing_else_is_tried(tmp_path: Path) -> None:
    """Whoever names a socket means it: no other engine is installed or started instead."""
    with pytest.raises(EngineMissing, match=r"no container engine answers at DOCKER_HOST=unix://.*gone\.sock"):
        ensure_engine(pytest.fail, interactive=False, environ={"DOCKER_HOST": f"unix://{tmp_path}/gone.sock"})


def test_a_server_that_is_no_engine_counts_as_none() -> None:
    """An answer with an error status is no engine's."""
    with engine_that_says({}, status=500) as environ, pytest.raises(EngineMissing, match="no container engine answers"):
        find_engine(environ)


def test_the_program_exits_3_with_one_line() -> None:
    """Scripts tell a missing engine by the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.hostengine"],
        env={"DOCKER_HOST": "tcp://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_NO_ENGINE
    assert done.stderr.startswith("error: DOCKER_HOST=tcp://127.0.0.1:1 ")
    assert done.stderr.count("\n") == 1


def test_a_pid_file_of_a_process_that_is_gone_is_removed(tmp_path: Path) -> None:
    """What a machine that stopped hard left behind does not keep the engine from starting."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text(str(gone.pid))
    assert clear_stale_pid(pid_file, "dockerd")
    assert not pid_file.exists()


def test_a_pid_file_is_kept_only_while_its_own_program_runs(tmp_path: Path) -> None:
    """After a restart of the machine the number may be another program's."""
    pid_file = tmp_path / "docker.pid"
    with subprocess.Popen(["sleep", "60"]) as process:
        pid_file.write_text(f"{process.pid}\n")
        # A process is there an instant before it has its program's name.
        deadline = time.monotonic() + 10
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != "sleep" and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not clear_stale_pid(pid_file, "sleep")
        assert pid_file.exists()
        assert clear_stale_pid(pid_file, "dockerd")
        process.kill()
    assert not pid_file.exists()


def test_no_pid_file_is_nothing_to_do(tmp_path: Path) -> None:
    """A first start finds none, and a file that holds no number is left alone."""
    assert not clear_stale_pid(tmp_path / "none.pid", "dockerd")
    (tmp_path / "odd.pid").write_text("odd")
    assert not clear_stale_pid(tmp_path / "odd.pid", "dockerd")


@pytest.mark.parametrize(
    ("os_release", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"\n', True),
        ('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("ID=fedora\nID_LIKE=rhel\n", False),
        ("", False),
    ],
)
def test_the_distribution_is_read_from_os_release(os_release: str, expected: bool) -> None:
    """apt-get is used on Debian, Ubuntu and what is made of them, nowhere else."""
    assert apt.is_debian_like(os_release) is expected
