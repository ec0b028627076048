"""From an approved update to a promoted one, or back: the only place that decides which revision is active.

One thread runs :meth:`Rollout.run`. It does the most urgent thing that the ledger asks for, and whatever a crash left
half done is simply asked for again: every step may be repeated.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from supervisor.backup import BackupFailed, backup
from supervisor.binding import BindingBroken, Engine, check_binding
from supervisor.contract import EventType
from supervisor.crew import Crew, NoPoll, Stopping, WorkerFailed
from supervisor.engine import EngineError, EngineUnreachable
from supervisor.fleet import Fleet
from supervisor.ledger import Blame, Ledger, LedgerError, LostRace, Revision, Update, WorkerRow
from supervisor.rebuild import Rebuilder
from supervisor.revisions import Revisions
from supervisor.sessions import Sessions, Signal
from supervisor.settings import Settings
from supervisor.states import IN_ROLLOUT, Status
from supervisor.timing import IN_SERVICE, SYSTEM_CLOCKS, Clocks, Timing

_LOG = structlog.get_logger()

_SWEEP_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 5.0
_IDLE_LOOK_SECONDS: Final = 1.0
_OWN_SILENCE_SECONDS: Final = 2.0


class Rollout:
    """Deploys, proves, rolls back, and keeps the active worker and N-1 running."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        revisions: Revisions,
        fleet: Fleet,
        crew: Crew,
        sessions: Sessions,
        settings: Settings,
        signal: Signal,
        rebuilder: Rebuilder,
        bot_api_answers: Callable[[], bool],
        clocks: Clocks = SYSTEM_CLOCKS,
        timing: Timing = IN_SERVICE,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._revisions = revisions
        self._fleet = fleet
        self._crew = crew
        self._sessions = sessions
        self._settings = settings
        self._signal = signal
        self._rebuilder = rebuilder
        self._bot_api_answers = bot_api_answers
        self._clocks = clocks
        self._timing = timing
        self._stopping = False
        self._seen = 0
        self._looked_at = clocks.monotonic()
        self._swept_at = 0.0
        self._standby_not_before = 0.0
        self._renew_not_before = 0.0
        self._renewal_failure = ""
        self._polls_failing_since: float | None = None

    def stop(self) -> None:
        """Have :meth:`run` end soon."""
        self._stopping = True
        self._signal.notify()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopping

    def run(self) -> None:
        """Do what the ledger asks for, most urgent first, until :meth:`stop`."""
        while not self._stopping:
            try:
                self._turn()
            except Stopping:
                return
            except LostRace as race:
                _LOG.info("somebody else was quicker", reason=str(race))
                self._rest(self._timing.look)
            except EngineError as error:
                _LOG.warning("the engine did not do its part; trying again", error=str(error))
                self._rest(self._timing.engine_retry)
            except WorkerFailed as error:
                _LOG.warning("a worker failed; trying again", error=str(error))
                self._rest(self._settings.restart_delay_seconds)
            except Exception:  # a defect of ours must not end the one who keeps a worker running
                _LOG.exception("a defect in the roll-out; trying again")
                self._rest(self._timing.engine_retry)

    def _turn(self) -> None:
        self._seen = self._signal.count
        waiting = self._ledger.having(*IN_ROLLOUT)
        if not waiting:
            self.keep_running()
            self._idle()
            return
        update = min(waiting, key=lambda update: IN_ROLLOUT.index(update.status))
        do = {
            Status.ROLLBACK_PENDING: self.roll_back,
            Status.DEPLOYING: self._carry_out,
            Status.DEPLOYED_UNSTABLE: self.prove,
            Status.APPROVED: self.deploy,
        }
        do[update.status](update)

    # -- forward

    def deploy(self, update: Update) -> None:
        """Start green beside blue, move the work over, and begin the probation."""
        good = self._good()
        if update.base_sha != good.sha:
            self._supersede(update, good)
            return
        started = self._clocks.wall()
        update = self._ledger.move(
            update.tx_id, Status.APPROVED, Status.DEPLOYING, changes={"deploy_started_at": started}
        )
        self._carry_out(update)

    def _carry_out(self, update: Update) -> None:
        """The steps of a deploy, each of which may have been done before a crash."""
        green: WorkerRow | None = None
        try:
            check_binding(update, self._engine)
            self._snapshot(update)
            green = self._crew.living(update.revision.sha) or self._crew.start(update.revision)
            self._crew.settle(green)
            check_binding(update, self._engine, container=green.worker_id)
            self._crew.hand_over(green)
            self._crew.first_poll(green)
        except (EngineUnreachable, LedgerError, Stopping):
            raise  # nobody's fault here: the same steps again, when it is back
        except Exception as failure:
            # Whatever it was: an update that is stuck in the middle would keep everybody from looking after blue.
            if not isinstance(failure, (WorkerFailed, BindingBroken, BackupFailed, EngineError)):
                _LOG.exception("a defect in a deploy", tx=update.tx_id)
            self._abandon(update, green, failure)
            return
        finished = self._clocks.wall()
        self._ledger.move(
            update.tx_id,
            Status.DEPLOYING,
            Status.DEPLOYED_UNSTABLE,
            changes={"deploy_finished_at": finished},
            payload={"duration_ms": round((finished - (update.deploy_started_at or finished)) * 1000)},
        )

    def _abandon(self, update: Update, green: WorkerRow | None, failure: Exception) -> None:
        """The deploy is over; go on with blue as if nothing had been."""
        evidence = self._evidence(green, failure)
        holder = self._crew.holder()
        if green is not None and holder is not None and holder.worker_id == green.worker_id:
            self._fleet.kill(green.worker_id, str(failure))
        self._ledger.move(
            update.tx_id,
            Status.DEPLOYING,
            Status.DEPLOY_FAILED,
            changes={"last_error": evidence, "blame": self._blame(failure), "code": getattr(failure, "code", None)},
            payload={"error": str(failure)},
        )
        _LOG.warning("deploy failed", tx=update.tx_id, error=str(failure))
        self._make_active(self._good(), at_once=True)
        if green is not None:
            self._crew.retire(green, reason=str(failure))

    def _blame(self, failure: Exception) -> Blame:
        if isinstance(failure, NoPoll):
            return Blame.OWN if self._bot_api_answers() else Blame.EXTERNAL
        return Blame.OWN if isinstance(failure, WorkerFailed) else Blame.EXTERNAL

    def prove(self, update: Update) -> None:
        """The probation: green works, blue stands by, and the first failure of green's own brings blue back."""
        self._polls_failing_since = None
        window = self._settings.stable_window_seconds
        spent = self._clocks.wall() - (update.deploy_finished_at or 0)
        ends = self._clocks.monotonic() + min(window, max(0.0, window - spent))
        while not self._stopping:
            self._seen = self._signal.count
            if self._ledger.find(update.tx_id).status is not Status.DEPLOYED_UNSTABLE:
                return
            green = self._crew.holder()
            if green is None or self._fleet.ended_with_the_engine(green.worker_id):
                if not self._start_again(update, green):
                    return
                ends = self._clocks.monotonic() + window
                continue
            if failure := self._failure(green):
                self._condemn(update, Status.DEPLOYED_UNSTABLE, green, failure)
                return
            left = ends - self._clocks.monotonic()
            if left <= 0 and self._beaten_since(green, ends):
                self._promote(update)
                return
            self._sweep()
            look = self._timing.look
            self._pause(min(left, look) if left > 0 else look)

    def _start_again(self, update: Update, green: WorkerRow | None) -> bool:
        """Green ended with the engine or the machine, and not by its fault: whether it is up again."""
        _LOG.warning("green ended from outside; its probation begins again", tx=update.tx_id)
        if green is not None:
            self._fleet.end(green.worker_id, reason="it ended with the engine")
        try:
            check_binding(update, self._engine)
            self._make_active(update.revision, at_once=True)
        except (WorkerFailed, BindingBroken) as failure:
            self._condemn(update, Status.DEPLOYED_UNSTABLE, None, str(failure))
            return False
        return True

    def _beaten_since(self, worker: WorkerRow, moment: float) -> bool:
        """Whether it gave a sign of life after that: one that went silent a second before has proven nothing."""
        session = self._crew.session(worker)
        return session is not None and session.last_beat is not None and session.last_beat >= moment

    def _promote(self, update: Update) -> None:
        promoted_at = self._clocks.wall()
        self._ledger.move(update.tx_id, Status.DEPLOYED_UNSTABLE, Status.PROMOTED, changes={"promoted_at": promoted_at})
        self._revisions.set_active(update.revision.sha)
        self._supersede_others(update)
        blue = self._crew.living(update.base_sha or "")
        self._crew.retire_all_but(self._crew.holder(), blue, reason="a newer revision was promoted")
        self._ledger.append(EventType.UPDATE_CLEANUP_COMPLETED, {"tx_id": update.tx_id}, parent_id=update.event_id)
        _LOG.info("promoted", tx=update.tx_id, sha=update.revision.sha[:12])

    def _supersede_others(self, promoted: Update) -> None:
        for update in self._ledger.having(Status.STAGED, Status.APPROVED):
            if update.base_sha != promoted.sha:
                self._supersede(update, promoted.revision)

    def _supersede(self, update: Update, good: Revision) -> None:
        """Another revision than the update's base is the good one now."""
        with suppress(LostRace):  # cancelled meanwhile; or approved, which deploy() sees
            self._ledger.move(
                update.tx_id,
                update.status,
                Status.SUPERSEDED,
                changes={"last_error": f"{good.tx_id} is the good one now; submit it again on that base"},
                payload={"by": good.tx_id},
            )

    # -- back

    def roll_back(self, update: Update) -> None:
        """Make the update's base active again, or an older good revision when that fails too."""
        green = self._crew.holder()
        at_once = update.blame == "own"
        for target in self._good_revisions(update):
            attempt = {"tx_id": update.tx_id, "target_sha": target.sha}
            try:
                self._make_active(target, at_once=at_once)
            except EngineUnreachable:
                raise
            except (WorkerFailed, EngineError) as failure:
                self._ledger.append(
                    EventType.ROLLBACK_ATTEMPTED, {**attempt, "error": str(failure)}, parent_id=update.event_id
                )
                continue
            self._ledger.append(EventType.ROLLBACK_ATTEMPTED, attempt, parent_id=update.event_id)
            break
        else:
            self._ledger.append(
                EventType.UPDATE_ROLLBACK_FAILED,
                {"tx_id": update.tx_id, "error": "no earlier revision runs"},
                parent_id=update.event_id,
            )
            raise WorkerFailed("no earlier revision runs")
        self._ledger.move(update.tx_id, Status.ROLLBACK_PENDING, Status.ROLLED_BACK, restored=target.sha)
        self._revisions.set_active(target.sha)
        if green is not None and green.sha == update.sha:
            self._crew.retire(green, reason="rolled back")
        _LOG.info("rolled back", tx=update.tx_id, to=target.sha[:12])

    def _good_revisions(self, update: Update) -> list[Revision]:
        """The update's base, then that one's base, down to genesis."""
        chain = []
        sha = update.base_sha
        while sha:
            ancestor = self._ledger.revision(sha)
            chain.append(ancestor)
            sha = ancestor.base_sha
        return chain

    def _condemn(self, update: Update, status: Status, green: WorkerRow | None, failure: str) -> None:
        """Green failed by its own fault: note the evidence before its container goes, and ask for the way back."""
        self._ledger.move(
            update.tx_id,
            status,
            Status.ROLLBACK_PENDING,
            changes={"last_error": self._evidence(green, failure), "blame": "own"},
            payload={"error": failure},
        )
        _LOG.warning("going back", tx=update.tx_id, reason=failure)

    def _failure(self, green: WorkerRow) -> str | None:
        if ailment := self._crew.ailment(green):
            return ailment
        session = self._crew.session(green)
        now = self._clocks.monotonic()
        if session is None or not session.beat.poll_error:
            self._polls_failing_since = None
        elif self._polls_failing_since is None:
            self._polls_failing_since = now
        elif now - self._polls_failing_since > self._timing.poll_errors:
            self._polls_failing_since = None
            # Only when the Bot API answers us is it the worker that cannot poll.
            if self._bot_api_answers():
                return f"it cannot poll: {session.beat.poll_error}"
        return None

    # -- staying up

    def keep_running(self) -> None:
        """The active worker lives and N-1 stands by; a crash is answered by a restart, a crash loop by N-1."""
        self._sweep()
        good = self._good()
        holder = self._crew.holder()
        ailment = self._crew.ailment(holder) if holder else None
        if holder is None or ailment is not None:
            if holder is not None and self._fleet.ended_with_the_engine(holder.worker_id):
                self._fleet.end(holder.worker_id, reason="it ended with the engine")
            elif holder is not None:
                self._bury(holder, ailment or "")
            if not self._crash_loop(good):
                self._make_active(good, at_once=True)
        elif holder.sha != good.sha:
            self._make_active(good, at_once=False)
        else:
            if not self._fleet.current(holder):
                self._renew(holder, good)
            self._keep_standby(self._crew.holder() or holder, good)

    @property
    def renewal(self) -> dict[str, str] | None:
        """While the active worker has other settings than now: ``state`` (waiting or failed) and ``reason``."""
        try:
            holder = self._crew.holder()
            if holder is None or self._fleet.current(holder):
                return None
        except EngineError as error:
            return {"state": "waiting", "reason": str(error)}
        failure = self._renewal_failure
        return {"state": "failed" if failure else "waiting", "reason": failure}

    def _renew(self, holder: WorkerRow, good: Revision) -> None:
        """Hand over to a worker of the same revision that has the settings of now.

        One that fails says nothing about the revision: the holder goes on, or takes the lease again.
        """
        if self._clocks.monotonic() < self._renew_not_before:
            return
        worker = self._crew.living(good.sha) or self._crew.start(self._rebuilder.ensure_image(good))
        try:
            self._crew.settle(worker)
            self._crew.hand_over(worker)
        except WorkerFailed as failure:
            _LOG.warning("no worker comes up with the changed settings", error=str(failure))
            self._renew_not_before = self._clocks.monotonic() + self._timing.standby_retry
            self._crew.retire(worker, reason=str(failure))
            if self._crew.holder() is None:
                self._crew.hand_over(holder)
            self._renewal_failure = str(failure)
        else:
            self._renewal_failure = ""
            _LOG.info("the changed settings are in force", worker=worker.worker_id)

    def _keep_standby(self, holder: WorkerRow, good: Revision) -> None:
        """One worker of N-1 beside the active one, and no other."""
        self._crew.retire_all_but(holder, self._crew.living(good.base_sha or ""), reason="no longer needed")
        if not good.base_sha or self._clocks.monotonic() < self._standby_not_before:
            return
        previous = self._ledger.revision(good.base_sha)
        try:
            self._crew.bring_up(self._rebuilder.ensure_image(previous))
        except EngineUnreachable:
            raise
        except (WorkerFailed, EngineError) as failure:
            _LOG.warning("N-1 does not come up", sha=previous.sha[:12], error=str(failure))
            self._standby_not_before = self._clocks.monotonic() + self._timing.standby_retry

    def _bury(self, worker: WorkerRow, ailment: str) -> None:
        if not self._fleet.died(worker.worker_id):
            self._fleet.kill(worker.worker_id, ailment)
        self._fleet.end(worker.worker_id, reason=ailment, crashed=True)
        _LOG.warning("the active worker ended", worker=worker.worker_id, reason=ailment)

    def _crash_loop(self, good: Revision) -> bool:
        """Whether N-1 was asked for, because the good revision crashes too often; else wait before the next try."""
        window = self._settings.crash_window_seconds
        crashes = self._ledger.crashes(good.sha, self._clocks.wall() - window)
        beyond = len(crashes) - self._settings.crash_threshold
        if beyond < 0:
            self._rest(self._settings.restart_delay_seconds if crashes else 0)
            return False
        if good.base_sha:
            reason = f"crash loop: {len(crashes)} exits, the last: {crashes[-1].reason}"
            self._condemn(self._ledger.find(good.tx_id), Status.PROMOTED, None, reason)
        if beyond == 0 or good.base_sha:
            told = {"sha": good.sha, "crashes": len(crashes), "window_seconds": window}
            self._ledger.append(EventType.CRASH_LOOP_DETECTED, told, parent_id=good.event_id)
        if good.base_sha:
            return True
        # The first revision has nothing before it: keep trying, ever more slowly.
        self._rest(min(self._timing.slowest_restart, self._settings.restart_delay_seconds * 2**beyond))
        return False

    # -- shared

    def _make_active(self, revision: Revision, *, at_once: bool) -> None:
        """Give the lease to a worker of this revision, started if there is none.

        A worker that had stood by and fails now says nothing about the revision: a new one is tried once. Raises
        WorkerFailed, EngineError.
        """
        revision = self._rebuilder.ensure_image(revision)
        if standby := self._crew.living(revision.sha):
            try:
                self._take_over(standby, at_once=at_once)
            except WorkerFailed as failure:
                _LOG.warning("a worker that stood by failed; a new one is tried", error=str(failure))
            else:
                return
        self._take_over(self._crew.start(revision), at_once=at_once)

    def _take_over(self, worker: WorkerRow, *, at_once: bool) -> None:
        try:
            self._crew.settle(worker)
            self._crew.hand_over(worker, at_once=at_once)
        except WorkerFailed as failure:
            self._crew.retire(worker, reason=str(failure), crashed=True)
            raise

    def _good(self) -> Revision:
        return self._ledger.good_revision()

    def _snapshot(self, update: Update) -> None:
        """A copy of the worker's database as it is before the deploy."""
        paths = self._settings.paths
        if update.snapshot or not paths.agent_db.exists():
            return
        target = paths.snapshots / f"{update.tx_id}.db"
        backup(paths.agent_db, target)
        self._ledger.amend(update.tx_id, {"snapshot": str(target)})

    def _evidence(self, worker: WorkerRow | None, failure: object) -> str:
        words = self._fleet.last_words(worker.worker_id) if worker is not None else ""
        return f"{failure}\n{words}".strip()

    def _idle(self) -> None:
        """Until something changes, or a worker goes silent, which changes nothing and has to be looked for."""

        def to_do() -> bool:
            now = self._look()
            return self._signal.count != self._seen or any(session.lost(now) for session in self._sessions.all())

        self._signal.until(to_do, _IDLE_SECONDS, at_least_every=_IDLE_LOOK_SECONDS)

    def _look(self) -> float:
        """The time of this look at the workers. Their silence does not count while nobody was looking."""
        now = self._clocks.monotonic()
        if now - self._looked_at > _OWN_SILENCE_SECONDS:
            self._sessions.forgive_silence()
        self._looked_at = now
        return now

    def _sweep(self) -> None:
        now = self._look()
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            self._fleet.sweep()
        self._fleet.mend_toolboxes()

    def _rest(self, seconds: float) -> None:
        """After a failure: wait, whatever else changes."""
        self._signal.until(lambda: self._stopping, seconds)

    def _pause(self, seconds: float) -> None:
        """Until something may have changed, at most ``seconds``."""
        if seconds > 0:
            self._signal.wait(seconds, self._seen)
