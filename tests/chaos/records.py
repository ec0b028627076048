"""What an installation's databases say of who was to send, and of what was sent."""

import json
import sqlite3
from pathlib import Path

from supervisor.contract import EventType
from supervisor.ledger import Event, Ledger
from tests.chaos.book import Service


def service(path: Path) -> Service:
    """Who held the lease when, and when each of them ended."""
    with Ledger.read_only(path) as ledger:
        granted = ledger.events(EventType.LEASE_GRANTED)
        exited = ledger.events(EventType.WORKER_EXITED)
    return Service(
        grants=[(event.timestamp, str(event.payload["worker_id"])) for event in granted],
        ends={str(event.payload["worker_id"]): _ended_at(event) for event in exited},
    )


def _ended_at(event: Event) -> float:
    """The engine's word, where it has one: of what lost its power with it, it may have none."""
    ended_at = event.payload.get("ended_at")
    return ended_at if isinstance(ended_at, float) else event.timestamp


def committed(database: Path) -> set[tuple[int, int]]:
    """The bot's messages that a worker has noted as sent."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT payload FROM events WHERE event_type = 'reply.sent'").fetchall()
    finally:
        connection.close()
    payloads = [json.loads(payload) for (payload,) in rows]
    return {(payload["chat_id"], payload["message_id"]) for payload in payloads}
