"""Updates in any state, in a real ledger, by the way that the table of transitions knows."""

import hashlib
import uuid
from collections import deque
from itertools import pairwise
from typing import Final

from supervisor.ledger import Ledger, NewUpdate, Origin, Update
from supervisor.states import TRANSITIONS, Status
from supervisor.updates.binding import digest

PATCH: Final = b"diff --git a/worker/agent.py b/worker/agent.py\n"


def columns(name: str) -> dict[str, object]:
    """A commit and an image, as if they had been made."""

    def hashed(what: str) -> str:
        return hashlib.sha1(f"{what} {name}".encode()).hexdigest()

    return {
        "sha": hashed("commit"),
        "tree": hashed("tree"),
        "patch_id": hashed("patch"),
        "deps_image_id": "sha256:deps",
        "image_id": f"sha256:{hashed('image')}",
        "image_tag": f"p/worker:{hashed('commit')[:12]}",
    }


def genesis(ledger: Ledger) -> Update:
    """The first revision."""
    new = NewUpdate(origin=Origin.GENESIS, title="the first revision")
    return ledger.genesis(new, changes={**columns("genesis"), "patch_id": None})


def way(target: Status) -> list[Status]:
    """The shortest way from created to a state."""
    ways = deque([[Status.CREATED]])
    while ways:
        found = ways.popleft()
        if found[-1] is target:
            return found
        ways.extend([*found, following] for source, following in TRANSITIONS if source is found[-1])
    raise AssertionError(f"no way leads to {target}")


def update_in(ledger: Ledger, status: Status, *, base: Update, title: str = "an update") -> Update:
    """A new update on ``base`` that has reached this state."""
    tx_id = str(uuid.uuid4())
    new = NewUpdate(tx_id=tx_id, origin=Origin.CLI, patch=PATCH, title=title, base_sha=base.sha, base_tx_id=base.tx_id)
    update = ledger.create(new)
    if status not in (Status.CREATED, Status.REFUSED):
        update = ledger.amend(tx_id, columns(tx_id))
    steps = way(status)
    for source, target in pairwise(steps):
        changes = {"digest": digest(update)} if target is Status.STAGED else {}
        restored = base.sha if target is Status.ROLLED_BACK else None
        update = ledger.move(tx_id, source, target, changes=changes, restored=restored)
    return update
