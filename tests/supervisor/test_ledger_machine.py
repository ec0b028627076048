"""Whatever is tried, in whatever order: no illegal move, and no status without its events."""

import shutil
import tempfile
import threading
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from supervisor.contract import EventType
from supervisor.ledger import BadColumns, IllegalMove, Ledger, LostRace, NewUpdate, Origin
from supervisor.states import TRANSITIONS, Status

ANY_STATUS = st.sampled_from(Status)
LEGAL = sorted(TRANSITIONS)
CHOICE = st.integers(0, 5)  # of the ways on; drawn without looking at the state, which a race may change either way


def restored_by(target: Status) -> str | None:
    return "0" * 40 if target is Status.ROLLED_BACK else None


class LedgerMachine(RuleBasedStateMachine):
    """Two writers on one file, held against a model of a dictionary and a list of events for each update."""

    updates = Bundle("updates")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.writers = [Ledger(self.directory / "supervisor.db") for _ in range(2)]
        self.status: dict[str, Status] = {}
        self.told: dict[str, list[tuple[EventType, Status, Status]]] = {}

    def teardown(self) -> None:
        for writer in self.writers:
            writer.close()
        shutil.rmtree(self.directory)

    def expect(self, tx_id: str, source: Status, target: Status) -> None:
        self.status[tx_id] = target
        events = list(TRANSITIONS[source, target])
        if target is Status.ROLLED_BACK:
            events.append(EventType.REVISION_PROMOTED)
        self.told[tx_id] += [(event, source, target) for event in events]

    @initialize(target=updates)
    def begin(self) -> str:
        return self.submit(0)

    @rule(target=updates, writer=st.integers(0, 1))
    def create(self, writer: int) -> str:
        return self.submit(writer)

    def submit(self, writer: int) -> str:
        update = self.writers[writer].create(NewUpdate(origin=Origin.CLI))
        self.status[update.tx_id] = Status.CREATED
        self.told[update.tx_id] = []
        return update.tx_id

    @rule(tx_id=updates, writer=st.integers(0, 1), move=st.tuples(ANY_STATUS, ANY_STATUS))
    def move_anywhere(self, tx_id: str, writer: int, move: tuple[Status, Status]) -> None:
        self.try_move(tx_id, writer, *move)

    @rule(tx_id=updates, writer=st.integers(0, 1), choice=CHOICE)
    def move_on(self, tx_id: str, writer: int, choice: int) -> None:
        """The legal ways on from where it is, so that the later states are met, too."""
        if way := self.way_on(tx_id, choice):
            self.try_move(tx_id, writer, *way)

    def way_on(self, tx_id: str, choice: int) -> tuple[Status, Status] | None:
        ways = [pair for pair in LEGAL if pair[0] is self.status[tx_id]]
        return ways[choice % len(ways)] if ways else None

    def try_move(self, tx_id: str, writer: int, source: Status, target: Status) -> None:
        move = partial(self.writers[writer].move, tx_id, source, target, restored=restored_by(target))
        if (source, target) not in TRANSITIONS:
            with pytest.raises(IllegalMove):
                move()
        elif source is not self.status[tx_id]:
            with pytest.raises(LostRace) as lost:
                move()
            assert lost.value.actual is self.status[tx_id]
        else:
            assert move().status is target
            self.expect(tx_id, source, target)

    @rule(tx_id=updates, column=st.sampled_from(["status", "event_id", "sha", "card", "nonsense"]))
    def amend(self, tx_id: str, column: str) -> None:
        if column in {"sha", "card"}:
            self.writers[0].amend(tx_id, {column: "promoted"})
        else:
            with pytest.raises(BadColumns):
                self.writers[0].amend(tx_id, {column: "promoted"})

    @rule(tx_id=updates, choices=st.tuples(CHOICE, CHOICE))
    def race(self, tx_id: str, choices: tuple[int, int]) -> None:
        """Both writers want to move it on at the same time: one does, the other is told."""
        wanted = [way for choice in choices if (way := self.way_on(tx_id, choice))]
        if not wanted:
            return
        won: list[tuple[Status, Status]] = []
        lost: list[LostRace] = []
        start = threading.Barrier(2, timeout=20)

        def run(writer: Ledger, source: Status, target: Status) -> None:
            start.wait()
            try:
                writer.move(tx_id, source, target, restored=restored_by(target))
                won.append((source, target))
            except LostRace as told:
                lost.append(told)

        pairs = zip(self.writers, wanted, strict=True)
        threads = [threading.Thread(target=run, args=(writer, *move)) for writer, move in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 1)
        assert lost[0].actual is won[0][1]
        self.expect(tx_id, *won[0])

    @rule(writer=st.integers(0, 1))
    def restart(self, writer: int) -> None:
        self.writers[writer].close()
        self.writers[writer] = Ledger(self.directory / "supervisor.db")

    @invariant()
    def rows_and_events_are_as_told(self) -> None:
        ledger = self.writers[0]
        rows = ledger.updates()
        assert {row.tx_id: row.status for row in rows} == self.status
        for row in rows:
            events = ledger.events(parent_id=row.event_id)
            payloads = [event.payload for event in events]
            assert [
                (event.event_type, told["status_from"], told["status_to"])
                for event, told in zip(events, payloads, strict=True)
            ] == self.told[row.tx_id]
            assert all(told["tx_id"] == row.tx_id for told in payloads)


LedgerMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_no_illegal_move_and_no_status_without_its_events = LedgerMachine.TestCase
