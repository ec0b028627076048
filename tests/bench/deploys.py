"""Deploys and ways back, under load: how long nobody polls, what happens to messages, how soon N-1 answers."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from supervisor.contract import EventType
from supervisor.engine import Engine
from supervisor.ledger import Ledger, Update
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.faults import Poll
from supervisor.states import Status
from tests.bench.figures import By, Figure, count, seconds
from tests.bench.load import Asked, Load, ask, outcomes
from tests.bench.pipeline import one_line
from tests.support.checkouts import patch_of
from tests.support.installation import Installation, wait_for

#: Long enough for a wedge to be noticed in it.
PROBATION_SECONDS = 10
_PER_SECOND = 5.0
_SETTLE_SECONDS = 1.0
_ADDED_WAIT_SECONDS = 0.3
#: Around a blow an answer may be accepted by the Bot API and not be recorded by the worker any more.
_COMMIT_SECONDS = 0.1


#: The steps from one worker's last poll to the next one's first, and what each ends with.
_HAND_OVER = ("drained", "lease granted", "active", "first poll")
#: Those from a kill to N-1's first answer.
_WAY_BACK = ("noticed", "lease granted", "answered")


@dataclass
class _Seen:
    """What all cycles gave, in seconds."""

    gaps: list[float] = field(default_factory=list)
    hand_overs: list[tuple[float, ...]] = field(default_factory=list)  # each step of one, see _HAND_OVER
    fall_backs: list[float] = field(default_factory=list)
    ways_back: list[tuple[float, ...]] = field(default_factory=list)  # each step of one, see _WAY_BACK
    wedges: list[float] = field(default_factory=list)
    wedges_over: list[float] = field(default_factory=list)
    calm: list[Asked] = field(default_factory=list)
    planned: list[Asked] = field(default_factory=list)
    unplanned: list[Asked] = field(default_factory=list)
    uncommitted: int = 0  # answered twice, the first time within the blow

    def unplanned_outcomes(self, asked: Sequence[Asked], since: float, until: float) -> None:
        """Keep what became of messages around a blow that fell between two times."""
        self.unplanned += asked
        window = (since - _COMMIT_SECONDS, until + _COMMIT_SECONDS)
        self.uncommitted += sum(one.twice and window[0] <= one.answers[0] <= window[1] for one in asked)


class Deploys:
    """Cycles on one installation: each deploys another patch over the same base and ends back on it."""

    def __init__(self, installation: Installation, engine: Engine) -> None:
        self._installation = installation
        self._engine = engine
        self._ledger = Ledger.read_only(installation.paths.ledger)
        self._bot = LocalBotClient(installation.paths.localbot_user_socket)
        self._number = 0
        self._seen = _Seen()

    def measure(self, *, planned: int, killed: int, wedged: int, say: Callable[[str], None]) -> list[Figure]:
        """Run so many cycles of each kind."""
        self._calm()
        cycles: list[tuple[int, str, Callable[[], None]]] = [
            (planned, "deployed, rolled back by a person", self._planned),
            (killed, "deployed, green killed in its probation", self._killed),
            (wedged, "deployed, green frozen in its probation", self._wedged),
        ]
        for number, what, cycle in cycles:
            for done in range(1, number + 1):
                say(f"  {done} of {number}: {what}")
                cycle()
        with self._bot:
            return _figures(self._seen)

    # -- the cycles

    def _calm(self) -> None:
        """What a message waits for when nothing else happens."""
        with self._load() as load:
            time.sleep(5)
        self._seen.calm += outcomes(self._bot, load.chats)

    def _planned(self) -> None:
        tx = self._stage()
        with self._load() as load:
            self._deploy(tx)
            since = time.time()
            self._installation.run("rollback", tx).expect(0)
            self._await(tx, Status.ROLLED_BACK)
            time.sleep(_SETTLE_SECONDS)
            self._note_hand_over(since)
        self._seen.planned += outcomes(self._bot, load.chats)
        self._alone()

    def _killed(self) -> None:
        tx = self._stage()
        with self._load() as load:
            self._deploy(tx)
            pid = self._green(tx)["State"]["Pid"]
            killed_at = time.time()
            os.kill(pid, signal.SIGKILL)
            dead_at = time.time()
            chat = ask(self._bot)
            update = self._await(tx, Status.ROLLED_BACK)
        (probe,) = outcomes(self._bot, [chat])
        answered_at = probe.answers[0] if probe.answers else float("inf")
        self._seen.fall_backs.append(answered_at - killed_at)
        noticed_at = self._event(update, EventType.UPDATE_ROLLBACK_STARTED)
        granted_at = self._ledger.events(EventType.LEASE_GRANTED, newest_first=True, limit=1)[0].timestamp
        self._seen.ways_back.append(_steps(killed_at, noticed_at, granted_at, answered_at))
        self._seen.unplanned_outcomes([probe, *outcomes(self._bot, load.chats)], killed_at, dead_at)
        self._alone()

    def _wedged(self) -> None:
        tx = self._stage()
        with self._load() as load:
            self._deploy(tx)
            green = self._green(tx)["Id"]
            wedged_at = time.time()
            self._installation.docker.pause(green)
            frozen_at = time.time()
            update = self._await(tx, Status.ROLLED_BACK)
        self._seen.wedges.append(self._event(update, EventType.UPDATE_ROLLBACK_STARTED) - wedged_at)
        self._seen.wedges_over.append(self._event(update, EventType.UPDATE_ROLLBACK_COMPLETED) - wedged_at)
        self._seen.unplanned_outcomes(outcomes(self._bot, load.chats), wedged_at, frozen_at)
        self._alone()

    # -- inside

    def _load(self) -> Load:
        return Load(self._installation.paths.localbot_user_socket, per_second=_PER_SECOND)

    def _stage(self) -> str:
        self._number += 1
        path, text = one_line(self._installation.checkout, f"deploy {self._number}")
        return self._installation.stage(patch_of(self._installation.checkout, {path: text}))

    def _deploy(self, tx: str) -> None:
        since = time.time()
        self._installation.run("approve", tx).expect(0)
        self._await(tx, Status.DEPLOYED_UNSTABLE)
        time.sleep(_SETTLE_SECONDS)
        self._note_hand_over(since)

    def _await(self, tx: str, status: Status) -> Update:
        """The update in this status. Any other end fails the bench: its figures would mean something else."""
        on_the_way = {Status.APPROVED, Status.DEPLOYING, Status.DEPLOYED_UNSTABLE, Status.ROLLBACK_PENDING}

        def look() -> Update | None:
            update = self._ledger.find(tx)
            assert update.status in {*on_the_way, status}, f"{update.status}: {update.last_error}"
            return update if update.status is status else None

        found = wait_for(look, 60, f"update {tx[:8]} {status}")
        assert found is not None
        return found

    def _green(self, tx: str) -> dict[str, dict[str, int]]:
        worker = next(row for row in self._ledger.living_workers() if row.tx_id == tx)
        return self._installation.inspect(worker.worker_id)

    def _alone(self) -> None:
        """Green is put away; the next cycle begins like this one did."""
        wait_for(lambda: len(self._ledger.living_workers()) == 1, 30, "blue alone")

    def _event(self, update: Update, kind: EventType) -> float:
        """When an event of an update was written, in seconds since the epoch."""
        return self._ledger.events(kind, parent_id=update.event_id)[0].timestamp

    def _note_hand_over(self, since: float) -> None:
        """The one planned hand-over since then, as the Bot API and the ledger saw it."""
        found = _gaps([poll for poll in self._bot.polls() if (poll.ended or since) >= since])
        self._seen.gaps += [begun - ended for ended, begun in found]
        kinds = (EventType.WORKER_DRAINED, EventType.LEASE_GRANTED, EventType.WORKER_ACTIVATED)
        events = [event for event in self._ledger.events(*kinds, newest_first=True, limit=9) if event.timestamp > since]
        if len(found) == 1 and [event.event_type for event in reversed(events)] == list(kinds):
            ((ended, begun),) = found
            self._seen.hand_overs.append(_steps(ended, *(event.timestamp for event in reversed(events)), begun))


def _steps(*moments: float) -> tuple[float, ...]:
    """What passes between each of them and the next; below 0 where the next one came first."""
    return tuple(after - before for before, after in pairwise(moments))


def _dominates(names: Sequence[str], steps: Sequence[tuple[float, ...]]) -> str:
    """The median of each step, the longest of which is what the whole is made of."""
    medians = [By.MEDIAN.of(of_one) for of_one in zip(*steps, strict=True)]
    longest = max(medians, default=0.0)
    told = [
        f"{name} +{seconds(median)}{' (dominates)' if median == longest else ''}"
        for name, median in zip(names, medians, strict=False)
    ]
    return f"medians of {len(steps)}: {', '.join(told)}"


def _gaps(polls: Sequence[Poll]) -> list[tuple[float, float]]:
    """The end of one worker's last poll and the start of the next worker's first, which is before it if both polled."""
    return [
        (before.ended, after.started)
        for before, after in pairwise(polls)
        if _pid(before) != _pid(after) and before.ended is not None
    ]


def _pid(poll: Poll) -> str:
    return poll.mark.partition(".")[0]


def _figures(seen: _Seen) -> list[Figure]:
    everything = [*seen.calm, *seen.planned, *seen.unplanned]
    usual = By.MEDIAN.of([asked.waited for asked in seen.calm if asked.answers])
    handovers = len(seen.gaps)
    figures = [
        Figure(
            "messages lost",
            (sum(not asked.answers for asked in everything),),
            count,
            f"of {len(everything)}, {_PER_SECOND:g} a second, over {handovers} planned hand-overs, "
            f"{len(seen.fall_backs)} kills and {len(seen.wedges)} wedges of green",
            limit=0,
        ),
        Figure(
            "answered twice",
            (sum(asked.twice for asked in everything) - seen.uncommitted,),
            count,
            "of the same messages, all but those of the next row",
            limit=0,
        ),
        Figure(
            "answered twice, not yet committed",
            (seen.uncommitted,),
            count,
            f"the first answer was accepted within {seconds(_COMMIT_SECONDS)} of green's end, where its commit may "
            "be missing",
        ),
    ]
    if seen.gaps and seen.hand_overs:
        figures += [
            Figure(
                "time with no active worker",
                tuple(seen.gaps),
                seconds,
                f"end of one worker's last poll to start of the next one's first, as the Bot API saw it, under load; "
                f"deploys and rollbacks; shortest {seconds(min(seen.gaps))}; {_dominates(_HAND_OVER, seen.hand_overs)}",
                limit=0.05,
                by=By.P99,
            ),
            Figure(
                "lease granted to worker active",
                tuple(steps[_HAND_OVER.index("active")] for steps in seen.hand_overs),
                seconds,
                "lease.granted to worker.activated in the ledger, same hand-overs: told, epoch raised, answered",
                by=By.P95,
            ),
            Figure(
                "longest added wait of a message",
                (max(asked.waited for asked in seen.planned if asked.answers) - usual,),
                seconds,
                f"in planned hand-overs, beyond the usual {seconds(usual)}; runs are as short as the offline model's",
                limit=_ADDED_WAIT_SECONDS,
            ),
        ]
    if seen.fall_backs:
        figures += [
            Figure(
                "N-1 answers after green was killed",
                tuple(seen.fall_backs),
                seconds,
                "SIGKILL of green's process in probation to the answer to a message sent right then; "
                f"{_dominates(_WAY_BACK, seen.ways_back)}",
                limit=0.5,
                by=By.P95,
            )
        ]
    if seen.wedges:
        figures += [
            Figure(
                "a wedged green noticed",
                tuple(seen.wedges),
                seconds,
                "container paused in probation to update.rollback.started; back on blue after "
                f"{seconds(By.MEDIAN.of(seen.wedges_over))} (median)",
                limit=5.0,
                by=By.MOST,
            )
        ]
    return figures
