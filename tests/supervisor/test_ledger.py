"""The ledger seen from one process: updates, workers, the lease, owners, facts, events."""

import base64
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from peewee import IntegrityError

from supervisor.contract import EventType, Redactor
from supervisor.ledger import (
    AmbiguousPrefix,
    BadColumns,
    Blame,
    GenesisExists,
    IllegalMove,
    Ledger,
    LostRace,
    NewUpdate,
    NewWorker,
    NoRevision,
    Origin,
    UnknownUpdate,
    UnknownWorker,
    Update,
    WorkerGone,
)
from supervisor.states import Status

S = Status


class Clock:
    """A clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db", clock=clock) as opened:
        yield opened


TO_PROMOTED = [S.CREATED, S.BUILDING, S.TESTING, S.SELF_CHECKING, S.STAGED, S.APPROVED, S.DEPLOYING]
TO_PROMOTED += [S.DEPLOYED_UNSTABLE, S.PROMOTED]


def submit(ledger: Ledger, title: str = "", patch: bytes = b"patch") -> Update:
    return ledger.create(NewUpdate(origin=Origin.CLI, title=title, patch=patch, base_sha="b" * 40))


def take_to(ledger: Ledger, update: Update, target: Status, sha: str = "c" * 40) -> Update:
    for source, following in pairwise(TO_PROMOTED):
        if source is target:
            break
        update = ledger.move(update.tx_id, source, following, changes={"sha": sha})
    return update


def names(ledger: Ledger, update: Update) -> list[str]:
    return [event.event_type for event in ledger.events(parent_id=update.event_id)]


def test_create_records_the_submission_with_its_event(ledger: Ledger, clock: Clock) -> None:
    """The row holds what was submitted, and its event hangs under the given parent."""
    run = ledger.append(EventType.PROCESS_STARTED, {"role": "supervisor"})
    new = NewUpdate(origin=Origin.CHAT, patch=b"\0diff\xff", title="t", why="w", model="m", tokens=7, chat_id=42)
    update = ledger.create(new, parent_id=run)
    assert (update.status, update.origin, update.title, update.why) == (S.CREATED, Origin.CHAT, "t", "w")
    assert (update.model, update.tokens, update.chat_id, update.forced) == ("m", 7, 42, False)
    assert update.created_at == update.updated_at == clock.now
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", update.tx_id)
    assert ledger.patch(update.tx_id) == b"\0diff\xff"
    (created,) = ledger.events(parent_id=run)
    assert (created.id, created.event_type) == (update.event_id, "update.txn.created")
    assert created.payload["tx_id"] == update.tx_id
    assert created.payload["status_to"] == "created"


def test_move_changes_the_row_and_tells_it(ledger: Ledger, clock: Clock) -> None:
    """Status, other columns and events come in one step; the events say who, from, to, sha and image."""
    update = submit(ledger)
    clock.now += 5
    ledger.move(update.tx_id, S.CREATED, S.BUILDING, changes={"sha": "c" * 40, "build_started_at": clock.now})
    done = ledger.move(
        update.tx_id,
        S.BUILDING,
        S.TESTING,
        changes={"image_id": "sha256:1", "changes": [{"path": "worker/a.py", "added": 1}]},
        payload={"duration_ms": 12},
    )
    assert (done.status, done.image_id, done.updated_at) == (S.TESTING, "sha256:1", clock.now)
    assert done.changes == [{"path": "worker/a.py", "added": 1}]
    assert done == ledger.find(update.tx_id)
    assert names(ledger, update) == ["update.build.started", "update.build.completed", "update.test.started"]
    assert ledger.events(parent_id=update.event_id)[1].payload == {
        "tx_id": update.tx_id,
        "status_from": "building",
        "status_to": "testing",
        "sha": "c" * 40,
        "image_id": "sha256:1",
        "duration_ms": 12,
    }


def test_a_caller_cannot_tell_another_status_in_the_payload(ledger: Ledger) -> None:
    """What the ledger itself says in an event wins over what was passed in."""
    update = submit(ledger)
    ledger.move(update.tx_id, S.CREATED, S.REFUSED, payload={"status_to": "promoted", "code": "empty"})
    (told,) = ledger.events(parent_id=update.event_id)
    assert (told.payload["status_to"], told.payload["code"]) == ("refused", "empty")


def test_an_illegal_move_leaves_no_trace(ledger: Ledger) -> None:
    """What the table does not have is refused before anything is written."""
    update = submit(ledger)
    with pytest.raises(IllegalMove, match=r"^an update cannot go from created to promoted$"):
        ledger.move(update.tx_id, S.CREATED, S.PROMOTED)
    assert ledger.find(update.tx_id) == update
    assert names(ledger, update) == []


def test_a_lost_race_tells_the_actual_status(ledger: Ledger) -> None:
    """The second of two who want the same move learns what happened and changes nothing."""
    update = submit(ledger)
    won = ledger.move(update.tx_id, S.CREATED, S.CANCELLED)
    with pytest.raises(LostRace) as lost:
        ledger.move(update.tx_id, S.CREATED, S.BUILDING, changes={"sha": "d" * 40})
    assert (lost.value.expected, lost.value.actual) == (S.CREATED, S.CANCELLED)
    assert str(lost.value) == f"update {update.tx_id[:8]} is cancelled, not created"
    assert ledger.find(update.tx_id) == won
    assert names(ledger, update) == ["update.cancelled"]


def test_a_move_that_fails_half_way_is_taken_back(ledger: Ledger) -> None:
    """When the event cannot be written the status has not changed either."""
    update = submit(ledger)
    with pytest.raises(TypeError):
        ledger.move(update.tx_id, S.CREATED, S.BUILDING, payload={"not JSON": object()})
    assert ledger.find(update.tx_id) == update
    assert names(ledger, update) == []


def test_unknown_updates_are_told(ledger: Ledger) -> None:
    """Every way to name an update that is not there ends in the same clear line."""
    with pytest.raises(UnknownUpdate, match=r"^no update starts with 'abc'$"):
        ledger.find("abc")
    for ask in (ledger.patch, ledger.find, lambda tx: ledger.amend(tx, {})):
        with pytest.raises(UnknownUpdate):
            ask("no\x1b[31mhex")
    with pytest.raises(UnknownUpdate):
        ledger.move("abc", S.CREATED, S.BUILDING)
    with pytest.raises(UnknownUpdate, match=r"^no update starts with ''$"):
        ledger.find("")


def test_find_takes_any_unique_prefix(ledger: Ledger) -> None:
    """The shortest prefix that is unique is enough, in any case; a shared one names the candidates."""
    updates = [submit(ledger) for _ in range(17)]  # sixteen first digits: two must share one
    ids = sorted(update.tx_id for update in updates)
    for tx_id in ids:
        length = next(n for n in range(1, 37) if sum(other.startswith(tx_id[:n]) for other in ids) == 1)
        assert ledger.find(tx_id[:length].upper()).tx_id == tx_id
        assert ledger.find(f" {tx_id}\n").tx_id == tx_id
    digit = next(i[0] for i in ids if sum(other[0] == i[0] for other in ids) > 1)
    with pytest.raises(AmbiguousPrefix, match=f"^more than one update starts with '{digit}': {digit}") as told:
        ledger.find(digit)
    assert list(told.value.candidates) == [i for i in ids if i[0] == digit][:6]


def test_amend_sets_columns_but_never_the_status(ledger: Ledger, clock: Clock) -> None:
    """The status and what was submitted stay; an unknown column is named."""
    update = submit(ledger)
    clock.now += 1
    amended = ledger.amend(update.tx_id, {"sha": "d" * 40, "card": {"risk": ["ä"]}, "blame": Blame.OWN})
    assert (amended.sha, amended.card, amended.blame) == ("d" * 40, {"risk": ["ä"]}, Blame.OWN)
    assert (amended.status, amended.updated_at) == (S.CREATED, clock.now)
    for column in ("status", "tx_id", "patch", "origin", "event_id", "created_at", "updated_at", "colour"):
        with pytest.raises(BadColumns, match=f"cannot be changed: {column}$"):
            ledger.amend(update.tx_id, {column: "promoted"})
        with pytest.raises(BadColumns):
            ledger.move(update.tx_id, S.CREATED, S.BUILDING, changes={column: "promoted"})
    assert ledger.find(update.tx_id) == amended
    assert names(ledger, update) == []


def test_updates_come_newest_first_and_first_gives_the_oldest(ledger: Ledger, clock: Clock) -> None:
    """The order is that of the events, also when the clock went back in between."""
    made = []
    for _ in range(3):
        made.append(submit(ledger))
        clock.now -= 3600
    assert [update.tx_id for update in ledger.updates()] == [update.tx_id for update in reversed(made)]
    assert [update.tx_id for update in ledger.updates(limit=1)] == [made[2].tx_id]
    ledger.move(made[0].tx_id, S.CREATED, S.CANCELLED)
    oldest = ledger.first(S.CREATED, S.BUILDING)
    assert oldest is not None
    assert oldest.tx_id == made[1].tx_id
    assert ledger.first(S.STAGED) is None


def test_genesis_is_promoted_from_the_start_and_only_once(ledger: Ledger) -> None:
    """The first revision has all its events, and is the good one."""
    assert ledger.good_sha() is None
    first = ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes={"sha": "a" * 40, "image_id": "sha256:0"})
    assert (first.status, first.sha) == (S.PROMOTED, "a" * 40)
    assert first.promoted_at is not None
    assert names(ledger, first) == ["update.promoted", "revision.promoted"]
    assert ledger.good_sha() == "a" * 40
    with pytest.raises(GenesisExists):
        ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes={"sha": "b" * 40})
    assert len(ledger.updates()) == 1


def test_the_good_revision_follows_promotions_and_rollbacks(ledger: Ledger, clock: Clock) -> None:
    """A promotion makes the update's sha the good one, a settled rollback the one that it restored."""
    ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes={"sha": "a" * 40})
    clock.now -= 7200  # a clock set back changes nothing: the latest is the one written last
    update = take_to(ledger, submit(ledger), S.PROMOTED, sha="c" * 40)
    assert ledger.good_sha() == "c" * 40
    ledger.move(update.tx_id, S.PROMOTED, S.ROLLBACK_PENDING, payload={"why": "a person"})
    assert ledger.good_sha() == "c" * 40
    ledger.move(update.tx_id, S.ROLLBACK_PENDING, S.ROLLED_BACK, restored="a" * 40)
    assert ledger.good_sha() == "a" * 40
    assert names(ledger, update)[-3:] == [
        "update.rollback.started",
        "update.rollback.completed",
        "revision.promoted",
    ]


