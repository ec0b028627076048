"""A revision whose image is gone can still be run: it is built again from its recorded tree."""

import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from supervisor.contract import EventType
from supervisor.engine import Engine, EngineError
from supervisor.images import ImagesUnavailable, build_revision, ensure_deps
from supervisor.ledger import Ledger, Revision
from supervisor.revisions import Revisions

_LOG = structlog.get_logger()
_BUILD_SECONDS: Final = 600.0


class Rebuilder(Protocol):
    """Sees to it that a revision's image exists."""

    def ensure_image(self, revision: Revision) -> Revision:
        """The revision with an image that exists, built again when the recorded one is gone. Raises EngineError."""


class ImageRebuilder:
    """Builds again from the bare repository and the dependency image; the new id is recorded."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        revisions: Revisions,
        project: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._revisions = revisions
        self._project = project
        self._clock = clock

    def ensure_image(self, revision: Revision) -> Revision:
        """See Rebuilder."""
        if self._engine.image(revision.image_id) is not None:
            return revision
        _LOG.warning("an image is gone; building it again", sha=revision.sha[:12], tag=revision.image_tag)
        try:
            built = build_revision(
                self._engine,
                project=self._project,
                deps_image_id=self._deps(revision),
                sha=revision.sha,
                base_sha=revision.base_sha,
                tx_id=revision.tx_id,
                files=self._revisions.files(revision.sha),
                trunk=None,
                created=self._clock(),
                log=lambda _: None,
                timeout=_BUILD_SECONDS,
            )
        except ImagesUnavailable as error:
            raise EngineError(f"{revision.image_tag} is gone and cannot be built again: {error}") from error
        update = self._ledger.amend(revision.tx_id, {"image_id": built.image_id, "image_tag": built.tag})
        self._ledger.append(
            EventType.UPDATE_BUILD_COMPLETED,
            {"tx_id": revision.tx_id, "sha": revision.sha, "image_id": built.image_id, "rebuilt": True},
            parent_id=revision.event_id,
        )
        return update.revision

    def _deps(self, revision: Revision) -> str:
        if self._engine.image(revision.deps_image_id) is not None:
            return revision.deps_image_id
        deps = ensure_deps(self._engine, lambda line: _LOG.info("dependency image", step=line.strip()))
        self._ledger.amend(revision.tx_id, {"deps_image_id": deps.image_id})
        return deps.image_id
