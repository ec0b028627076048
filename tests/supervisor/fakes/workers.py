"""Workers as threads: they say to a supervisor's sessions what a worker says over its socket, and obey as one does.

Each writes into a shared :class:`Activity` when it begins and when it ends to be the active one, as seen by itself.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from supervisor.contract import Announcement, Beat, Problem, Role, RoleGrant, WorkerState
from supervisor.sessions import Sessions
from supervisor.specs import ContainerSpec
from tests.supervisor.fakes.engine import KILLED

BEAT_SECONDS = 0.05


@dataclass(frozen=True)
class Behaviour:
    """What one worker does. Times in seconds; with the defaults it does all that it should."""

    exits_at_start: int | None = None
    gets_ready: bool = True
    says_it_is: str = ""  # another sha than it was started as
    takes_over: bool = True
    polls: bool = True
    poll_fails_after: float | None = None  # after it became active
    exits_after: float | None = None
    exit_code: int = 1
    out_of_memory: bool = False
    wedges_after: float | None = None
    internal_errors: int = 0  # once active
    unwell: str = ""  # once active
    flaps: float | None = None  # standing by it is well for so long, then unwell for as long, then well again…
    flaps_in_service: float | None = None  # the same, once active
    model_fails: bool = False
    polls_again_after: float = 0.0  # the Bot API came back
    work_in_hand: float = 0.0  # that a drain has to wait for
    lets_go: bool = True


@dataclass(frozen=True)
class Moment:
    """A worker became the active one, or ceased to be. ``at`` is on the wall clock."""

    worker_id: str
    active: bool
    epoch: int
    at: float


@dataclass
class Activity:
    """Who was active when."""

    moments: list[Moment] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, worker_id: str, epoch: int, *, active: bool) -> None:
        """Write it down, in the order in which it happens."""
        with self._lock:
            self.moments.append(Moment(worker_id, active, epoch, time.time()))

    @property
    def overlaps(self) -> list[str]:
        """Every moment in which two were active at once."""
        active: set[str] = set()
        found = []
        for moment in self.moments:
            if moment.active:
                found += [f"{moment.worker_id} took over from {other}, which was still active" for other in active]
                active.add(moment.worker_id)
            else:
                active.discard(moment.worker_id)
        return found

    @property
    def epochs(self) -> list[int]:
        """The epochs of all take-overs, in their order."""
        return [moment.epoch for moment in self.moments if moment.active]

    @property
    def went_back(self) -> list[tuple[int, int]]:
        """Take-overs with an epoch below the one before: an old lease was used again."""
        return [(before, after) for before, after in pairwise(self.epochs) if after < before]

    def active(self) -> list[str]:
        """Who is active now."""
        last = {moment.worker_id: moment.active for moment in self.moments}
        return [worker_id for worker_id, active in last.items() if active]

    def let_go_at(self, worker_id: str) -> float:
        """When this worker ceased to be active, for the last time."""
        return max(m.at for m in self.moments if m.worker_id == worker_id and not m.active)


@dataclass
class Socket:
    """What workers find around them. ``sessions`` are the supervisor's, None while it is away."""

    sessions: Sessions | None = None
    bot_api_answers: bool = True
    bot_api_reached: bool = True  # by workers, whatever it answers the supervisor
    model_answers: bool = True


