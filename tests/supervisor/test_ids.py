"""Event ids: time-ordered, strictly rising, never the same twice."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.ids import EPOCH_MS, EventIds, Side, milliseconds, side

NOW = 1_800_000_000.0


def test_ids_carry_their_time_and_side() -> None:
    """The millisecond and the side can be read back."""
    for writer in Side:
        event_id = EventIds(writer, lambda: NOW + 0.123).next()
        assert milliseconds(event_id) == pytest.approx((NOW + 0.123) * 1000, abs=1)
        assert side(event_id) is writer


def test_ids_are_ordered_by_time_across_sides() -> None:
    """A later millisecond gives a larger id, whichever side made it."""
    earlier = EventIds(Side.WORKER, lambda: NOW).next()
    later = EventIds(Side.SUPERVISOR, lambda: NOW + 0.002).next()
    assert earlier < later


def test_sides_never_make_the_same_id() -> None:
    """The two files stay apart even within one millisecond."""
    made = {writer: {ids.next() for _ in range(5000)} for writer in Side for ids in [EventIds(writer, lambda: NOW)]}
    assert made[Side.SUPERVISOR].isdisjoint(made[Side.WORKER])


@given(st.lists(st.floats(min_value=-1e6, max_value=4e9, allow_nan=False), min_size=2, max_size=50))
def test_ids_rise_strictly_whatever_the_clock_does(times: list[float]) -> None:
    """A clock that stands, jumps or goes back never gives an id that is not above the last one."""
    clock: Iterator[float] = iter(times)
    ids = EventIds(Side.SUPERVISOR, lambda: next(clock))
    made = [ids.next() for _ in times]
    assert made == sorted(set(made))


def test_ids_fit_a_signed_64_bit_integer_until_2089() -> None:
    """The last moment of the layout still gives a positive id that a database can hold."""
    last = (EPOCH_MS + (1 << 41) - 1) / 1000
    assert 0 < EventIds(Side.WORKER, lambda: last).next() < 1 << 63


def test_a_full_millisecond_goes_on_in_the_next() -> None:
    """When a millisecond has no numbers left, ids stay unique and keep their side."""
    ids = EventIds(Side.WORKER, lambda: NOW)
    ids._counter, ids._tick = (1 << 21) - 2, int(NOW * 1000) - EPOCH_MS
    made = [ids.next() for _ in range(3)]
    assert made == sorted(set(made))
    assert [side(event_id) for event_id in made] == [Side.WORKER] * 3
    assert milliseconds(made[2]) == milliseconds(made[0]) + 1


def test_threads_never_get_the_same_id() -> None:
    """One source may be shared by threads."""
    ids = EventIds(Side.SUPERVISOR, lambda: NOW)
    made: list[int] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        made.extend([ids.next() for _ in range(2000)])

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16_000
