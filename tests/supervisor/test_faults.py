"""Every fault of the list has a test, and the page about them is what the tests say."""

import ast
from collections import Counter

import pytest

from tests.support.faults import PAGE, ROOT, TITLES, collected, page


@pytest.mark.parametrize("number", TITLES, ids=lambda number: f"fault {number}")
def test_a_fault_is_injected(number: int) -> None:
    """By one test at least, and one of them says what happens, what its user sees, and how long that takes."""
    shown = [one for one in collected() if one.number == number]
    said = [one for one in shown if one.what]
    assert len(said) == 1, f"fault {number} is described by {[one.test for one in said]} of {[o.test for o in shown]}"
    assert all((said[0].what, said[0].user, said[0].within))


def test_no_test_injects_what_is_not_on_the_list() -> None:
    """Nor twice the same, nor is any of them skipped."""
    shown = collected()
    assert {one.number for one in shown} <= set(TITLES)
    assert [place for place, times in Counter((o.number, o.file, o.test) for o in shown).items() if times > 1] == []
    for one in shown:
        functions = {
            node.name: node
            for node in ast.walk(ast.parse((ROOT / one.file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        marks = [ast.unparse(decorator) for decorator in functions[one.test].decorator_list]
        assert not any("skip" in mark or "xfail" in mark for mark in marks), one


def test_the_page_is_that_of_the_tests() -> None:
    """`scripts/faults` writes it."""
    assert PAGE.read_text() == page()
