"""The codes of vectors in memory: one bit a dimension, compared all at once.

Two vectors that point the same way have most signs in common, so the bits tell which few are worth an exact look.
A hundred thousand codes are compared in some ten milliseconds; they take 80 bytes each at 256 dimensions, 250 at 1536.
"""

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence


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
        bits = int.from_bytes(code, "little")
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
        asked = int.from_bytes(code, "little")
        # Without a line of Python for each: it is done for every code there is.
        apart = list(map(int.bit_count, map(asked.__xor__, codes)))
        closest = heapq.nsmallest(limit, apart)
        if not closest:
            return []
        within = ((bits, -history_id) for history_id, bits in zip(ids, apart, strict=True) if bits <= closest[-1])
        return [-number for _, number in heapq.nsmallest(limit, within)]  # of those as far apart the newest
