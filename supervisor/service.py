"""The running supervisor: its parts put together, its threads, its start and its end."""

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
from supervisor.bot import client as botapi
from supervisor.bot.owner_notices import OwnerNotices
from supervisor.bot.rescue import Rescue, source
from supervisor.cards.assembly import assemble
from supervisor.contract import EventType, Redactor
from supervisor.contract_handlers import WorkersDesk, submitted
from supervisor.control_server import control_app
from supervisor.engine import Engine, EngineError
from supervisor.gates.examprocess import ExamProcess
from supervisor.gates.rehearsal import Rehearsal
from supervisor.homelock import home_lock, sign_off
from supervisor.ledger import Ledger, NewUpdate, Origin
from supervisor.localbot import process as localbot
from supervisor.localbot.store import OWNER
from supervisor.logfile import rotate
from supervisor.outages import OutageMonitor, probes_of
from supervisor.paths import CHECKOUT
from supervisor.pipeline.pipeline import Pipeline
from supervisor.pipeline.upgrade import checkout_files, take_over
from supervisor.revisions import Revisions, RevisionsError
from supervisor.rollout import rollback_wait
from supervisor.rollout.rebuild import ImageRebuilder, Reexamination
from supervisor.rollout.rollout import Rollout
from supervisor.server import contract_app
from supervisor.sessions import Sessions, Signal
from supervisor.settings import Settings
from supervisor.states import Status
from supervisor.timing import IN_SERVICE
from supervisor.toolbox.grants import Grants
from supervisor.toolbox.handlers import ToolDesk
from supervisor.toolbox.toolboxes import Toolboxes
from supervisor.unixserver import UnixServer
from supervisor.updates.decisions import Decided, Decisions
from supervisor.workers.containers import WorkerContainers
from supervisor.workers.pool import WorkerPool
from supervisor.workers.reconcile import reconcile, refuse_foreign_workers

_LOG = structlog.get_logger()

_LOOK_SECONDS: Final = 2.0
_ROLLBACK_SECONDS: Final = 180.0


class PartEnded(Exception):
    """A thread of the supervisor has ended by itself; the message is one line for the user."""


