"""Workers as containers: started, found again, watched, ended. Decides nothing; the roll-out does.

A worker is one container and its toolbox beside it. The ledger knows it before the engine does, and both know it by
the same ``worker_id``, so that whatever a crash leaves behind can be told apart afterwards.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from supervisor.contract import Redactor, Role
from supervisor.drift import environment_digest
from supervisor.engine import ContainerView, EngineError
from supervisor.ledger import Ledger, NewWorker, Revision, WorkerRow
from supervisor.paths import Paths
from supervisor.sessions import Sessions, Signal, credential_hash
from supervisor.settings import Settings
from supervisor.specs import LABEL_ENVIRONMENT, OFFLINE, ContainerSpec, worker_spec
from supervisor.toolbox.toolboxes import Toolboxes, labels_of
from supervisor.workers.exits import Deaths, Watched

_LOG = structlog.get_logger()
_STOP_SECONDS: Final = 2
_LOG_LINES_KEPT: Final = 5000
#: Why a worker has to be put away for which :meth:`WorkerContainers.ended_from_outside` holds.
ENDED_FROM_OUTSIDE: Final = "it ended with the engine, or its container was removed"


class Engine(Watched, Protocol):
    """The part of the engine that workers need; containers by name or id. See :class:`supervisor.engine.Engine`."""

    def ensure_network(self, name: str, project: str) -> None:
        """A bridge of the project's own."""

    def run(self, spec: ContainerSpec) -> str:
        """Create and start; gives the id."""

    def inspect(self, container_id: str) -> ContainerView | None:
        """What the engine knows of a container now, or None when it is gone."""

    def stop(self, container_id: str, *, seconds: int) -> None:
        """TERM, then KILL after ``seconds``."""

    def kill(self, container_id: str) -> bool:
        """KILL at once; whether it still ran."""

    def wait(self, container_id: str, *, timeout: float) -> int | None:
        """The exit code, or None when it still runs after ``timeout`` seconds."""

    def remove(self, container_id: str) -> None:
        """Kill and remove."""

    def logs(self, container_id: str, *, tail: int | None = None) -> str:
        """What a container printed."""


@dataclass(frozen=True)
class Exit:
    """How a worker's container ended."""

    code: int | None
    oom: bool
    reason: str


