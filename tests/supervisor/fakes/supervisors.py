"""The running supervisor of an installation without an engine: its threads, without its sockets."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from supervisor import facts, views
from supervisor.bot.client import BotClient
from supervisor.bot.commands import Commands
from supervisor.bot.owner_notices import OwnerNotices
from supervisor.bot.rescue import Rescue
from supervisor.contract import EventType
from supervisor.localbot.store import OWNER
from supervisor.outages import OutageMonitor, Probes
from supervisor.rollout.rollout import Rollout
from supervisor.sessions import Sessions, Signal
from supervisor.timing import Clocks
from supervisor.toolbox.grants import Grants
from supervisor.toolbox.toolboxes import Toolboxes
from supervisor.updates.decisions import Decisions
from supervisor.workers.containers import WorkerContainers
from supervisor.workers.pool import WorkerPool
from supervisor.workers.reconcile import reconcile

if TYPE_CHECKING:
    from tests.supervisor.fakes.installation import Installation

PROJECT: Final = "fake"
SOURCE: Final = "telegram:4711"


class Killed(BaseException):
    """The supervisor was killed right here; nothing in it may catch this."""


class Stop(threading.Event):
    """The word that all is to end, which a machine that stands still holds up."""

    def __init__(self, hold_up: Callable[[], None]) -> None:
        super().__init__()
        self._hold_up = hold_up

    def wait(self, timeout: float | None = None) -> bool:
        """As ever, and then for as long as the machine stands still."""
        ended = super().wait(timeout)
        self._hold_up()
        return ended


class Supervisor:
    """A running supervisor: the threads that the service would start, without its sockets.

    One that is not ``rolling`` leaves everything to the test.
    """

    def __init__(self, installation: "Installation", *, rolling: bool = True) -> None:
        self._installation = installation
        self._stop = Stop(lambda: installation.hold_up())  # noqa: PLW0108 - it changes
        self.signal = Signal()
        self.sessions = Sessions(self.signal)
        poll_turn = threading.Lock()
        clocks = Clocks(
            wall=lambda: time.time() + installation.clock_is_off + installation.passed,
            monotonic=lambda: time.monotonic() + installation.passed,
        )
        engine, ledger, settings = installation.engine, installation.ledger, installation.settings
        self.grants = Grants(ledger=ledger, settings=settings, signal=self.signal)
        self.toolboxes = Toolboxes(
            engine=engine,
            ledger=ledger,
            settings=settings,
            signal=self.signal,
            grants=self.grants,
            installation=facts.ensure_installation(ledger),
        )
        self.containers = WorkerContainers(
            engine=engine,
            ledger=ledger,
            sessions=self.sessions,
            settings=settings,
            signal=self.signal,
            environment=lambda: installation.environment,
            started_event=ledger.append(EventType.PROCESS_STARTED, {"role": "supervisor"}),
            installation=facts.ensure_installation(ledger),
            toolboxes=self.toolboxes,
        )
        self.pool = WorkerPool(
            containers=self.containers,
            ledger=ledger,
            sessions=self.sessions,
            settings=settings,
            signal=self.signal,
            stopping=self._stop.is_set,
            poll_turn=poll_turn,
            timing=installation.timing,
        )
        self.outages = OutageMonitor(
            probes=Probes(
                bot_api=lambda: "" if installation.socket.bot_api_answers else "the Bot API is away",
                model=lambda: "" if installation.model_answers_host else "the model is away",
                disk=lambda: "" if installation.disk_has_room else "the disk is full",
                engine=self.containers.engine_trouble,
            ),
            ledger=ledger,
            sessions=self.sessions,
            timing=installation.timing,
            clocks=clocks,
        )
        self.rollout = Rollout(
            engine=engine,
            ledger=ledger,
            revisions=installation.revisions,
            containers=self.containers,
            pool=self.pool,
            sessions=self.sessions,
            settings=settings,
            signal=self.signal,
            rebuilder=installation,
            outages=self.outages,
            beside=installation.beside,
            bot_api_answers=lambda: installation.socket.bot_api_answers,
            clocks=clocks,
            timing=installation.timing,
        )
        targets: dict[str, Callable[[], None]] = {
            "watch": lambda: self.containers.watch(self._stop),
            "lookout": lambda: self.sessions.keep_looking(self._stop),
            "outages": lambda: self.outages.run(self._stop),
            "toolboxes": lambda: self.toolboxes.run(self._stop),
        }
        if rolling:
            targets["rollout"] = self._roll
        if installation.bot is not None:
            targets |= self._talking(installation.bot, poll_turn)
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in targets.items()]
        self._rolling = next((thread for thread in self._threads if thread.name == "rollout"), self._threads[0])

    def start(self) -> None:
        """Bring engine and ledger together, let workers in, and begin."""
        installation = self._installation
        reconcile(installation.engine, installation.ledger, self.containers, installation.revisions, PROJECT)
        installation.socket.sessions = self.sessions
        self.sessions.forgive_silence()
        for thread in self._threads:
            thread.start()

    def ask_to_stop(self) -> None:
        """Have everything come to its end, which this does not wait for."""
        self._stop.set()
        self.rollout.stop()
        self.signal.notify()

    def stop(self) -> None:
        """As on SIGTERM: workers go on. Harmless after a kill."""
        self.ask_to_stop()
        self._installation.socket.sessions = None
        self.containers.stop_watching()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), f"the thread {thread.name} does not end"

    def wait_until_killed(self, seconds: float = 5.0) -> bool:
        """Whether it was killed within the time; what is left of it is put away then."""
        self._rolling.join(seconds)
        killed = not self._rolling.is_alive()
        if killed:
            self.stop()
        return killed

    def _talking(self, bot: Callable[[], BotClient], poll_turn: threading.Lock) -> dict[str, Callable[[], None]]:
        """What the service does at the bot itself."""
        installation = self._installation
        ledger, owners = installation.ledger, lambda: (OWNER,)
        rescue = Rescue(
            bot=bot,
            source=SOURCE,
            ledger=ledger,
            decisions=Decisions(ledger),
            commands=Commands(ledger, installation.revisions, status=lambda: views.status(ledger, running=True)),
            owners=owners,
            works=self.pool.may_poll,
            polls=self.pool.polls,
            trouble=lambda: self.rollout.trouble,
            poll_turn=poll_turn,
            signal=self.signal,
            timing=installation.timing,
        )
        owner_notices = OwnerNotices(bot=bot, ledger=ledger, owners=owners)
        return {"rescue": lambda: rescue.run(self._stop), "owner notices": lambda: owner_notices.run(self._stop)}

    def _roll(self) -> None:
        with suppress(Killed):
            self.rollout.run()
