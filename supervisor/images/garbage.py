"""Which images and snapshots stay, and why; ``gc`` takes the others, and each promotion the old snapshots.

What stays is told by reasons: an image without one goes. Rows of the ledger stay for ever, so a revision whose image
went can be built again from its commit.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from supervisor.contract import EventType
from supervisor.engine import ImageView
from supervisor.images.builds import LABEL_BASE_DIGEST
from supervisor.images.trunk import trunk_of
from supervisor.ledger import Ledger, UnknownUpdate, Update
from supervisor.specs import LABEL_PROJECT, LABEL_TX
from supervisor.states import PENDING

KEEP: Final = 10

ACTIVE: Final = "active"
N_MINUS_1: Final = "N-1"


class Engine(Protocol):
    """The part of the engine that is asked."""

    def image(self, reference: str) -> ImageView | None:
        """The image of that id, or None."""

    def images(self, labels: Mapping[str, str]) -> list[ImageView]:
        """All images with these labels."""

    def remove_image(self, reference: str) -> None:
        """Remove an image; nothing happens when it is not there."""


@dataclass(frozen=True)
class Held:
    """An image of this project, and why it stays; ``reasons`` is empty for one that ``gc`` takes. Sizes in bytes."""

    image_id: str
    tag: str
    role: str  # worker or deps
    sha: str | None
    tx_id: str | None
    title: str
    size_bytes: int
    unique_bytes: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Collected:
    """What ``gc`` removed, or would."""

    images: tuple[Held, ...]
    snapshots: tuple[Path, ...]


def survey(ledger: Ledger, engine: Engine, project: str, *, keep: int = KEEP) -> list[Held]:
    """All images of the project and the dependency images that its revisions stand on, newest first."""
    updates = [update for update in ledger.updates() if update.image_id]
    found = {image.id: image for image in engine.images({LABEL_PROJECT: project})}
    reasons = _reasons(ledger, updates, found, keep)
    by_image = {update.image_id: update for update in reversed(updates)}
    workers = [
        _held(image, "worker", by_image.get(image.id), reasons.get(image.id, ()))
        for image in sorted(found.values(), key=lambda image: image.created, reverse=True)
    ]
    kept = {update.deps_image_id for update in updates if reasons.get(update.image_id or "")}
    return workers + _dependencies(updates, engine, set(found), kept, reasons)


def collect(
    ledger: Ledger, engine: Engine, project: str, snapshots: Path, *, keep: int = KEEP, dry_run: bool = False
) -> Collected:
    """Remove what has no reason to stay. Raises EngineError."""
    due = [image for image in survey(ledger, engine, project, keep=keep) if not image.reasons]
    old = old_snapshots(ledger, snapshots, keep=keep)
    if dry_run:
        return Collected(tuple(due), tuple(file for _, file in old))
    removed: list[Held] = []
    for image in due:  # the newest first: an older one may be below it
        if image.image_id in _needed(ledger):
            continue  # since a moment ago
        engine.remove_image(image.image_id)
        removed.append(image)
        if image.tx_id:
            told = {"tx_id": image.tx_id, "sha": image.sha, "image_id": image.image_id}
            parent = ledger.find(image.tx_id).event_id
            ledger.append(EventType.UPDATE_CLEANUP_COMPLETED, told, parent_id=parent)
    for update, file in old:
        remove_snapshot(ledger, update, file)
    return Collected(tuple(removed), tuple(file for _, file in old))


def old_snapshots(ledger: Ledger, directory: Path, *, keep: int = KEEP) -> list[tuple[Update, Path]]:
    """Snapshots beyond the newest ones that no update in hand may need, and that are where we put them."""
    taken = [update for update in ledger.updates() if update.snapshot]
    good = ledger.good_sha()
    return [
        (update, Path(update.snapshot))
        for update in taken[keep:]
        if update.snapshot
        and update.status not in PENDING
        and update.sha != good
        and Path(update.snapshot).parent == directory
    ]


def remove_snapshot(ledger: Ledger, update: Update, file: Path) -> None:
    """Remove an update's snapshot, and have the ledger forget it. Raises OSError."""
    file.unlink(missing_ok=True)
    ledger.amend(update.tx_id, {"snapshot": None})