class WorkerContainers:
    """All workers of one installation."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        sessions: Sessions,
        settings: Settings,
        signal: Signal,
        environment: Callable[[], Mapping[str, str]],
        started_event: int,
        installation: str,
        toolboxes: Toolboxes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._sessions = sessions
        self._settings = settings
        self._environment = environment
        self._started_event = started_event
        self._installation = installation
        self._toolboxes = toolboxes
        self._clock = clock
        self._redact = Redactor(settings.secrets)
        self._killed: dict[str, str] = {}
        self._deaths = Deaths(engine, signal, elsewhere=toolboxes.noticed)
        self._starting: set[str] = set()
        self._environments: dict[str, str] = {}
        self._environment_now: str | None = None

    @property
    def _paths(self) -> Paths:
        return self._settings.paths

    @property
    def network(self) -> str:
        """The bridge that the workers of this installation are on."""
        return f"{self._settings.project}-net"

    # -- starting and finding

    def spawn(self, revision: Revision) -> WorkerRow:
        """Start a worker of this revision, and its toolbox, in standby.

        Raises EngineError; what is left of the attempt counts as dead then, and is put away when the engine answers.
        """
        worker_id = f"{self._settings.project}-worker-{revision.sha[:7]}-{secrets.token_hex(3)}"
        credential = secrets.token_urlsafe(32)
        self._starting.add(worker_id)
        row = self._ledger.register_worker(
            NewWorker(
                worker_id=worker_id,
                tx_id=revision.tx_id,
                sha=revision.sha,
                image_id=revision.image_id,
                credential=credential,
            ),
            parent_id=self._started_event,
        )
        self._sessions.open(
            worker_id, sha=revision.sha, instance=row.instance, credential_hash=credential_hash(credential)
        )
        try:
            self._engine.ensure_network(self.network, self._settings.project)
            self._toolboxes.make_room(worker_id)
            self._engine.run(
                worker_spec(
                    paths=self._paths,
                    project=self._settings.project,
                    worker_id=worker_id,
                    image_id=revision.image_id,
                    uid=self._settings.worker_uid,
                    network=self.network,
                    environment=self._worker_environment(row, credential),
                    labels={**labels_of(row, self._installation), LABEL_ENVIRONMENT: self._digest()},
                )
            )
            self._toolboxes.start(row)
        except EngineError as error:
            # Known to be dead before the engine fails again: nobody may wait for a worker that never was.
            self._deaths.note(worker_id)
            self.end(worker_id, reason=f"not started: {error}", seconds=0)
            raise
        finally:
            self._starting.discard(worker_id)
        return row

    def adopt(self, row: WorkerRow, *, role: Role, epoch: int | None) -> None:
        """Expect a worker that an earlier supervisor started. Raises EngineError."""
        self._sessions.open(
            row.worker_id,
            sha=row.sha,
            instance=row.instance,
            credential_hash=row.credential_sha256,
            role=role,
            epoch=epoch,
            adopted=True,
        )
        self._toolboxes.adopt(row.worker_id)

    def current(self, row: WorkerRow) -> bool:
        """Whether a worker was started with the settings as they are now. Raises EngineError."""
        if row.worker_id not in self._environments:
            view = self.container(row.worker_id)
            if view is None:
                return True  # it is gone, which is another matter
            self._environments[row.worker_id] = view.labels.get(LABEL_ENVIRONMENT, "")
        return self._environments[row.worker_id] == self._digest()

    def container(self, worker_id: str) -> ContainerView | None:
        """The worker's container as the engine sees it now."""
        return self._engine.inspect(worker_id)

    def started(self) -> list[WorkerRow]:
        """The workers that live, but those that another thread still starts: what becomes of them is its affair."""
        return [row for row in self._ledger.living_workers() if row.worker_id not in self._starting]

    def alive(self, worker_id: str) -> bool:
        """Whether the worker's process lives."""
        view = self.container(worker_id)
        return view is not None and view.running

    # -- ending

    def kill(self, worker_id: str, reason: str) -> None:
        """End a worker at once and see it dead: the fence before another may be active.

        ``reason`` stands when it had not ended before. Raises EngineError when the engine cannot say that it is dead.
        """
        killed_before = worker_id in self._killed
        self._killed.setdefault(worker_id, reason)  # first: an engine that goes away now may have killed it
        if not self._engine.kill(worker_id) and not killed_before:
            self._killed.pop(worker_id, None)
        view = self._engine.inspect(worker_id)
        if view is not None and view.running and self._engine.wait(worker_id, timeout=10) is None:
            raise EngineError(f"{worker_id} was killed and still runs")
        self._deaths.note(worker_id)

    def end(self, worker_id: str, *, reason: str, seconds: int = _STOP_SECONDS, crashed: bool = False) -> Exit:
        """Stop a worker and its toolbox, keep its log, record its exit, remove both containers.

        ``reason`` stands when the container did not end by itself before; ``crashed`` says that the end, whoever
        brought it about, is the worker's own fault.
        """
        view = self.container(worker_id)
        stops = view is not None and view.running
        if stops:
            self._engine.stop(worker_id, seconds=seconds)
        self._deaths.note(worker_id)  # though the engine goes away before the rest is done
        if stops:
            view = self.container(worker_id)
            ended = Exit(view.exit_code if view else None, oom=False, reason=reason)
        elif view is not None and view.status == "exited" and worker_id not in self._killed:
            ended = own_exit(view)
        else:
            ended = Exit(view.exit_code if view else None, oom=False, reason=self._killed.pop(worker_id, reason))
        if view is not None:
            self._keep_log(worker_id)
        self._engine.remove(worker_id)
        self._toolboxes.end(worker_id)
        self._sessions.close(worker_id)
        self._deaths.forget(worker_id)
        self._environments.pop(worker_id, None)
        ended_at = view.finished_at if view and view.finished_at else None
        began_at = view.started_at if view else 0.0
        # One that was put away long after its end was not up all the while.
        uptime = max(0.0, (ended_at or self._clock()) - began_at) if began_at else 0.0
        self._ledger.worker_exited(
            worker_id,
            exit_code=ended.code,
            oom=ended.oom,
            reason=ended.reason,
            uptime_seconds=round(uptime, 3),
            crashed=crashed,
            ended_at=ended_at,
        )
        return ended

    def last_words(self, worker_id: str, lines: int = 15) -> str:
        """The last lines that a worker printed, redacted; empty when there are none."""
        try:
            return self._redact(self._engine.logs(worker_id, tail=lines)).strip()
        except EngineError:
            return ""

    # -- watching

    def died(self, worker_id: str) -> bool:
        """Whether the engine has told that this worker's process ended; costs nothing to ask."""
        return self._deaths.known(worker_id)

    def engine_trouble(self) -> str:
        """Why nothing can be started; empty while the engine answers."""
        return "the container engine does not answer" if self._deaths.engine_lost else ""

    def ended_from_outside(self, worker_id: str) -> bool:
        """Whether it ended with the engine, or somebody removed its container: no fault of its own.

        Raises EngineError.
        """
        if not self.died(worker_id):
            return False
        return self._deaths.with_the_engine(worker_id) or self.container(worker_id) is None

    def sweep(self) -> None:
        """Look at every living worker and its toolbox, for what the event stream may have missed."""
        for row in self.started():
            if not self.alive(row.worker_id):
                self._deaths.note(row.worker_id)
            self._toolboxes.sweep(row.worker_id)

    def watch(self, stopping: threading.Event) -> None:
        """Wake the waiting whenever a container of ours ends, until ``stopping``; meant for a thread."""
        self._deaths.watch(self._settings.project, stopping, begun=self.sweep)

    def stop_watching(self) -> None:
        """Let the watching thread come to its end."""
        self._deaths.stop_watching()

    # -- inside

    def _worker_environment(self, row: WorkerRow, credential: str) -> dict[str, str]:
        return {
            **self._environment(),
            "AUTONOUS_SUPERVISOR_SOCKET": "/run/autonous/supervisor.sock",
            "AUTONOUS_TOOLBOX_SOCKET": f"/run/toolbox/{OFFLINE}/toolbox.sock",
            "AUTONOUS_DB_PATH": "/state/agent.db",
            "AUTONOUS_CONFIG_DIR": "/config",
            "AUTONOUS_WORKER_CREDENTIAL": credential,
            "AUTONOUS_WORKER_SHA": row.sha,
            "AUTONOUS_WORKER_INSTANCE": str(row.instance),
            "AUTONOUS_PARENT_EVENT_ID": str(row.event_id),
        }

    def _digest(self) -> str:
        """What tells the environment of workers that are started now from that of others."""
        if self._environment_now is None:
            layout = {"AUTONOUS_TOOLBOX_SOCKET": OFFLINE}  # one that another supervisor started may look elsewhere
            values = {**self._environment(), **self._settings.toolbox_values, **layout}
            self._environment_now = environment_digest(self._ledger, values)
        return self._environment_now

    def _keep_log(self, worker_id: str) -> None:
        """As far as that can be done: a disk without room must not keep a dead worker from being put away."""
        text = self.last_words(worker_id, _LOG_LINES_KEPT)
        directory = self._paths.logs / "workers"
        try:
            directory.mkdir(exist_ok=True, mode=0o700)
            (directory / f"{worker_id}.log").write_text(text + "\n", encoding="utf-8", errors="replace")
        except OSError as error:
            _LOG.warning("cannot keep a worker's log", worker=worker_id, error=str(error))


def own_exit(view: ContainerView) -> Exit:
    """How a container ended that nobody ended."""
    # The engine's OOM flag also rises when a child was killed; only process 1 ends the container with 137.
    oom = view.oom_killed and view.exit_code == 137  # noqa: PLR2004 - 128 + SIGKILL
    reason = "out of memory" if oom else f"exited by itself with code {view.exit_code}"
    return Exit(view.exit_code, oom=oom, reason=reason)
