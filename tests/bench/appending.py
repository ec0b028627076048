"""An event written through the ledger, beside the same row written by hand."""

import json
import sqlite3
import time
from pathlib import Path

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from tests.bench.figures import Figure, seconds, times

_PAYLOAD = {"tx_id": "6f1c0f5e-7c1f-4f4e-9d57-0d2f3c1f8a11", "status_from": "building", "status_to": "testing", "n": 1}
_BATCH = 200
_LIMIT = 4.0


def measure(directory: Path, batches: int) -> list[Figure]:
    """The ratio in each of ``batches`` pairs, which take turns on files side by side."""
    by_hand = directory / "by-hand.db"
    Ledger(by_hand).close()  # the same tables, indices and triggers
    ratios, hand_times = [], []
    with Ledger(directory / "ledger.db") as ledger:
        raw = _open(by_hand)
        for batch in range(batches):
            started = time.perf_counter()
            for _ in range(_BATCH):
                ledger.append(EventType.UPDATE_BUILD_COMPLETED, _PAYLOAD)
            between = time.perf_counter()
            for number in range(_BATCH):
                _append(raw, 1 + batch * _BATCH + number)
            ended = time.perf_counter()
            ratios.append((between - started) / (ended - between))
            hand_times.append((ended - between) / _BATCH)
        raw.close()
    middle = sorted(hand_times)[batches // 2]
    return [
        Figure(
            "event append, over raw sqlite3",
            tuple(ratios),
            times,
            f"Ledger.append over BEGIN IMMEDIATE, INSERT, COMMIT with the same schema and pragmas (WAL, synchronous "
            f"NORMAL), which takes {seconds(middle)}; pairs of {_BATCH}",
            limit=_LIMIT,
        )
    ]


def _open(path: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 5000"):
        raw.execute(f"PRAGMA {pragma}")
    return raw


def _append(raw: sqlite3.Connection, event_id: int) -> None:
    raw.execute("BEGIN IMMEDIATE")
    raw.execute(
        "INSERT INTO events (id, timestamp, parent_id, event_type, payload) VALUES (?, ?, ?, ?, ?)",
        (event_id, time.time(), None, "update.build.completed", json.dumps(_PAYLOAD, separators=(",", ":"))),
    )
    raw.execute("COMMIT")