class FakeWorker:
    """One worker's process."""

    def __init__(
        self,
        spec: ContainerSpec,
        exited: Callable[[int, bool], None],
        *,
        behaviour: Behaviour,
        socket: Socket,
        activity: Activity,
    ) -> None:
        self._name = spec.name
        self._credential = spec.environment["AUTONOUS_WORKER_CREDENTIAL"]
        self._sha = behaviour.says_it_is or spec.environment["AUTONOUS_WORKER_SHA"]
        self._behaviour = behaviour
        self._exited = exited
        self._socket = socket
        self._activity = activity
        self._lock = threading.Lock()
        self._dead = False
        self._wake = threading.Event()
        self._connected: Sessions | None = None
        self._hang_up: Callable[[], None] = lambda: None
        self._worker_id = ""
        self._state = WorkerState.STARTING
        self._epoch: int | None = None
        self._began = 0.0
        self._active_since = 0.0
        self._drain_since: float | None = None
        self._told_to_end = False
        self._polls_from = 0.0
        self._polled_in: int | None = None  # the epoch in which its last poll went well
        self._polls_ok = 0
        self._poll_error = ""

    # -- as a process

    def start(self) -> None:
        """Begin to work."""
        self._began = time.monotonic()
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def terminate(self) -> None:
        """End in order, unless it hangs."""
        self._told_to_end = True
        self._wake.set()

    def kill(self) -> None:
        """It does nothing any more when this returns."""
        with self._lock:
            self._dead = True
            self._become(self._state, None)
        self._wake.set()

    # -- as a worker

    def _run(self) -> None:
        if self._behaviour.exits_at_start is not None:
            self._exit(self._behaviour.exits_at_start)
        while not self._dead:
            grant = self._exchange()
            if self._told_to_end:
                grant = RoleGrant(role=Role.EXIT)
            before = self._state
            if grant is not None and (self._behaviour.gets_ready or self._told_to_end):
                self._obey(grant)
            self._misbehave()
            if self._state is before:
                self._wake.wait(BEAT_SECONDS)
                self._wake.clear()
        self._hang_up()

    def _exchange(self) -> RoleGrant | None:
        """Beat, and hear the role; announce first where that was not done."""
        sessions = self._socket.sessions
        if sessions is not self._connected:
            self._hang_up()
            self._connected = sessions if sessions is not None and self._announce(sessions) else None
        if self._connected is None:
            return None
        return self._connected.beat(self._worker_id, self._beat())

    def _announce(self, sessions: Sessions) -> bool:
        worker_id = sessions.authenticate(self._credential)
        if worker_id is None:
            return False
        told = Announcement(sha=self._sha, version="0", pid=1, schema_version=1, provider="dummy", source="telegram:1")
        if isinstance(sessions.announce(worker_id, told), Problem):
            return False
        self._worker_id = worker_id
        stop = sessions.listen(worker_id, self._wake.set)

        def hang_up() -> None:
            self._hang_up = lambda: None
            stop()

        self._hang_up = hang_up
        return True

    def _beat(self) -> Beat:
        active = self._epoch is not None
        on_duty = time.monotonic() - self._active_since
        behaviour = self._behaviour
        if away := not (self._socket.bot_api_answers and self._socket.bot_api_reached):
            self._polls_from = time.monotonic() + behaviour.polls_again_after
        away = away or time.monotonic() < self._polls_from
        fails = behaviour.poll_fails_after is not None and on_duty >= behaviour.poll_fails_after
        if active:  # in standby it says what it said last
            self._poll_error = "ConnectError: refused" if fails or away else ""
        if away or not active:
            self._polled_in = None
        elif behaviour.polls and self._polled_in != self._epoch:
            self._polled_in = self._epoch
            self._polls_ok += 1  # the first, which comes back at once
        no_model = behaviour.model_fails or not self._socket.model_answers
        return Beat(
            state=self._state,
            epoch=self._epoch,
            healthy=not (unwell := self._unwell()),
            detail=unwell,
            polls_ok=self._polls_ok,
            poll_error=self._poll_error,
            model_error="APIConnectionError: refused" if no_model else "",
            internal_errors=behaviour.internal_errors if active else 0,
        )

    def _unwell(self) -> str:
        """What is wrong with it right now; empty while it is well."""
        active, behaviour = self._epoch is not None, self._behaviour
        flaps, since = (behaviour.flaps_in_service, self._active_since) if active else (behaviour.flaps, self._began)
        if flaps is not None and int((time.monotonic() - since) / flaps) % 2:
            return "it flaps"
        return behaviour.unwell if active else ""

    def _obey(self, grant: RoleGrant) -> None:
        match grant.role:
            case Role.STANDBY:
                self._drain_since = None
                self._shift(WorkerState.STANDBY, None)
            case Role.ACTIVE if self._behaviour.takes_over:
                self._drain_since = None
                self._shift(WorkerState.ACTIVE, grant.epoch)
            case Role.DRAIN if self._drained():
                self._shift(WorkerState.RELEASED, None)
            case Role.EXIT if self._drained():
                self._exit(0)

    def _drained(self) -> bool:
        now = time.monotonic()
        if self._drain_since is None:
            self._drain_since = now
        if self._epoch is None:
            return True
        return self._behaviour.lets_go and now - self._drain_since >= self._behaviour.work_in_hand

    def _misbehave(self) -> None:
        if self._epoch is None:
            return
        on_duty = time.monotonic() - self._active_since
        behaviour = self._behaviour
        if behaviour.exits_after is not None and on_duty >= behaviour.exits_after:
            self._exit(KILLED if behaviour.out_of_memory else behaviour.exit_code, oom=behaviour.out_of_memory)
        if behaviour.wedges_after is not None and on_duty >= behaviour.wedges_after:
            while not self._dead:  # the process lives, the loop does not
                time.sleep(BEAT_SECONDS)

    def _shift(self, state: WorkerState, epoch: int | None) -> None:
        with self._lock:
            if not self._dead:
                self._become(state, epoch)

    def _become(self, state: WorkerState, epoch: int | None) -> None:
        """Under the lock. Changes the state, and notes the beginning and the end of being active."""
        if self._epoch is not None and epoch != self._epoch:
            self._activity.note(self._name, self._epoch, active=False)
        if epoch is not None and epoch != self._epoch:
            self._active_since = time.monotonic()
            self._activity.note(self._name, epoch, active=True)
        self._state, self._epoch = state, epoch

    def _exit(self, code: int, *, oom: bool = False) -> None:
        with self._lock:
            if self._dead:
                return
            self._dead = True
            self._become(WorkerState.EXITING, None)
        self._exited(code, oom)