def test_a_rollback_names_what_it_restored_and_nothing_else_does(ledger: Ledger) -> None:
    """Forgetting the restored sha, or naming one with another move, is an error of the caller."""
    update = take_to(ledger, submit(ledger), S.DEPLOYED_UNSTABLE)
    with pytest.raises(ValueError, match="restored"):
        ledger.move(update.tx_id, S.DEPLOYED_UNSTABLE, S.PROMOTED, restored="a" * 40)
    ledger.move(update.tx_id, S.DEPLOYED_UNSTABLE, S.ROLLBACK_PENDING)
    with pytest.raises(ValueError, match="restored"):
        ledger.move(update.tx_id, S.ROLLBACK_PENDING, S.ROLLED_BACK)
    assert ledger.find(update.tx_id).status is S.ROLLBACK_PENDING


def test_a_revision_is_a_commit_with_its_image(ledger: Ledger) -> None:
    """The good one and any other are found by their sha; one that was never built is none."""
    with pytest.raises(NoRevision):
        ledger.good_revision()
    built = {"tree": "t", "deps_image_id": "sha256:d", "image_id": "sha256:0", "image_tag": "autonous/worker:a"}
    first = ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes={"sha": "a" * 40, **built})
    update = take_to(ledger, submit(ledger), S.STAGED, sha="c" * 40)
    for never_built in ("c" * 40, "d" * 40):
        with pytest.raises(UnknownUpdate):
            ledger.revision(never_built)
    with pytest.raises(ValueError, match="made no image"):
        _ = update.revision
    later = ledger.amend(update.tx_id, {**built, "image_id": "sha256:1", "patch_id": "p"})
    assert ledger.revision("c" * 40) == later.revision
    assert (later.revision.image_id, later.revision.base_sha) == ("sha256:1", "b" * 40)
    assert ledger.good_revision() == first.revision
    assert (first.revision.sha, first.revision.event_id) == ("a" * 40, first.event_id)


