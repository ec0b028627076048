"""A revision whose image is gone can still be run: it is built again from its recorded tree.

Another build has another id, which is accepted after an exam. Only while nothing is in service is there no time for
that: the image is run at once, and examined afterwards.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from supervisor.contract import EventType
from supervisor.contract.providers import Extra
from supervisor.engine import BuildFailed, EngineError
from supervisor.gates.exam import Candidate, CutShort
from supervisor.gates.rehearsal import Rehearsal
from supervisor.gates.testrun import Cancelled
from supervisor.images.builds import (
    ImageEngine,
    ImagesUnavailable,
    build_revision,
    checkout_lock,
    ensure_deps,
    with_extras,
)
from supervisor.ledger import Ledger, LedgerError, Revision
from supervisor.pipeline.dependencies import lock_of
from supervisor.revisions import Revisions

_LOG = structlog.get_logger()
_BUILD_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 0.5
_TOLD: Final = (
    EventType.UPDATE_BUILD_COMPLETED,
    EventType.UPDATE_SELF_CHECK_COMPLETED,
    EventType.UPDATE_SELF_CHECK_FAILED,
)


class Rebuilder(Protocol):
    """Sees to it that a revision's image exists."""

    def ensure_image(self, revision: Revision) -> Revision:
        """The revision with an image that exists, built again when the recorded one is gone. Raises EngineError."""


@dataclass(frozen=True)
class Reexamination:
    """The exam of a revision that passed its gates before: held once, on a copy of the state.

    To be used by one thread at a time.
    """

    rehearsal: Rehearsal
    ledger: Ledger

    def failure(self, revision: Revision, *, cancelled: Callable[[], bool]) -> str:
        """Why the revision's image cannot be accepted; empty when it can. Raises EngineError, Cancelled, CutShort.

        A part that was not asked of the revision when it was a candidate does not count.
        """
        lease = self.ledger.lease()
        summary = self.ledger.find(revision.tx_id).self_check_summary or {}
        asked = {part["name"] for part in summary.get("candidate", ())}
        waived: set[str] = set()
        try:
            while True:
                with self.rehearsal.state_copy() as state:
                    candidate = Candidate(
                        image_id=revision.image_id,
                        sha=revision.sha,
                        state=state,
                        epoch=(lease.epoch if lease else 0) + 1,
                    )
                    failed = self.rehearsal.examiner.examine(
                        candidate, waived=frozenset(waived), cancelled=cancelled, another=False
                    ).failed
                if failed is None:
                    return ""
                if not asked or failed.name in asked:
                    return f"it failed the part {failed.name!r}: {failed.detail}"
                waived.add(failed.name)
        finally:
            self.rehearsal.examiner.rest()


