"""What is handed in, and the queue of it: each update is admitted and taken through the steps, to `staged` or its end.

One thread runs :meth:`Pipeline.run`, one update at a time. A step that a crash cut short starts again; a step that an
update was cancelled under ends quietly.
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

import structlog

from supervisor.engine import Engine, EngineError, EngineUnreachable, NoSpace
from supervisor.gates.testrun import Cancelled
from supervisor.ledger import Blame, Ledger, LedgerError, LostRace, NewUpdate, Update
from supervisor.pipeline.carryover import carry_over
from supervisor.pipeline.steps import Steps
from supervisor.revisions import Revisions, RevisionsUnusable
from supervisor.revisions.policy import RefusalCode, Refused
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.states import IN_PIPELINE, Status
from supervisor.updates.attempts import Attempts, TooManyDeaths

_LOG = structlog.get_logger()

_IDLE_SECONDS: Final = 5.0
#: After a step that nobody was to blame for could not be done.
RETRY_SECONDS: Final = 5.0
_MOST_ATTEMPTS: Final = 5  # at one step, each cut by the engine


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
        self._ledger = ledger
        self._revisions = revisions
        self._settings = settings
        self._signal = signal
        self._started_event = started_event
        self._clock = clock
        self._attempts = Attempts(ledger)
        self._stopping = False
        self.paused = ""
        self._steps = Steps(
            engine=engine,
            ledger=ledger,
            revisions=revisions,
            settings=settings,
            signal=signal,
            clock=clock,
            stopping=lambda: self._stopping,
        )

    # -- the way in

    def submit(self, new: NewUpdate) -> Update:
        """Record a patch and judge what it makes of the good revision; it is built by the pipeline's own thread.

        The update that comes back is ``created`` or on its way, or ``refused`` with code and reason.
        """
        base = self._ledger.good_revision()
        new = replace(new, base_sha=base.sha, base_tx_id=base.tx_id)
        created = self._ledger.create(new, parent_id=self._started_event)
        try:
            return self._admit(created)
        except LostRace:  # the thread had nothing else to do, and was quicker
            return self._ledger.find(created.tx_id)

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
            self._steps.log(update, "1-apply", f"refused, {refused.code}: {refused.reason}")
            return self._ledger.move(
                update.tx_id,
                Status.CREATED,
                Status.REFUSED,
                changes={"code": refused.code, "last_error": refused.reason},
                payload={"code": refused.code, "error": refused.reason},
            )
        changes = [asdict(change) for change in applied.changes]
        self._steps.log(update, "1-apply", "\n".join(f"{c['path']} +{c['added']} -{c['deleted']}" for c in changes))
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
            except (EngineError, LedgerError, RevisionsUnusable, OSError) as error:
                # Not the candidate's fault: the same step again, when engine, ledger, git or room are back.
                self._wait_with(str(error))
            except Exception as error:  # a defect here must not end the one who works for everybody
                _LOG.exception("a defect in the pipeline; trying again")
                self._wait_with(f"a defect of the supervisor: {type(error).__name__}: {error}")

    def _wait_with(self, reason: str) -> None:
        self.paused = reason
        _LOG.warning("the pipeline waits", error=reason)
        self._signal.until(lambda: self._stopping, RETRY_SECONDS)

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
        except (EngineError, RevisionsUnusable, OSError) as error:
            if self._ledger.attempted(update.tx_id, self._ledger.find(update.tx_id).status) < _MOST_ATTEMPTS:
                raise
            what = "the engine" if isinstance(error, EngineError) else "the disk or git"
            self._give_up(update.tx_id, f"{what} failed {_MOST_ATTEMPTS} times in this step, at last: {error}")
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
                self._steps.fail(update, target, reason, {}, {"blame": Blame.EXTERNAL})

    def _work_on(self, update: Update) -> None:
        self._steps.start_clock()
        if update.status is Status.CREATED:
            update = self._admit(update)
            if update.status is not Status.CREATED:
                return
            update = self._ledger.move(
                update.tx_id, Status.CREATED, Status.BUILDING, changes={"build_started_at": self._clock()}
            )
        if update.gates_pending:
            self._steps.gate_approved(update)
        else:
            self._steps.gate(update)

    # -- inside

    def _room_left(self) -> bool:
        free = shutil.disk_usage(self._settings.home).free
        needed = self._settings.min_free_bytes
        self.paused = "" if free >= needed else f"updates wait: {free:,} bytes are free, {needed:,} are needed"
        return not self.paused