def test_an_update_may_bring_its_id(ledger: Ledger) -> None:
    """An id that was made before the row is the row's, and cannot be taken twice."""
    tx_id = "2f1c7f0e-1111-4222-8333-944455556666"
    assert ledger.create(NewUpdate(origin=Origin.CLI, tx_id=tx_id)).tx_id == tx_id
    before = ledger.events()
    with pytest.raises(IntegrityError):
        ledger.create(NewUpdate(origin=Origin.CLI, tx_id=tx_id))
    assert ledger.events() == before


def test_failed_before_counts_own_faults_and_rollbacks(ledger: Ledger) -> None:
    """The same change is known again when it failed by its own fault, not when something else is or may be to blame."""
    assert ledger.failed_before("p1") is None
    own = submit(ledger)
    ledger.amend(own.tx_id, {"patch_id": "p1"})
    assert ledger.failed_before("p1") is None
    ledger.move(own.tx_id, S.CREATED, S.REFUSED, changes={"blame": Blame.OWN})
    outside = submit(ledger)
    ledger.move(outside.tx_id, S.CREATED, S.REFUSED, changes={"patch_id": "p2", "blame": Blame.EXTERNAL})
    ends = (("p3", Blame.PERSON, None), ("p4", None, None), ("p5", Blame.EXTERNAL, None), ("p6", None, "no_poll"))
    for patch_id, blame, code in ends:
        update = take_to(ledger, submit(ledger), S.DEPLOYED_UNSTABLE)
        ledger.move(update.tx_id, S.DEPLOYED_UNSTABLE, S.ROLLBACK_PENDING)
        changes = {"patch_id": patch_id, "blame": blame, "code": code}
        ledger.move(update.tx_id, S.ROLLBACK_PENDING, S.ROLLED_BACK, changes=changes, restored="a" * 40)
    found = {p: ledger.failed_before(p) for p in ("p1", "p2", "p3", "p4", "p5", "p6")}
    assert [p for p, update in found.items() if update is not None] == ["p1", "p3", "p4"]
    assert found["p1"] is not None
    assert found["p1"].tx_id == own.tx_id
    assert [update.patch_id for update in ledger.blame_open()] == ["p6"]


