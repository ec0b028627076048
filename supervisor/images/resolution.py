"""Which packages a request comes to, asked of the package index: metadata of wheels alone, no code of theirs is run.

Asked by this machine's pip, in the words that the build of the dependency image uses, for the worker's Python.

    ResolvingFailed
    ├── Unresolvable      no version fits
    └── IndexAway         the index does not answer; nobody's fault
"""

import json
import platform
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.images import hostpip
from supervisor.revisions.requirements import name_of

#: The worker's Python, and the newest glibc that its base image is sure to have.
_PYTHON: Final = "3.11"
_GLIBC: Final = range(36, 4, -1)
_SECONDS: Final = 120.0
_SIZE_SECONDS: Final = 10.0


class ResolvingFailed(Exception):
    """It is not known which packages a request comes to; the message is one line."""


class Unresolvable(ResolvingFailed):
    """No versions fit."""


class IndexAway(ResolvingFailed):
    """The index does not answer."""


@dataclass(frozen=True, order=True, slots=True)
class Package:
    """One wheel. ``size_bytes`` is None where the index does not tell."""

    name: str
    version: str
    sha256: str
    size_bytes: int | None = None

    @property
    def locked(self) -> str:
        """Its lines in a lock file."""
        return f"{self.name}=={self.version} \\\n    --hash=sha256:{self.sha256}\n"

    def plain(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return asdict(self)


def resolve(wanted: Sequence[str], pins: Mapping[str, str]) -> tuple[Package, ...]:
    """What has to be added to the ``pins`` (versions by name) so that the ``wanted`` lines hold, sorted.

    Raises Unresolvable, IndexAway.
    """
    environment, bundle = hostpip.host_environment()
    asked = {name_of(line) for line in wanted}
    kept = {name: version for name, version in pins.items() if name not in asked}
    report = _report(wanted, kept, environment)
    context = ssl.create_default_context(cafile=bundle)
    found = [_package(item, context) for item in report["install"]]
    return tuple(sorted(package for package in found if pins.get(package.name) != package.version))


def _report(wanted: Sequence[str], kept: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="autonous-resolve-") as directory:
        folder = Path(directory)
        (folder / "wanted").write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
        (folder / "kept").write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
        files = ("--requirement", str(folder / "wanted"), "--constraint", str(folder / "kept"))
        ended = _pip(files, folder, environment)
        if ended.returncode == 0:
            report: dict[str, Any] = json.loads(ended.stdout)
            return report
        # What the worker stands on already is there, unless nothing is.
        name, version = next(iter(kept.items()))
        (folder / "known").write_text(f"{name}=={version}\n")
        known = _pip(("--no-deps", "--requirement", str(folder / "known")), folder, environment)
        told = [line.removeprefix("ERROR: ") for line in ended.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = told[-1] if told else "pip gives no reason"
        raise (Unresolvable if known.returncode == 0 else IndexAway)(reason)


def _pip(options: Sequence[str], folder: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC] + [f"manylinux2014_{machine}"]
    command = [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"),
        *("--only-binary", ":all:", "--python-version", _PYTHON, "--implementation", "cp"),
        *(part for name in platforms for part in ("--platform", name)),
        *("--target", str(folder / "nowhere"), "--no-input", *options),
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(environment), timeout=_SECONDS, cwd=folder
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: the package index takes too long")


def _package(item: Mapping[str, Any], context: ssl.SSLContext) -> Package:
    """One entry of pip's report. Raises Unresolvable."""
    name = name_of(item["metadata"]["name"])
    source = item["download_info"]
    sha256 = source.get("archive_info", {}).get("hashes", {}).get("sha256")
    if not sha256:
        raise Unresolvable(f"the index gives no hash of {name}")
    return Package(name, item["metadata"]["version"], sha256, _size(source["url"], context))


def _size(url: str, context: ssl.SSLContext) -> int | None:
    if not url.startswith(("https://", "http://")):
        return None
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - one of two schemes
    try:
        with urllib.request.urlopen(request, timeout=_SIZE_SECONDS, context=context) as answer:  # noqa: S310
            return int(answer.headers["Content-Length"])
    except (OSError, ValueError, TypeError):  # it may want a password, or not tell
        return None
