"""The toolboxes of all workers: started, mended, made anew with what is granted, opened to a network for one call.

A toolbox is never repaired, only replaced. Its worker finds the next one at the same socket.
"""

import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from supervisor.contract import EventType, ToolboxOpened, ToolboxOrder
from supervisor.engine import ContainerView, EngineError, EngineUnreachable
from supervisor.ledger import GrantRow, Ledger, LedgerError, WorkerRow
from supervisor.paths import Paths, give
from supervisor.removal import remove_tree
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.specs import (
    LABEL_GRANTS,
    LABEL_INSTALLATION,
    LABEL_SHA,
    LABEL_TX,
    LABEL_WORKER,
    NETWORK_TOOLBOX,
    OFFLINE,
    ContainerSpec,
    networked,
    toolbox_spec,
)
from supervisor.toolbox.grants import Grants, mounts

_LOG = structlog.get_logger()
_SUFFIX: Final = "-toolbox"
_NETWORKED: Final = re.compile(r"-net-[0-9a-f]{8}$")
_LOOK_SECONDS: Final = 1.0
_SLOWEST_SECONDS: Final = 30.0
#: One that lived this long is started again at once when it dies.
_HEALTHY_SECONDS: Final = 5.0
#: How long a call in hand may hold up a new grant.
_DRAIN_SECONDS: Final = 60.0
_ANEW_SECONDS: Final = 10.0
_MOST_OPEN: Final = 2
_LONGEST_CALL_SECONDS: Final = 3600.0
_SLACK_SECONDS: Final = 15.0


class Engine(Protocol):
    """The part of the engine that toolboxes need; containers by name or id. See :class:`supervisor.engine.Engine`."""

    def ensure_network(self, name: str, project: str) -> None:
        """A bridge of the project's own."""

    def run(self, spec: ContainerSpec) -> str:
        """Create and start; gives the id."""

    def inspect(self, container_id: str) -> ContainerView | None:
        """What the engine knows of a container now, or None when it is gone."""

    def containers(self, project: str, **labels: str) -> list[ContainerView]:
        """All containers of a project with these labels, dead ones too."""

    def stop(self, container_id: str, *, seconds: int) -> None:
        """TERM, then KILL after ``seconds``."""

    def remove(self, container_id: str) -> None:
        """Kill and remove."""


class NoToolbox(Exception):
    """No toolbox with a network is opened; ``code`` is one word, the message one line."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class _Kept:
    """What is known of one worker's toolbox. Times are on the monotonic clock."""

    grants: tuple[int, ...]
    started_at: float
    quick_deaths: int = 0


@dataclass(frozen=True)
class _Open:
    """A toolbox with a network, and the grants that it was made with."""

    worker_id: str
    event_id: int
    deadline: float
    grants: tuple[int, ...]


