"""Old events go by command, with an event that says so, and the state that is derived from events stays."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.agent_db import pruning
from supervisor.agent_db.pruned import PrunedFile, forget, new_file, survey
from supervisor.contract import EventType, Redactor
from supervisor.ledger import Ledger, NewUpdate, NewWorker, Origin
from supervisor.ledger import eventremoval as removal
from worker.store import Store

DAY = 86_400.0


class Clock:
    """A clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def spawn(ledger: Ledger, name: str) -> int:
    worker = NewWorker(worker_id=name, sha="a" * 40, image_id="sha256:1", credential=name)
    return ledger.register_worker(worker).instance


def test_the_ledger_keeps_what_its_state_is_made_of(tmp_path: Path) -> None:
    """The good revision, the number of the next worker and the record of updates are the same after as before."""
    clock = Clock()
    with Ledger(tmp_path / "supervisor.db", clock=clock) as ledger:
        started = ledger.append(EventType.PROCESS_STARTED, {})
        columns = {"sha": "a" * 40, "tree": "b" * 40, "image_id": "i", "image_tag": "t", "deps_image_id": "d"}
        genesis = ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes=columns, parent_id=started)
        for name in ("one", "two"):
            spawn(ledger, name)
            ledger.worker_ready(name)
        ledger.grant_lease("two")
        crash = ledger.append(EventType.CRASH_LOOP_DETECTED, {})
        clock.now += 10 * DAY
        ledger.append(EventType.ROLLBACK_ATTEMPTED, {}, parent_id=crash)

        kept: list[dict[str, object]] = []
        due = ledger.due_events(clock.now - DAY)
        assert {event.event_type for event in ledger.events() if event.id in due} == {"worker.ready", "lease.granted"}
        assert ledger.prune_events(due, {"older_than_days": 1}, kept.extend) == 3
        assert [event["id"] for event in kept] == due

        assert ledger.good_sha() == "a" * 40
        assert spawn(ledger, "three") == 3
        assert ledger.lease() is not None
        kinds = [event.event_type for event in ledger.events(parent_id=genesis.event_id)]
        assert kinds == ["update.promoted", "revision.promoted"]
        (told,) = ledger.events(EventType.EVENTS_PRUNED)
        assert told.payload == {"older_than_days": 1, "removed": 3, "first_id": due[0], "last_id": due[-1]}
        assert ledger.due_events(clock.now - DAY) == []


def test_whatever_a_table_refers_to_stays(tmp_path: Path) -> None:
    """Every reference to an event in the ledger's tables is found, those of later migrations as well."""
    path = tmp_path / "supervisor.db"
    clock = Clock()
    with Ledger(path, clock=clock) as ledger:
        referred = [ledger.append(EventType.WORKER_READY, {}) for _ in range(2)]
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE later (id INTEGER PRIMARY KEY, told BIGINT REFERENCES events (id))")
            database.execute("INSERT INTO later (told) VALUES (?)", (referred[1],))
        clock.now += 10 * DAY
        assert ledger.due_events(clock.now - DAY) == referred[:1]
        assert {table for table, _ in ledger._references()} >= {"artifacts", "workers", "grants", "later"}