class Service:
    """One supervisor on one home, from its start to its end."""

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
        self._poll_turn = threading.Lock()
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
            with self._on_duty(makeshift=True) as threads:
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
    def _on_duty(self, *, makeshift: bool = False) -> Iterator[list[threading.Thread]]:
        """Everything up, then everything ended in order. A ``makeshift`` one has no pipeline and does with less."""
        with ExitStack() as stack:
            with _dispensable(makeshift, "the repository of revisions"):
                self._revisions.create()
            self._started_event = self._ledger.append(
                EventType.PROCESS_STARTED, {"role": "supervisor", "pid": os.getpid(), "version": __version__}
            )
            drift.remember(self._ledger, self._settings)
            self._build_parts()
            self._desk.set_owners()
            if self._settings.telegram_bot_token and not self._settings.allowed_users:
                facts.ensure_claim_code(self._ledger)
            self._keep_local_bot()
            refuse_foreign_workers(self._engine, self._ledger, self._settings.project)
            with _dispensable(makeshift, "the repository of revisions"):
                self._toolboxes.tidy()
                reconcile(self._engine, self._ledger, self._containers, self._revisions, self._settings.project)
            stack.enter_context(UnixServer(contract_app(self._desk, self._tool_desk), self._paths.contract_socket))
            with _dispensable(makeshift, "the control socket"):
                stack.enter_context(UnixServer(control_app(self), self._paths.control_socket, mode=0o600))
            self._sessions.forgive_silence()  # nobody could be heard before
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._stop.set())
            threads = self._start_threads(makeshift=makeshift)
            if not makeshift:
                self._rebuilder.catch_up()
            _LOG.info("supervisor started", pid=os.getpid(), home=str(self._paths.home), makeshift=makeshift)
            try:
                yield threads
            finally:
                self._stop.set()
                self._end(threads)

    def _build_parts(self) -> None:
        installation = facts.ensure_installation(self._ledger)
        grants = Grants(ledger=self._ledger, settings=self._settings, signal=self._signal)
        self._toolboxes = Toolboxes(
            engine=self._engine,
            ledger=self._ledger,
            settings=self._settings,
            signal=self._signal,
            grants=grants,
            installation=installation,
        )
        self._containers = WorkerContainers(
            engine=self._engine,
            ledger=self._ledger,
            sessions=self._sessions,
            settings=self._settings,
            signal=self._signal,
            environment=self._worker_environment,
            started_event=self._started_event,
            installation=installation,
            toolboxes=self._toolboxes,
        )
        self._pipeline = Pipeline(
            engine=self._engine,
            ledger=self._ledger,
            revisions=self._revisions,
            settings=self._settings,
            signal=self._signal,
            started_event=self._started_event,
        )
        pool = WorkerPool(
            containers=self._containers,
            ledger=self._ledger,
            sessions=self._sessions,
            settings=self._settings,
            signal=self._signal,
            stopping=self._stop.is_set,
            poll_turn=self._poll_turn,
        )
        self._rebuilder = ImageRebuilder(
            engine=self._engine,
            ledger=self._ledger,
            revisions=self._revisions,
            project=self._settings.project,
            exam=self._reexamination(),
            extras=self._settings.extras,
            in_service=lambda: not self._stop.is_set() and pool.in_service(),
            stopping=self._stop.is_set,
        )
        self._outages = OutageMonitor(
            probes=probes_of(self._settings, engine=self._containers.engine_trouble),
            ledger=self._ledger,
            sessions=self._sessions,
            timing=IN_SERVICE,
        )
        self._rollout = Rollout(
            engine=self._engine,
            ledger=self._ledger,
            revisions=self._revisions,
            containers=self._containers,
            pool=pool,
            sessions=self._sessions,
            settings=self._settings,
            signal=self._signal,
            rebuilder=self._rebuilder,
            outages=self._outages,
            bot_api_answers=lambda: botapi.answers(self._settings),
        )
        self._cards = assemble(
            settings=self._settings,
            ledger=self._ledger,
            revisions=self._revisions,
            decisions=self._decisions,
            bot=self._bot(),
            signal=self._signal,
        )
        self._desk = WorkersDesk(
            ledger=self._ledger,
            revisions=self._revisions,
            sessions=self._sessions,
            settings=self._settings,
            signal=self._signal,
            pipeline=self._pipeline,
            rollout=self._rollout,
            cards=self._cards.desk,
            outages=self._outages,
            stopped=self._stop.is_set,
        )
        self._tool_desk = ToolDesk(
            ledger=self._ledger,
            toolboxes=self._toolboxes,
            grants=grants,
            signal=self._signal,
            owners=self._desk.owners,
        )
        self._rescue = Rescue(
            bot=self._bot,
            source=source(self._settings),
            ledger=self._ledger,
            decisions=self._decisions,
            commands=self._desk.commands,
            owners=self._desk.owners,
            works=pool.may_poll,
            trouble=lambda: self._rollout.trouble,
            poll_turn=self._poll_turn,
            signal=self._signal,
            timing=IN_SERVICE,
        )

    def _bot(self) -> botapi.BotClient:
        return botapi.BotClient.of(self._settings)

    def _reexamination(self) -> Reexamination:
        # A room of its own: the pipeline may hold an exam at the same time.
        room, uid = self._paths.run / "again", self._settings.worker_uid
        examiner = ExamProcess(self._engine, self._settings.project, uid, room)
        return Reexamination(Rehearsal(examiner, room, self._paths.agent_db), self._ledger)

    def _start_threads(self, *, makeshift: bool) -> list[threading.Thread]:
        work: dict[str, Callable[[], None]] = {
            "watch": lambda: self._containers.watch(self._stop),
            "rollout": self._rollout.run,
            "outages": lambda: self._outages.run(self._stop),
            "toolboxes": lambda: self._toolboxes.run(self._stop),
        }
        if not makeshift:
            work["pipeline"] = self._pipeline.run
            if self._settings.commander == "telegram":
                owner_notices = OwnerNotices(bot=self._bot, ledger=self._ledger, owners=self._desk.owners)
                work |= {
                    "rescue": lambda: self._rescue.run(self._stop),
                    "owner notices": lambda: owner_notices.run(self._stop),
                }
                work["notifier"] = self._cards.notifier.run
        threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in work.items()]
        for thread in threads:
            thread.start()
        return threads

    def _watch_over(self, threads: list[threading.Thread]) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._keep_local_bot()
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
        self._rollout.stop()
        self._pipeline.stop()
        self._cards.notifier.stop()
        self._containers.stop_watching()
        for thread in threads:
            thread.join(timeout=30)
        if self._take_down:
            self._end_workers()
        _LOG.info("supervisor ended", workers="ended" if self._take_down else "left running")

    def _end_workers(self) -> None:
        """Let the active one finish what it has in hand; the containers go, images and state stay."""
        for row in self._ledger.living_workers():
            try:
                self._containers.end(
                    row.worker_id, reason="supervisor down", seconds=int(self._settings.drain_seconds) + 2
                )
            except EngineError as error:
                _LOG.warning("could not end a worker", worker=row.worker_id, error=str(error))

    # -- what the command line asks

    def status(self) -> dict[str, Any]:
        """For ``status --json``."""
        return self._desk.status()

    def hand_in(self, submission: dict[str, Any]) -> dict[str, Any]:
        """A patch from the terminal."""
        new = NewUpdate(
            origin=Origin.CLI,
            patch=bytes.fromhex(submission["patch_hex"]),
            title=submission["title"],
            why=submission["why"],
            forced=submission["force"],
        )
        return submitted(self._pipeline.submit(new)).model_dump()

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

    # -- inside

    def _worker_environment(self) -> dict[str, str]:
        environment = dict(self._settings.worker_values)
        if self._settings.uses_local_bot:
            environment["TELEGRAM_BOT_TOKEN"] = localbot.token(self._paths)
            environment["AUTONOUS_TELEGRAM_UDS"] = f"/run/autonous/{self._paths.localbot_socket.name}"
            if self._settings.allowed_users:  # the terminal's user is one of them
                owners = (*self._settings.allowed_users, OWNER)
                environment["AUTONOUS_TELEGRAM_ALLOWED_USERS"] = ",".join(map(str, owners))
        return environment


@contextmanager
def _dispensable(makeshift: bool, what: str) -> Iterator[None]:
    """In a makeshift supervisor, go on without something that does not come up."""
    try:
        yield
    except (RevisionsError, OSError) as error:
        if not makeshift:
            raise
        _LOG.warning("going on without", part=what, error=str(error))
