"""From a patch to a staged update: apply, build, test, exam, stage.

One thread runs :meth:`Pipeline.run`, one update at a time. A step that a crash cut short starts again; a step that an
update was cancelled under ends quietly.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Final

import structlog

from supervisor.binding import digest
from supervisor.cards.content import card
from supervisor.engine import BuildFailed, Engine, EngineError, NoSpace
from supervisor.gates import risk
from supervisor.gates.examprocess import ExamProcess
from supervisor.gates.rehearsal import Rehearsal
from supervisor.gates.testgate import TestGate
from supervisor.gates.testrun import Cancelled, TestRunner
from supervisor.images import BuiltImage, Trunk, build_revision
from supervisor.ledger import Blame, Ledger, LedgerError, LostRace, NewUpdate, Revision, Update
from supervisor.revisions import Revisions
from supervisor.revisions.policy import RefusalCode, Refused
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.states import IN_PIPELINE, Status
from supervisor.trunk import trunk_of

_LOG = structlog.get_logger()

_IDLE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0
_LONGEST_ERROR: Final = 32 * 1024  # characters that the ledger keeps of why an update failed


class Pipeline:
    """Turns submissions into staged updates, or says why not."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        revisions: Revisions,
        settings: Settings,
        signal: Signal,
        started_event: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._revisions = revisions
        self._settings = settings
        self._signal = signal
        self._started_event = started_event
        self._clock = clock
        self._stopping = False
        self._deadline = 0.0
        self.paused = ""
        run = settings.paths.run
        self._runner = TestRunner(engine, settings.project, settings.worker_uid, run / "test")
        examiner = ExamProcess(engine, settings.project, settings.worker_uid, run / "exam")
        self._rehearsal = Rehearsal(examiner, run / "exam", settings.paths.agent_db)

    # -- the way in

    def submit(self, new: NewUpdate) -> Update:
        """Record a patch and judge what it makes of the good revision; it is built by the pipeline's own thread.

        The update that comes back is ``created``, or ``refused`` with code and reason.
        """
        base = self._good()
        new = replace(new, base_sha=base.sha, base_tx_id=base.tx_id)
        return self._admit(self._ledger.create(new, parent_id=self._started_event))

    def _admit(self, update: Update) -> Update:
        if update.sha is not None:
            return update
        base = self._ledger.revision(update.base_sha or "")
        try:
            applied = self._revisions.apply(
                base.sha,
                self._ledger.patch(update.tx_id),
                tx_id=update.tx_id,
                title=update.title,
                why=update.why,
                when=update.created_at,
            )
            self._refuse_repetition(update, applied.patch_id)
        except Refused as refused:
            self._log(update, "1-apply", f"refused, {refused.code}: {refused.reason}")
            return self._ledger.move(
                update.tx_id,
                Status.CREATED,
                Status.REFUSED,
                changes={"code": refused.code, "last_error": refused.reason},
                payload={"code": refused.code, "error": refused.reason},
            )
        changes = [asdict(change) for change in applied.changes]
        self._log(update, "1-apply", "\n".join(f"{c['path']} +{c['added']} -{c['deleted']}" for c in changes))
        update = self._ledger.amend(
            update.tx_id,
            {"sha": applied.sha, "tree": applied.tree, "patch_id": applied.patch_id, "changes": changes},
        )
        self._signal.notify()
        return update

    def _refuse_repetition(self, update: Update, patch_id: str) -> None:
        earlier = None if update.forced else self._ledger.failed_before(patch_id)
        if earlier is not None:
            raise Refused(
                RefusalCode.FAILED_BEFORE,
                f"the same change ended as {earlier.status} in {earlier.tx_id[:8]}; `submit --force` tries it again",
            )

    # -- the thread

    def stop(self) -> None:
        """Have :meth:`run` end soon; a step in hand is cut and starts again at the next start."""
        self._stopping = True
        self._signal.notify()

    def run(self) -> None:
        """Work on the oldest update that needs it, until :meth:`stop`."""
        while not self._stopping:
            seen = self._signal.count
            try:
                update = self._ledger.first(*IN_PIPELINE)
                if update is None or not self._room_left():
                    self._signal.wait(_IDLE_SECONDS, seen)
                else:
                    self._attend(update)
            except (EngineError, LedgerError) as error:
                # Not the candidate's fault: the same step again, when engine or ledger are back.
                self.paused = str(error)
                _LOG.warning("the pipeline waits", error=str(error))
                self._signal.until(lambda: self._stopping, _RETRY_SECONDS)

    def _attend(self, update: Update) -> None:
        try:
            self._work_on(update)
        except (LostRace, Cancelled):
            _LOG.info("the update went another way", tx=update.tx_id)
        except (EngineError, LedgerError):
            raise
        except Exception as error:  # a defect of ours must cost this update, not the supervisor
            _LOG.exception("a defect in the pipeline", tx=update.tx_id)
            self._give_up(update.tx_id, error)

    def _give_up(self, tx_id: str, error: Exception) -> None:
        update = self._ledger.find(tx_id)
        failed = {
            Status.CREATED: Status.CANCELLED,
            Status.BUILDING: Status.BUILD_FAILED,
            Status.TESTING: Status.TEST_FAILED,
            Status.SELF_CHECKING: Status.SELF_CHECK_FAILED,
        }
        if target := failed.get(update.status):
            reason = f"a defect of the supervisor: {type(error).__name__}: {error}; see `supervisor logs`"
            with contextlib.suppress(LostRace):
                self._ledger.move(tx_id, update.status, target, changes={"last_error": reason, "blame": "external"})

    def _work_on(self, update: Update) -> None:
        self._deadline = time.monotonic() + self._settings.pipeline_timeout_seconds
        if update.status is Status.CREATED:
            update = self._admit(update)
            if update.status is not Status.CREATED:
                return
            update = self._ledger.move(
                update.tx_id, Status.CREATED, Status.BUILDING, changes={"build_started_at": self._clock()}
            )
        steps: dict[Status, Callable[[Update], Update]] = {
            Status.BUILDING: self._build,
            Status.TESTING: self._test,
            Status.SELF_CHECKING: self._examine,
        }
        while step := steps.get(update.status):
            update = step(update)
        _LOG.info("the pipeline is done with it", tx=update.tx_id, status=update.status)

    # -- the steps

    def _build(self, update: Update) -> Update:
        base = self._ledger.revision(update.base_sha or "")
        deps_image_id = update.deps_image_id or base.deps_image_id
        sha = update.sha or ""
        lines: list[str] = []
        try:
            built = build_revision(
                self._engine,
                project=self._settings.project,
                deps_image_id=deps_image_id,
                sha=sha,
                base_sha=base.sha,
                tx_id=update.tx_id,
                files=self._revisions.files(sha),
                trunk=self._trunk(base),
                created=update.created_at,
                log=lines.append,
                timeout=self._left(),
            )
        except NoSpace:
            raise
        except BuildFailed as failure:
            self._log(update, "2-build", "\n".join([*lines, str(failure)]))
            return self._fail(update, Status.BUILD_FAILED, str(failure), {"error": str(failure)})
        self._log(update, "2-build", "\n".join(lines))
        finished = self._clock()
        return self._ledger.move(
            update.tx_id,
            Status.BUILDING,
            Status.TESTING,
            changes={
                **_image_columns(built),
                "deps_image_id": deps_image_id,
                "build_finished_at": finished,
                "test_started_at": finished,
            },
            payload=_took(finished, update.build_started_at),
        )

    def _test(self, update: Update) -> Update:
        revision = update.revision
        base = self._ledger.revision(revision.base_sha or "")
        gate = TestGate(self._runner, left=self._left, cancelled=lambda: self._cancelled(update))
        verdict, log = gate.judge(
            revision.image_id,
            base_image_id=base.image_id,
            own_tests=self._revisions.files(revision.sha, "tests/worker"),
            base_tests=self._revisions.files(base.sha, "tests/worker"),
        )
        self._log(update, "3-test", log)
        finished = self._clock()
        changes = {"test_summary": verdict.summary, "test_finished_at": finished}
        took = _took(finished, update.test_started_at)
        if not verdict.passed:
            told = [f"{name}\n{text}".strip() for name, text in verdict.failing.items()]
            error = "\n\n".join([verdict.reason, *told])
            return self._fail(update, Status.TEST_FAILED, error, {"error": verdict.reason, **took}, changes)
        changes["self_check_started_at"] = finished
        return self._ledger.move(update.tx_id, Status.TESTING, Status.SELF_CHECKING, changes=changes, payload=took)

    def _examine(self, update: Update) -> Update:
        revision = update.revision
        lease = self._ledger.lease()
        rehearsed = self._rehearsal.hold(
            revision,
            self._ledger.revision(revision.base_sha or ""),
            epoch=(lease.epoch if lease else 0) + 1,
            cancelled=lambda: self._cancelled(update),
        )
        self._log(update, "4-exam", rehearsed.text())
        finished = self._clock()
        changes = {"self_check_summary": rehearsed.summary(), "self_check_finished_at": finished}
        took = _took(finished, update.self_check_started_at)
        if rehearsed.reason:
            error = f"{rehearsed.reason}\n{rehearsed.tail}".strip()
            changes["blame"] = rehearsed.blame
            return self._fail(update, Status.SELF_CHECK_FAILED, error, {"error": rehearsed.reason, **took}, changes)
        return self._stage(update, changes, took)

    def _stage(self, update: Update, changes: Mapping[str, object], took: Mapping[str, object]) -> Update:
        base = self._revisions.files(update.base_sha or "")
        found = risk.assess(base, self._revisions.files(update.sha or ""))
        # As the ledger gives it back: that is what the digest is checked against from then on.
        update = self._ledger.amend(update.tx_id, {**changes, "card": card(update, changes, found)})
        staged = self._ledger.move(
            update.tx_id, Status.SELF_CHECKING, Status.STAGED, changes={"digest": digest(update)}, payload=took
        )
        good = self._good()
        if staged.base_sha == good.sha:
            return staged
        # Another update became the good revision while this one was at the gates.
        return self._ledger.move(
            staged.tx_id,
            Status.STAGED,
            Status.SUPERSEDED,
            changes={"last_error": f"{good.tx_id} is the good one now; submit it again on that base"},
            payload={"by": good.tx_id},
        )

    # -- inside

    def _fail(
        self,
        update: Update,
        status: Status,
        error: str,
        payload: Mapping[str, object],
        changes: Mapping[str, object] | None = None,
    ) -> Update:
        if len(error) > _LONGEST_ERROR:
            error = f"{error[:_LONGEST_ERROR]}\n... the whole of it is in the step's log"
        return self._ledger.move(
            update.tx_id,
            update.status,
            status,
            changes={"blame": Blame.OWN, **(changes or {}), "last_error": error},
            payload=payload,
        )

    def _trunk(self, base: Revision) -> Trunk:
        trunk = trunk_of(self._ledger, base.sha).revision
        return Trunk(image_id=trunk.image_id, sha=trunk.sha, files=self._revisions.files(trunk.sha))

    def _good(self) -> Revision:
        return self._ledger.good_revision()

    def _cancelled(self, update: Update) -> bool:
        return self._stopping or self._ledger.find(update.tx_id).status is Status.CANCELLED

    def _left(self) -> float:
        return max(1.0, self._deadline - time.monotonic())

    def _room_left(self) -> bool:
        free = shutil.disk_usage(self._settings.home).free
        needed = self._settings.min_free_bytes
        self.paused = "" if free >= needed else f"updates wait: {free:,} bytes are free, {needed:,} are needed"
        return not self.paused

    def _log(self, update: Update, step: str, text: str) -> None:
        directory = self._settings.paths.steps(update.tx_id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory / f"{step}.log").write_text(text + "\n", encoding="utf-8")


def _image_columns(built: BuiltImage) -> dict[str, object]:
    return {
        "image_id": built.image_id,
        "image_tag": built.tag,
        "size_bytes": built.size_bytes,
        "unique_bytes": built.unique_bytes,
    }


def _took(finished: float, started: float | None) -> dict[str, object]:
    return {"duration_ms": round((finished - (started or finished)) * 1000)}
