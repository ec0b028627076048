"""What the models have cost, from events that any revision may have written."""

import json
import sqlite3
from pathlib import Path

import pytest

from supervisor.agent_db.access import AgentDbUnusable
from supervisor.contract.ids import first_id
from supervisor.costs import GROUPS, Spent, spent

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def agent_db(tmp_path: Path) -> Path:
    path = tmp_path / "agent.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, timestamp REAL, event_type TEXT, payload TEXT)")
    turn = {"sha": "a" * 40, "chat_id": 1, "task_id": 7, "input_tokens": 100, "output_tokens": 10, "cached_tokens": 50}
    rows = [
        (NOW - 40 * DAY, "turn.completed", {**turn, "cost_usd": 9.0}),
        (NOW - DAY, "turn.completed", {**turn, "cost_usd": 0.25}),
        (NOW, "turn.completed", {**turn, "task_id": 8, "cost_usd": 0.5}),
        (NOW, "turn.completed", {**turn, "chat_id": 2, "task_id": 9}),
        (NOW, "context.compacted", {**turn, "cost_usd": 0.25}),
        (NOW, "context.compacted", {"chat_id": 1, "rules": ["tool_results"]}),
        (NOW, "agent.started", {**turn, "cost_usd": 99}),
        (NOW, "turn.completed", {"input_tokens": "many"}),
    ]
    for number, (moment, event, payload) in enumerate(rows):
        text = json.dumps(payload)
        database.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (first_id(moment) + number, moment, event, text))
    database.execute("INSERT INTO events VALUES (?, ?, 'turn.completed', 'no json')", (first_id(NOW) + 99, NOW))
    database.commit()
    database.close()
    return path


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("day", {"2027-01-14": (1, 0.25, 0), "2027-01-15": (3, 0.75, 1)}),
        ("run", {"7": (2, 0.5, 0), "8": (1, 0.5, 0), "9": (1, 0.0, 1)}),
        ("chat", {"1": (3, 1.0, 0), "2": (1, 0.0, 1)}),
        ("revision", {"a" * 40: (4, 1.0, 1)}),
    ],
)
def test_costs_are_added_up(agent_db: Path, by: str, expected: dict[str, tuple[int, float, int]]) -> None:
    """Turns and summaries of the time asked for; what has no price is counted apart, and what is no cost not at all."""
    found = spent(agent_db, by=by, since=NOW - 30 * DAY)
    assert {name: (sums.calls, sums.cost_usd, sums.unpriced) for name, sums in found.items()} == expected
    assert sum((sums.input_tokens for sums in found.values()), 0) == 400
    assert by in GROUPS


def test_nothing_spent_and_nothing_there(agent_db: Path, tmp_path: Path) -> None:
    """A quiet time is empty; a missing database is told."""
    assert spent(agent_db, by="day", since=NOW + DAY) == {}
    assert Spent().calls == 0
    with pytest.raises(AgentDbUnusable):
        spent(tmp_path / "none.db", by="day", since=0)