class ImageRebuilder:
    """Builds again from the bare repository and the dependency image; the new id is recorded.

    ``in_service`` says whether a worker is active and well, and nobody wants the supervisor to end; ``extras`` are what
    a dependency image must have that is made anew.
    """

    def __init__(
        self,
        *,
        engine: ImageEngine,
        ledger: Ledger,
        revisions: Revisions,
        project: str,
        exam: Reexamination,
        in_service: Callable[[], bool],
        stopping: Callable[[], bool],
        extras: Sequence[Extra] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._extras = extras
        self._engine = engine
        self._ledger = ledger
        self._revisions = revisions
        self._project = project
        self._exam = exam
        self._in_service = in_service
        self._stopping = stopping
        self._clock = clock
        self._one_exam = threading.Lock()

    def ensure_image(self, revision: Revision) -> Revision:
        """See Rebuilder."""
        if self._engine.image(revision.image_id) is not None:
            return revision
        _LOG.warning("an image is gone; building it again", sha=revision.sha[:12], tag=revision.image_tag)
        rebuilt = self._build(revision)
        examine_first = self._in_service()
        told = {"sha": revision.sha, "image_id": rebuilt.image_id, "rebuilt": True}
        if not examine_first:
            told["accepted_unexamined"] = True
        self._tell(EventType.UPDATE_BUILD_COMPLETED, revision, told)
        if examine_first:
            self._examine_first(rebuilt)
        accepted = self._ledger.amend(
            revision.tx_id,
            {
                "image_id": rebuilt.image_id,
                "image_tag": rebuilt.image_tag,
                "deps_image_id": rebuilt.deps_image_id,
            },
        ).revision
        if not examine_first:
            self._later(accepted)
        return accepted

    def catch_up(self) -> None:
        """Examine what an earlier supervisor accepted unexamined, of the good revision and of N-1."""
        good = self._ledger.good_revision()
        for revision in (good, *([self._ledger.revision(good.base_sha)] if good.base_sha else [])):
            latest = self._ledger.events(*_TOLD, parent_id=revision.event_id, newest_first=True, limit=1)
            if latest and latest[0].payload.get("accepted_unexamined"):
                self._later(revision)

    # -- the build

    def _build(self, revision: Revision) -> Revision:
        deps_image_id = self._deps(revision)
        try:
            built = build_revision(
                self._engine,
                project=self._project,
                deps_image_id=deps_image_id,
                sha=revision.sha,
                base_sha=revision.base_sha,
                tx_id=revision.tx_id,
                files=self._revisions.files(revision.sha),
                trunk=None,
                created=self._clock(),
                log=lambda _: None,
                timeout=_BUILD_SECONDS,
            )
        except BuildFailed as error:
            raise EngineError(f"{revision.image_tag} is gone and cannot be built again: {error}") from error
        return replace(revision, image_id=built.image_id, image_tag=built.tag, deps_image_id=deps_image_id)

    def _deps(self, revision: Revision) -> str:
        if self._engine.image(revision.deps_image_id) is not None:
            return revision.deps_image_id
        try:
            own = lock_of(self._ledger, revision)
            lock = checkout_lock(self._extras) if own is None else with_extras(own, self._extras).encode()
            return ensure_deps(self._engine, lambda line: _LOG.info("dependency image", step=line), lock).image_id
        except ImagesUnavailable as error:
            raise EngineError(f"{revision.image_tag} is gone and cannot be built again: {error}") from error

    # -- the exam

    def _examine_first(self, rebuilt: Revision) -> None:
        """Raise EngineError unless it passes; also when the active worker ends meanwhile, which comes first."""
        try:
            with self._one_exam:
                failure = self._exam.failure(rebuilt, cancelled=lambda: not self._in_service())
        except (Cancelled, CutShort) as error:
            raise EngineError(f"the exam of {rebuilt.image_tag}, built again, was cut short: {error}") from error
        self._settle(rebuilt, failure)
        if failure:
            raise EngineError(f"{rebuilt.image_tag}, built again, is not accepted: {failure}")

    def _later(self, accepted: Revision) -> None:
        threading.Thread(target=self._examine_later, args=(accepted,), name="exam", daemon=True).start()

    def _examine_later(self, accepted: Revision) -> None:
        with suppress(Cancelled), self._one_exam:
            try:
                while not self._in_service():
                    if self._stopping():
                        return
                    time.sleep(_LOOK_SECONDS)
                failure = self._exam.failure(accepted, cancelled=self._stopping)
                self._settle(accepted, failure)
            except (EngineError, LedgerError, CutShort) as error:
                _LOG.warning("an image that was built again is not examined yet", error=str(error))
            else:
                if failure:
                    _LOG.error("an image that was built again runs and fails its exam", reason=failure)

    def _settle(self, revision: Revision, failure: str) -> None:
        told = {"sha": revision.sha, "image_id": revision.image_id, "rebuilt": True}
        if failure:
            self._tell(EventType.UPDATE_SELF_CHECK_FAILED, revision, {**told, "error": failure})
        else:
            self._tell(EventType.UPDATE_SELF_CHECK_COMPLETED, revision, told)

    def _tell(self, event: EventType, revision: Revision, told: dict[str, object]) -> None:
        self._ledger.append(event, {"tx_id": revision.tx_id, **told}, parent_id=revision.event_id)
