"""The steps between a patch and a staged update: build, test, exam, and the card at the end."""

import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from supervisor.cards.content import card
from supervisor.engine import BuildFailed, Engine, NoSpace
from supervisor.gates import risk
from supervisor.gates.examprocess import ExamProcess
from supervisor.gates.owncheck import OwnCheck
from supervisor.gates.rehearsal import Rehearsal, Rehearsed
from supervisor.gates.testgate import TestGate
from supervisor.gates.testrun import TestRunner
from supervisor.images.builds import BuiltImage, ImagesUnavailable, Trunk, build_revision, ensure_deps
from supervisor.images.resolution import IndexAway, ResolvingFailed
from supervisor.images.trunk import trunk_of
from supervisor.ledger import Blame, Ledger, Origin, Revision, Update
from supervisor.pipeline.dependencies import Changed, asks_for_packages, look_up, same_again, shown
from supervisor.revisions import Revisions
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.states import TRANSITIONS, Status
from supervisor.updates.binding import digest
from supervisor.updates.superseding import supersede

_LOG = structlog.get_logger()

_DEFERRED: Final = "the packages are fetched, and the gates are run on them, after your approval"
#: The state in which the gate works that leads to another one.
_GATE_OF: Final = {
    Status.TESTING: Status.BUILDING,
    Status.SELF_CHECKING: Status.TESTING,
    Status.STAGED: Status.SELF_CHECKING,
}
_LONGEST_ERROR: Final = 32 * 1024  # characters that the ledger keeps of why an update failed


