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

from supervisor.cards.content import card
from supervisor.engine import BuildFailed, Engine, EngineError, EngineUnreachable, NoSpace
from supervisor.gates import risk
from supervisor.gates.examprocess import ExamProcess
from supervisor.gates.owncheck import OwnCheck
from supervisor.gates.rehearsal import Rehearsal, Rehearsed
from supervisor.gates.testgate import TestGate
from supervisor.gates.testrun import Cancelled, TestRunner
from supervisor.images.builds import BuiltImage, ImagesUnavailable, Trunk, build_revision, ensure_deps
from supervisor.images.resolution import IndexAway, ResolvingFailed
from supervisor.images.trunk import trunk_of
from supervisor.ledger import Blame, Ledger, LedgerError, LostRace, NewUpdate, Revision, Update
from supervisor.pipeline.carryover import carry_over
from supervisor.pipeline.dependencies import Changed, asks_for_packages, look_up, same_again, shown
from supervisor.revisions import Revisions
from supervisor.revisions.policy import RefusalCode, Refused
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.states import IN_PIPELINE, TRANSITIONS, Status
from supervisor.updates.attempts import Attempts, TooManyDeaths
from supervisor.updates.binding import digest

_LOG = structlog.get_logger()

_IDLE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0
_DEFERRED: Final = "the packages are fetched, and the gates are run on them, after your approval"
#: The state in which the gate works that leads to another one.
_GATE_OF: Final = {
    Status.TESTING: Status.BUILDING,
    Status.SELF_CHECKING: Status.TESTING,
    Status.STAGED: Status.SELF_CHECKING,
}
_MOST_ATTEMPTS: Final = 5  # at one step, each cut by the engine
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
        self._attempts = Attempts(ledger)
        self._stopping = False
        self._deadline = 0.0
        self.paused = ""
        run = settings.paths.run
        self._runner = TestRunner(engine, settings.project, settings.worker_uid, run / "test")
        examiner = ExamProcess(engine, settings.project, settings.worker_uid, run / "exam")
        self._own_check = OwnCheck(engine, settings.project, settings.worker_uid, settings.self_check_command)
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
                dependencies=self._settings.allow_dependency_updates,
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
        self._work()
        with contextlib.suppress(LedgerError):
            self._attempts.end()

    def _work(self) -> None:
        while not self._stopping:
            seen = self._signal.count
            try:
                carry_over(self._ledger, self._revisions, parent_id=self._started_event)
                update = self._next()
                if update is None or not self._room_left():
                    self._signal.wait(_IDLE_SECONDS, seen)
                else:
                    self._attend(update)
            except (EngineError, LedgerError) as error:
                # Not the candidate's fault: the same step again, when engine or ledger are back.
                self.paused = str(error)
                _LOG.warning("the pipeline waits", error=str(error))
                self._signal.until(lambda: self._stopping, _RETRY_SECONDS)

    def _next(self) -> Update | None:
        approved = self._ledger.having(Status.APPROVED, Status.DEPLOYING)
        waiting = (update for update in approved if update.gates_pending)
        return next(waiting, None) or self._ledger.first(*IN_PIPELINE)

    def _attend(self, update: Update) -> None:
        try:
            self._attempts.begin(update)
            self._work_on(update)
        except TooManyDeaths as deaths:
            self._give_up(update.tx_id, str(deaths))
        except (LostRace, Cancelled):
            _LOG.info("the update went another way", tx=update.tx_id)
        except (EngineUnreachable, NoSpace, LedgerError):
            raise
        except EngineError as error:
            if self._ledger.attempted(update.tx_id, self._ledger.find(update.tx_id).status) < _MOST_ATTEMPTS:
                raise
            self._give_up(update.tx_id, f"the engine failed {_MOST_ATTEMPTS} times in this step, at last: {error}")
        except Exception as error:  # a defect of ours must cost this update, not the supervisor
            _LOG.exception("a defect in the pipeline", tx=update.tx_id)
            why = f"a defect of the supervisor: {type(error).__name__}: {error}; see `supervisor logs`"
            self._give_up(update.tx_id, why)

    def _give_up(self, tx_id: str, reason: str) -> None:
        """End an update for what is not its own fault."""
        update = self._ledger.find(tx_id)
        failed = {
            Status.CREATED: Status.CANCELLED,
            Status.BUILDING: Status.BUILD_FAILED,
            Status.TESTING: Status.TEST_FAILED,
            Status.SELF_CHECKING: Status.SELF_CHECK_FAILED,
            Status.APPROVED: Status.DEPLOY_FAILED,
        }
        if target := failed.get(update.status):
            with contextlib.suppress(LostRace):
                self._fail(update, target, reason, {}, {"blame": Blame.EXTERNAL})

    def _work_on(self, update: Update) -> None:
        self._deadline = time.monotonic() + self._settings.pipeline_timeout_seconds
        if update.status is Status.CREATED:
            update = self._admit(update)
            if update.status is not Status.CREATED:
                return
            update = self._ledger.move(
                update.tx_id, Status.CREATED, Status.BUILDING, changes={"build_started_at": self._clock()}
            )
        if update.gates_pending:
            self._gate_approved(update)
            return
        steps: dict[Status, Callable[[Update], Update]] = {
            Status.BUILDING: self._build,
            Status.TESTING: self._test,
            Status.SELF_CHECKING: self._examine,
        }
        while step := steps.get(update.status):
            update = step(update)
        _LOG.info("the pipeline is done with it", tx=update.tx_id, status=update.status)

    def _gate_approved(self, update: Update) -> None:
        """The gates of an update that asked for packages: all of them anew, whatever a crash cut short."""
        if update.status is Status.DEPLOYING:  # it had failed, and that was not recorded to its end
            self._ledger.move(update.tx_id, Status.DEPLOYING, Status.DEPLOY_FAILED)
            return
        for step in (self._build, self._test, self._examine):
            update = step(update)
            if update.status is not Status.APPROVED:
                return
        self._signal.notify()

    # -- the steps

    def _build(self, update: Update) -> Update:
        if update.status is Status.BUILDING and asks_for_packages(update):
            return self._look_up(update)
        base = self._ledger.revision(update.base_sha or "")
        sha = update.sha or ""
        lines: list[str] = []
        started = self._clock()
        try:
            deps_image_id = self._packages(update, lines) or update.deps_image_id or base.deps_image_id
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
        except (ResolvingFailed, Changed, ImagesUnavailable) as failure:
            self._log(update, "2-build", "\n".join([*lines, str(failure)]))
            changes = {"blame": Blame.EXTERNAL, "code": getattr(failure, "code", None)}
            return self._fail(update, Status.BUILD_FAILED, str(failure), {"error": str(failure)}, changes)
        except BuildFailed as failure:
            self._log(update, "2-build", "\n".join([*lines, str(failure)]))
            return self._fail(update, Status.BUILD_FAILED, str(failure), {"error": str(failure)})
        self._log(update, "2-build", "\n".join(lines))
        finished = self._clock()
        changes = {
            **_image_columns(built),
            "deps_image_id": deps_image_id,
            "build_finished_at": finished,
            "test_started_at": finished,
        }
        if update.status is Status.APPROVED:
            changes["build_started_at"] = started
        took = _took(finished, started if update.status is Status.APPROVED else update.build_started_at)
        return self._pass(update, Status.TESTING, changes, took)

    def _look_up(self, update: Update) -> Update:
        """What a request for packages comes to, for the card; nothing is built before the approval."""
        try:
            dependencies, lock = look_up(self._ledger, self._engine, self._revisions, update)
        except ResolvingFailed as failure:
            blame = Blame.EXTERNAL if isinstance(failure, IndexAway) else Blame.OWN
            self._log(update, "2-build", str(failure))
            error = {"error": str(failure)}
            return self._fail(update, Status.BUILD_FAILED, str(failure), error, {"blame": blame})
        self._log(update, "2-build", shown(dependencies))
        changes = {"dependencies": dependencies, "lock": lock}
        return self._ledger.move(
            update.tx_id, Status.BUILDING, Status.TESTING, changes=changes, payload={"deferred": _DEFERRED}
        )

    def _packages(self, update: Update, lines: list[str]) -> str | None:
        """The dependency image of the packages that were approved, if any were asked for.

        Raises ResolvingFailed, Changed, ImagesUnavailable.
        """
        if update.dependencies is None:
            return None
        lock = same_again(self._ledger, self._engine, self._revisions, update)
        return ensure_deps(self._engine, lines.append, lock.encode()).image_id

    def _test(self, update: Update) -> Update:
        if update.status is Status.TESTING and update.dependencies is not None:
            return self._ledger.move(
                update.tx_id, Status.TESTING, Status.SELF_CHECKING, payload={"deferred": _DEFERRED}
            )
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
        return self._pass(update, Status.SELF_CHECKING, changes, took)

    def _examine(self, update: Update) -> Update:
        if update.status is Status.SELF_CHECKING and update.dependencies is not None:
            return self._stage(update, {}, {"deferred": _DEFERRED})
        revision = update.revision
        lease = self._ledger.lease()
        rehearsed = self._rehearsal.hold(
            revision,
            self._ledger.revision(revision.base_sha or ""),
            epoch=(lease.epoch if lease else 0) + 1,
            cancelled=lambda: self._cancelled(update),
        )
        if not rehearsed.reason:
            rehearsed = self._check_as_the_owner_wants(update, rehearsed)
        self._log(update, "4-exam", rehearsed.text())
        finished = self._clock()
        changes = {"self_check_summary": rehearsed.summary(), "self_check_finished_at": finished}
        took = _took(finished, update.self_check_started_at)
        if rehearsed.reason:
            error = f"{rehearsed.reason}\n{rehearsed.tail}".strip()
            changes["blame"] = rehearsed.blame
            if update.status is Status.APPROVED:
                del changes["self_check_finished_at"]  # that alone says that the gates were passed
            return self._fail(update, Status.SELF_CHECK_FAILED, error, {"error": rehearsed.reason, **took}, changes)
        if update.status is Status.APPROVED:
            return self._pass(update, Status.STAGED, changes, took)
        return self._stage(update, changes, took)

    def _check_as_the_owner_wants(self, update: Update, rehearsed: Rehearsed) -> Rehearsed:
        image_id, left = update.revision.image_id, self._left()
        checked = self._own_check.run(image_id, seconds=left, cancelled=lambda: self._cancelled(update))
        return rehearsed if checked is None else rehearsed.with_own_check(*checked)

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
            changes={"last_error": f"{good.tx_id} is the good one now"},
            payload={"by": good.tx_id},
        )

    # -- inside

    def _pass(
        self, update: Update, target: Status, changes: Mapping[str, object], took: Mapping[str, object]
    ) -> Update:
        """A gate let it through. Of an update that is approved already only an event tells that."""
        if update.status is not Status.APPROVED:
            return self._ledger.move(update.tx_id, update.status, target, changes=changes, payload=took)
        passed = TRANSITIONS[_GATE_OF[target], target][0]
        return self._ledger.amend(update.tx_id, changes, event=passed, payload=took)

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
        told = {"blame": Blame.OWN, **(changes or {}), "last_error": error}
        if update.status is Status.APPROVED:  # the reason goes with the first move, and cannot get lost before the end
            told["deploy_started_at"] = self._clock()
            update = self._ledger.move(update.tx_id, Status.APPROVED, Status.DEPLOYING, changes=told)
            status = Status.DEPLOY_FAILED
        return self._ledger.move(update.tx_id, update.status, status, changes=told, payload=payload)

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
