"""The doctor's checks of what lies still: the machine, the home, the databases, the revisions."""

import email.utils
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from supervisor import enginelook
from supervisor import settings as settings_module
from supervisor.bot.client import TELEGRAM
from supervisor.contract.ids import milliseconds
from supervisor.doctor import sqlite
from supervisor.doctor.findings import Case, Finding, Level
from supervisor.engine import MINIMUM_API, Engine
from supervisor.hostengine import EngineMissing, socket_path, unsuitable
from supervisor.ledger import Ledger, LedgerError, LedgerMissing
from supervisor.paths import Paths
from supervisor.revisions import Revisions, RevisionsError
from supervisor.settings import SECRET_NAMES

_ENGINE_SECONDS: Final = 5.0
_SKEW_SECONDS: Final = 30.0
_GIB: Final = 1024**3
_PRIVATE: Final = 0o077


def engine(case: Case) -> Iterator[Finding]:
    """Whether one answers, and of which kind it is."""
    install = "`make up` as root installs one on Debian and Ubuntu; elsewhere install Docker Engine"
    try:
        path = socket_path(case.environ)
        version = enginelook.describe("/version", seconds=_ENGINE_SECONDS, environ=case.environ)
        info = enginelook.describe("/info", seconds=_ENGINE_SECONDS, environ=case.environ)
    except EngineMissing as error:
        permission = "may not use" in str(error)
        yield Finding(
            "engine",
            Level.FAIL,
            str(error),
            "`sudo usermod -aG docker $USER`, then log in again" if permission else install,
        )
        return
    case.engine = Engine(f"unix://{path}", timeout=_ENGINE_SECONDS)
    case.engine_root = Path(info.get("DockerRootDir") or "/var/lib/docker")
    driver = info.get("Driver", "?")
    names = " ".join(str(part.get("Name", "")) for part in version.get("Components") or ())
    kind = "Podman" if "podman" in names.lower() else "Docker"
    what = f"{kind} {version.get('Version', '?')}, API {version.get('ApiVersion', '?')}, storage {driver}, at {path}"
    if problem := unsuitable(info):
        yield Finding("engine kind", Level.FAIL, problem, "point DOCKER_HOST at an engine of this machine's own")
    elif tuple(int(part) for part in version.get("ApiVersion", "0").split(".")) < MINIMUM_API:
        needed = ".".join(map(str, MINIMUM_API))
        yield Finding("engine kind", Level.FAIL, f"{what}; API {needed} or later is needed", "upgrade the engine")
    elif kind == "Podman":
        yield Finding("engine kind", Level.WARN, f"{what}; it is not tried with Podman", "use Docker Engine")
    elif driver == "vfs":
        yield Finding(
            "engine kind", Level.WARN, f"{what}; each image takes its whole size", "use the overlay2 storage driver"
        )
    else:
        yield Finding("engine kind", Level.OK, what)


def disk(case: Case) -> Iterator[Finding]:
    """What is free where the home and the engine keep their things."""
    places = {"home": case.paths.home, "engine": case.engine_root}
    for name, path in places.items():
        if path is None:
            continue
        there = next(place for place in (path, *path.parents) if place.exists())
        free = shutil.disk_usage(there).free
        least = case.settings.min_free_bytes
        what = f"{_size(free)} free on the file system of the {name}, {path}"
        if free < least:
            yield Finding(
                f"disk of the {name}",
                Level.FAIL,
                f"{what}; updates and tools pause below {_size(least)}",
                "make room, or set AUTONOUS_MIN_FREE_BYTES lower; `supervisor gc` removes old images",
            )
        else:
            yield Finding(f"disk of the {name}", Level.OK, what)


def clock(case: Case) -> Iterator[Finding]:
    """The machine's against that of the file system, of what was written down, and of the Bot API."""
    remedy = "set the clock, and keep it right by NTP"
    if case.paths.home.is_dir():
        with tempfile.TemporaryFile(dir=case.paths.home) as file:
            skew = os.fstat(file.fileno()).st_mtime - time.time()
        agrees = _skew("clock", skew, "the file system of the home", remedy)
        # One that is on this machine has its clock: what shows that this was put back is what it said before.
        ahead = _newest_event(case) - time.time()
        if agrees.level is Level.OK and ahead > _SKEW_SECONDS:
            yield Finding(
                "clock",
                Level.WARN,
                f"the newest event of the ledger is dated {ahead:.0f} s ahead of the clock, which was put back since",
                f"{remedy}; where it is right now it was ahead then, and this ends when that time has come",
            )
        else:
            yield agrees
    if case.settings.telegram_bot_token:
        url = case.settings.telegram_api_base_url or TELEGRAM
        try:
            told = httpx.get(url.removesuffix("/bot"), timeout=_ENGINE_SECONDS).headers.get("Date", "")
            moment = email.utils.parsedate_to_datetime(told).timestamp()
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
            yield Finding(
                "bot api",
                Level.WARN,
                f"the Bot API at {url} does not answer as it should: {type(error).__name__}",
                "look at this machine's network; messages wait until it is back",
            )
        else:
            yield _skew("bot api", moment - time.time(), "the Bot API, which answers", remedy)


def _newest_event(case: Case) -> float:
    """The latest time that the ledger knows of, in seconds since the Unix epoch, 0 for none.

    It stands in the ids of events, which go on from there while the clock is behind it.
    """
    try:
        newest = case.ledger.events(newest_first=True, limit=1) if case.ledger else []
    except LedgerError:  # which is told where the databases are looked at
        return 0.0
    return milliseconds(newest[0].id) / 1000 if newest else 0.0


