"""Packages that a patch asks for: what a person is shown, and the dependency image that is built once they agree.

Before the approval the index is only asked. After it, it is asked again, and only the same answer is built.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from supervisor.cards.content import packages
from supervisor.images.builds import ImageFacts, base_tag, checkout_lock, deps_tag, extras_in
from supervisor.images.resolution import Package, Unresolvable, resolve
from supervisor.ledger import Ledger, Origin, Revision, Update
from supervisor.revisions import Revisions
from supervisor.revisions.policy import REQUIREMENTS
from supervisor.revisions.requirements import name_of, requested

_MOST: Final = 20  # packages in one request, those that come along included
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_BLOCK: Final = re.compile(r"^[^\s#][^\n]*\n(?:[ \t][^\n]*\n)*", re.MULTILINE)


class Changed(Exception):
    """What the index offers is not what was approved; the message says what."""

    code = "digest_mismatch"


class TaggedImage(ImageFacts, Protocol):
    """What is asked of an image here."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Its names."""


class Engine(Protocol):
    """The part of the engine that is asked."""

    def image(self, reference: str) -> TaggedImage | None:
        """The image of that id or tag, or None."""


def asks_for_packages(update: Update) -> bool:
    """Whether the patch changes the list of packages. A checkout brings its own lock, and asks for nothing."""
    return update.origin is not Origin.UPSTREAM and any(change["path"] == REQUIREMENTS for change in update.changes)


def look_up(ledger: Ledger, engine: Engine, revisions: Revisions, update: Update) -> tuple[dict[str, Any], str]:
    """What the request comes to: for the ledger and the digest, and the whole lock. Raises ResolvingFailed."""
    base = ledger.revision(update.base_sha or "")
    before, after = (revisions.files(sha, "worker").get(REQUIREMENTS) for sha in (base.sha, update.sha or ""))
    below = lock_below(ledger, engine, base)
    added = resolve(requested(before, after), pins(below))
    if len(added) > _MOST:
        raise Unresolvable(f"{len(added)} packages would come along; at most {_MOST} are taken, as somebody reads them")
    if not added:
        raise Unresolvable("the worker has these packages already; leave the list as it is and import them")
    lock = extended(below, added)
    return {"lock_sha256": lock_digest(lock), "packages": [package.plain() for package in added]}, lock


def same_again(ledger: Ledger, engine: Engine, revisions: Revisions, update: Update) -> str:
    """The approved lock, when the index still answers the same. Raises Changed, ResolvingFailed."""
    now, lock = look_up(ledger, engine, revisions, update)
    approved = update.dependencies or {}
    if now["lock_sha256"] != approved.get("lock_sha256") or lock != ledger.lock(update.tx_id):
        raise Changed(f"approved was {shown(approved)}; the index now offers {shown(now)}")
    return lock


def shown(dependencies: Mapping[str, Any]) -> str:
    """The packages of a request on one line."""
    return "; ".join(packages(dependencies))


# -- locks


def lock_of(ledger: Ledger, revision: Revision) -> str | None:
    """The lock that a revision got by approved requests; None when it stands on a checkout's."""
    update = ledger.find(revision.tx_id)
    while (lock := ledger.lock(update.tx_id)) is None:
        if update.origin in (Origin.GENESIS, Origin.UPSTREAM) or update.base_sha is None:
            return None
        update = ledger.find(ledger.revision(update.base_sha).tx_id)
    return lock


def last_on_a_checkouts_lock(ledger: Ledger, revision: Revision) -> Revision:
    """The newest import at or below a revision that stands on its checkout's own lock."""
    update = ledger.find(revision.tx_id)
    while update.base_sha and (update.origin is not Origin.UPSTREAM or ledger.lock(update.tx_id) is not None):
        update = ledger.find(ledger.revision(update.base_sha).tx_id)
    return update.revision


def lock_below(ledger: Ledger, engine: Engine, revision: Revision) -> str:
    """The lock of the packages that a revision stands on. Raises Unresolvable when nobody knows it any more."""
    own = lock_of(ledger, revision)
    if own is not None:
        return own
    base, standing = engine.image(base_tag()), engine.image(revision.deps_image_id)
    lock = checkout_lock(extras_in(standing)) if standing is not None else b""
    if base is None or standing is None or deps_tag(base.id, lock) not in standing.tags:
        raise Unresolvable("the checkout's lock is not the one that the worker stands on; `supervisor upgrade` first")
    return lock.decode()


def pins(lock: str) -> dict[str, str]:
    """The locked versions by name."""
    return {name_of(name): version for name, version in _PIN.findall(lock)}


def extended(lock: str, added: Sequence[Package]) -> str:
    """A lock with these packages, in place of other versions of theirs."""
    names = {package.name for package in added}
    kept = [block for block in _BLOCK.findall(lock) if name_of(block.split("==")[0]) not in names]
    return "".join(sorted([*kept, *(package.locked for package in added)], key=lambda block: block.split("==")[0]))


def lock_digest(lock: str) -> str:
    """What tells one lock from another."""
    return hashlib.sha256(lock.encode()).hexdigest()
