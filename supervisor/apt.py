"""Packages of the distribution, on Debian and Ubuntu. Standard library only."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

Say = Callable[[str], None]

_OS_RELEASE: Final = Path("/etc/os-release")
_APT_GET: Final = ("apt-get", "-o", "DPkg::Lock::Timeout=120")
_QUIET: Final[Mapping[str, str]] = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
# What is said at the first line of each kind; the line itself where nothing stands here.
_PHASES: Final[Mapping[str, str]] = {"Need": "", "Unpacking": "unpacking...", "Setting": "configuring..."}


class PackagesUnavailable(Exception):
    """apt-get could not install what was asked for; the message is one line for the user."""


def is_debian_like(os_release: str) -> bool:
    """Whether a text of ``/etc/os-release`` speaks of Debian, Ubuntu or something made of them."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    return not {"debian", "ubuntu"}.isdisjoint(names)


def available() -> bool:
    """Whether this machine has apt-get and is Debian or Ubuntu."""
    return shutil.which("apt-get") is not None and _OS_RELEASE.is_file() and is_debian_like(_OS_RELEASE.read_text())


def install(packages: Sequence[str], say: Say) -> None:
    """Fetch the lists and install; needs root, asks nothing.

    Raises PackagesUnavailable.
    """
    say("  fetching the package lists...")
    # Some other source of the host may be out of reach; the install itself shows whether that matters.
    _run([*_APT_GET, "update"], say)
    status, last_error = _run([*_APT_GET, "install", "--yes", *packages], say)
    if status != 0:
        raise PackagesUnavailable(f"apt-get could not install {' '.join(packages)}: {last_error}")


def _run(command: Sequence[str], say: Say) -> tuple[int, str]:
    last_error = "no reason given"
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **_QUIET},
        text=True,
        errors="replace",
    ) as process:
        phases = dict(_PHASES)
        for line in process.stdout or ():
            first_word = line.partition(" ")[0]
            if first_word in phases:
                say(f"  {phases.pop(first_word) or line.strip()}")
            if line.startswith("E: "):
                last_error = line.removeprefix("E: ").strip()
    return process.returncode, last_error