def _skew(check: str, seconds: float, whose: str, remedy: str) -> Finding:
    if abs(seconds) > _SKEW_SECONDS:
        return Finding(check, Level.WARN, f"the clock is {abs(seconds):.0f} s off that of {whose}", remedy)
    return Finding(check, Level.OK, f"the clock agrees with that of {whose}")


# -- the home


def home(case: Case) -> Iterator[Finding]:
    """That it is there, private, and its owner's."""
    home = case.paths.home
    if not home.is_dir():
        yield Finding("home", Level.FAIL, f"there is no installation in {home}", "`make up`")
        return
    stat = home.stat()
    if stat.st_uid != os.getuid():
        yield Finding(
            "home", Level.FAIL, f"{home} belongs to user {stat.st_uid}", "run this as that user, or set AUTONOUS_HOME"
        )
        return
    if stat.st_mode & _PRIVATE:
        yield Finding("home", Level.WARN, f"{home} can be entered by other users", f"`chmod 700 {home}`")
        return
    mine = {os.getuid(), case.settings.worker_uid}
    foreign = [path for path in _owned(case.paths) if path.lstat().st_uid not in mine]
    if foreign:
        first = foreign[0]
        yield Finding(
            "home",
            Level.FAIL,
            f"{first} belongs to user {first.lstat().st_uid}, and {len(foreign) - 1} more do not belong here",
            f"`sudo chown {_owner_of(first, case)} {first}`, and so on",
        )
        return
    yield Finding("home", Level.OK, f"{home} is private, and everything in it belongs to who it should")


def _owned(paths: Paths) -> Iterator[Path]:
    for directory in (paths.home, paths.state, paths.logs, paths.snapshots):
        if directory.is_dir():
            yield from directory.iterdir()


def _owner_of(path: Path, case: Case) -> int:
    inside = path in (case.paths.state, case.paths.workspace) or case.paths.state in path.parents
    return case.settings.worker_uid if inside else os.getuid()


def env_file(case: Case) -> Iterator[Finding]:
    """Who can read the keys."""
    file = case.env_file
    if warning := settings_module.env_file_warning(file):
        yield Finding("env file", Level.WARN, warning.partition(";")[0], f"`chmod 600 {file}`")
    elif file.exists():
        yield Finding("env file", Level.OK, f"{file} is yours alone")
    else:
        yield Finding("env file", Level.OK, f"there is no {file}; the defaults are used")


def keys(case: Case) -> Iterator[Finding]:
    """Which are set, by name."""
    without = {
        "TELEGRAM_BOT_TOKEN": "a local bot takes Telegram's place",
        "OPENAI_API_KEY": "an offline stand-in answers, unless another provider is set",
    }
    for name in SECRET_NAMES:
        if case.settings.worker_values.get(name):
            yield Finding("keys", Level.OK, f"{name} is set")
        elif name in without:
            yield Finding("keys", Level.OK, f"{name} is not set: {without[name]}")


def databases(case: Case) -> Iterator[Finding]:
    """That both open and are whole."""
    paths = case.paths
    restore = "`supervisor restore TX` takes the copy from before an update; they are in"
    try:
        case.ledger = Ledger.read_only(paths.ledger)
        case.ledger.good_sha()
    except LedgerMissing:
        yield Finding("ledger", Level.FAIL, f"there is no {paths.ledger}", "`make up`")
        return
    except LedgerError as error:
        yield Finding("ledger", Level.FAIL, str(error), "use the version that wrote it, or `make up` to bring it up")
        return
    if fault := sqlite.fault(paths.ledger):
        yield Finding("ledger", Level.FAIL, f"{paths.ledger} is damaged: {fault}", "`make down`, and recover it")
    else:
        yield Finding("ledger", Level.OK, f"{paths.ledger} is whole, and of this version")
    if not paths.agent_db.exists():
        yield Finding("agent.db", Level.WARN, f"there is no {paths.agent_db} yet", "the first worker makes it")
    elif fault := sqlite.fault(paths.agent_db):
        yield Finding("agent.db", Level.FAIL, f"{paths.agent_db} is damaged: {fault}", f"{restore} {paths.snapshots}")
    else:
        yield Finding("agent.db", Level.OK, f"{paths.agent_db} is whole")


def revisions(case: Case) -> Iterator[Finding]:
    """That the repository has the good revision, and knows it."""
    if case.ledger is None:
        return
    good = case.ledger.good_sha()
    if good is None:
        yield Finding("revisions", Level.FAIL, "there is no first revision yet", "`make up`")
        return
    try:
        repository = Revisions(case.paths.revisions)
        active, has = repository.active(), repository.has(good)
    except RevisionsError as error:
        yield Finding("revisions", Level.FAIL, str(error), f"see that git works and {case.paths.revisions} is there")
        return
    if not has:
        yield Finding(
            "revisions", Level.FAIL, f"the repository has no {good[:12]}", f"put a copy of {case.paths.revisions} back"
        )
    elif active != good:
        yield Finding(
            "revisions",
            Level.WARN,
            f"its `active` is {(active or 'nothing')[:12]}, the good revision {good[:12]}",
            "the supervisor mends it at its next start",
        )
    else:
        yield Finding("revisions", Level.OK, f"the good revision is {good[:12]}, and the repository agrees")


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
