"""What a person may decide: every decision in every state, twice, and by two people at once."""

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import AmbiguousPrefix, Blame, Ledger, LostRace, UnknownUpdate, Update
from supervisor.states import Status
from supervisor.updates.decisions import Decided, Decisions, Refusal
from tests.supervisor.fakes.updates import genesis, update_in

S = Status
NOW = 1_800_000_000.0

#: For an update on the good revision: the state that a decision leads to, "already", or why it is refused.
APPROVE: dict[Status, Status | str] = {
    S.CREATED: "only a staged one can be approved",
    S.BUILDING: "only a staged one can be approved",
    S.TESTING: "only a staged one can be approved",
    S.SELF_CHECKING: "only a staged one can be approved",
    S.STAGED: S.APPROVED,
    S.APPROVED: "already",
    S.DEPLOYING: "already",
    S.DEPLOYED_UNSTABLE: "already",
    S.PROMOTED: "already",
    S.REFUSED: "only a staged one can be approved",
    S.BUILD_FAILED: "only a staged one can be approved",
    S.TEST_FAILED: "only a staged one can be approved",
    S.SELF_CHECK_FAILED: "only a staged one can be approved",
    S.CANCELLED: "only a staged one can be approved",
    S.SUPERSEDED: "only a staged one can be approved",
    S.DEPLOY_FAILED: "only a staged one can be approved",
    S.ROLLBACK_PENDING: "only a staged one can be approved",
    S.ROLLED_BACK: "only a staged one can be approved",
}
CANCEL: dict[Status, Status | str] = {
    S.CREATED: S.CANCELLED,
    S.BUILDING: S.CANCELLED,
    S.TESTING: S.CANCELLED,
    S.SELF_CHECKING: S.CANCELLED,
    S.STAGED: S.CANCELLED,
    S.APPROVED: S.CANCELLED,
    S.DEPLOYING: "cannot be cancelled any more",
    S.DEPLOYED_UNSTABLE: "cannot be cancelled any more",
    S.PROMOTED: "cannot be cancelled any more",
    S.REFUSED: "cannot be cancelled any more",
    S.BUILD_FAILED: "cannot be cancelled any more",
    S.TEST_FAILED: "cannot be cancelled any more",
    S.SELF_CHECK_FAILED: "cannot be cancelled any more",
    S.CANCELLED: "already",
    S.SUPERSEDED: "cannot be cancelled any more",
    S.DEPLOY_FAILED: "cannot be cancelled any more",
    S.ROLLBACK_PENDING: "cannot be cancelled any more",
    S.ROLLED_BACK: "cannot be cancelled any more",
}
ROLL_BACK: dict[Status, Status | str] = {
    S.CREATED: "not active",
    S.BUILDING: "not active",
    S.TESTING: "not active",
    S.SELF_CHECKING: "not active",
    S.STAGED: "not active",
    S.APPROVED: "not active",
    S.DEPLOYING: "not active",
    S.DEPLOYED_UNSTABLE: S.ROLLBACK_PENDING,
    S.PROMOTED: S.ROLLBACK_PENDING,
    S.REFUSED: "not active",
    S.BUILD_FAILED: "not active",
    S.TEST_FAILED: "not active",
    S.SELF_CHECK_FAILED: "not active",
    S.CANCELLED: "not active",
    S.SUPERSEDED: "not active",
    S.DEPLOY_FAILED: "not active",
    S.ROLLBACK_PENDING: "already",
    S.ROLLED_BACK: "already",
}
Decide = Callable[[Decisions, str], Decided]
TABLES: dict[str, tuple[Decide, dict[Status, Status | str]]] = {
    "approve": (lambda decisions, tx: decisions.approve(tx, by="owner"), APPROVE),
    "cancel": (lambda decisions, tx: decisions.cancel(tx), CANCEL),
    "rollback": (lambda decisions, tx: decisions.rollback(tx), ROLL_BACK),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db") as opened:
        yield opened


@pytest.fixture
def decisions(ledger: Ledger) -> Decisions:
    return Decisions(ledger, clock=lambda: NOW)


@pytest.fixture
def first(ledger: Ledger) -> Update:
    return genesis(ledger)


def test_the_tables_are_whole() -> None:
    """Every state is in each of them."""
    for _, table in TABLES.values():
        assert set(table) == set(Status)


def answer(decide: Callable[[], Decided]) -> Decided | str:
    """What a person is told: what was decided, or the one line of the refusal."""
    try:
        return decide()
    except Refusal as refusal:
        return str(refusal)


@pytest.mark.fault(
    36,
    what="refused, in every state but those with something to take back",
    user="the active one is named",
    within="at once",
)
@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("decision", TABLES)
def test_every_decision_in_every_state(
    ledger: Ledger, decisions: Decisions, first: Update, decision: str, status: Status
) -> None:
    """It moves the update, says that it is done already, or is refused in one line. Once more, it changes nothing."""
    decide, table = TABLES[decision]
    update = update_in(ledger, status, base=first)
    before = len(ledger.events())
    told = answer(lambda: decide(decisions, update.tx_id))
    match table[status]:
        case Status() as target:
            assert isinstance(told, Decided)
            assert (told.tx_id, told.status, told.already) == (update.tx_id, target, False)
            assert ledger.find(update.tx_id).status is target
            assert len(ledger.events()) == before + 1
        case "already":
            assert isinstance(told, Decided)
            assert (told.status, told.already) == (status, True)
            assert "already" in told.message
        case reason:
            assert isinstance(told, str)
            assert "\n" not in told
            for part in (str(reason), update.tx_id[:8], str(status)):
                assert part in told
    if not isinstance(table[status], Status):
        assert ledger.find(update.tx_id) == update
        assert len(ledger.events()) == before
    settled = ledger.find(update.tx_id), len(ledger.events())
    again = answer(lambda: decide(decisions, update.tx_id))
    assert (ledger.find(update.tx_id), len(ledger.events())) == settled
    assert (again == told) if isinstance(told, str) else (isinstance(again, Decided) and again.already)


# -- approve


def test_an_approval_says_who_when_and_what(ledger: Ledger, decisions: Decisions, first: Update) -> None:
    """By whom, the time, and the digest that was shown; in the row and in the event."""
    update = update_in(ledger, S.STAGED, base=first)
    decisions.approve(update.tx_id, by="telegram:42")
    approved = ledger.find(update.tx_id)
    assert (approved.approval_by, approved.approval_at, approved.approval_digest) == (
        "telegram:42",
        NOW,
        update.digest,
    )
    event = ledger.events(EventType.UPDATE_APPROVED)[0]
    assert (event.payload["by"], event.payload["digest"]) == ("telegram:42", update.digest)


def test_an_update_on_another_base_is_not_approved(ledger: Ledger, decisions: Decisions, first: Update) -> None:
    """It would take back what was promoted since."""
    update = update_in(ledger, S.STAGED, base=first)
    update_in(ledger, S.PROMOTED, base=first)
    with pytest.raises(Refusal, match="made for another base; submit it again"):
        decisions.approve(update.tx_id, by="owner")


# -- roll back


def test_the_first_revision_has_nothing_before_it(decisions: Decisions, first: Update) -> None:
    """There is nothing to go back to."""
    with pytest.raises(Refusal, match="nothing before it to go back to"):
        decisions.rollback(first.tx_id)


def test_a_rollback_of_what_is_not_active_names_what_is(ledger: Ledger, decisions: Decisions, first: Update) -> None:
    """So that whoever mistook it can go on."""
    older = update_in(ledger, S.PROMOTED, base=first)
    newer = update_in(ledger, S.PROMOTED, base=older)
    with pytest.raises(Refusal, match=f"not active; {newer.tx_id[:8]} is"):
        decisions.rollback(older.tx_id)


def test_an_update_in_probation_is_the_active_one(ledger: Ledger, decisions: Decisions, first: Update) -> None:
    """The promoted one under it cannot be taken back while it is."""
    promoted = update_in(ledger, S.PROMOTED, base=first)
    unstable = update_in(ledger, S.DEPLOYED_UNSTABLE, base=promoted)
    with pytest.raises(Refusal, match=f"{unstable.tx_id[:8]} is"):
        decisions.rollback(promoted.tx_id)
    assert decisions.rollback(unstable.tx_id).status is S.ROLLBACK_PENDING


def test_a_rollback_by_a_person_is_blamed_on_nobody(ledger: Ledger, decisions: Decisions, first: Update) -> None:
    """It is told apart from one that the update brought upon itself."""
    update = update_in(ledger, S.PROMOTED, base=first)
    decisions.rollback(update.tx_id)
    assert ledger.find(update.tx_id).blame is Blame.PERSON


def test_after_a_rollback_the_one_before_can_be_taken_back(ledger: Ledger, decisions: Decisions, first: Update) -> None:
    """Step by step, down to the first revision."""
    older = update_in(ledger, S.PROMOTED, base=first)
    newer = update_in(ledger, S.PROMOTED, base=older)
    decisions.rollback(newer.tx_id)
    ledger.move(newer.tx_id, S.ROLLBACK_PENDING, S.ROLLED_BACK, restored=older.sha)
    assert decisions.rollback(newer.tx_id).already
    assert decisions.rollback(older.tx_id).status is S.ROLLBACK_PENDING


# -- which update


@pytest.mark.parametrize("decision", TABLES)
def test_any_unique_beginning_of_the_id_will_do(
    ledger: Ledger, decisions: Decisions, first: Update, decision: str
) -> None:
    """What is unknown or ambiguous is told, before anything is decided."""
    decide, _ = TABLES[decision]
    update = update_in(ledger, S.STAGED, base=first)
    with pytest.raises(UnknownUpdate):
        decide(decisions, "zzzz")
    others = [update_in(ledger, S.STAGED, base=first).tx_id for _ in range(16)]
    ambiguous = next(digit for digit in "0123456789abcdef" if sum(tx.startswith(digit) for tx in others) > 1)
    with pytest.raises(AmbiguousPrefix):
        decide(decisions, ambiguous)
    if decision != "rollback":
        assert decide(decisions, update.tx_id[:13]).tx_id == update.tx_id


# -- at once


def race(*decide: Callable[[], Decided]) -> list[Decided | Refusal]:
    """What each of several deciders was told, who all began at the same moment."""
    answers: list[Decided | Refusal] = []
    barrier = threading.Barrier(len(decide))

    def run(one: Callable[[], Decided]) -> None:
        barrier.wait()
        try:
            answers.append(one())
        except Refusal as refusal:
            answers.append(refusal)

    threads = [threading.Thread(target=run, args=(one,)) for one in decide]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(decide)
    return answers


@pytest.mark.fault(
    35,
    what="one of them does it",
    user="the other is told that it is done already",
    within="at once",
)
@pytest.mark.parametrize("decision", TABLES)
def test_of_many_who_decide_the_same_one_does_it(
    ledger: Ledger, decisions: Decisions, first: Update, decision: str
) -> None:
    """All are told that it is done, one of them that it was the one; there is one event."""
    decide, _ = TABLES[decision]
    for _ in range(5):
        update = update_in(ledger, S.DEPLOYED_UNSTABLE if decision == "rollback" else S.STAGED, base=first)
        before = len(ledger.events())
        answers = race(*[lambda tx=update.tx_id: decide(decisions, tx)] * 4)
        assert [isinstance(answer, Decided) and answer.already for answer in answers].count(False) == 1
        assert len(ledger.events()) == before + 1


def test_of_approve_and_cancel_at_once_each_is_told_the_truth(
    ledger: Ledger, decisions: Decisions, first: Update
) -> None:
    """Cancelled before or after the approval: either way it ends cancelled, and no event contradicts another."""
    for _ in range(10):
        update = update_in(ledger, S.STAGED, base=first)
        approved, cancelled = None, None
        for answer in race(
            lambda tx=update.tx_id: decisions.approve(tx, by="owner"),  # type: ignore[misc]
            lambda tx=update.tx_id: decisions.cancel(tx),  # type: ignore[misc]
        ):
            if isinstance(answer, Decided) and answer.status is S.CANCELLED:
                cancelled = answer
            else:
                approved = answer
        assert cancelled is not None
        assert ledger.find(update.tx_id).status is S.CANCELLED
        events = [event.event_type for event in ledger.events(parent_id=update.event_id)][-2:]
        if isinstance(approved, Refusal):
            assert EventType.UPDATE_APPROVED not in events
        else:
            assert events == [EventType.UPDATE_APPROVED, EventType.UPDATE_CANCELLED]


def test_an_update_that_moves_on_meanwhile_is_decided_on_as_it_is(ledger: Ledger, first: Update) -> None:
    """A pipeline that goes through its steps under a cancel does not make it fail."""
    decisions = Decisions(ledger)
    steps = [S.CREATED, S.BUILDING, S.TESTING, S.SELF_CHECKING, S.STAGED]
    for _ in range(5):
        update = update_in(ledger, S.CREATED, base=first)

        def advance(tx_id: str = update.tx_id) -> Decided:
            for source, target in pairwise(steps):
                try:
                    ledger.move(tx_id, source, target)
                except LostRace:
                    break
            return Decided(tx_id, ledger.find(tx_id).status, "")

        race(advance, lambda tx=update.tx_id: decisions.cancel(tx))  # type: ignore[misc]
        assert ledger.find(update.tx_id).status is S.CANCELLED


def test_an_update_whose_probation_begins_under_a_rollback_is_rolled_back(
    ledger: Ledger, first: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was being deployed when it was looked up, and is the active one when that is asked for."""
    update = update_in(ledger, S.DEPLOYING, base=first)
    look = ledger.first

    def begins(*statuses: Status) -> Update | None:
        if ledger.find(update.tx_id).status is S.DEPLOYING:
            ledger.move(update.tx_id, S.DEPLOYING, S.DEPLOYED_UNSTABLE)
        return look(*statuses)

    monkeypatch.setattr(ledger, "first", begins)
    assert Decisions(ledger).rollback(update.tx_id).status is S.ROLLBACK_PENDING