def worker(name: str = "w1") -> NewWorker:
    return NewWorker(worker_id=name, sha="a" * 40, image_id="sha256:1", credential=f"credential of {name}")


def test_a_worker_is_registered_with_its_event_and_instance(ledger: Ledger) -> None:
    """Instances count up from 1; the credential is nowhere on file."""
    run = ledger.append(EventType.PROCESS_STARTED, {})
    first = ledger.register_worker(worker("w1"), parent_id=run)
    second = ledger.register_worker(worker("w2"), parent_id=run)
    assert (first.instance, second.instance) == (1, 2)
    spawned = ledger.events(EventType.WORKER_SPAWNED, parent_id=run)
    assert [event.id for event in spawned] == [first.event_id, second.event_id]
    assert spawned[0].payload == {
        "worker_id": "w1",
        "instance": 1,
        "sha": "a" * 40,
        "image_id": "sha256:1",
    }
    assert ledger.living_workers() == [first, second]
    on_file = b"".join(file.read_bytes() for file in ledger.path.parent.iterdir())
    assert b"sha256:1" in on_file
    assert b"credential of" not in on_file


def test_a_workers_life_hangs_under_its_spawn(ledger: Ledger, clock: Clock) -> None:
    """Ready and exited are recorded once however often they are told; active and drained each time."""
    row = ledger.register_worker(worker())
    clock.now += 2
    assert ledger.worker_ready("w1") is True
    assert ledger.worker_ready("w1") is False
    ledger.worker_activated("w1", {"epoch": 1})
    ledger.worker_drained("w1")
    ledger.worker_activated("w1", {"epoch": 3})
    end = {"exit_code": 137, "oom": True, "reason": "out of memory", "uptime_seconds": 9.5, "crashed": True}
    assert ledger.worker_exited("w1", **end, ended_at=5.0) is True  # type: ignore[arg-type]
    assert ledger.worker_exited("w1", exit_code=0, oom=False, reason="", uptime_seconds=0) is False
    told = ledger.events(parent_id=row.event_id)
    kinds = ["worker.ready", "worker.activated", "worker.drained", "worker.activated", "worker.exited"]
    assert [event.event_type for event in told] == kinds
    assert told[-1].payload == {"worker_id": "w1", "instance": 1, "sha": "a" * 40, **end, "ended_at": 5.0}
    ended = ledger.worker("w1")
    assert (ended.ready_at, ended.exited_at, ended.exit_code, ended.oom) == (clock.now, clock.now, 137, True)
    assert ledger.living_workers() == []


