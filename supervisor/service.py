"""The running supervisor: its threads, its start and its end."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any, Final

import structlog

from supervisor import __version__, drift, facts
from supervisor.contract import EventType, Redactor
from supervisor.contract_handlers import submitted
from supervisor.control_server import control_app
from supervisor.engine import Engine, EngineError
from supervisor.homelock import home_lock, sign_off
from supervisor.ledger import Ledger, NewUpdate, Origin
from supervisor.localbot import process as localbot
from supervisor.logfile import rotate
from supervisor.parts import Base, Parts, build_parts
from supervisor.paths import CHECKOUT
from supervisor.pipeline.upgrade import checkout_files, take_over
from supervisor.revisions import Revisions, RevisionsError
from supervisor.rollout import rollback_wait
from supervisor.server import contract_app
from supervisor.sessions import Sessions, Signal
from supervisor.settings import Settings
from supervisor.states import Status
from supervisor.unixserver import UnixServer
from supervisor.updates.decisions import Decided, Decisions
from supervisor.workers.reconcile import reconcile, refuse_foreign_workers

_LOG = structlog.get_logger()

_LOOK_SECONDS: Final = 2.0
_STANDBY_SECONDS: Final = 30.0
_ROLLBACK_SECONDS: Final = 180.0


class PartEnded(Exception):
    """A thread of the supervisor has ended by itself; the message is one line for the user."""


class Service:
    """One supervisor on one home, from its start to its end."""

    _parts: Parts  # while on duty

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._paths = settings.paths
        self._signal = Signal()
        self._stop = threading.Event()
        self._take_down = False
        self._next_environment: dict[str, str] | None = None
        self._sessions = Sessions(self._signal)
        self._ledger = Ledger(self._paths.ledger, redact=Redactor(settings.secrets), moved=self._signal.notify)
        self._engine = Engine()
        self._revisions = Revisions(self._paths.revisions)
        self._decisions = Decisions(self._ledger)
        self._servers: list[UnixServer] = []
        self._started_event = 0

    def run(self) -> None:
        """Supervise until a signal or ``supervisor down``.

        SIGTERM and SIGINT end the supervisor alone: workers go on, and the next supervisor adopts them. Raises
        HomeInUse, EngineError, LedgerError, PartEnded.
        """
        with home_lock(self._paths.lock), closing(self._ledger):
            with self._on_duty() as threads:
                self._watch_over(threads)
            if self._next_environment is None:
                sign_off(self._paths.lock)
        if self._next_environment is not None:
            # The same process, so that whoever watches over it notices nothing.
            arguments = [sys.executable, "-m", "supervisor", "run"]
            os.execve(sys.executable, arguments, self._next_environment)  # noqa: S606 - a program of ours

    def roll_back(self, prefix: str) -> Decided:
        """``supervisor rollback`` where no supervisor runs: take the decision and carry it out here.

        Serves workers until the target is active and has polled; they go on at the end. What is not needed for that
        and does not come up is gone without. Raises HomeInUse, Refusal, LedgerError, EngineError, RollbackUnfinished.
        """
        with home_lock(self._paths.lock), closing(self._ledger):
            if self._ledger.find(prefix).status is not Status.ROLLED_BACK:
                self._engine.version()  # nothing is decided that could not be begun
            decided = self._decisions.rollback(prefix)
            if decided.status is Status.ROLLED_BACK:
                return decided
            with self._on_duty(rollback_only=True) as threads:
                rollback_wait.complete(
                    decided.tx_id,
                    ledger=self._ledger,
                    sessions=self._sessions,
                    signal=self._signal,
                    stopped=self._stop.is_set,
                    refuse=lambda: self._refuse_half(threads),
                    seconds=_ROLLBACK_SECONDS + self._settings.drain_seconds,
                )
            return replace(
                decided, status=self._ledger.find(decided.tx_id).status, message="rolled back", already=False
            )

    @contextmanager
    def _on_duty(self, *, rollback_only: bool = False) -> Iterator[list[threading.Thread]]:
        """Everything up, then everything ended in order; ``rollback_only`` has no pipeline and does with less."""
        with ExitStack() as stack:
            with _optional(rollback_only, "the repository of revisions"):
                self._revisions.create()
            self._started_event = self._ledger.append(
                EventType.PROCESS_STARTED, {"role": "supervisor", "pid": os.getpid(), "version": __version__}
            )
            drift.remember(self._ledger, self._settings)
            self._parts = build_parts(self._base())
            self._parts.desk.set_owners()
            if self._settings.telegram_bot_token and not self._settings.allowed_users:
                facts.ensure_claim_code(self._ledger)
            self._keep_local_bot()
            refuse_foreign_workers(self._engine, self._ledger, self._settings.project)
            with _optional(rollback_only, "the repository of revisions"):
                self._parts.toolboxes.tidy()
                reconcile(self._engine, self._ledger, self._parts.containers, self._revisions, self._settings.project)
            contract = contract_app(self._parts.desk, self._parts.tool_desk)
            self._servers = [stack.enter_context(UnixServer(contract, self._paths.contract_socket))]
            with _optional(rollback_only, "the control socket"):
                control = UnixServer(control_app(self), self._paths.control_socket, mode=0o600)
                self._servers.append(stack.enter_context(control))
            self._sessions.forgive_silence()  # nobody could be heard before
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._stop.set())
            threads = self._start_threads(rollback_only=rollback_only)
            if not rollback_only:
                self._parts.rebuilder.catch_up()
            _LOG.info("supervisor started", pid=os.getpid(), home=str(self._paths.home), rollback_only=rollback_only)
            try:
                yield threads
            finally:
                self._stop.set()
                self._end(threads)

    def _base(self) -> Base:
        return Base(
            settings=self._settings,
            ledger=self._ledger,
            engine=self._engine,
            revisions=self._revisions,
            sessions=self._sessions,
            signal=self._signal,
            decisions=self._decisions,
            started_event=self._started_event,
            stopped=self._stop.is_set,
        )

    def _start_threads(self, *, rollback_only: bool) -> list[threading.Thread]:
        work: dict[str, Callable[[], None]] = {
            "watch": lambda: self._parts.containers.watch(self._stop),
            "lookout": lambda: self._sessions.keep_looking(self._stop),
            "rollout": self._parts.rollout.run,
            "outages": lambda: self._parts.outages.run(self._stop),
            "toolboxes": lambda: self._parts.toolboxes.run(self._stop),
        }
        if not rollback_only:
            work["pipeline"] = self._parts.pipeline.run
            if self._settings.commander == "telegram":
                work |= {
                    "rescue": lambda: self._parts.rescue.run(self._stop),
                    "owner notices": lambda: self._parts.owner_notices.run(self._stop),
                }
                work["notifier"] = self._parts.cards.notifier.run
        threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in work.items()]
        for thread in threads:
            thread.start()
        return threads

    def _watch_over(self, threads: list[threading.Thread]) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._keep_local_bot()
            for server in self._servers:
                server.keep_reachable()
            rotate(self._paths.supervisor_log)
            self._refuse_half(threads)

    def _refuse_half(self, threads: list[threading.Thread]) -> None:
        # Half a supervisor is worse than none: end, and whoever keeps it running starts it anew.
        dead = [thread.name for thread in threads if not thread.is_alive()]
        if dead and not self._stop.is_set():
            raise PartEnded(f"a part of the supervisor has ended: {dead[0]}")

    def _keep_local_bot(self) -> None:
        if self._settings.uses_local_bot and not localbot.running(self._paths):
            try:
                localbot.ensure(self._paths)
            except localbot.LocalBotFailed as error:
                _LOG.warning("the local bot does not come up", error=str(error))

    def _end(self, threads: list[threading.Thread]) -> None:
        self._parts.rollout.stop()
        self._parts.pipeline.stop()
        self._parts.cards.notifier.stop()
        self._parts.containers.stop_watching()
        for thread in threads:
            thread.join(timeout=30)
        if self._take_down:
            self._end_workers()
        _LOG.info("supervisor ended", workers="ended" if self._take_down else "left running")

    def _end_workers(self) -> None:
        """Let the active one finish what it has in hand; the containers go, images and state stay."""
        self._parts.rollout.finish(_STANDBY_SECONDS)
        for row in self._ledger.living_workers():
            try:
                self._parts.containers.end(
                    row.worker_id, reason="supervisor down", seconds=int(self._settings.drain_seconds) + 2
                )
            except EngineError as error:
                _LOG.warning("could not end a worker", worker=row.worker_id, error=str(error))

    # -- what the command line asks

    def status(self) -> dict[str, Any]:
        """For ``status --json``."""
        return self._parts.desk.status()

    def hand_in(self, submission: dict[str, Any]) -> dict[str, Any]:
        """A patch from the terminal."""
        new = NewUpdate(
            origin=Origin.CLI,
            patch=bytes.fromhex(submission["patch_hex"]),
            title=submission["title"],
            why=submission["why"],
            forced=submission["force"],
        )
        return submitted(self._parts.pipeline.submit(new)).model_dump()

    def decide(self, decision: str, tx: str, by: str) -> dict[str, Any]:
        """Approve, cancel or roll back."""
        decided = {
            "approve": lambda: self._decisions.approve(tx, by=by),
            "cancel": lambda: self._decisions.cancel(tx),
            "rollback": lambda: self._decisions.rollback(tx),
        }[decision]()
        self._signal.notify()
        return {
            "tx_id": decided.tx_id,
            "status": decided.status,
            "message": decided.message,
            "already": decided.already,
        }

    def take_down(self) -> None:
        """End everything, workers included."""
        self._take_down = True
        self._stop.set()
        self._signal.notify()

    def upgrade(self, deps_image_id: str) -> dict[str, Any]:
        """What the checkout brings, as an update."""
        outcome = take_over(
            self._ledger,
            self._revisions,
            self._engine,
            checkout_files(CHECKOUT),
            deps_image_id=deps_image_id,
            parent_id=self._started_event,
        )
        self._signal.notify()
        return outcome.plain()

    def reload(self, environment: dict[str, str]) -> None:
        """Start anew in the same process, with these settings and those of ``.env``; workers go on."""
        kept = {name: value for name, value in os.environ.items() if name not in drift.NAMES}
        self._next_environment = kept | {name: environment[name] for name in environment.keys() & drift.NAMES}
        self._stop.set()
        self._signal.notify()


@contextmanager
def _optional(rollback_only: bool, what: str) -> Iterator[None]:
    """In a supervisor that only rolls back, go on without something that does not come up."""
    try:
        yield
    except (RevisionsError, OSError) as error:
        if not rollback_only:
            raise
        _LOG.warning("going on without", part=what, error=str(error))
