"""The container engine of this machine: whether one answers, and how to get one.

Standard library only, so that it runs before anything else is set up::

    python -m supervisor.hostengine     # 0 when an engine answers at the end, 3 with one line why not

An engine that is there is never stopped and never configured.
"""

import functools
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from supervisor import apt
from supervisor.apt import Say
from supervisor.unixhttp import UnixConnection

DEFAULT_SOCKET: Final = Path("/var/run/docker.sock")
PACKAGES: Final = ("docker.io", "iptables")
EXIT_NO_ENGINE: Final = 3

_ANSWER_SECONDS: Final = 15.0
_START_SECONDS: Final = 60.0
_DAEMON_LOG: Final = Path("/var/log/dockerd.log")
# Left behind by a machine that stopped hard; with one, the daemon takes whoever has that number now for its twin.
_PID_FILES: Final = (
    (Path("/var/run/docker.pid"), "dockerd"),
    (Path("/var/run/docker/containerd/containerd.pid"), "containerd"),
)


class EngineMissing(Exception):
    """No engine answers that can be used, and none could be had; the message is one line for the user."""


def socket_path(environ: Mapping[str, str]) -> Path:
    """Where the engine listens: a Unix socket named by ``DOCKER_HOST``, or the usual place.

    Raises EngineMissing when ``DOCKER_HOST`` names an engine on another machine.
    """
    url = environ.get("DOCKER_HOST", "")
    if not url:
        return DEFAULT_SOCKET
    scheme, _, path = url.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        raise EngineMissing(
            f"DOCKER_HOST={url} cannot be used: the engine must be on this machine, as unix:///path/to/docker.sock; "
            "unset it to use the local engine"
        )
    return Path(path)


def find_engine(environ: Mapping[str, str] = os.environ) -> None:
    """Return when an engine answers that can be used; changes nothing.

    Raises EngineMissing.
    """
    path = socket_path(environ)
    if not _answers(path):
        raise EngineMissing(f"no container engine answers at {path}")
    if problem := unsuitable(_get(path, "/info")):
        raise EngineMissing(problem)


def ensure_engine(say: Say, *, interactive: bool, environ: Mapping[str, str] = os.environ) -> None:
    """Return when an engine answers: the one that is there, or as root on Debian and Ubuntu one that this installs.

    ``say`` is given lines of progress; with ``interactive`` the terminal is asked before anything is installed.
    Raises EngineMissing.
    """
    path = socket_path(environ)
    if not _answers(path):
        if path != DEFAULT_SOCKET:
            raise EngineMissing(
                f"no container engine answers at DOCKER_HOST=unix://{path}; start it, or unset DOCKER_HOST"
            )
        _get_one(say, interactive=interactive)
    find_engine(environ)


def unsuitable(info: Mapping[str, Any]) -> str | None:
    """Why the engine that describes itself as ``info`` (its ``/info``) cannot be used; None when it can."""
    use_instead = "use the distribution's own engine (DOCKER_HOST unset), run by root"
    if "Docker Desktop" in info.get("OperatingSystem", ""):
        return f"Docker Desktop runs containers in a machine of its own, out of reach of sockets here; {use_instead}"
    options = info.get("SecurityOptions") or ()
    if any("name=rootless" in option for option in options):
        return f"a rootless engine gives files to users that this machine does not know; {use_instead}"
    if any("name=userns" in option for option in options):
        return (
            "the engine gives its containers users of their own (userns-remap), to whom no file of this machine "
            "belongs; take userns-remap out of its daemon.json and restart it"
        )
    if info.get("OSType", "linux") != "linux":
        return f"the engine runs {info['OSType']} containers; {use_instead}"
    return None


def clear_stale_pid(pid_file: Path, command: str) -> bool:
    """Remove ``pid_file`` when the process that it names is gone or is no ``command``; True when it was removed."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return False
    with suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() == command:
            return False
    pid_file.unlink()
    return True


def _get_one(say: Say, *, interactive: bool) -> None:
    installed = shutil.which("dockerd") is not None
    if os.getuid() != 0:
        remedy = "sudo systemctl start docker" if installed else "sudo apt-get install docker.io"
        raise EngineMissing(
            f"no container engine answers at {DEFAULT_SOCKET}, and only root can change that; for example `{remedy}`, "
            "then `sudo usermod -aG docker $USER` and a new login"
        )
    if not installed:
        _install(say, interactive=interactive)
    if not _answers(DEFAULT_SOCKET):
        _start(say)


def _install(say: Say, *, interactive: bool) -> None:
    if not apt.available():
        raise EngineMissing(
            "no container engine answers here; install Docker Engine 20.10 or later "
            "(only on Debian and Ubuntu this is done for you)"
        )
    names = " and ".join(PACKAGES)
    if interactive:
        answer = input(f"No container engine answers here. Install {names} with apt-get? [Y/n] ")
        if answer.strip().lower() not in ("", "y", "yes"):
            raise EngineMissing("no container engine answers here, and none was installed")
    say(f"No container engine answers here: installing {names} with apt-get (once; about a minute)...")
    try:
        apt.install(PACKAGES, say)
    except apt.PackagesUnavailable as error:
        raise EngineMissing(str(error)) from error


def _start(say: Say) -> None:
    say("Starting the container engine...")
    if Path("/run/systemd/system").is_dir():
        started = subprocess.run(["systemctl", "start", "docker"], check=False, capture_output=True, text=True)
        if started.returncode != 0:
            raise EngineMissing(f"systemd could not start docker: {_last_line(started.stderr)}")
        _wait(say, None)
        return
    for pid_file, command in _PID_FILES:
        clear_stale_pid(pid_file, command)
    if not _has_control_groups() and shutil.which("cgroupfs-mount"):
        subprocess.run(["cgroupfs-mount"], check=False, capture_output=True)
    try:
        with _DAEMON_LOG.open("ab") as log:
            daemon = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
    except OSError as error:
        raise EngineMissing(f"the container engine cannot be started: {error}") from error
    _wait(say, daemon)


def _has_control_groups() -> bool:
    return any(" - cgroup" in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _wait(say: Say, daemon: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(DEFAULT_SOCKET):
        if daemon is not None and daemon.poll() is not None:
            reason = _last_line(_DAEMON_LOG.read_text(errors="replace"))
            raise EngineMissing(f"the container engine ended at once ({_DAEMON_LOG}): {reason}")
        if time.monotonic() > deadline:
            raise EngineMissing(f"the container engine was started and does not answer after {_START_SECONDS:.0f} s")
        time.sleep(0.2)
    say("The container engine answers.")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"


def _answers(path: Path) -> bool:
    try:
        _request(path, "/_ping")
    except PermissionError as error:
        raise EngineMissing(
            f"you may not use the container engine at {path}; `sudo usermod -aG docker $USER`, then log in again"
        ) from error
    except (OSError, http.client.HTTPException):
        return False
    return True


def _get(path: Path, resource: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_request(path, resource)))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise EngineMissing(f"the container engine at {path} gives no answer that can be used: {error}") from error


def _request(path: Path, resource: str) -> bytes:
    connection = UnixConnection(path, _ANSWER_SECONDS)
    try:
        connection.request("GET", resource)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise http.client.HTTPException(f"status {response.status}")
    return body


def main() -> int:
    """Make sure of an engine, showing progress on standard output; the exit code."""
    try:
        ensure_engine(functools.partial(print, flush=True), interactive=sys.stdin.isatty())
    except EngineMissing as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return EXIT_NO_ENGINE
    return 0


if __name__ == "__main__":
    sys.exit(main())
