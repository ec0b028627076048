"""Images with what the settings have come to need: another provider's SDK, or vectors.

The same source on other packages of the checkout's own locks is no other revision, and nobody is asked. But it is
another image, so it is made while nothing is in service, for N-1 as well, and examined afterwards.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from supervisor.contract import EventType
from supervisor.contract.providers import Extra
from supervisor.engine import BuildFailed, Engine
from supervisor.images.builds import (
    ImagesUnavailable,
    build_revision,
    checkout_lock,
    ensure_deps,
    extras_in,
    with_extras,
)
from supervisor.ledger import Ledger, Revision
from supervisor.pipeline.dependencies import lock_of
from supervisor.revisions import Revisions
from supervisor.settings import Settings

_BUILD_SECONDS: Final = 300.0

Say = Callable[[str], None]


def missing_extras(settings: Settings) -> tuple[Extra, ...]:
    """What the settings need, and the active revision's image has not. Raises EngineError, LedgerError."""
    if not settings.extras:
        return ()
    with Ledger.read_only(settings.paths.ledger) as ledger:
        return _missing(settings, Engine(), ledger.good_revision())


def ensure_extras(settings: Settings, engine: Engine, ledger: Ledger, say: Say) -> None:
    """Build the active revision and N-1 again where their images lack what the settings need.

    To be called while no supervisor runs. Raises ImagesUnavailable, EngineError.
    """
    for revision in _at_hand(ledger):
        if missing := _missing(settings, engine, revision):
            say(f"Building {revision.image_tag} again, with the packages for {', '.join(missing)}...")
            _build(settings, engine, ledger, revision)


def _at_hand(ledger: Ledger) -> Iterator[Revision]:
    good = ledger.good_revision()
    yield good
    if good.base_sha:
        yield ledger.revision(good.base_sha)


def _missing(settings: Settings, engine: Engine, revision: Revision) -> tuple[Extra, ...]:
    standing = engine.image(revision.deps_image_id)
    if standing is None:
        return ()  # it is built again anyway, with all it needs
    has = extras_in(standing)
    return tuple(extra for extra in settings.extras if extra not in has)


def _build(settings: Settings, engine: Engine, ledger: Ledger, revision: Revision) -> None:
    own = lock_of(ledger, revision)
    extras = settings.extras
    lock = checkout_lock(extras) if own is None else with_extras(own, extras).encode()
    deps = ensure_deps(engine, say=lambda _: None, lock=lock)
    try:
        built = build_revision(
            engine,
            project=settings.project,
            deps_image_id=deps.image_id,
            sha=revision.sha,
            base_sha=revision.base_sha,
            tx_id=revision.tx_id,
            files=Revisions(settings.paths.revisions).files(revision.sha),
            trunk=None,
            created=time.time(),
            log=lambda _: None,
            timeout=_BUILD_SECONDS,
        )
    except BuildFailed as error:
        raise ImagesUnavailable(f"{revision.image_tag} could not be built again: {error}") from error
    told = {"tx_id": revision.tx_id, "sha": revision.sha, "image_id": built.image_id}
    ledger.append(
        EventType.UPDATE_BUILD_COMPLETED,
        {**told, "rebuilt": True, "accepted_unexamined": True, "extras": list(extras)},
        parent_id=revision.event_id,
    )
    changes = {"image_id": built.image_id, "image_tag": built.tag, "deps_image_id": deps.image_id}
    ledger.amend(revision.tx_id, changes)