class Steps:
    """Takes one update through its gates. Raises LostRace and Cancelled, EngineError, LedgerError."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        revisions: Revisions,
        settings: Settings,
        signal: Signal,
        clock: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._revisions = revisions
        self._settings = settings
        self._signal = signal
        self._clock = clock
        self._stopping = stopping
        self._deadline = 0.0
        run = settings.paths.run
        self._runner = TestRunner(engine, settings.project, settings.worker_uid, run / "test")
        examiner = ExamProcess(engine, settings.project, settings.worker_uid, run / "exam")
        self._own_check = OwnCheck(engine, settings.project, settings.worker_uid, settings.self_check_command)
        self._rehearsal = Rehearsal(examiner, run / "exam", settings.paths.agent_db)

    def start_clock(self) -> None:
        """From here on the steps have as long as the settings allow, all together."""
        self._deadline = time.monotonic() + self._settings.pipeline_timeout_seconds

    def gate(self, update: Update) -> None:
        """Take an update from the step it is at to ``staged``, or to its end."""
        steps: dict[Status, Callable[[Update], Update]] = {
            Status.BUILDING: self._build,
            Status.TESTING: self._test,
            Status.SELF_CHECKING: self._examine,
        }
        while step := steps.get(update.status):
            update = step(update)
        _LOG.info("the pipeline is done with it", tx=update.tx_id, status=update.status)

    def gate_approved(self, update: Update) -> None:
        """The gates of an update that asked for packages: all of them anew, whatever a crash cut short."""
        if update.status is Status.DEPLOYING:  # it had failed, and that was not recorded to its end
            self._ledger.move(update.tx_id, Status.DEPLOYING, Status.DEPLOY_FAILED)
            return
        for step in (self._build, self._test, self._examine):
            update = step(update)
            if update.status is not Status.APPROVED:
                return
        self._signal.notify()

    def fail(
        self,
        update: Update,
        status: Status,
        error: str,
        payload: Mapping[str, object],
        changes: Mapping[str, object] | None = None,
    ) -> Update:
        """End an update with this error; it is to blame itself unless ``changes`` say otherwise. Raises LostRace."""
        if len(error) > _LONGEST_ERROR:
            error = f"{error[:_LONGEST_ERROR]}\n... the whole of it is in the step's log"
        told = {"blame": Blame.OWN, **(changes or {}), "last_error": error}
        if update.status is Status.APPROVED:  # the reason goes with the first move, and cannot get lost before the end
            told["deploy_started_at"] = self._clock()
            update = self._ledger.move(update.tx_id, Status.APPROVED, Status.DEPLOYING, changes=told)
            status = Status.DEPLOY_FAILED
        return self._ledger.move(update.tx_id, update.status, status, changes=told, payload=payload)

    def log(self, update: Update, step: str, text: str) -> None:
        """Keep what a step has said, for ``supervisor show``."""
        directory = self._settings.paths.steps(update.tx_id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory / f"{step}.log").write_text(text + "\n", encoding="utf-8")

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
                # What a checkout brings is built whole, with its bytecode: it is what later patches are layered on.
                trunk=None if update.origin is Origin.UPSTREAM else self._trunk(base),
                created=update.created_at,
                log=lines.append,
                timeout=self._left(),
            )
        except NoSpace:
            raise
        except (ResolvingFailed, Changed, ImagesUnavailable) as failure:
            self.log(update, "2-build", "\n".join([*lines, str(failure)]))
            changes = {"blame": Blame.EXTERNAL, "code": getattr(failure, "code", None)}
            return self.fail(update, Status.BUILD_FAILED, str(failure), {"error": str(failure)}, changes)
        except BuildFailed as failure:
            self.log(update, "2-build", "\n".join([*lines, str(failure)]))
            return self.fail(update, Status.BUILD_FAILED, str(failure), {"error": str(failure)})
        self.log(update, "2-build", "\n".join(lines))
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
            self.log(update, "2-build", str(failure))
            error = {"error": str(failure)}
            return self.fail(update, Status.BUILD_FAILED, str(failure), error, {"blame": blame})
        self.log(update, "2-build", shown(dependencies))
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
        self.log(update, "3-test", log)
        finished = self._clock()
        changes = {"test_summary": verdict.summary, "test_finished_at": finished}
        took = _took(finished, update.test_started_at)
        if not verdict.passed:
            told = [f"{name}\n{text}".strip() for name, text in verdict.failing.items()]
            error = "\n\n".join([verdict.reason, *told])
            return self.fail(update, Status.TEST_FAILED, error, {"error": verdict.reason, **took}, changes)
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
        self.log(update, "4-exam", rehearsed.text())
        finished = self._clock()
        changes = {"self_check_summary": rehearsed.summary(), "self_check_finished_at": finished}
        took = _took(finished, update.self_check_started_at)
        if rehearsed.reason:
            error = f"{rehearsed.reason}\n{rehearsed.tail}".strip()
            changes["blame"] = rehearsed.blame
            if update.status is Status.APPROVED:
                del changes["self_check_finished_at"]  # that alone says that the gates were passed
            return self.fail(update, Status.SELF_CHECK_FAILED, error, {"error": rehearsed.reason, **took}, changes)
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
        good = self._ledger.good_revision()
        if staged.base_sha == good.sha:
            return staged
        supersede(self._ledger, staged, good)  # which became the good one while this was at the gates
        return self._ledger.find(staged.tx_id)

    # -- inside

    def _pass(
        self, update: Update, target: Status, changes: Mapping[str, object], took: Mapping[str, object]
    ) -> Update:
        """A gate let it through. Of an update that is approved already only an event tells that."""
        if update.status is not Status.APPROVED:
            return self._ledger.move(update.tx_id, update.status, target, changes=changes, payload=took)
        passed = TRANSITIONS[_GATE_OF[target], target][0]
        return self._ledger.amend(update.tx_id, changes, event=passed, payload=took)

    def _trunk(self, base: Revision) -> Trunk:
        trunk = trunk_of(self._ledger, base.sha).revision
        return Trunk(image_id=trunk.image_id, sha=trunk.sha, files=self._revisions.files(trunk.sha))

    def _cancelled(self, update: Update) -> bool:
        return self._stopping() or self._ledger.find(update.tx_id).status is Status.CANCELLED

    def _left(self) -> float:
        return max(1.0, self._deadline - time.monotonic())


def _image_columns(built: BuiltImage) -> dict[str, object]:
    return {
        "image_id": built.image_id,
        "image_tag": built.tag,
        "size_bytes": built.size_bytes,
        "unique_bytes": built.unique_bytes,
    }


def _took(finished: float, started: float | None) -> dict[str, object]:
    return {"duration_ms": round((finished - (started or finished)) * 1000)}
