"""``/status``: what the worker is, and what it has to do."""

from typing import Final

from worker import __version__
from worker.models.base import ModelProvider
from worker.store import Store

#: More are not counted.
DEAD_SHOWN: Final = 99


def status_text(store: Store, model: ModelProvider, sha: str, chat_id: int) -> str:
    """What a chat is told; ``sha`` is empty for a worker that runs alone."""
    inbox = store.inbox
    in_hand = "nothing" if inbox.in_hand(chat_id) is None else "one message, /stop ends that"
    dead = len(inbox.dead_letters(chat_id, limit=DEAD_SHOWN))
    given_up = f"\ngiven up: {dead}{'+' if dead == DEAD_SHOWN else ''}, see /dead" if dead else ""
    return (
        f"autonous worker {__version__}, revision {sha[:12] or 'standalone'}\n"
        f"model: {model.provider} {model.model_name}\n"
        f"lease: epoch {store.lease.epoch}\n"
        f"in hand: {in_hand}\n"
        f"in line: {inbox.waiting(chat_id)}{given_up}"
    )