def test_events_of_the_ledger_can_still_not_be_changed(tmp_path: Path) -> None:
    """Neither by UPDATE nor DELETE nor REPLACE."""
    path = tmp_path / "supervisor.db"
    with Ledger(path, clock=Clock()) as ledger:
        kept = ledger.append(EventType.PROCESS_STARTED, {})
        ledger.prune_events([ledger.append(EventType.WORKER_READY, {})], {}, list)
    with closing(sqlite3.connect(path)) as database:
        for statement in (
            "DELETE FROM events",
            "UPDATE events SET payload = ''",
            f"REPLACE INTO events VALUES ({kept}, 0, NULL, '', '')",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


def test_a_removal_that_fails_changes_nothing(tmp_path: Path) -> None:
    """An update's first event is referred to: not it, and nothing beside it, goes."""
    with Ledger(tmp_path / "supervisor.db", clock=Clock()) as ledger:
        update = ledger.create(NewUpdate(origin=Origin.CLI))
        other = ledger.append(EventType.WORKER_READY, {})
        before = ledger.events()
        with pytest.raises(Exception, match="FOREIGN KEY"):
            ledger.prune_events([update.event_id, other], {}, list)
        assert ledger.events() == before


def test_what_cannot_be_written_out_is_not_removed(tmp_path: Path) -> None:
    """The disk that is to have it is full: the events are still there."""

    def full(_: object) -> None:
        raise OSError("no space left")

    with Ledger(tmp_path / "supervisor.db", clock=Clock()) as ledger:
        ledger.append(EventType.WORKER_READY, {})
        before = ledger.events()
        with pytest.raises(OSError, match="no space left"):
            ledger.prune_events([before[0].id], {}, full)
        assert ledger.events() == before


def test_a_forgotten_chat_is_in_no_file_of_removed_events(tmp_path: Path) -> None:
    """Whatever hangs under its events goes, too, also where that was written out earlier; all else stays."""

    def event(number: int, parent: int | None, payload: str) -> dict[str, object]:
        return {"id": number, "timestamp": 0.0, "parent_id": parent, "event_type": "any", "payload": payload}

    files = [tmp_path / "pruned-1.jsonl", new_file(tmp_path)]
    with files[0].open("w") as out:
        PrunedFile(out).keep("worker", [event(3, 2, '{"text":"canary"}'), event(4, 9, '{"text":"theirs"}')])
        PrunedFile(out).keep("supervisor", [event(5, None, '{"chat_id":7,"tx_id":"the record"}')])
    with files[1].open("w") as out:
        PrunedFile(out).keep("worker", [event(2, 1, '{"chat_id":7}'), event(9, 1, '{"chat_id":8}')])
    assert survey(tmp_path, 7) == {2, 3}
    assert forget(tmp_path, survey(tmp_path, 7)) == 2
    left = [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]
    assert left == [4, 5, 9]
    assert survey(tmp_path, 7, {1}) == {9, 4}
    assert survey(tmp_path, 7) == set()
    assert forget(tmp_path, {2, 3}) == 0


def test_the_workers_events_go_beside_an_open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the starts, the parents of newer ones, and those of a run that is not over; in portions."""
    monkeypatch.setattr(removal, "BATCH", 2)
    clock = Clock()
    path = tmp_path / "agent.db"
    store = Store(path, clock=clock, sha="a" * 40, redact=Redactor([]))
    store.database.epoch = store.database.stored_epoch()
    process = store.events.append(EventType.PROCESS_STARTED, {})
    old = [store.events.append(EventType.AGENT_STARTED, {}, parent_id=process) for _ in range(5)]
    parent = store.events.append(EventType.AGENT_STARTED, {}, parent_id=process)
    in_hand = store.events.append(EventType.AGENT_STARTED, {}, parent_id=process)
    store.runs.attempt_begun(store.runs.open(1, 1).id, in_hand)
    clock.now += 10 * DAY
    store.events.append(EventType.AGENT_COMPLETED, {}, parent_id=parent)

    due = pruning.due_events(path, clock.now - DAY)
    assert due == old
    assert pruning.prune_events(path, due, {"older_than_days": 1}, list) == 5
    assert pruning.due_events(path, clock.now - DAY) == []
    count = store.database.first("SELECT COUNT(*) FROM events WHERE event_type = 'events.pruned'")
    assert count == (3,)
    store.events.append(EventType.AGENT_STARTED, {}, parent_id=process)
    store.close()


def test_a_portion_locks_others_out_for_less_than_a_second(tmp_path: Path) -> None:
    """Twenty thousand events leave a file of a hundred thousand."""
    path = tmp_path / "agent.db"
    Store(path, clock=time.time, sha="a" * 40, redact=Redactor([])).close()
    with closing(sqlite3.connect(path)) as database, database:
        many = ((number, 0.0, None, "turn.started", "x" * 300) for number in range(1, 100_001))
        database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", many)
    began = time.monotonic()
    assert pruning.prune_events(path, range(1, removal.BATCH + 1), {}, list) == removal.BATCH
    assert time.monotonic() - began < 1
