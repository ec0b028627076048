"""The codes of vectors: which few are nearest."""

import random

import pytest

from worker.store.codes import COMPARED_BYTES, Codes, code_of


@pytest.mark.parametrize("code_bytes", [1, COMPARED_BYTES, 192])
def test_the_nearest_are_those_that_differ_least(code_bytes: int) -> None:
    """By their first bits, the newest first of those as far apart, and only those after a given message."""
    chance = random.Random(code_bytes)
    known = {number: chance.randbytes(code_bytes) for number in range(1, 500)}
    codes = Codes()
    for number in chance.sample(sorted(known), len(known)):
        codes.put(number, known[number])
    asked = chance.randbytes(code_bytes)

    def apart(number: int) -> int:
        return sum(
            (a ^ b).bit_count() for a, b in zip(known[number][:COMPARED_BYTES], asked[:COMPARED_BYTES], strict=True)
        )

    for limit, after in ((1, 0), (7, 0), (20, 250), (1000, 490)):
        nearest = sorted((number for number in known if number > after), key=lambda number: (apart(number), -number))
        assert codes.nearest(asked, limit=limit, after=after) == nearest[:limit]


def test_a_code_has_the_sign_of_each_dimension() -> None:
    """What does not fill a byte is left out."""
    assert code_of([1.0, -1.0, 0.5, 0.0, -2.0, 3.0, -1.0, 1.0, 1.0]) == bytes([0b10100101])
