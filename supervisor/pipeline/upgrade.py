"""Taking over what a newer checkout brings: merged with what the agent made of itself, as an update like any other.

The base of the merge is the import that the active revision grew from. Nothing is created when there is a conflict.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from supervisor.images.builds import LABEL_CONTRACT, ImageFacts, base_tag, checkout_lock, deps_tag, extras_in
from supervisor.images.contexts import contract_hash, recipe, trusted_contract
from supervisor.images.trunk import trunk_of
from supervisor.ledger import Ledger, NewUpdate, Origin, Revision, Update
from supervisor.pipeline.dependencies import last_on_a_checkouts_lock, lock_of, pins
from supervisor.revisions import Conflict, MergeConflict, Refused, Revisions, policy
from supervisor.revisions.requirements import name_of
from supervisor.states import PENDING

_TITLE = "what the checkout brings"


class TaggedImage(ImageFacts, Protocol):
    """What is asked of an image here."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Its names."""


class Engine(Protocol):
    """The part of the engine that is asked."""

    def image(self, reference: str) -> TaggedImage | None:
        """The image of that id or tag, or None."""


@dataclass(frozen=True)
class News:
    """What a checkout has that the active revision did not grow from. ``files`` are paths."""

    files: tuple[str, ...] = ()
    dependencies: bool = False
    contract: bool = False

    def __bool__(self) -> bool:
        return self.dependencies or self.contract or bool(self.files)

    def __str__(self) -> str:
        number = len(self.files)
        parts = [f"{number} file{'s' if number != 1 else ''}"] if number else []
        parts += ["dependencies"] if self.dependencies else []
        parts += ["the contract with the supervisor"] if self.contract else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Outcome:
    """What came of it. ``status`` is ``current``, ``conflict``, ``refused``, or that of ``update``."""

    status: str
    update: Update | None = None
    code: str = ""
    reason: str = ""
    conflicts: tuple[Conflict, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "tx_id": self.update.tx_id if self.update else None,
            "status": self.status,
            "code": self.code,
            "reason": self.reason,
            "conflicts": [asdict(conflict) for conflict in self.conflicts],
        }


def checkout_files(checkout: Path) -> dict[str, bytes]:
    """The files of a checkout that make a revision of the worker."""
    found = {}
    for area in policy.AREAS:
        for path in sorted((checkout / area).rglob("*")):
            name = path.relative_to(checkout).as_posix()
            if path.is_file() and policy.belongs(name):
                found[name] = path.read_bytes()
    return found


def news(ledger: Ledger, revisions: Revisions, engine: Engine, files: Mapping[str, bytes]) -> News:
    """What is new in the checkout, whose worker has these ``files``."""
    good = ledger.good_revision()
    known = revisions.files(_import_below(ledger, revisions, good))
    changed = sorted(path for path in known.keys() | files.keys() if known.get(path) != files.get(path))
    image = engine.image(good.image_id)
    contract = image is not None and image.labels.get(LABEL_CONTRACT) != contract_hash(trusted_contract())
    locked = last_on_a_checkouts_lock(ledger, good)
    return News(tuple(changed), dependencies=_other_lock(engine, locked), contract=contract)


def under_way(ledger: Ledger) -> bool:
    """Whether an update from the checkout waits for the gates or for a person."""
    return any(update.origin is Origin.UPSTREAM for update in ledger.having(*PENDING))


def take_over(
    ledger: Ledger,
    revisions: Revisions,
    engine: Engine,
    files: Mapping[str, bytes],
    *,
    deps_image_id: str,
    parent_id: int | None,
) -> Outcome:
    """Record an update that brings the checkout's ``files`` and dependencies into the active revision.

    ``deps_image_id`` is the image of the checkout's lock. The same again while it is still under way is that update.
    Raises RevisionsUnusable, LedgerError, EngineError.
    """
    good = ledger.good_revision()
    brought = news(ledger, revisions, engine, files)
    below = _import_below(ledger, revisions, good)
    try:
        merged = revisions.merged(below, good.sha, files)
    except MergeConflict as conflict:
        reason = "the checkout and the agent changed the same"
        return Outcome("conflict", code="conflict", reason=reason, conflicts=conflict.conflicts)
    except Refused as refused:
        return Outcome("refused", code=refused.code, reason=refused.reason)
    if brought.dependencies and (missing := _not_locked(merged)):
        why = f"the agent added {missing}, which the new lock does not have"
        lost = (Conflict("images/deps/requirements.lock", why),)
        return Outcome(
            "conflict", code="conflict", reason="the checkout and the agent changed the same", conflicts=lost
        )
    same_files = merged == revisions.files(good.sha)
    if same_files and not (brought.dependencies or brought.contract):
        return Outcome("current", reason="the worker has all that the checkout brings")
    deps = deps_image_id if brought.dependencies or engine.image(good.deps_image_id) is None else good.deps_image_id
    for update in ledger.having(*PENDING):
        under_way = update.origin is Origin.UPSTREAM and (update.base_sha, update.deps_image_id) == (good.sha, deps)
        if under_way and update.sha and revisions.files(update.sha) == merged:
            return Outcome(update.status, update, reason="it is under way already")
    update = _record(ledger, revisions, good, below, files, merged, deps, str(brought), parent_id)
    return Outcome(update.status, update)


def _record(
    ledger: Ledger,
    revisions: Revisions,
    good: Revision,
    below: str,
    files: Mapping[str, bytes],
    merged: Mapping[str, bytes],
    deps_image_id: str,
    why: str,
    parent_id: int | None,
) -> Update:
    now = time.time()
    tx_id = str(uuid.uuid4())
    imported = below
    if files != revisions.files(below):
        imported = revisions.commit_files(files, message="Import of the checkout's worker", when=now, parent=below).sha
    applied = revisions.take_over(good.sha, merged, imported, tx_id=tx_id, title=_TITLE, why=why, when=now)
    return ledger.create(
        NewUpdate(
            tx_id=tx_id,
            origin=Origin.UPSTREAM,
            patch=revisions.diff(good.sha, applied.sha).encode(),
            base_sha=good.sha,
            base_tx_id=good.tx_id,
            title=_TITLE,
            why=why,
        ),
        # With the row, so that a crash leaves either all of it or nothing that the pipeline would take up.
        changes={
            "sha": applied.sha,
            "tree": applied.tree,
            "patch_id": applied.patch_id,
            "changes": [asdict(change) for change in applied.changes],
            "deps_image_id": deps_image_id,
            "lock": lock_of(ledger, good) if deps_image_id == good.deps_image_id else None,
        },
        parent_id=parent_id,
    )


def _import_below(ledger: Ledger, revisions: Revisions, good: Revision) -> str:
    """The import that the active revision grew from: the base of the merge."""
    return revisions.imported(trunk_of(ledger, good.sha).revision.sha)


def _other_lock(engine: Engine, locked: Revision) -> bool:
    """Whether the checkout's lock makes another dependency image than the one that was taken over last."""
    standing = engine.image(locked.deps_image_id)
    base = engine.image(base_tag())
    if standing is None:
        return False
    return base is None or deps_tag(base.id, checkout_lock(extras_in(standing))) not in standing.tags


def _not_locked(merged: Mapping[str, bytes]) -> str:
    """The packages that merged files ask for and the checkout's lock does not have."""
    asked = {name_of(line) for line in merged.get(policy.REQUIREMENTS, b"").decode().splitlines() if line[:1].isalnum()}
    return ", ".join(sorted(asked - pins(recipe("deps/requirements.lock").decode()).keys()))