def _reasons(
    ledger: Ledger, updates: list[Update], found: Mapping[str, ImageView], keep: int
) -> dict[str, tuple[str, ...]]:
    """Why images of revisions stay, by image."""
    reasons = _needed(ledger)
    pending = {update.tx_id for update in ledger.having(*PENDING)}
    for image in found.values():
        if image.labels.get(LABEL_TX) in pending:  # perhaps just being built, and not recorded yet
            reasons.setdefault(image.id, []).append("an update in hand")
    for update in updates[:keep]:
        reasons.setdefault(update.image_id or "", []).append(f"one of the newest {keep}")
    for image in found.values():
        above = [other for other in reasons if other in found and _stands_on(found[other], image)]
        if image.id not in reasons and above:
            reasons[image.id] = [f"{len(above)} kept images are layered on it"]
    return {image_id: tuple(dict.fromkeys(why)) for image_id, why in reasons.items()}


def _needed(ledger: Ledger) -> dict[str, list[str]]:
    """The images that are in use or may be at any moment, and why; asked of the ledger alone."""
    reasons: dict[str, list[str]] = {}

    def need(sha: str | None, why: str) -> None:
        if sha is not None:
            with suppress(UnknownUpdate):  # not built yet
                revision = ledger.revision(sha)
                for image_id in (revision.image_id, revision.deps_image_id):
                    reasons.setdefault(image_id, []).append(why)

    good = ledger.good_sha()
    if good is not None:
        need(good, ACTIVE)
        need(ledger.revision(good).base_sha, N_MINUS_1)
        need(trunk_of(ledger, good).sha, "new images are layered on it")
    for update in ledger.having(*PENDING):
        need(update.sha, f"update {update.tx_id[:8]} is {update.status}")
        need(update.base_sha, f"the base of update {update.tx_id[:8]}")
        if update.deps_image_id:
            reasons.setdefault(update.deps_image_id, []).append(f"update {update.tx_id[:8]} is {update.status}")
    for worker in ledger.living_workers():
        reasons.setdefault(worker.image_id, []).append(f"{worker.worker_id} runs on it")
    return reasons


def _stands_on(upper: ImageView, lower: ImageView) -> bool:
    return len(upper.layers) > len(lower.layers) and upper.layers[: len(lower.layers)] == lower.layers


def _dependencies(
    updates: Iterable[Update],
    engine: Engine,
    ours: set[str],
    kept: set[str | None],
    reasons: Mapping[str, tuple[str, ...]],
) -> list[Held]:
    """Dependency images that revisions of ours were built on; other installations may stand on them as well."""
    listed = []
    for image_id in dict.fromkeys(update.deps_image_id for update in updates if update.deps_image_id):
        image = engine.image(image_id)
        if image is None:
            continue
        standing = engine.images({LABEL_BASE_DIGEST: image_id})
        why = list(reasons.get(image_id, ()))
        if image_id in kept:
            why.append("kept revisions stand on it")
        if any(upper.id in reasons for upper in standing if upper.id in ours):
            why.append("kept images are layered on it")
        if any(upper.id not in ours for upper in standing):
            why.append("another installation uses it")
        listed.append(_held(image, "deps", None, tuple(dict.fromkeys(why))))
    return listed


def _held(image: ImageView, role: str, update: Update | None, reasons: tuple[str, ...]) -> Held:
    return Held(
        image_id=image.id,
        tag=image.tags[0] if image.tags else "",
        role=role,
        sha=update.sha if update else None,
        tx_id=update.tx_id if update else None,
        title=update.title if update else "",
        size_bytes=image.size_bytes,
        unique_bytes=update.unique_bytes if update else None,
        reasons=reasons,
    )