def test_only_own_faults_of_a_revision_are_crashes(ledger: Ledger, clock: Clock) -> None:
    """Counted by revision and from a time on; an end that was wanted is none."""
    began = clock.now
    for name, sha, crashed in (("w1", "a", True), ("w2", "a", False), ("w3", "b", True), ("w4", "a", True)):
        new = NewWorker(worker_id=name, sha=sha, image_id="i", credential=f"credential of {name}")
        ledger.register_worker(new)
        clock.now += 10
        ledger.worker_exited(name, exit_code=1, oom=False, reason="", uptime_seconds=10, crashed=crashed)
    ledger.register_worker(NewWorker(worker_id="w5", sha="a", image_id="i", credential="credential of w5"))
    assert [row.worker_id for row in ledger.crashes("a", began)] == ["w1", "w4"]
    assert [row.worker_id for row in ledger.crashes("a", began + 11)] == ["w4"]


def test_unknown_workers_are_told(ledger: Ledger) -> None:
    """No event is written about a worker that was never registered."""
    for ask in (ledger.worker, ledger.worker_ready, ledger.worker_activated, ledger.grant_lease):
        with pytest.raises(UnknownWorker, match=r"^no worker has the id 'w9'$"):
            ask("w9")
    assert ledger.events() == []


def test_every_lease_has_a_higher_epoch_and_its_event(ledger: Ledger) -> None:
    """Epochs rise strictly over holders and restarts, and the last grant is the lease."""
    assert ledger.lease() is None
    rows = {name: ledger.register_worker(worker(name)) for name in ("w1", "w2")}
    epochs = []
    for name in ("w1", "w2", "w1", "w1"):
        lease = ledger.grant_lease(name)
        epochs.append(lease.epoch)
        assert ledger.lease() == lease
        told = ledger.events(EventType.LEASE_GRANTED, parent_id=rows[name].event_id)[-1]
        assert told.payload == {"epoch": lease.epoch, "worker_id": name, "sha": "a" * 40}
    with Ledger(ledger.path) as again:
        epochs.append(again.grant_lease("w2").epoch)
    assert epochs == [1, 2, 3, 4, 5]


def test_an_ended_worker_gets_no_lease(ledger: Ledger) -> None:
    """The lease never goes to a worker whose end was recorded."""
    ledger.register_worker(worker())
    ledger.worker_exited("w1", exit_code=0, oom=False, reason="stopped", uptime_seconds=1)
    with pytest.raises(WorkerGone, match=r"^worker 'w1' has ended$"):
        ledger.grant_lease("w1")
    assert ledger.lease() is None


def test_owners_are_added_once(ledger: Ledger, clock: Clock) -> None:
    """Claiming twice is one claim and one event; the order is that of the claims."""
    assert ledger.owners() == []
    assert ledger.add_owner(9_000_000_001, 77) is True
    clock.now += 1
    assert ledger.add_owner(5, 6) is True
    assert ledger.add_owner(9_000_000_001, 78) is False
    assert ledger.owners() == [9_000_000_001, 5]
    told = [event.payload for event in ledger.events(EventType.OWNER_CLAIMED)]
    assert told == [{"user_id": 9_000_000_001, "chat_id": 77}, {"user_id": 5, "chat_id": 6}]


def test_facts_are_remembered_until_replaced(ledger: Ledger) -> None:
    """The last value counts, also after the file was closed."""
    assert ledger.fact("claim_code") is None
    ledger.set_fact("claim_code", "one")
    ledger.set_fact("claim_code", "zwei")
    ledger.set_fact("other", "")
    with Ledger(ledger.path) as again:
        assert (again.fact("claim_code"), again.fact("other")) == ("zwei", "")


