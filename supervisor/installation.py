"""Bringing an installation up: directories, engine, images, the first revision, the processes.

Every step is skipped when it is done already, so a second run takes seconds.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from supervisor import facts, hostengine
from supervisor.contract import Redactor
from supervisor.control import ControlClient, SupervisorAway
from supervisor.engine import Engine
from supervisor.homelock import held, one_at_a_time
from supervisor.images import build_revision, ensure_deps
from supervisor.ledger import Ledger, NewUpdate, Origin
from supervisor.localbot import process as localbot
from supervisor.paths import CHECKOUT, Paths
from supervisor.revisions import Revisions, policy
from supervisor.settings import Settings
from supervisor.specs import LABEL_INSTALLATION

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
                if settings.telegram_bot_token and not settings.allowed_users:
                    facts.ensure_claim_code(ledger)
        if settings.uses_local_bot:
            localbot.ensure(paths)
        if not running:
            _start_supervisor(paths, say)
    return _wait_until_active(paths, client, say)


def take_down(settings: Settings, say: Say) -> None:
    """End workers, supervisor and local bot; state and images stay.

    Raises EngineError when the supervisor is dead and the engine out of reach.
    """
    paths = settings.paths
    if held(paths.lock):
        say("Letting the worker finish what it has in hand...")
        ControlClient(paths.control_socket).down()
        deadline = time.monotonic() + settings.drain_seconds + 60
        while held(paths.lock):
            if time.monotonic() > deadline:
                raise InstallationFailed(f"the supervisor did not end; see {paths.logs / 'supervisor.log'}")
            time.sleep(0.05)
    elif paths.ledger.exists():
        say("No supervisor runs; ending its containers...")
        engine = Engine()
        with Ledger(paths.ledger) as ledger:
            mine = facts.ensure_installation(ledger)
        for view in engine.containers(settings.project):
            if view.labels.get(LABEL_INSTALLATION, mine) == mine:
                engine.stop(view.id, seconds=int(settings.drain_seconds) + 2)
    localbot.stop(paths)


def _ensure_first_revision(settings: Settings, engine: Engine, ledger: Ledger, say: Say) -> None:
    revisions = Revisions(settings.paths.revisions)
    revisions.create()
    if ledger.good_sha() is not None:
        return
    deps = ensure_deps(engine, say)
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
    ledger.set_fact(facts.TRUNK, update.revision.sha)
    revisions.set_active(update.revision.sha)


def checkout_files(checkout: Path) -> dict[str, bytes]:
    """The files of a checkout that make a revision of the worker."""
    found = {}
    for area in policy.AREAS:
        for path in sorted((checkout / area).rglob("*")):
            name = path.relative_to(checkout).as_posix()
            if path.is_file() and policy.belongs(name):
                found[name] = path.read_bytes()
    return found


def _start_supervisor(paths: Paths, say: Say) -> None:
    say("Starting the supervisor...")
    log = paths.logs / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    client = ControlClient(paths.control_socket)
    deadline = time.monotonic() + _SUPERVISOR_SECONDS
    while True:
        try:
            client.status()
        except SupervisorAway:
            if process.poll() is not None:
                raise InstallationFailed(f"the supervisor ended at once: {_last_line(log)}; see {log}") from None
            if time.monotonic() > deadline:
                raise InstallationFailed(f"the supervisor does not answer; see {log}") from None
            time.sleep(0.05)
        else:
            return


def _wait_until_active(paths: Paths, client: ControlClient, say: Say) -> dict[str, Any]:
    said = False
    deadline = time.monotonic() + _ACTIVE_SECONDS
    while True:
        status = client.status()
        if status["active"] and status["active"]["health"] == "healthy":
            return status
        if not said:
            say("Waiting for the worker to be active and healthy...")
            said = True
        if time.monotonic() > deadline:
            raise InstallationFailed(
                f"no worker is active and healthy after {_ACTIVE_SECONDS:.0f} s; "
                f"see {paths.logs / 'supervisor.log'} and {paths.logs / 'workers'}"
            )
        time.sleep(0.1)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
