"""A figure: what was measured, beside what it must not exceed."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def seconds(value: float) -> str:
    """A time, in the unit that reads best."""
    if abs(value) >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.0f} \N{MICRO SIGN}s"


def megabytes(value: float) -> str:
    """A size of a process."""
    return f"{value / 1e6:.1f} MB"


def kibibytes(value: float) -> str:
    """A size of a file."""
    return f"{value / 1024:.1f} KiB"


def percent(value: float) -> str:
    """A share."""
    return f"{value:.2f} %"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f} x"


def count(value: float) -> str:
    """A number of things."""
    return f"{value:.0f}"


class By(StrEnum):
    """Which value of all samples stands for them."""

    MEDIAN = "median"
    P95 = "p95"
    P99 = "p99"
    MOST = "most"

    def of(self, samples: Sequence[float]) -> float:
        """That value; percentiles by nearest rank, so they are always one of the samples."""
        match self:
            case By.MEDIAN:
                return statistics.median(samples)
            case By.MOST:
                return max(samples)
            case By.P95 | By.P99:
                rank = math.ceil(len(samples) * int(self.value[1:]) / 100)
                return sorted(samples)[rank - 1]


@dataclass(frozen=True)
class Figure:
    """One row. Without a limit it is there to explain another one."""

    name: str
    samples: tuple[float, ...]
    unit: Callable[[float], str]
    how: str
    limit: float | None = None
    by: By = By.MEDIAN

    @property
    def value(self) -> float:
        """What is compared with the limit."""
        return self.by.of(self.samples)

    @property
    def missed(self) -> bool:
        """Whether it is beyond its limit."""
        return self.limit is not None and self.value > self.limit

    @property
    def measured(self) -> str:
        """The value in words, with the median beside another one and the number of samples."""
        value = self.unit(self.value)
        if len(self.samples) == 1:
            return value
        beside = "" if self.by is By.MEDIAN else f", median {self.unit(By.MEDIAN.of(self.samples))}"
        return f"{self.by} {value}{beside} (n={len(self.samples)})"


def table(figures: Iterable[Figure]) -> Table:
    """All figures for people."""
    shown = Table(title="Figures, each beside its limit", title_justify="left", expand=False)
    shown.add_column("figure", overflow="fold", max_width=34)
    shown.add_column("measured", overflow="fold", max_width=40)
    shown.add_column("limit", no_wrap=True)
    shown.add_column("")
    shown.add_column("how", overflow="fold")
    for figure in figures:
        limit = "" if figure.limit is None else figure.unit(figure.limit)
        verdict = "" if figure.limit is None else "[red]missed[/red]" if figure.missed else "[green]ok[/green]"
        shown.add_row(figure.name, figure.measured, limit, verdict, escape(figure.how))
    return shown


def console() -> Console:
    """Wide enough for the table when nobody looks at it in a terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=170)
