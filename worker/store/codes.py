"""The codes of vectors in memory: one bit a dimension, compared all at once.

Two vectors that point the same way have most signs in common, so the bits tell which few are worth an exact look.
The first few hundred dimensions tell it well enough, however many there are: a hundred thousand codes are compared in
some ten milliseconds, and take 80 bytes of memory each.
"""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

#: What is kept of a code in memory. So many bits that a byte can hold in how many of them two codes differ.
COMPARED_BYTES: Final = 31


def code_of(vector: Sequence[float]) -> bytes:
    """One bit a dimension, set where it is positive; the number of dimensions is rounded down to whole bytes."""
    return bytes(
        sum((vector[start + bit] > 0) << bit for bit in range(8)) for start in range(0, len(vector) // 8 * 8, 8)
    )


class Codes:
    """The codes of one chat, by the numbers of their messages. All are of one length, which the caller sees to."""

    def __init__(self) -> None:
        self._ids = array("q")
        self._codes: list[int] = []

    def put(self, history_id: int, code: bytes) -> None:
        """Keep a message's code, in place of a former one."""
        bits = _bits(code)
        place = bisect_left(self._ids, history_id)
        if place < len(self._ids) and self._ids[place] == history_id:
            self._codes[place] = bits
        else:
            self._ids.insert(place, history_id)
            self._codes.insert(place, bits)

    def nearest(self, code: bytes, *, limit: int, after: int = 0) -> list[int]:
        """The numbers, above ``after``, whose codes differ in the fewest bits, nearest first."""
        first = bisect_right(self._ids, after)
        ids, codes = (self._ids[first:], self._codes[first:]) if first else (self._ids, self._codes)
        asked = _bits(code)
        apart = bytes([(asked ^ bits).bit_count() for bits in codes])
        radius = bisect_left(range(COMPARED_BYTES * 8), limit, key=lambda bits: _within(apart, bits).count(1))
        places = (match.start() for match in re.finditer(b"\x01", _within(apart, radius)))
        closest = sorted((apart[place], -ids[place]) for place in places)
        return [-number for _, number in closest[:limit]]  # of those as far apart the newest


def _bits(code: bytes) -> int:
    return int.from_bytes(code[:COMPARED_BYTES], "little")


def _within(apart: bytes, radius: int) -> bytes:
    """1 at each place where it is at most ``radius``, else 0; quicker than any line of Python for each."""
    return apart.translate(bytes(bits <= radius for bits in range(256)))
