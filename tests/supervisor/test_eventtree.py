"""The tree of events over both databases."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract import EventIds, EventType, Side
from supervisor.eventtree import DEEPEST, Node, build, escape, load_tree, render, to_json
from supervisor.ledger import Event, Ledger, LedgerMissing, NewUpdate, Origin, UnknownEvent, UnknownUpdate
from supervisor.states import Status

NOW = 1_800_000_000.25

Row = tuple[object, object, object, object, object]


class Home:
    """Both databases, the worker's one written as a worker would."""

    def __init__(self, directory: Path) -> None:
        self.ledger_path = directory / "supervisor.db"
        self.agent_path = directory / "agent.db"
        self.ledger = Ledger(self.ledger_path, clock=lambda: NOW)
        self.ids = EventIds(Side.WORKER, lambda: NOW)

    def make_agent(self) -> None:
        with closing(sqlite3.connect(self.agent_path)) as agent:
            agent.execute("PRAGMA journal_mode=wal")
            agent.execute(
                "CREATE TABLE events (id INTEGER PRIMARY KEY, timestamp REAL, parent_id INTEGER, event_type TEXT,"
                " payload TEXT)"
            )
            agent.execute("CREATE INDEX events_parent_id ON events (parent_id)")

    def insert(self, *rows: Row) -> None:
        with closing(sqlite3.connect(self.agent_path)) as agent:
            agent.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
            agent.commit()

    def agent_event(self, parent_id: object, event_type: object, payload: object = "{}") -> int:
        event_id = self.ids.next()
        self.insert((event_id, NOW, parent_id, event_type, payload))
        return event_id

    def shown(self, **options: object) -> list[str]:
        """The tree without times and ids."""
        tree = load_tree(self.ledger_path, self.agent_path, **options)  # type: ignore[arg-type]
        assert tree.notes == []
        return [line[46:] for line in render(tree.roots)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def two_runs(home: Home) -> dict[str, int]:
    """An older run, and a last one with a worker that answered a message and an update in two states."""
    home.make_agent()
    old = home.ledger.append(EventType.PROCESS_STARTED, {"run": 1})
    home.ledger.append(EventType.ROLLBACK_ATTEMPTED, {}, parent_id=old)
    run = home.ledger.append(EventType.PROCESS_STARTED, {"run": 2})
    spawned = home.ledger.append(EventType.WORKER_SPAWNED, {"instance": 1}, parent_id=run)
    started = home.agent_event(spawned, "process.started", '{"role":"worker"}')
    agent = home.agent_event(started, "agent.started", '{"text":"hi"}')
    home.agent_event(agent, "turn.completed")
    home.agent_event(started, "agent.completed")
    update = home.ledger.create(NewUpdate(origin=Origin.CLI, title="t"), parent_id=run)
    home.ledger.move(update.tx_id, Status.CREATED, Status.CANCELLED)
    return {"old": old, "run": run, "started": started, "agent": agent, "update": update.event_id}


def test_the_last_run_is_one_tree_over_both_databases(home: Home) -> None:
    """Without a choice the last supervisor run is shown, the worker's own events in their place."""
    two_runs(home)
    lines = home.shown()
    assert [line.split("  {")[0] for line in lines] == [
        "process.started",
        "├─ worker.spawned",
        "│  └─ process.started",
        "│     ├─ agent.started",
        "│     │  └─ turn.completed",
        "│     └─ agent.completed",
        "└─ update.txn.created",
        "   └─ update.cancelled",
    ]
    assert lines[0] == 'process.started  {"run":2}'
    assert lines[3].endswith('  {"text":"hi"}')


def test_any_event_can_be_the_root(home: Home) -> None:
    """By its id, from either database."""
    ids = two_runs(home)
    assert home.shown(root=ids["agent"]) == ['agent.started  {"text":"hi"}', "└─ turn.completed  {}"]
    assert [line.split("  ")[0] for line in home.shown(root=ids["old"])] == [
        "process.started",
        "└─ rollback.attempted",
    ]
    for unknown in (1, 1 << 21, -5, 1 << 70):
        with pytest.raises(UnknownEvent, match=f"^no event has the id {unknown}$"):
            home.shown(root=unknown)


def test_an_update_can_be_the_root(home: Home) -> None:
    """By any unique prefix of its id."""
    ids = two_runs(home)
    tx_id = home.ledger.updates()[0].tx_id
    tree = load_tree(home.ledger_path, home.agent_path, tx=tx_id[:3])
    assert [node.event.id for node in tree.roots] == [ids["update"]]
    assert [child.event.event_type for child in tree.roots[0].children] == ["update.cancelled"]
    with pytest.raises(UnknownUpdate):
        load_tree(home.ledger_path, home.agent_path, tx="no such")


@pytest.mark.parametrize(("depth", "lines"), [(0, 1), (1, 3), (2, 5), (3, 7), (4, 8), (None, 8), (10**9, 8)])
def test_depth_limits_the_levels(home: Home, depth: int | None, lines: int) -> None:
    """0 is the root alone."""
    two_runs(home)
    assert len(home.shown(depth=depth)) == lines


def test_payloads_are_cut_in_text_and_can_be_left_out(home: Home) -> None:
    """A long payload takes no more than its part of the line; without payloads none is read."""
    home.ledger.append(EventType.PROCESS_STARTED, {"x": "y" * 1000})
    (line,) = home.shown()
    assert line.startswith('process.started  {"x":"yyy')
    assert line.endswith("y…")
    assert len(line) == len("process.started  ") + 160
    assert home.shown(payload_chars=0) == ["process.started"]
    tree = load_tree(home.ledger_path, home.agent_path)
    assert [text[46:] for text in render(tree.roots, payload=False)] == ["process.started"]
    assert tree.roots[0].event.payload == {"x": "y" * 1000}


def test_a_line_begins_with_time_side_and_id(home: Home) -> None:
    """In the zone that was asked for; the side says which database an event stands in."""
    ids = two_runs(home)
    tree = load_tree(home.ledger_path, home.agent_path)
    lines = list(render(tree.roots, zone=UTC))
    assert lines[0].startswith(f"2027-01-15 08:00:00.250 S {ids['run']:>19} process.started")
    assert lines[2].startswith(f"2027-01-15 08:00:00.250 W {ids['started']:>19} │  └─ process.started")
    east = timezone(timedelta(hours=2))
    assert next(render(tree.roots, zone=east)).startswith("2027-01-15 10:00:00.250")


def test_json_is_nested_objects(home: Home) -> None:
    """Every event with its decoded payload and its children."""
    ids = two_runs(home)
    tree = load_tree(home.ledger_path, home.agent_path, root=ids["agent"])
    (top,) = to_json(tree.roots)
    (turn,) = top.pop("children")
    assert top == {
        "id": ids["agent"],
        "timestamp": NOW,
        "parent_id": ids["started"],
        "event_type": "agent.started",
        "payload": {"text": "hi"},
    }
    assert (turn["parent_id"], turn["children"]) == (ids["agent"], [])


def test_no_worker_yet_is_no_problem(home: Home) -> None:
    """Without the worker's database the ledger's events are all there are, and no file is made."""
    home.ledger.append(EventType.PROCESS_STARTED, {})
    assert home.shown() == ["process.started  {}"]
    assert not home.agent_path.exists()
    with pytest.raises(UnknownEvent):
        home.shown(root=EventIds(Side.WORKER, lambda: NOW).next())


def test_no_run_yet_is_an_empty_tree(home: Home) -> None:
    """A ledger in which no supervisor ran shows nothing; a missing one is told."""
    assert home.shown() == []
    with pytest.raises(LedgerMissing):
        load_tree(home.agent_path, home.agent_path)


def test_a_worker_that_is_writing_is_read(home: Home) -> None:
    """Committed events are seen while the worker holds the write lock."""
    ids = two_runs(home)
    agent = sqlite3.connect(home.agent_path, isolation_level=None)
    event_id = home.ids.next()
    agent.execute("INSERT INTO events VALUES (?, 0, ?, 'reply.sent', '{}')", (event_id, ids["agent"]))
    agent.execute("BEGIN IMMEDIATE")
    agent.execute("INSERT INTO events VALUES (?, 0, ?, 'not yet', '{}')", (home.ids.next(), ids["agent"]))
    lines = home.shown(root=ids["agent"])
    agent.close()
    assert [line.split("  ")[0] for line in lines] == [
        "agent.started",
        "├─ turn.completed",
        "└─ reply.sent",
    ]


@pytest.mark.parametrize("broken", ["text", "empty", "directory", "link", "fifo", "torn", "other"])
def test_a_broken_worker_database_is_left_out_with_a_note(home: Home, broken: str) -> None:
    """Whatever stands where the worker's database should be, the ledger's events are shown."""
    run = home.ledger.append(EventType.PROCESS_STARTED, {})
    match broken:
        case "text":
            home.agent_path.write_text("no database " * 100)
        case "empty":
            home.agent_path.touch()
        case "directory":
            home.agent_path.mkdir()
        case "link":
            home.agent_path.symlink_to(home.ledger_path)
        case "fifo":
            os.mkfifo(home.agent_path)
        case "torn":
            home.make_agent()
            for _ in range(300):
                home.agent_event(run, "agent.started", "x" * 200)
            whole = home.agent_path.read_bytes()
            home.agent_path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
        case "other":
            with closing(sqlite3.connect(home.agent_path)) as other:
                other.execute("CREATE TABLE events (x)")
    tree = load_tree(home.ledger_path, home.agent_path)
    assert [node.event.id for node in tree.roots] == [run]
    (note,) = tree.notes
    assert note.startswith("the worker's events are left out: ")
    assert note.endswith(f"({home.agent_path})")
    assert "\n" not in note


def test_a_worker_cannot_pass_an_event_off_as_the_supervisors(home: Home) -> None:
    """Rows with ids of the supervisor's side, or with none at all, are not shown."""
    home.make_agent()
    run = home.ledger.append(EventType.PROCESS_STARTED, {})
    forged = EventIds(Side.SUPERVISOR, lambda: NOW + 60).next()
    home.insert((forged, NOW, run, "update.approved", "{}"), (-7, NOW, run, "update.approved", "{}"))
    own = home.agent_event(run, "update.approved")
    tree = load_tree(home.ledger_path, home.agent_path)
    assert [child.event.id for child in tree.roots[0].children] == [own]
    assert list(render(tree.roots))[1][24] == "W"


def test_what_a_worker_wrote_is_shown_as_data(home: Home) -> None:
    """Control characters, blobs, numbers, odd times and text that is no JSON steer nothing and break nothing."""
    home.make_agent()
    run = home.ledger.append(EventType.PROCESS_STARTED, {})
    for payload in (b"\xff\xfe", 7, None, '{"x":1e999}', "[" * 100_000, "\x1b[2J\n\u202eAPPROVED"):
        home.agent_event(run, "evil\x1b[31m\n", payload)
    home.insert((home.ids.next(), float("inf"), run, None, "{}"), (home.ids.next(), 1e300, run, 5, "{}"))
    tree = load_tree(home.ledger_path, home.agent_path)
    assert tree.notes == []
    lines = list(render(tree.roots))
    assert len(lines) == 9
    assert all(line.isprintable() for line in lines)
    assert lines[6].endswith("evil\\x1b[31m\\n  \\x1b[2J\\n\\u202eAPPROVED")
    (top,) = to_json(tree.roots)
    assert len(json.loads(json.dumps(top, allow_nan=False))["children"]) == 8


def test_a_tree_that_a_worker_made_endless_ends(home: Home) -> None:
    """Parents in a circle and a chain without end cost no more than the deepest level that is shown."""
    home.make_agent()
    run = home.ledger.append(EventType.PROCESS_STARTED, {})
    first, second = home.ids.next(), home.ids.next()
    home.insert((first, NOW, second, "a", "{}"), (second, NOW, first, "b", "{}"))
    assert [line.split("  ")[0] for line in home.shown(root=first)] == ["a", "└─ b"]
    chain = [run, *(home.ids.next() for _ in range(500))]
    home.insert(*((child, NOW, parent, "c", "{}") for parent, child in pairwise(chain)))
    assert len(home.shown()) == 1 + DEEPEST


def event(event_id: int, parent_id: int | None) -> Event:
    return Event(event_id, NOW, parent_id, "x", "{}")


@given(
    parents=st.dictionaries(st.integers(1, 30), st.none() | st.integers(1, 30), max_size=30),
    roots=st.lists(st.integers(1, 30), max_size=4),
    depth=st.none() | st.integers(0, 6),
)
def test_build_shows_every_event_under_a_root_once(
    parents: dict[int, int | None], roots: list[int], depth: int | None
) -> None:
    """For any parents at all: nothing twice, children under their parent and in order, nothing too deep."""
    trees = build([event(*pair) for pair in parents.items()], roots, depth)
    seen: list[int] = []

    def walk(node: Node, level: int) -> None:
        assert depth is None or level <= depth
        seen.append(node.event.id)
        ids = [child.event.id for child in node.children]
        assert ids == sorted(ids)
        for child in node.children:
            assert child.event.parent_id == node.event.id
            walk(child, level + 1)

    for tree in trees:
        walk(tree, 0)
    assert len(seen) == len(set(seen))
    wanted = set(roots) & set(parents)
    for _ in range(depth if depth is not None else 30):
        wanted |= {child for child, parent in parents.items() if parent in wanted}
    assert set(seen) == wanted


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    """Nothing that steers a terminal comes through, and what is printable is not changed."""
    assert escape(text).isprintable()
    assert escape(text) == text or not text.isprintable()


def test_the_last_run_of_a_large_tree_is_shown_at_once(home: Home) -> None:
    """Among 100,000 events the last run is found by index, not by reading the others."""
    home.make_agent()
    old = home.ledger.append(EventType.PROCESS_STARTED, {})
    rows: list[Row] = [(home.ids.next(), NOW, old, "turn.completed", '{"a":1}') for _ in range(100_000)]
    home.insert(*rows)
    run = home.ledger.append(EventType.PROCESS_STARTED, {})
    home.insert(*((home.ids.next(), NOW, run, "turn.completed", '{"a":1}') for _ in range(1_000)))
    began = time.perf_counter()
    tree = load_tree(home.ledger_path, home.agent_path, payload_chars=200)
    lines = list(render(tree.roots))
    took = time.perf_counter() - began
    assert len(lines) == 1_001
    assert took < 0.5
