"""The page about ``--json`` says what the shapes say; that they fit what is printed, tests/e2e/test_json.py shows."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from supervisor.cli.shapes import SHAPES, page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_that_of_the_shapes() -> None:
    """As scripts/schemas writes it."""
    assert (ROOT / "docs" / "json.md").read_text() == page()


def test_a_shape_takes_nothing_else() -> None:
    """Neither another field nor one too few."""
    decided = {"tx_id": "x", "status": "promoted", "reason": ""}
    shape = SHAPES["approve TX, cancel TX, rollback TX"]
    shape.validate_python(decided)
    for wrong in (decided | {"more": 1}, {"tx_id": "x", "status": "promoted"}):
        with pytest.raises(ValidationError):
            shape.validate_python(wrong)
