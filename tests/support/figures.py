"""What tests have to show beside that they passed, printed once at the end, wherever the tests ran."""

from collections.abc import Iterable
from typing import Final

import pytest

#: The property of a test that is a line of its own.
FIGURE: Final = "figure"
#: The property of a test that is a cell of a table: row, column and what is in it.
CELL: Final = "cell"


def print_all(reporter: pytest.TerminalReporter) -> None:
    """A section with the lines, and one with the table, where there are any."""
    reports = [report for key in ("passed", "failed") for report in reporter.stats.get(key, [])]
    found = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    if lines := [str(value) for name, value in found if name == FIGURE]:
        reporter.section("figures")
        for line in lines:
            reporter.line(line)
    if cells := [tuple(map(str, value)) for name, value in found if name == CELL]:
        reporter.section("conformance")
        for line in _table(cells):
            reporter.line(line)


def _table(cells: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows and columns in the order in which they first occur; a cell that several tests fill has the worst of them."""
    content: dict[tuple[str, str], str] = {}
    for row, column, value in cells:
        content[row, column] = max(content.get((row, column), ""), value, key=("", "-", "ok", "FAILED").index)
    rows, columns = (list(dict.fromkeys(key[place] for key in content)) for place in (0, 1))
    widths = [max(map(len, [*rows, ""])), *(max(len(column), len("FAILED")) for column in columns)]
    lines = [["", *columns]] + [[row, *(content.get((row, column), "-") for column in columns)] for row in rows]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
