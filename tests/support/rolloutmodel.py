"""Whatever a person, a bad revision, a fault or the clock does, in any order: how an installation has to end.

One machine of rules for Hypothesis, over a world that is either the stateful fakes or an installation on the real
engine.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from supervisor.states import Status
from tests.support.moves import Move, told

GOOD = "good"
#: Each way in which a revision that passed its gates is a bad one.
BAD = ("exits at once", "exits in its probation")
#: Where an update may rest when nothing is on its way.
_AT_REST = {"staged", "cancelled", "superseded", "promoted", "rolled_back", "deploy_failed"}


@dataclass(frozen=True)
class Rest:
    """An installation in which nothing is on its way."""

    active: str  # the revisions, by their updates; the first one is ""
    standby: str | None
    good: str
    base_of_good: str | None


class World(Protocol):
    """An installation, as the rules see it. An update is named by its id."""

    def stage(self, kind: str) -> str:
        """An update of this kind on the good revision, through its gates; "" when that cannot be done now."""

    def approve(self, update: str) -> bool:
        """Whether it was, or had been before."""

    def cancel(self, update: str) -> bool:
        """The same."""

    def roll_back(self, update: str) -> bool:
        """The same."""

    def status(self, update: str) -> str:
        """Where it is."""

    def why(self, update: str) -> str:
        """What it ended with."""

    def history(self, update: str) -> list[Move]:
        """All that the events tell of its status, each as often as it was written."""

    def kill_supervisor(self, after: int) -> None:
        """It dies after so many more changes that it makes, or now; then another one is started."""

    def crash_worker(self, which: int) -> None:
        """One of those that run dies."""

    def stop_machine(self) -> None:
        """Everything dies at once; then it is started again."""

    def wait(self, seconds: float) -> None:
        """Time passes."""

    def rest(self) -> Rest:
        """Once nothing is on its way any more. Fails the test when that never is."""

    def say(self) -> None:
        """Somebody writes. Fails the test when nobody takes it up."""

    def close(self) -> None:
        """The end of it. Fails the test when two were ever active at once."""


class ShakenWorld(World, Protocol):
    """One that has an engine and a clock to itself."""

    def lose_engine(self) -> None:
        """It does not answer for a moment, and what runs goes on."""

    def jump(self, hours: int) -> None:
        """The clock does."""


@dataclass
class _Known:
    kind: str
    approved: bool = False
    cancelled: bool = False
    taken_back: bool = False
    harmed: bool = False  # something was killed while it was on its way
    undermined: bool = False  # somebody went back while it was on its way, perhaps from its base


@dataclass
class Model:
    """What was done to each update so far, and how updates were seen to end."""

    updates: dict[str, _Known] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)

    def harm(self) -> None:
        """Something of the installation was killed."""
        for known in self.updates.values():
            known.harmed |= known.approved

    def may_end(self, update: str) -> set[str]:
        """Where this update may be, now that nothing is on its way."""
        known = self.updates[update]
        if known.cancelled:
            return {"cancelled"}
        if not known.approved:
            return {"staged", "superseded"}
        if known.kind != GOOD:
            return {"deploy_failed", "rolled_back", "superseded"}
        ends = {"promoted", "superseded"}
        if known.taken_back or known.harmed:
            ends |= {"rolled_back", "deploy_failed"}
        if known.undermined:
            ends |= {"deploy_failed"}
        return ends


class Rollouts(RuleBasedStateMachine):
    """The rules; ``make`` gives the world."""

    #: The longest that a supervisor may go on before it is killed, in changes.
    changes = 30

    def __init__(self) -> None:
        super().__init__()
        self.world: World = self.make()
        self.model = Model()

    def make(self) -> World:
        """A world with its first revision active."""
        raise NotImplementedError

    def teardown(self) -> None:
        try:
            self._look()
        finally:
            self.world.close()

    # What is simplest, the first of each choice, is what Hypothesis tries first.
    @initialize(kind=st.sampled_from((GOOD, *BAD)), after=st.sampled_from((4, None, 0, None, 9, None, 25)))
    def first_update(self, kind: str, after: int | None) -> None:
        """There is always one to decide about; it may be that the supervisor dies in its deploy."""
        self.update(kind)
        if after is not None:
            self.kill_supervisor(after)

    # -- what a person does

    @rule(kind=st.sampled_from((GOOD, GOOD, *BAD)))
    def update(self, kind: str) -> None:
        if (made := self.world.stage(kind)) != "":
            self.model.updates[made] = _Known(kind)
            self._approve(made)

    @rule()
    def stage(self) -> None:
        if (made := self.world.stage(GOOD)) != "":
            self.model.updates[made] = _Known(GOOD)

    @precondition(lambda self: self.model.updates)
    @rule(which=st.integers(0, 7))
    def approve(self, which: int) -> None:
        self._approve(self._one(self.model.updates, which))

    @precondition(lambda self: self.model.updates)
    @rule(which=st.integers(0, 7))
    def cancel(self, which: int) -> None:
        update = self._one(self.model.updates, which)
        if self.world.cancel(update):
            self.model.updates[update].cancelled = True
            assert self.world.cancel(update), "what is done already is no failure"
            assert self.world.status(update) == "cancelled"
            assert not self.world.approve(update), "approved after it was cancelled"

    @precondition(lambda self: self.model.updates)
    @rule(which=st.integers(0, 7))
    def roll_back(self, which: int) -> None:
        update = self._one(self.model.updates, which)
        known = self.model.updates
        under_way = [other for other in known if known[other].approved and self.world.status(other) not in _AT_REST]
        if self.world.roll_back(update):
            known[update].taken_back = True
            for other in under_way:
                known[other].undermined = True
            assert self.world.roll_back(update), "what is done already is no failure"

    # -- what happens

    @rule(after=st.integers(0, 30))
    def kill_supervisor(self, after: int) -> None:
        self.world.kill_supervisor(min(after, self.changes))

    @rule(which=st.integers(0, 3))
    def crash_worker(self, which: int) -> None:
        self.model.harm()
        self.world.crash_worker(which)

    @rule()
    def stop_machine(self) -> None:
        self.model.harm()
        self.world.stop_machine()

    @rule(seconds=st.sampled_from((0.02, 0.1, 0.4)))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule()
    def come_to_rest(self) -> None:
        self._look()

    # -- inside

    def _approve(self, update: str) -> None:
        known = self.model.updates[update]
        if self.world.approve(update):
            known.approved = True

    def _seen(self, update: str) -> tuple[str, list[Move]]:
        """Its status and its history, of one moment: what was staged on another base may be superseded meanwhile."""
        while True:
            before, moves = self.world.status(update), self.world.history(update)
            if self.world.status(update) == before:
                return before, moves

    @staticmethod
    def _one(updates: Collection[str], which: int) -> str:
        return sorted(updates)[which % len(updates)]

    def _look(self) -> None:
        rest = self.world.rest()
        assert rest.active == rest.good, "the active revision is not the good one"
        assert rest.standby == rest.base_of_good, "N-1 does not stand by"
        self.world.say()
        for update in self.model.updates:
            status, moves = self._seen(update)
            known = self.model.updates[update]
            assert status in _AT_REST
            assert status in self.model.may_end(update), f"{known} is {status}: {self.world.why(update)}"
            chain = list(dict.fromkeys(Status(target) for _, _, target in moves))
            assert moves == told(chain), "a move with a gap before it, or not told once"
            assert chain[-1] == status, "a status without its event"
            self.model.ends.add(status)


class ShakenRollouts(Rollouts):
    """The same, and what befalls the engine and the clock."""

    world: ShakenWorld

    def make(self) -> ShakenWorld:
        """A world with its first revision active."""
        raise NotImplementedError

    @rule()
    def lose_engine(self) -> None:
        self.world.lose_engine()

    @rule(hours=st.sampled_from((-1, 1)))
    def jump(self, hours: int) -> None:
        self.world.jump(hours)