def test_events_can_be_narrowed(ledger: Ledger) -> None:
    """By type, parent, place, order and number."""
    run = ledger.append(EventType.PROCESS_STARTED, {"n": 0})
    ids = [ledger.append(EventType.ROLLBACK_ATTEMPTED, {"n": n}, parent_id=run) for n in (1, 2, 3)]
    assert [event.payload["n"] for event in ledger.events()] == [0, 1, 2, 3]
    assert [event.id for event in ledger.events(parent_id=run, after=ids[0])] == ids[1:]
    assert [event.id for event in ledger.events(EventType.PROCESS_STARTED)] == [run]
    assert [event.id for event in ledger.events(newest_first=True, limit=2)] == [ids[2], ids[1]]


def test_ids_rise_in_the_file_when_the_clock_goes_back(ledger: Ledger, clock: Clock) -> None:
    """The event written last has the highest id, whoever writes it and whatever his clock says."""
    made = [ledger.append(EventType.PROCESS_STARTED, {})]
    for _ in range(3):
        clock.now -= 3600
        with Ledger(ledger.path, clock=clock) as after_restart:
            made.append(after_restart.append(EventType.PROCESS_STARTED, {}))
        made.append(ledger.append(EventType.PROCESS_STARTED, {}))
    assert made == sorted(set(made))
    assert [event.id for event in ledger.events()] == made
    assert ledger.events()[-1].timestamp == clock.now


def test_payloads_are_compact_json(ledger: Ledger) -> None:
    """No spaces, no escapes that need not be; half a character from an odd name does no harm."""
    ledger.append(EventType.PROCESS_STARTED, {"a": [1, 2.5, None, True], "b": "ü \x00\x1b", "c": "\udc80"})
    (event,) = ledger.events()
    assert event.payload_json == '{"a":[1,2.5,null,true],"b":"ü \\u0000\\u001b","c":"\\udc80"}'
    assert event.payload["c"] == "\udc80"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, Path("/")])
def test_what_json_does_not_know_is_refused(ledger: Ledger, value: object) -> None:
    """An event that could not be read back is not written."""
    with pytest.raises((TypeError, ValueError)):
        ledger.append(EventType.PROCESS_STARTED, {"value": value})
    assert ledger.events() == []


CANARY = "canary/9+c4=d1 e7"


def test_no_secret_gets_on_file(tmp_path: Path) -> None:
    """A canary in every free text, raw, base64 and URL-encoded, is nowhere in the ledger's files."""
    spellings = [CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode()]
    text = " ".join(spellings)
    with Ledger(tmp_path / "supervisor.db", redact=Redactor([CANARY])) as ledger:
        ledger.append(EventType.PROCESS_STARTED, {"a": [{"b": text}]})
        update = ledger.create(NewUpdate(origin=Origin.CHAT, title=text, why=text, model=text))
        many = {"card": {"t": [text]}, "changes": [{"path": text}], "test_summary": {"log": text}}
        ledger.amend(update.tx_id, {**many, "self_check_summary": {"log": text}})
        error = {"last_error": text}
        ledger.move(update.tx_id, S.CREATED, S.REFUSED, changes=error, payload={"error": text})
        ledger.register_worker(worker())
        ledger.worker_ready("w1", {"detail": text})
        ledger.worker_exited("w1", exit_code=1, oom=False, reason=text, uptime_seconds=1)
        refused = ledger.find(update.tx_id)
        assert refused.title.startswith("[redacted] [redacted] [redacted]")
        assert refused.last_error == refused.title
        on_file = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert on_file.count(b"[redacted]") >= 8
    assert [spelling for spelling in spellings if spelling.encode() in on_file] == []


def test_what_the_ledger_itself_says_is_never_masked(tmp_path: Path) -> None:
    """A secret that looks like a part of a sha cannot hide which revision is the good one."""
    with Ledger(tmp_path / "supervisor.db", redact=Redactor(["aaaaaa"])) as ledger:
        ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes={"sha": "a" * 40})
        assert ledger.good_sha() == "a" * 40
