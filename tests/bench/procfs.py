"""What the kernel says of a process."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_USER_TIME, _SYSTEM_TIME = 11, 12  # after the process's name, which may hold anything


@dataclass(frozen=True)
class Usage:
    """Of one process. ``cpu_percent`` of one core."""

    rss_bytes: int
    cpu_percent: float


def usage(pids: Mapping[str, int], over_seconds: float) -> dict[str, Usage]:
    """Memory at the end, and the share of one core over a time in which this process sleeps."""
    before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
    started = time.monotonic()
    time.sleep(over_seconds)
    passed = time.monotonic() - started
    return {
        name: Usage(_rss_bytes(pid), 100 * (_cpu_seconds(pid) - before[name]) / passed) for name, pid in pids.items()
    }


def _rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS
