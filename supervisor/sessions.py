"""What workers say of themselves, and which role each of them has now.

Kept in memory: after a restart of the supervisor each worker announces itself again. All methods may be called
from any thread; whoever waits for a change waits on the shared :class:`Signal`.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from supervisor.contract import Announcement, Beat, Problem, Role, RoleGrant, Welcome, WorkerState

BEAT_SECONDS: Final = 1.0

#: A worker that has not beaten for this long is wedged or gone; noticed well within five seconds.
LOST_AFTER_SECONDS: Final = 3.5

#: One that is adopted has to find the new supervisor first, which it looks for every two seconds.
FOUND_AFTER_SECONDS: Final = LOST_AFTER_SECONDS + 2.5

#: Between two looks at the workers, whoever looks; after a longer time it was the supervisor that stood still.
OWN_SILENCE_SECONDS: Final = 2.0


class Signal:
    """Wakes whoever waits that something may have changed; they look for themselves what it was."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """How many changes there were; given to :meth:`wait` so that none is slept through."""
        with self._condition:
            return self._count

    def notify(self) -> None:
        """Wake everyone."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, seconds: float, seen: int | None = None) -> None:
        """Wait for a change, at most ``seconds``; not at all when there was one after ``seen``."""
        with self._condition:
            if seen is None or self._count == seen:
                self._condition.wait(seconds)

    def until(self, met: Callable[[], bool], seconds: float, *, at_least_every: float = 0.25) -> bool:
        """Wait until ``met`` is true, at most ``seconds``; gives what ``met`` said last."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self.count
            if met():
                return True
            now = time.monotonic()
            left = deadline - now
            if left <= 0:
                return False
            asked = min(left, at_least_every)
            self.wait(asked, seen)
            stood_still = time.monotonic() - now - asked
            if stood_still > OWN_SILENCE_SECONDS:  # the machine did: nobody had that time
                deadline += stood_still


@dataclass(frozen=True)
class Session:
    """One worker as it shows itself.

    Times are on the monotonic clock. ``last_beat`` is None before the first; ``heard_since`` is from when on silence
    counts against it: the last beat, or later when the supervisor was not listening. None while it is coming up.
    """

    worker_id: str
    sha: str
    instance: int
    credential_hash: str
    grant: RoleGrant = field(default_factory=lambda: RoleGrant(role=Role.STANDBY))
    announcement: Announcement | None = None
    problem: str = ""
    beat: Beat = field(default_factory=lambda: Beat(state=WorkerState.STARTING))
    last_beat: float | None = None
    heard_since: float | None = None

    @property
    def state(self) -> WorkerState:
        """What the worker said last that it is doing."""
        return self.beat.state

    def lost(self, now: float) -> bool:
        """Whether it was up and is silent."""
        if self.heard_since is None:
            return False
        return now - self.heard_since > (FOUND_AFTER_SECONDS if self.last_beat is None else LOST_AFTER_SECONDS)

    def healthy(self, now: float) -> bool:
        """Whether it came up, beats, and says that it is well."""
        return (
            self.announcement is not None
            and not self.problem
            and self.last_beat is not None
            and not self.lost(now)
            and self.beat.healthy
            and self.state is not WorkerState.STARTING
        )


def credential_hash(credential: str) -> str:
    """What is kept of a credential."""
    return hashlib.sha256(credential.encode()).hexdigest()


class Sessions:
    """All workers that may talk to this supervisor."""

    def __init__(self, signal: Signal, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._signal = signal
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._owners: tuple[int, ...] = ()
        self._looked_at = monotonic()
        self._standstills = 0

    # -- the supervisor's side

    def open(
        self,
        worker_id: str,
        *,
        sha: str,
        instance: int,
        credential_hash: str,
        role: Role = Role.STANDBY,
        epoch: int | None = None,
        adopted: bool = False,
    ) -> None:
        """Expect a worker: from now on its credential is known. Does nothing when it is open already.

        A worker that is adopted is opened with the role that it has, so that announcing itself changes nothing; it
        was up before, so its beats are waited for from now on.
        """
        session = Session(
            worker_id,
            sha,
            instance,
            credential_hash,
            grant=RoleGrant(role=role, epoch=epoch),
            heard_since=self._monotonic() if adopted else None,
        )
        with self._lock:
            self._sessions.setdefault(worker_id, session)

    def all(self) -> list[Session]:
        """Every worker that is expected."""
        with self._lock:
            return list(self._sessions.values())

    def close(self, worker_id: str) -> None:
        """Forget a worker; its credential is worth nothing any more."""
        with self._lock:
            self._sessions.pop(worker_id, None)
        self._wake(worker_id)

    def get(self, worker_id: str) -> Session | None:
        """What is known of a worker now."""
        with self._lock:
            return self._sessions.get(worker_id)

    def assign(
        self,
        worker_id: str,
        role: Role,
        *,
        epoch: int | None = None,
        deadline_seconds: float | None = None,
        kept: bool | None = None,
    ) -> None:
        """Give a worker a role; its open stream tells it at once."""
        with self._lock:
            session = self._sessions.get(worker_id)
            if session is None:
                return
            serial = session.grant.serial + 1
            grant = RoleGrant(role=role, epoch=epoch, serial=serial, deadline_seconds=deadline_seconds, kept=kept)
            self._sessions[worker_id] = replace(session, grant=grant)
        self._wake(worker_id)

    def forgive_silence(self) -> None:
        """Count from now again: the supervisor itself was not listening for a while."""
        with self._lock:
            self._forgive_silence()

    def look(self) -> int:
        """Notice that nobody looked for a while, as when the machine stood still, and forgive the silence in it.

        Whoever judges workers by their silence looks first. Gives how often silence was forgiven so far.
        """
        with self._lock:
            now = self._monotonic()
            if now - self._looked_at > OWN_SILENCE_SECONDS:
                self._standstills += 1
                self._forgive_silence()
            self._looked_at = now
            return self._standstills

    def keep_looking(self, stopping: threading.Event) -> None:
        """Look all the time, until ``stopping``; meant for a thread.

        So a judge who was busy with something else is told from a machine that stood still.
        """
        while not stopping.wait(OWN_SILENCE_SECONDS / 4):
            self.look()

    def set_owners(self, owners: tuple[int, ...]) -> None:
        """Who may use the bot, told to workers as they announce themselves."""
        with self._lock:
            self._owners = owners

    # -- the workers' side

    def authenticate(self, credential: str) -> str | None:
        """The worker that this credential was made for."""
        hashed = credential_hash(credential)
        with self._lock:
            return next((s.worker_id for s in self._sessions.values() if s.credential_hash == hashed), None)

    def announce(self, worker_id: str, announcement: Announcement) -> Welcome | Problem:
        """A worker says what it is; a wrong sha is remembered as its problem and refused."""
        with self._lock:
            session = self._sessions.get(worker_id)
            if session is None:
                return Problem(code="unknown_worker", reason="this worker is not expected any more")
            problem = ""
            if announcement.sha != session.sha:
                problem = f"it says that it is {announcement.sha[:12]!r}, and was started as {session.sha[:12]!r}"
            session = replace(session, announcement=announcement, problem=problem)
            self._sessions[worker_id] = session
            owners = list(self._owners)
        self._signal.notify()
        if problem:
            return Problem(code="sha_mismatch", reason=problem)
        return Welcome(instance=session.instance, beat_seconds=BEAT_SECONDS, grant=session.grant, owners=owners)

    def beat(self, worker_id: str, beat: Beat) -> RoleGrant | None:
        """A worker is alive; gives its role, None when it is not expected any more."""
        with self._lock:
            session = self._sessions.get(worker_id)
            if session is None:
                return None
            now = self._monotonic()
            self._sessions[worker_id] = replace(session, beat=beat, last_beat=now, heard_since=now)
            changed = beat.state != session.beat.state or beat.polls_ok != session.beat.polls_ok
            grant = session.grant
        if changed or session.last_beat is None:
            self._signal.notify()
        return grant

    def listen(self, worker_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called on each change of a worker's role, from any thread; gives what ends it."""
        with self._lock:
            self._listeners.setdefault(worker_id, []).append(wake)

        def stop() -> None:
            with self._lock:
                self._listeners[worker_id].remove(wake)
            # A stream that ends is often the first sign of a dead worker.
            self._signal.notify()

        return stop

    def _forgive_silence(self) -> None:
        """Under the lock."""
        now = self._monotonic()
        for worker_id, session in self._sessions.items():
            if session.heard_since is not None:
                self._sessions[worker_id] = replace(session, heard_since=now)

    def _wake(self, worker_id: str) -> None:
        with self._lock:
            listeners = list(self._listeners.get(worker_id, ()))
        for wake in listeners:
            wake()
        self._signal.notify()
