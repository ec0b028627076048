"""One installation without an engine: a real ledger and repository, a fake engine, workers that are threads.

The installation outlives its supervisors, which are started, stopped and killed in it.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from supervisor.bot.client import BotClient
from supervisor.contract import EventType
from supervisor.ledger import Ledger, NewUpdate, Origin, Revision, Update, WorkerRow
from supervisor.revisions import Revisions
from supervisor.rollout.standby import Beside
from supervisor.settings import Settings, load
from supervisor.specs import LABEL_SHA, LABEL_TX, ContainerSpec
from supervisor.states import Status
from supervisor.timing import Timing
from supervisor.updates.binding import digest
from supervisor.updates.decisions import Decisions
from tests.supervisor.fakes.engine import FakeEngine, Idle, Process
from tests.supervisor.fakes.supervisors import PROJECT, Supervisor
from tests.supervisor.fakes.workers import Activity, Behaviour, FakeWorker, Socket

#: What is waited for shows up at once here; a wait that ends by its time is part of what a test shows.
QUICK: Final = Timing(
    ready=0.8,
    settled=0.02,
    grace=0.1,
    activate=0.6,
    first_poll=0.4,
    poll_errors=0.2,
    look=0.02,
    idle=0.5,
    engine_retry=0.05,
    standby_retry=0.2,
    slowest_restart=0.1,
    probe=0.05,
    told_after=0.1,
    rescue_after=0.2,
    rescue_over=0.3,
)
SETTINGS: Final = {
    "AUTONOUS_PROJECT": PROJECT,
    "AUTONOUS_DRAIN_SECONDS": "1",
    "AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS": "0.3",
    "SUPERVISOR_RESTART_DELAY_SECONDS": "0.05",
}


class InterruptibleLedger(Ledger):
    """A ledger that calls ``changed`` after each commit, and ``read`` before each look."""

    def __init__(self, path: Path, changed: Callable[[], None], read: Callable[[], None]) -> None:
        self._changed = changed
        self._read = read
        super().__init__(path)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._read()
        with super()._reading():
            yield

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with super()._writing(name):
            yield
        self._changed()


class Installation:
    """A home with a ledger and a first revision. ``behaviours`` say, by sha, what each next worker does.

    ``interrupt`` is called after everything that changes the ledger or what the engine has.
    """

    def __init__(self, home: Path, *, timing: Timing = QUICK) -> None:
        self.settings: Settings = load({"AUTONOUS_HOME": str(home), **SETTINGS}, env_file=home / "none.env")
        self.settings.paths.create(worker_uid=self.settings.worker_uid)
        self.timing = timing
        self.interrupt: Callable[[], None] = lambda: None
        self.hold_up: Callable[[], None] = lambda: None  # whoever looks into the ledger, or out for silent workers
        self.open_ledger()
        self.revisions = Revisions(self.settings.paths.revisions)
        self.revisions.create()
        self.engine = FakeEngine(self._launch)
        self.engine.changed = self._interrupted
        self.socket = Socket()
        self.activity = Activity()
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.disk_has_room = True
        self.probe_fails: set[str] = set()  # what only workers reach
        #: In the roll-out's own thread, so that a kill of it is a kill of all that it does.
        self.beside: Beside = lambda work: work()
        self.bot: Callable[[], BotClient] | None = None  # the way to a bot, for supervisors that talk to one
        self.environment: dict[str, str] = {}
        self.passed = 0.0  # seconds that went by in an instant
        self.clock_is_off = 0.0  # seconds by which the supervisor's wall clock is ahead
        self._supervisors: list[Supervisor] = []
        self.genesis = self._first_revision()

    def open_ledger(self) -> None:
        """Anew, for supervisors that are started from now on; what the file lacks is added."""
        looked = lambda: self.hold_up()  # noqa: E731, PLW0108 - it changes
        self.ledger = InterruptibleLedger(self.settings.paths.ledger, self._interrupted, looked)
        self.decisions = Decisions(self.ledger)

    def change(self, **settings: object) -> None:
        """Other settings, for supervisors that are started from now on."""
        self.settings = self.settings.model_copy(update=settings)

    # -- updates

    def staged(self, title: str = "an update", base: Update | None = None) -> Update:
        """An update on the good revision, or on ``base``, that passed its gates."""
        base = base or self.ledger.find(self.ledger.good_revision().tx_id)
        new = NewUpdate(origin=Origin.CLI, patch=b"patch", title=title, base_sha=base.sha, base_tx_id=base.tx_id)
        update = self.ledger.create(new)
        self.ledger.amend(update.tx_id, self._made(update.tx_id, title, base.sha))
        for source, target in ((Status.CREATED, Status.BUILDING), (Status.BUILDING, Status.TESTING)):
            self.ledger.move(update.tx_id, source, target)
        update = self.ledger.move(update.tx_id, Status.TESTING, Status.SELF_CHECKING)
        bound = {"digest": digest(update)}
        return self.ledger.move(update.tx_id, Status.SELF_CHECKING, Status.STAGED, changes=bound)

    def approved(self, title: str = "an update", *behaviours: Behaviour, base: Update | None = None) -> Update:
        """An approved update whose workers behave so, the last of these for ever."""
        return self.approve(self.staged(title, base), *behaviours)

    def approve(self, update: Update, *behaviours: Behaviour) -> Update:
        """The same for an update that is staged."""
        self.behaviours[update.sha or ""] = list(behaviours)
        self.decisions.approve(update.tx_id, by="a test")
        self.nudge()
        return self.update(update)

    def promoted(self, title: str = "an update", *behaviours: Behaviour) -> Update:
        """An update that a running supervisor has promoted."""
        return self.reaches(self.approved(title, *behaviours), Status.PROMOTED)

    def roll_back(self, update: Update) -> None:
        """A person wants to go back."""
        self.decisions.rollback(update.tx_id)
        self.nudge()

    def update(self, update: Update) -> Update:
        """The same as it is now."""
        return self.ledger.find(update.tx_id)

    def reaches(self, update: Update, *statuses: Status, seconds: float = 8.0) -> Update:
        """The update once it is in one of these states; fails the test when it never is."""
        self.until(lambda: self.update(update).status in statuses, seconds, f"{update.title} to be {statuses}")
        return self.update(update)

    @property
    def model_answers_host(self) -> bool:
        """What the supervisor finds when it asks the model by itself."""
        return self.socket.model_answers and "model" not in self.probe_fails

    # -- as a rebuilder

    def ensure_image(self, revision: Revision) -> Revision:
        """Have the image of a revision again, under another id."""
        if self.engine.image(revision.image_id) is not None:
            return revision
        image_id = f"{revision.image_id}-again"
        self.engine.add_image(image_id, revision.image_tag, {LABEL_SHA: revision.sha, LABEL_TX: revision.tx_id})
        return self.ledger.amend(revision.tx_id, {"image_id": image_id}).revision

    # -- supervisors

    def start(self, *, rolling: bool = True) -> Supervisor:
        """A new supervisor, at work."""
        supervisor = Supervisor(self, rolling=rolling)
        self._supervisors.append(supervisor)
        supervisor.start()
        return supervisor

    @contextmanager
    def supervised(self) -> Iterator[Supervisor]:
        """A supervisor that is stopped at the end."""
        supervisor = self.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()

    def nudge(self) -> None:
        """What the command line does after a decision: wake the supervisor, if one runs."""
        for supervisor in self._supervisors:
            supervisor.signal.notify()

    # -- what is there

    def active(self) -> WorkerRow | None:
        """The worker that is active, as it sees it itself."""
        names = self.activity.active()
        assert len(names) <= 1, f"several are active: {names}"
        return self.ledger.worker(names[0]) if names else None

    def active_sha(self) -> str | None:
        """The revision of the active worker."""
        row = self.active()
        return row.sha if row else None

    def running(self, role: str = "worker") -> list[str]:
        """The names of the containers of a role that run, oldest first."""
        return [view.name for view in self.engine.containers(PROJECT, role=role) if view.running]

    def running_shas(self) -> list[str]:
        """The revisions of the workers that run, sorted."""
        return sorted(self.ledger.worker(name).sha for name in self.running())

    def becomes_active(self, update: Update, seconds: float = 8.0) -> WorkerRow:
        """The active worker once it is one of this update's; fails the test when it never is."""
        self.until(lambda: self.active_sha() == update.sha, seconds, f"{update.title} to be active")
        row = self.active()
        assert row is not None
        return row

    def until(self, met: Callable[[], bool], seconds: float = 8.0, what: str = "it") -> None:
        """Wait until something holds; fails the test when it does not within the time."""
        deadline = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
            time.sleep(0.005)

    def events(self, update: Update) -> list[str]:
        """The names of an update's events, in order."""
        return [event.event_type for event in self.ledger.events(parent_id=update.event_id)]

    def told(self, event: EventType) -> list[dict[str, object]]:
        """The payloads of all events of a type, oldest first."""
        return [found.payload for found in self.ledger.events(event)]

    # -- as a context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.interrupt = lambda: None
        self.engine.come_back()
        for supervisor in self._supervisors:
            supervisor.stop()
        for view in self.engine.containers(PROJECT):
            self.engine.remove(view.id)
        self.ledger.close()
        shutil.rmtree(self.settings.paths.run)  # outside of a home whose name is too long for sockets
        if kind is None:
            # What holds whatever a test does.
            assert self.activity.overlaps == []
            assert self.activity.went_back == []

    # -- inside

    def _interrupted(self) -> None:
        self.interrupt()

    def _launch(self, spec: ContainerSpec, exited: Callable[[int, bool], None]) -> Process:
        if spec.role != "worker":
            return Idle(spec, exited)
        coming = self.behaviours.get(spec.labels[LABEL_SHA], [])
        behaviour = coming.pop(0) if len(coming) > 1 else coming[0] if coming else Behaviour()
        return FakeWorker(spec, exited, behaviour=behaviour, socket=self.socket, activity=self.activity)

    def _first_revision(self) -> Update:
        tx_id = str(uuid.uuid4())
        new = NewUpdate(tx_id=tx_id, origin=Origin.GENESIS, title="the first revision")
        update = self.ledger.genesis(new, changes=self._made(tx_id, "the first revision", None))
        self.revisions.set_active(update.revision.sha)
        return replace(update)

    def _made(self, tx_id: str, title: str, parent: str | None) -> dict[str, object]:
        """A commit and an image, as the pipeline would have made them."""
        commit = self.revisions.commit_files(
            {"worker/agent.py": tx_id.encode()}, message=title, when=time.time(), parent=parent
        )
        image_id, tag = f"sha256:{commit.sha}", f"{PROJECT}/worker:{commit.sha[:12]}"
        self.engine.add_image(image_id, tag, {LABEL_SHA: commit.sha, LABEL_TX: tx_id})
        return {
            "sha": commit.sha,
            "tree": commit.tree,
            "patch_id": None if parent is None else commit.tree,
            "deps_image_id": "sha256:deps",
            "image_id": image_id,
            "image_tag": tag,
        }


def noticed(installation: Installation, what: str, *, ended: bool = False) -> None:
    """Return when the supervisor has seen that it is away, or back."""
    event = EventType.EXTERNAL_TROUBLE_ENDED if ended else EventType.EXTERNAL_TROUBLE_STARTED
    installation.until(lambda: what in [told["what"] for told in installation.told(event)], what=f"{event} of {what}")


def notices(installation: Installation) -> list[str]:
    return [text for _, text in installation.ledger.notices()]
