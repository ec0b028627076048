"""Names for the projects of a test run, and the removal of what a run that was killed left in the engine and beside it.

A name says whose it is: the process, by number and start, in its namespace of processes. What is left of a process that
has ended is nobody's; what another run has, and what cannot be told, is left alone.
"""

import os
import re
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import docker
from docker.errors import APIError

from supervisor.engine import engine_url
from supervisor.specs import LABEL_PROJECT

_OWNED: Final = re.compile(r"(?:test|bench|demo|crew|own)-([0-9a-f]+)-(\d+)-([0-9a-f]+)-[0-9a-f]{6}x?")

_NAMED: Final = b"AUTONOUS_PROJECT="


def new_project(kind: str = "test") -> str:
    """A name that no other project has: of this process, and of no other one."""
    pid = os.getpid()
    return f"{kind}-{_namespace()}-{pid}-{_start(pid)}-{secrets.token_hex(3)}"


def abandoned(project: str) -> bool:
    """Whether a project is one of ours, of a process that has ended."""
    found = _OWNED.fullmatch(project)
    if found is None or found[1] != _namespace():
        return False
    return _start(int(found[2])) != found[3]


def sweep() -> list[str]:
    """End the processes of abandoned projects, and remove their containers, images and networks; gives the projects.

    Processes are found by their environment, the rest by its label.
    """
    swept = _end_supervisors()
    client = docker.APIClient(base_url=engine_url(), version="auto")
    try:
        labelled = {"label": LABEL_PROJECT}
        for found in client.containers(all=True, filters=labelled):
            if _is_abandoned(found, swept):
                with suppress(APIError):
                    client.remove_container(found["Id"], force=True, v=True)
        for found in client.networks(filters=labelled):
            if _is_abandoned(found, swept):
                with suppress(APIError):
                    client.remove_network(found["Id"])
        for found in client.images(filters=labelled):
            if _is_abandoned(found, swept):
                with suppress(APIError):
                    client.remove_image(found["Id"], force=True)
        return sorted(swept)
    finally:
        client.close()


def _end_supervisors() -> set[str]:
    """Supervisors, keepers and local bots, before they make anew what is removed."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            named = {v.partition(b"=")[2].decode(errors="replace") for v in variables if v.startswith(_NAMED)}
            if any(map(abandoned, named)):
                found[int(process.name)] = named.pop()
    for pid in sorted(found):  # a keeper is older than what it keeps
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return set(found.values())


def _is_abandoned(found: dict[str, Any], swept: set[str]) -> bool:
    project = str((found["Labels"] or {}).get(LABEL_PROJECT, ""))
    if not abandoned(project):
        return False
    swept.add(project)
    return True


def _namespace() -> str:
    """Numbers of processes mean something in their namespace only."""
    return f"{Path('/proc/self/ns/pid').stat().st_ino:x}"[-5:]  # they are numbered; a name has 40 characters


def _start(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty when there is none: numbers are given out again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The name in brackets may hold anything, also brackets.
    return f"{int(stat.rpartition(b')')[2].split()[19]):x}"
