"""Bringing an installation up: directories, engine, images, the first revision, the processes.

Every step is skipped when it is done already, so a second run takes seconds.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from supervisor import drift, facts, hostengine, keeper
from supervisor.contract import Redactor
from supervisor.control import ControlClient, SupervisorAway
from supervisor.engine import Engine
from supervisor.homelock import held, one_at_a_time
from supervisor.images.builds import build_revision, checkout_lock, ensure_deps
from supervisor.ledger import Ledger, LedgerError, NewUpdate, Origin
from supervisor.localbot import process as localbot
from supervisor.paths import CHECKOUT, Paths
from supervisor.pipeline.upgrade import checkout_files
from supervisor.revisions import Revisions
from supervisor.rollout import extras
from supervisor.settings import Settings
from supervisor.specs import LABEL_INSTALLATION
from supervisor.states import Status
from supervisor.systemd import SystemdService

Say = Callable[[str], None]

_ACTIVE_SECONDS: Final = 90.0
_SUPERVISOR_SECONDS: Final = 20.0
_BUILD_SECONDS: Final = 300.0


class InstallationFailed(Exception):
    """It could not be brought up; the message is one line for the user."""


def bring_up(settings: Settings, say: Say, *, interactive: bool) -> dict[str, Any]:
    """Everything from nothing to a healthy active worker; gives the status.

    Raises InstallationFailed, EngineMissing, EngineError, ImagesUnavailable, HomeUnusable, LedgerError.
    """
    paths = settings.paths
    paths.create(worker_uid=settings.worker_uid)
    client = ControlClient(paths.control_socket)
    with one_at_a_time(paths.setup_lock):
        running = held(paths.lock)
        if not running:
            hostengine.ensure_engine(say, interactive=interactive)
            engine = Engine()
            engine.version()
            with Ledger(paths.ledger, redact=Redactor(settings.secrets)) as ledger:
                _ensure_first_revision(settings, engine, ledger, say)
                extras.ensure_extras(settings, engine, ledger, say)
        if running and (missing := extras.missing_extras(settings)):
            wanted = ", ".join(missing)
            raise InstallationFailed(f"the worker's image has no packages for {wanted}: `make down`, then `make up`")
        if settings.uses_local_bot:
            localbot.ensure(paths)
        if running:
            _await_answer(paths, None)
            refresh(settings, say)
            _have_it_kept(settings, say)
        else:
            start_supervisor(settings, say)
        status = _wait_until_active(settings, client, say)
        if not settings.uses_local_bot:
            localbot.stop(paths)  # no worker talks to it any more
    return status


def refresh(settings: Settings, say: Say) -> None:
    """Have a running supervisor start anew when settings or its own code have changed; workers go on.

    Raises InstallationFailed, SupervisorAway, LedgerError.
    """
    paths = settings.paths
    changed = drift.since_start(paths.ledger, settings)
    if not changed:
        return
    if changed.settings:
        say(f"Changed settings: {', '.join(changed.settings)}.")
    if changed.code:
        say("The supervisor's own code has changed.")
    say("Starting the supervisor anew; the worker goes on...")
    client = ControlClient(paths.control_socket)
    client.reload({name: value for name, value in os.environ.items() if name in drift.NAMES})
    deadline = time.monotonic() + _SUPERVISOR_SECONDS + settings.drain_seconds
    while not _runs_as_now(settings, client):
        if time.monotonic() > deadline:
            log = paths.logs / "supervisor.log"
            raise InstallationFailed(f"the supervisor did not come up again: {_last_line(log)}; see {log}")
        time.sleep(0.05)


def _runs_as_now(settings: Settings, client: ControlClient) -> bool:
    try:
        if drift.since_start(settings.paths.ledger, settings):
            return False
        client.status()
    except (SupervisorAway, LedgerError):
        return False
    return True


def take_down(settings: Settings, say: Say) -> None:
    """End workers, supervisor and local bot; state and images stay.

    Raises EngineError when the supervisor is dead and the engine out of reach.
    """
    paths = settings.paths
    took_workers_along = _ask_down(settings, say)
    service = SystemdService(settings)
    if service.installed:
        service.stop()
    keeper.stop(paths)
    if not took_workers_along and paths.ledger.exists():
        say("No supervisor runs; ending its containers...")
        engine = Engine()
        with Ledger(paths.ledger) as ledger:
            mine = facts.ensure_installation(ledger)
        for view in engine.containers(settings.project):
            if view.labels.get(LABEL_INSTALLATION, mine) == mine:
                engine.stop(view.id, seconds=int(settings.drain_seconds) + 2)
    localbot.stop(paths)


def _ask_down(settings: Settings, say: Say) -> bool:
    """Have a running supervisor end its workers and itself; False when none runs."""
    paths = settings.paths
    if not held(paths.lock):
        return False
    _await_answer(paths, None)
    say("Letting the worker finish what it has in hand...")
    ControlClient(paths.control_socket).down()
    deadline = time.monotonic() + settings.drain_seconds + 60
    while held(paths.lock):
        if time.monotonic() > deadline:
            raise InstallationFailed(f"the supervisor did not end; see {paths.supervisor_log}")
        time.sleep(0.05)
    return True


def _ensure_first_revision(settings: Settings, engine: Engine, ledger: Ledger, say: Say) -> None:
    revisions = Revisions(settings.paths.revisions)
    revisions.create()
    if ledger.good_sha() is not None:
        return
    deps = ensure_deps(engine, say, checkout_lock(settings.extras))
    say("Building the first worker image from this checkout...")
    now = time.time()
    files = checkout_files(CHECKOUT)
    commit = revisions.commit_files(files, message="Import of the checkout's worker", when=now)
    tx_id = str(uuid.uuid4())
    lines: list[str] = []
    built = build_revision(
        engine,
        project=settings.project,
        deps_image_id=deps.image_id,
        sha=commit.sha,
        base_sha=None,
        tx_id=tx_id,
        files=files,
        trunk=None,
        created=now,
        log=lines.append,
        timeout=_BUILD_SECONDS,
    )
    update = ledger.genesis(
        NewUpdate(tx_id=tx_id, origin=Origin.GENESIS, title="the first revision, from the checkout"),
        changes={
            "sha": commit.sha,
            "tree": commit.tree,
            "deps_image_id": deps.image_id,
            "image_id": built.image_id,
            "image_tag": built.tag,
            "size_bytes": built.size_bytes,
            "unique_bytes": built.unique_bytes,
            "build_started_at": now,
            "build_finished_at": time.time(),
            "promoted_at": time.time(),
        },
    )
    revisions.set_active(update.revision.sha)


def start_supervisor(settings: Settings, say: Say) -> None:
    """Start the supervisor and whoever keeps it running, and return when it answers.

    Raises InstallationFailed, ServiceFailed.
    """
    say("Starting the supervisor...")
    service = SystemdService(settings)
    if service.installed:
        service.warn(say)
        service.start()
        _await_answer(settings.paths, None)
        return
    with settings.paths.supervisor_log.open("ab") as output:
        process = subprocess.Popen(
            keeper.SUPERVISOR,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    _await_answer(settings.paths, process)
    _have_it_kept(settings, say)


def _await_answer(paths: Paths, process: "subprocess.Popen[bytes] | None") -> None:
    log = paths.supervisor_log
    client = ControlClient(paths.control_socket)
    deadline = time.monotonic() + _SUPERVISOR_SECONDS
    while True:
        try:
            client.status()
        except SupervisorAway:
            # Another one may have been quicker; then ours ends, and theirs answers.
            if process is not None and process.poll() is not None and not held(paths.lock):
                raise InstallationFailed(f"the supervisor ended at once: {_last_line(log)}; see {log}") from None
            if time.monotonic() > deadline:
                raise InstallationFailed(f"the supervisor does not answer; see {log}") from None
            time.sleep(0.05)
        else:
            return


def _have_it_kept(settings: Settings, say: Say) -> None:
    """Somebody brings it back when it dies: systemd, or a keeper of ours; one in a terminal has its user."""
    if SystemdService(settings).installed or keeper.runs_in_terminal(settings.paths):
        return
    if not keeper.renew(settings.paths):
        say(f"warning: nobody brings the supervisor back when it dies; see {settings.paths.supervisor_log}")


def _wait_until_active(settings: Settings, client: ControlClient, say: Say) -> dict[str, Any]:
    paths = settings.paths
    said = proving = False
    deadline = time.monotonic() + _ACTIVE_SECONDS
    while True:
        status = client.status()
        renewal = status.get("renewal")
        if status["active"] and status["active"]["health"] == "healthy" and not renewal:
            return status
        if renewal and renewal["state"] == "failed":
            raise InstallationFailed(
                f"no worker comes up with the changed settings: {renewal['reason']}; the former one goes on"
            )
        if renewal and not proving and (tx := _in_probation(status)):
            proving = True
            deadline += settings.stable_window_seconds
            say(
                f"Update {tx[:8]} is in its probation, which takes up to {settings.stable_window_seconds:g} s; "
                "the changed settings take effect after it..."
            )
        if not said:
            waiting = "take over with the changed settings" if renewal else "be active and healthy"
            say(f"Waiting for the worker to {waiting}...")
            said = True
        if time.monotonic() > deadline:
            missing = "the changed settings are not in force" if renewal else "no worker is active and healthy"
            raise InstallationFailed(
                f"{missing} after {_ACTIVE_SECONDS + proving * settings.stable_window_seconds:.0f} s; "
                f"see {paths.logs / 'supervisor.log'} and {paths.logs / 'workers'}"
            )
        time.sleep(0.1)


def _in_probation(status: dict[str, Any]) -> str | None:
    """The tx of the update whose probation has to end before anything else moves the lease."""
    unproven = (update["tx_id"] for update in status["pending"] if update["status"] == Status.DEPLOYED_UNSTABLE)
    return next(unproven, None)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
