"""What the doctor finds, and what its checks share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from supervisor.engine import Engine
from supervisor.ledger import Ledger
from supervisor.paths import Paths
from supervisor.settings import Settings


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``remedy`` is what to do about it, empty where nothing has to be done."""

    check: str
    level: Level
    what: str
    remedy: str = ""


@dataclass
class Case:
    """What the checks share: the later ones need what the earlier ones found."""

    settings: Settings
    environ: Mapping[str, str]
    env_file: Path
    engine: Engine | None = None
    engine_root: Path | None = None
    ledger: Ledger | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> Paths:
        """Where the installation keeps its things."""
        return self.settings.paths
