"""What tests have to show beside that they passed, printed once at the end, wherever the tests ran."""

from collections.abc import Iterable
from typing import Final

import pytest

#: The property of a test that is a line of its own.
FIGURE: Final = "figure"
#: The property of a test that is a cell of a table: its row and column.
CELL: Final = "cell"


def print_all(reporter: pytest.TerminalReporter) -> None:
    """A section with the lines, and one with the table, where there are any."""
    reports = [report for key in ("passed", "failed") for report in reporter.stats.get(key, [])]
    found = [
        (name, value, report.passed) for report in reports for name, value in getattr(report, "user_properties", ())
    ]
    if lines := [str(value) for name, value, _ in found if name == FIGURE]:
        reporter.section("figures")
        for line in lines:
            reporter.line(line)
    if cells := [(*value, passed) for name, value, passed in found if name == CELL]:
        reporter.section("conformance")
        for line in _table(cells):
            reporter.line(line)


def _table(cells: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Rows and columns in the order in which they first occur; one of several tests that failed fails the cell."""
    passed: dict[tuple[str, str], bool] = {}
    for row, column, ok in cells:
        passed[row, column] = ok and passed.get((row, column), True)
    rows, columns = (list(dict.fromkeys(key[place] for key in passed)) for place in (0, 1))
    words = {True: "ok", False: "FAILED", None: "-"}
    lines = [["", *columns]] + [[row, *(words[passed.get((row, column))] for column in columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
