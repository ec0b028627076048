"""Grants: directories of the host that an owner opens to the tools for a time.

The wall is the mount: while a grant lasts, toolboxes are made with it, and when it is over they are made anew without
it. What is granted stands in the ledger alone.
"""

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from supervisor.contract import EventType, Grant, GrantOrder
from supervisor.ledger import Access, GrantRow, Ledger, NewGrant
from supervisor.paths import CHECKOUT
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.specs import Mount
from supervisor.toolbox.grantable import NotGrantable, Walls, overlapping, place, still_there

_LOG = structlog.get_logger()
_HOUR_SECONDS: Final = 3600.0
_MOST: Final = 16
_LONGEST_WHY: Final = 500


class Grants:
    """What is granted. May be used from several threads; ``clock`` gives seconds since the Unix epoch."""

    def __init__(
        self, *, ledger: Ledger, settings: Settings, signal: Signal, clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._signal = signal
        self._clock = clock
        self._lock = threading.RLock()
        self._open: list[GrantRow] | None = None  # as in the ledger, which nobody else changes
        paths = settings.paths
        # Each of these may be a symlink to somewhere else.
        own = (paths.home, paths.run, paths.ledger, paths.revisions, paths.state, paths.agent_db, paths.config)
        kept = (paths.snapshots, paths.logs, paths.localbot_db)
        self._walls = Walls(
            roots=settings.grantable_roots, private=(*own, *kept, paths.workspace, CHECKOUT), home=Path.home()
        )

    @property
    def roots(self) -> tuple[Path, ...]:
        """Below these may be granted."""
        return self._walls.roots

    def add(self, order: GrantOrder, *, parent_id: int) -> GrantRow:
        """Open a directory. Raises NotGrantable."""
        directory, mode = self._walls.check(order.path, order.mode, order.hours)
        with self._lock:
            row = self._add(order, directory, mode, parent_id)
        self._signal.notify()
        return row

    def _add(self, order: GrantOrder, directory: Path, mode: Access, parent_id: int) -> GrantRow:
        active = self.active()
        if len(active) >= _MOST:
            raise NotGrantable("too_many", f"{_MOST} grants at once are the most; /revoke one first")
        # One inside of another could be swapped for something else from within the outer one.
        if (other := overlapping(directory, [row.path for row in active])) is not None:
            raise NotGrantable(
                "overlaps", f"{directory} overlaps {other}, which is granted already; /revoke that first"
            )
        new = NewGrant(
            path=str(directory),
            mode=mode,
            why=order.why[:_LONGEST_WHY],
            user_id=order.user_id,
            chat_id=order.chat_id,
            place=place(directory),
            ends_at=self._clock() + order.hours * _HOUR_SECONDS,
        )
        row = self._ledger.add_grant(new, parent_id=parent_id)
        self._open = None
        return row

    def revoke(self, number: int, *, user_id: int, chat_id: int) -> GrantRow:
        """Take a grant back. Raises NotGrantable when there is none of this number."""
        with self._lock:
            row = next((row for row in self.active() if row.number == number), None)
            ended = row is not None and self._end(number, EventType.GRANT_REVOKED, user_id=user_id, chat_id=chat_id)
        if row is None or not ended:
            raise NotGrantable("unknown_grant", f"there is no grant {number} in force; /grants lists them")
        self._signal.notify()
        return row

    def active(self) -> tuple[GrantRow, ...]:
        """What is granted now; what has ended since the last look is recorded as ended."""
        with self._lock:
            now, active = self._clock(), []
            if self._open is None:
                self._open = self._ledger.open_grants()
            for row in tuple(self._open):
                if row.ends_at <= now:
                    self._end(row.number, EventType.GRANT_EXPIRED, reason="its time is over")
                elif not still_there(row.path, row.place):
                    _LOG.warning("a granted directory is gone or was replaced", path=row.path)
                    self._end(row.number, EventType.GRANT_EXPIRED, reason="it is gone, or was replaced")
                else:
                    active.append(row)
            return tuple(active)

    def seconds_left(self, granted: tuple[GrantRow, ...]) -> float:
        """Until the first of these ends."""
        return min((row.ends_at for row in granted), default=math.inf) - self._clock()

    def _end(self, number: int, event: EventType, **payload: object) -> bool:
        self._open = None
        return self._ledger.end_grant(number, event, **payload)


def mounts(grants: tuple[GrantRow, ...]) -> tuple[Mount, ...]:
    """Each at its own path; what else is mounted below it on the host stays out."""
    return tuple(
        Mount(Path(row.path), row.path, read_only=row.mode is Access.READ_ONLY, recursive=False) for row in grants
    )


def told(row: GrantRow, *, in_force: bool) -> Grant:
    """A grant as a worker is told of it."""
    return Grant(
        number=row.number,
        path=row.path,
        mode=row.mode,
        ends_at=row.ends_at,
        why=row.why,
        user_id=row.user_id,
        in_force=in_force,
    )
