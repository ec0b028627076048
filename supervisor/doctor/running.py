"""The doctor's checks of what runs: supervisor, workers, containers, and what they need to go on."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor import enginelook, facts, views
from supervisor.control import ControlClient, SupervisorAway
from supervisor.doctor.findings import Case, Finding, Level
from supervisor.engine import Engine
from supervisor.homelock import held, owner
from supervisor.ledger import Revision, WorkerRow
from supervisor.specs import LABEL_INSTALLATION, LABEL_ROLE, LABEL_WORKER
from supervisor.states import IN_PIPELINE
from supervisor.systemd import Machine, SystemdService
from supervisor.unixserver import LONGEST_PATH

_SOCKET_SECONDS: Final = 2.0


def supervisor(case: Case) -> Iterator[Finding]:
    """Whether it runs and answers."""
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


def kept(case: Case) -> Iterator[Finding]:
    """Who brings it back when it dies."""
    service = SystemdService(case.settings)
    if service.installed:
        active, enabled = service.active, service.enabled
        if active and enabled:
            yield Finding("service", Level.OK, f"systemd runs {service.name}, also after a restart of the machine")
        elif enabled and not held(case.paths.lock):
            yield Finding("service", Level.WARN, f"{service.name} is there, and not active", "`make up`")
        else:
            # `up` leaves a supervisor that runs where it is.
            what = "not enabled" if active else "does not run the supervisor"
            yield Finding("service", Level.WARN, f"{service.name} is there, and {what}", "`supervisor install-service`")
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


def sockets(case: Case) -> Iterator[Finding]:
    """That they are there and answered."""
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


def worker(case: Case) -> Iterator[Finding]:
    """That one is active and healthy, with its toolbox."""
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


def images(case: Case) -> Iterator[Finding]:
    """That those of the active revision and of N-1 are there, under their names."""
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


def left_overs(case: Case) -> Iterator[Finding]:
    """Containers of the project that belong to nobody."""
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