class Toolboxes:
    """Keeps one toolbox beside each worker that lives."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        settings: Settings,
        signal: Signal,
        grants: Grants,
        installation: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._settings = settings
        self._signal = signal
        self._grants = grants
        self._installation = installation
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._kept: dict[str, _Kept] = {}
        self._dead: set[str] = set()
        self._ill: dict[str, str] = {}
        self._ended: set[str] = set()
        self._open: dict[str, _Open] = {}

    @property
    def _paths(self) -> Paths:
        return self._settings.paths

    @property
    def network(self) -> str:
        """The bridge for calls that were granted the network; no worker is on it."""
        return f"{self._settings.project}-tools-net"

    # -- with their worker

    def start(self, row: WorkerRow) -> None:
        """The toolbox of a worker that is being started. Raises EngineError."""
        self._run(row, deaths=0)

    def adopt(self, worker_id: str) -> None:
        """Keep what an earlier supervisor made, as its labels say. Raises EngineError."""
        view = self._engine.inspect(_name(worker_id))
        grants = view.labels.get(LABEL_GRANTS, "").split(",") if view else []
        numbers = tuple(int(part) for part in grants if part.isdecimal())
        self._kept.setdefault(worker_id, _Kept(numbers, self._monotonic() - _HEALTHY_SECONDS))
        if view is None or not view.running:
            self._dead.add(worker_id)

    def make_room(self, worker_id: str) -> None:
        """The directory in which a worker finds the sockets of its toolboxes."""
        self._make_directory(worker_id, "")
        self._make_directory(worker_id, OFFLINE)

    def end(self, worker_id: str) -> None:
        """Remove every toolbox of a worker, for good. Raises EngineError."""
        with self._lock:
            self._ended.add(worker_id)
            for toolbox_id in [key for key, found in self._open.items() if found.worker_id == worker_id]:
                self._close(toolbox_id, "its worker ended")
            self._engine.remove(_name(worker_id))
            self._kept.pop(worker_id, None)
            self._dead.discard(worker_id)
        remove_tree(self._paths.toolbox(worker_id))

    def tidy(self) -> None:
        """Remove what a supervisor before this one had opened. Raises EngineError."""
        for view in self._engine.containers(self._settings.project, role=NETWORK_TOOLBOX):
            self._engine.remove(view.id)

    # -- all the time

    def noticed(self, name: str) -> bool:
        """A container of this name has ended; whether it was a toolbox."""
        if name.endswith(_SUFFIX):
            self._dead.add(name.removesuffix(_SUFFIX))
        return name.endswith(_SUFFIX) or _NETWORKED.search(name) is not None

    def sweep(self, worker_id: str) -> None:
        """Look at a toolbox, for what the event stream may have missed. Raises EngineError."""
        view = self._engine.inspect(_name(worker_id))
        if view is None or not view.running:
            self._dead.add(worker_id)

    def make_anew(self, worker_id: str, reason: str) -> None:
        """A toolbox lives and is of no use: have another one in its place."""
        self._ill[worker_id] = reason
        self._signal.notify()

    def run(self, stopping: threading.Event) -> None:
        """Keep every toolbox as it should be, until ``stopping``; meant for a thread."""
        while not stopping.is_set():
            seen = self._signal.count
            try:
                self.mend()
            except (EngineError, LedgerError) as error:
                if not isinstance(error, EngineUnreachable):
                    _LOG.warning("a toolbox was not mended; trying again", error=str(error))
                stopping.wait(_LOOK_SECONDS)
            except Exception:  # a defect of ours must not leave the tools without a place to run
                _LOG.exception("a defect in the mending of toolboxes; trying again")
                stopping.wait(_LOOK_SECONDS)
            self._signal.wait(_LOOK_SECONDS, seen)

    def mend(self) -> None:
        """Replace each toolbox that is dead, ill, or not what is granted now; close what is open for too long."""
        granted = self._grants.active()
        numbers = tuple(row.number for row in granted)
        for worker_id, kept in list(self._kept.items()):
            if worker_id in self._dead:
                self._start_again(worker_id, kept)
            elif (reason := self._ill.pop(worker_id, None)) is not None:
                self._replace(worker_id, reason, patience=0)
            elif not set(kept.grants) <= set(numbers):
                self._replace(worker_id, "a grant is over", patience=0)
            elif kept.grants != numbers:
                self._replace(worker_id, "a grant", patience=min(self._grants.seconds_left(granted), _DRAIN_SECONDS))
        now = self._monotonic()
        for toolbox_id, found in list(self._open.items()):
            if found.deadline <= now:
                self.close(toolbox_id, reason="its time was over")
            elif not set(found.grants) <= set(numbers):
                self.close(toolbox_id, reason="a grant is over")

    def in_force(self, worker_id: str) -> tuple[int, ...]:
        """The numbers of the grants that this worker's toolbox was made with."""
        kept = self._kept.get(worker_id)
        return kept.grants if kept else ()

    def cut(self, grant: int) -> None:
        """Have no toolbox with this grant any more when this returns, whatever is in hand there. Raises EngineError."""
        with self._lock:
            affected = [worker_id for worker_id, kept in self._kept.items() if grant in kept.grants]
            for toolbox_id, found in list(self._open.items()):
                if grant in found.grants:
                    self._close(toolbox_id, "a grant is over")
        for worker_id in affected:
            self._engine.remove(_name(worker_id))
        self._signal.until(lambda: not any(grant in self.in_force(w) for w in affected), _ANEW_SECONDS)

    # -- with a network

    def open(self, row: WorkerRow, order: ToolboxOrder) -> ToolboxOpened:
        """A toolbox with a network for one call. Raises NoToolbox, EngineError."""
        seconds = min(max(order.timeout_seconds, 1.0), _LONGEST_CALL_SECONDS)
        toolbox_id = f"net-{secrets.token_hex(4)}"
        granted = self._grants.active()
        told: dict[str, object] = {
            "toolbox_id": toolbox_id,
            "worker_id": row.worker_id,
            "call_sha256": order.call_sha256[:64],
            "chat_id": order.chat_id,
            "timeout_seconds": seconds,
        }
        with self._lock:
            if len(self._open) >= _MOST_OPEN:
                raise NoToolbox(
                    "too_many", f"{_MOST_OPEN} calls have the network already; try again when one has ended"
                )
            event_id = self._ledger.append(EventType.TOOLBOX_OPENED, told, parent_id=row.event_id)
            deadline = self._monotonic() + seconds + _SLACK_SECONDS
            self._open[toolbox_id] = _Open(row.worker_id, event_id, deadline, tuple(grant.number for grant in granted))
        try:
            self._engine.ensure_network(self.network, self._settings.project)
            self._make_directory(row.worker_id, toolbox_id)
            offline = self._spec(row, granted)
            self._engine.run(
                networked(
                    offline, paths=self._paths, worker_id=row.worker_id, toolbox_id=toolbox_id, network=self.network
                )
            )
        except (EngineError, OSError):
            with suppress(EngineError):
                self.close(toolbox_id, reason="it was not started")
            raise
        if toolbox_id not in self._open:  # its worker ended meanwhile
            self._engine.remove(f"{row.worker_id}-{toolbox_id}")
            raise NoToolbox("not_active", "this worker is ending")
        return ToolboxOpened(toolbox_id=toolbox_id, socket=f"/run/toolbox/{toolbox_id}/toolbox.sock")

    def close(self, toolbox_id: str, *, reason: str, worker_id: str | None = None) -> None:
        """Remove a toolbox with a network; nothing happens when it is gone, or another worker's than is named."""
        with self._lock:
            found = self._open.get(toolbox_id)
            if found is not None and worker_id in (None, found.worker_id):
                self._close(toolbox_id, reason)

    def _close(self, toolbox_id: str, reason: str) -> None:
        found = self._open[toolbox_id]
        self._engine.remove(f"{found.worker_id}-{toolbox_id}")
        del self._open[toolbox_id]
        remove_tree(self._paths.toolbox(found.worker_id) / toolbox_id)
        told = {"toolbox_id": toolbox_id, "reason": reason}
        self._ledger.append(EventType.TOOLBOX_CLOSED, told, parent_id=found.event_id)

    # -- inside

    def _start_again(self, worker_id: str, kept: _Kept) -> None:
        now = self._monotonic()
        wait = min(2.0**kept.quick_deaths / 2 - 1, _SLOWEST_SECONDS) if kept.quick_deaths else 0.0
        if now < kept.started_at + wait:
            return
        view = self._engine.inspect(_name(worker_id))
        if view is not None and view.running:
            self._dead.discard(worker_id)  # the end of the one before was told late
            return
        worker = self._engine.inspect(worker_id)
        if worker is None or not worker.running:
            return
        quick = now - kept.started_at < _HEALTHY_SECONDS + wait
        row = self._ledger.worker(worker_id)
        reason = "out of memory" if view is not None and view.oom_killed else "it ended"
        self._restarted(row, reason, exit_code=view.exit_code if view else None)
        self._engine.remove(_name(worker_id))
        self._run(row, deaths=kept.quick_deaths + 1 if quick else 0)

    def _replace(self, worker_id: str, reason: str, *, patience: float) -> None:
        """Another toolbox in place of one that lives; calls in hand have ``patience`` seconds to end."""
        row = self._ledger.worker(worker_id)
        # One that does not serve yet has nothing in hand, and as process 1 would not hear the order to finish it.
        if patience >= 1 and self._socket(worker_id).exists():
            self._engine.stop(_name(worker_id), seconds=int(patience))
        self._restarted(row, reason, exit_code=None)
        self._engine.remove(_name(worker_id))
        self._run(row, deaths=0)

    def _restarted(self, row: WorkerRow, reason: str, *, exit_code: int | None) -> None:
        told = {"worker_id": row.worker_id, "reason": reason, "exit_code": exit_code}
        self._ledger.append(EventType.TOOLBOX_RESTARTED, told, parent_id=row.event_id)
        _LOG.info("toolbox made anew", worker=row.worker_id, reason=reason)

    def _run(self, row: WorkerRow, *, deaths: int) -> None:
        with self._lock:  # so that what is taken back meanwhile is seen by whoever takes it back
            if row.worker_id in self._ended:
                return
            granted = self._grants.active()
            self._dead.discard(row.worker_id)
            self._ill.pop(row.worker_id, None)  # that was the one before
            self._socket(row.worker_id).unlink(missing_ok=True)
            self._kept[row.worker_id] = _Kept(tuple(grant.number for grant in granted), self._monotonic(), deaths)
            try:
                self._engine.run(self._spec(row, granted))
            except EngineError:
                self._dead.add(row.worker_id)  # to be tried again
                raise
        self._signal.notify()

    def _spec(self, row: WorkerRow, granted: tuple[GrantRow, ...]) -> ContainerSpec:
        roots = [*(self._settings.tool_allowed_roots or ("/workspace",)), *(grant.path for grant in granted)]
        return toolbox_spec(
            paths=self._paths,
            project=self._settings.project,
            worker_id=row.worker_id,
            image_id=row.image_id,
            uid=self._settings.worker_uid,
            labels={**labels_of(row, self._installation), LABEL_GRANTS: ",".join(str(g.number) for g in granted)},
            environment={
                **self._settings.toolbox_values,
                "AUTONOUS_MIN_FREE_BYTES": str(self._settings.min_free_bytes),
                "AUTONOUS_TOOL_ALLOWED_ROOTS": ",".join(map(str, roots)),
            },
            granted=mounts(granted),
        )

    def _socket(self, worker_id: str) -> Path:
        """Where a worker's toolbox serves, once it does."""
        return self._paths.toolbox(worker_id) / OFFLINE / "toolbox.sock"

    def _make_directory(self, worker_id: str, name: str) -> None:
        directory = self._paths.toolbox(worker_id) / name
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        give(directory, self._settings.worker_uid)


def _name(worker_id: str) -> str:
    return f"{worker_id}{_SUFFIX}"


def labels_of(row: WorkerRow, installation: str) -> dict[str, str]:
    """By which the containers of a worker are found again."""
    return {
        LABEL_INSTALLATION: installation,
        LABEL_TX: row.tx_id or "",
        LABEL_SHA: row.sha,
        LABEL_WORKER: row.worker_id,
    }
