"""``supervisor doctor``: everything that an installation stands on, looked at, each finding with its remedy.

It changes nothing, works with or without a supervisor, and names keys without their values.
"""

import email.utils
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx

from supervisor import enginelook, facts, sqlitecheck, views
from supervisor import settings as settings_module
from supervisor.botapi import TELEGRAM
from supervisor.control import ControlClient, SupervisorAway
from supervisor.engine import MINIMUM_API, Engine, EngineError
from supervisor.homelock import held, owner
from supervisor.hostengine import EngineMissing, socket_path, unsuitable
from supervisor.ledger import Ledger, LedgerError, LedgerMissing, Revision, WorkerRow
from supervisor.paths import Paths
from supervisor.revisions import Revisions, RevisionsError
from supervisor.settings import SECRET_NAMES, Settings
from supervisor.specs import LABEL_INSTALLATION, LABEL_ROLE, LABEL_WORKER
from supervisor.states import IN_PIPELINE
from supervisor.systemd import Machine, SystemdService
from supervisor.unixserver import LONGEST_PATH

_ENGINE_SECONDS: Final = 5.0
_SOCKET_SECONDS: Final = 2.0
_SKEW_SECONDS: Final = 30.0
_GIB: Final = 1024**3
_PRIVATE: Final = 0o077


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``remedy`` is what to do about it, empty where nothing has to be done."""

    check: str
    level: Level
    what: str
    remedy: str = ""


@dataclass
class _Case:
    """What the checks share: the later ones need what the earlier ones found."""

    settings: Settings
    environ: Mapping[str, str]
    env_file: Path
    engine: Engine | None = None
    engine_root: Path | None = None
    ledger: Ledger | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> Paths:
        return self.settings.paths


Check = Callable[[_Case], Iterator[Finding]]


def examine(
    settings: Settings, environ: Mapping[str, str] = os.environ, env_file: Path = settings_module.ENV_FILE
) -> list[Finding]:
    """Look at everything, in the order in which one thing stands on another."""
    case = _Case(settings, environ, env_file)
    found: list[Finding] = []
    try:
        for check in _CHECKS:
            name = check.__name__.strip("_")
            try:
                found += check(case)
            except (OSError, EngineError, LedgerError) as error:
                found.append(Finding(name, Level.FAIL, f"could not be looked at: {error}", "see what it names"))
    finally:
        if case.ledger is not None:
            case.ledger.close()
    return found


def exit_code(findings: list[Finding]) -> int:
    """0 when nothing is broken, 3 when the engine is out of reach, else 1."""
    broken = {finding.check for finding in findings if finding.level is Level.FAIL}
    return 3 if "engine" in broken else 1 if broken else 0


# -- the machine


def _engine(case: _Case) -> Iterator[Finding]:
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
    elif tuple(int(part) for part in version["ApiVersion"].split(".")) < MINIMUM_API:
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


def _disk(case: _Case) -> Iterator[Finding]:
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


def _clock(case: _Case) -> Iterator[Finding]:
    remedy = "set the clock, and keep it right by NTP"
    if case.paths.home.is_dir():
        with tempfile.TemporaryFile(dir=case.paths.home) as file:
            skew = os.fstat(file.fileno()).st_mtime - time.time()
        yield _skew("clock", skew, "the file system of the home", remedy)
    if case.settings.telegram_bot_token:
        url = case.settings.telegram_api_base_url or TELEGRAM
        try:
            told = httpx.get(url.removesuffix("/bot"), timeout=_ENGINE_SECONDS).headers.get("Date", "")
            moment = email.utils.parsedate_to_datetime(told).timestamp()
        except (httpx.HTTPError, ValueError) as error:
            yield Finding(
                "bot api",
                Level.WARN,
                f"the Bot API at {url} does not answer as it should: {type(error).__name__}",
                "look at this machine's network; messages wait until it is back",
            )
        else:
            yield _skew("bot api", moment - time.time(), "the Bot API, which answers", remedy)


def _skew(check: str, seconds: float, whose: str, remedy: str) -> Finding:
    if abs(seconds) > _SKEW_SECONDS:
        return Finding(check, Level.WARN, f"the clock is {abs(seconds):.0f} s off that of {whose}", remedy)
    return Finding(check, Level.OK, f"the clock agrees with that of {whose}")


# -- the home


def _home(case: _Case) -> Iterator[Finding]:
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


def _owner_of(path: Path, case: _Case) -> int:
    inside = path in (case.paths.state, case.paths.workspace) or case.paths.state in path.parents
    return case.settings.worker_uid if inside else os.getuid()


def _env_file(case: _Case) -> Iterator[Finding]:
    file = case.env_file
    if warning := settings_module.env_file_warning(file):
        yield Finding("env file", Level.WARN, warning.partition(";")[0], f"`chmod 600 {file}`")
    elif file.exists():
        yield Finding("env file", Level.OK, f"{file} is yours alone")
    else:
        yield Finding("env file", Level.OK, f"there is no {file}; the defaults are used")


def _keys(case: _Case) -> Iterator[Finding]:
    values = (case.settings.telegram_bot_token, case.settings.openai_api_key)
    without = ("a local bot takes Telegram's place", "an offline stand-in answers")
    for name, value, otherwise in zip(SECRET_NAMES, values, without, strict=True):
        yield Finding("keys", Level.OK, f"{name} is set" if value else f"{name} is not set: {otherwise}")


def _databases(case: _Case) -> Iterator[Finding]:
    paths = case.paths
    restore = "`make down`, then put a copy in its place; those before each deploy are in"
    try:
        case.ledger = Ledger.read_only(paths.ledger)
        case.ledger.good_sha()
    except LedgerMissing:
        yield Finding("ledger", Level.FAIL, f"there is no {paths.ledger}", "`make up`")
        return
    except LedgerError as error:
        yield Finding("ledger", Level.FAIL, str(error), "use the version that wrote it, or `make up` to bring it up")
        return
    if fault := sqlitecheck.fault(paths.ledger):
        yield Finding("ledger", Level.FAIL, f"{paths.ledger} is damaged: {fault}", "`make down`, and recover it")
    else:
        yield Finding("ledger", Level.OK, f"{paths.ledger} is whole, and of this version")
    if not paths.agent_db.exists():
        yield Finding("agent.db", Level.WARN, f"there is no {paths.agent_db} yet", "the first worker makes it")
    elif fault := sqlitecheck.fault(paths.agent_db):
        yield Finding("agent.db", Level.FAIL, f"{paths.agent_db} is damaged: {fault}", f"{restore} {paths.snapshots}")
    else:
        yield Finding("agent.db", Level.OK, f"{paths.agent_db} is whole")


def _revisions(case: _Case) -> Iterator[Finding]:
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


# -- what runs


def _supervisor(case: _Case) -> Iterator[Finding]:
    paths = case.paths
    try:
        case.status = ControlClient(paths.control_socket).status()
        yield Finding("supervisor", Level.OK, f"it runs as process {owner(paths.lock)}")
    except SupervisorAway as error:
        if case.ledger is not None:
            case.status = views.status(case.ledger, running=False, container_runs=enginelook.container_runs)
        if held(paths.lock):
            what = f"process {owner(paths.lock)} holds the home and does not answer: {error}"
            yield Finding("supervisor", Level.FAIL, what, "see `supervisor logs`")
        else:
            yield Finding("supervisor", Level.FAIL, "it does not run", "`make up`")


def _kept(case: _Case) -> Iterator[Finding]:
    service = SystemdService(case.settings)
    if service.installed:
        if service.active and service.enabled:
            yield Finding("service", Level.OK, f"systemd runs {service.name}, also after a restart of the machine")
        else:
            yield Finding("service", Level.WARN, f"{service.name} is there, and not active or not enabled", "`make up`")
        return
    if held(case.paths.keeper_lock):
        pid = owner(case.paths.keeper_lock)
        if Machine().has_systemd:
            yield Finding(
                "service",
                Level.WARN,
                f"keeper {pid} brings the supervisor back, but not after a restart of the machine",
                "`supervisor install-service`",
            )
        else:
            what = f"keeper {pid} brings the supervisor back; after a restart of the machine `make up` does"
            yield Finding("service", Level.OK, what)
    else:
        yield Finding("service", Level.WARN, "nobody brings the supervisor back when it dies", "`make up`")


def _sockets(case: _Case) -> Iterator[Finding]:
    paths = case.paths
    expected = []
    if held(paths.lock):
        expected += [paths.contract_socket, paths.control_socket]
    if case.settings.uses_local_bot and case.status.get("active"):
        expected += [paths.localbot_socket, paths.localbot_user_socket]
    silent = [path for path in expected if not _answers(path)]
    for path in (path for path in expected if len(os.fsencode(path)) > LONGEST_PATH):
        yield Finding("sockets", Level.FAIL, f"the path {path} is too long", "set AUTONOUS_HOME to a shorter one")
    for path in silent:
        yield Finding("sockets", Level.FAIL, f"nobody answers at {path}", "`make down`, then `make up`")
    if expected and not silent:
        yield Finding("sockets", Level.OK, f"all {len(expected)} answer, in {paths.run}")


def _answers(path: Path) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SOCKET_SECONDS)
        probe.connect(str(path))
        return True
    return False


def _worker(case: _Case) -> Iterator[Finding]:
    if case.ledger is None:
        return
    active = case.status.get("active")
    if active is None:
        yield Finding("worker", Level.FAIL, "no worker is active", "`make up`; then see `supervisor logs`")
        return
    name = active["container"]
    if active["health"] == "healthy":
        yield Finding("worker", Level.OK, f"{name} is active and healthy")
    else:
        level = Level.WARN if active["health"] == "starting" else Level.FAIL
        yield Finding("worker", level, f"{name} is active and {active['health']}", "wait, and see `supervisor logs`")
    if case.engine is None:
        return
    toolbox = case.engine.inspect(f"{name}-toolbox")
    if toolbox is not None and toolbox.running:
        yield Finding("toolbox", Level.OK, f"{toolbox.name} runs")
    else:
        yield Finding("toolbox", Level.FAIL, f"{name} has no running toolbox", "the supervisor starts one: `make up`")


def _images(case: _Case) -> Iterator[Finding]:
    if case.engine is None or case.ledger is None or (good := case.ledger.good_sha()) is None:
        return
    active = case.ledger.revision(good)
    yield _image("image", active, case.engine, "the supervisor builds it again when a worker has to be started")
    if active.base_sha:
        previous = case.ledger.revision(active.base_sha)
        yield _image("image of N-1", previous, case.engine, "the supervisor builds it again: `make up`")


def _image(check: str, revision: Revision, engine: Engine, remedy: str) -> Finding:
    if engine.image(revision.image_id) is None:
        return Finding(check, Level.WARN, f"{revision.image_tag} is gone", remedy)
    tagged = engine.image(revision.image_tag)
    if tagged is None or tagged.id != revision.image_id:
        what = f"the name {revision.image_tag} is gone or was moved to another image"
        return Finding(check, Level.WARN, what, f"`docker tag {revision.image_id[:19]} {revision.image_tag}`")
    return Finding(check, Level.OK, f"{revision.image_tag} is there")


def _left_overs(case: _Case) -> Iterator[Finding]:
    if case.engine is None or case.ledger is None:
        return
    mine = case.ledger.fact(facts.INSTALLATION)
    living: list[WorkerRow] = case.ledger.living_workers()
    known = {row.worker_id for row in living}
    judging = bool(case.ledger.having(*IN_PIPELINE)) and held(case.paths.lock)
    left, foreign = [], []
    for view in case.engine.containers(case.settings.project):
        if view.labels.get(LABEL_INSTALLATION, mine) != mine:
            foreign.append(view.name)
        elif view.labels.get(LABEL_WORKER) not in known and not (
            judging and view.labels.get(LABEL_ROLE) not in ("worker", "toolbox")
        ):
            left.append(view.name)
    if foreign:
        yield Finding(
            "containers",
            Level.WARN,
            f"another home uses the project name {case.settings.project}: {', '.join(foreign)}",
            "give one of them another AUTONOUS_PROJECT",
        )
    if left:
        yield Finding(
            "containers",
            Level.WARN,
            f"left over: {', '.join(left)}",
            "`make down` and `make up`: the supervisor removes them at its start",
        )
    if not left and not foreign:
        yield Finding("containers", Level.OK, f"none of {case.settings.project} is left over")


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


_CHECKS: Final[tuple[Check, ...]] = (
    _engine,
    _disk,
    _clock,
    _home,
    _env_file,
    _keys,
    _databases,
    _revisions,
    _supervisor,
    _kept,
    _sockets,
    _worker,
    _images,
    _left_overs,
)
