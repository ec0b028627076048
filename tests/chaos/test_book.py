"""The chaos run's own arithmetic."""

from tests.chaos.book import Answer, Asked, judge

ASKED = [Asked(number, 7, float(number)) for number in (1, 2, 3)]


def answer(number: int, at: float, message_id: int | None = None) -> Answer:
    return Answer(7, message_id or 100 + number, at, ASKED[number - 1].answer)


def noted(*answers: Answer) -> set[tuple[int, int]]:
    return {one.place for one in answers}


def test_all_is_well() -> None:
    """Each answered once, in order: the longest wait and the longest silence are told."""
    answers = [answer(1, 1.5), answer(2, 2.5), answer(3, 5.0)]
    verdict = judge(ASKED, answers, committed=noted(*answers), deaths=[])
    assert verdict.good
    assert (verdict.sent, verdict.answered, verdict.longest_wait) == (3, 3, 2.0)
    assert (verdict.longest_silence, verdict.silent_since) == (2.0, 3.0)


def test_what_has_no_answer_is_lost() -> None:
    """It is named."""
    verdict = judge(ASKED, [answer(1, 2.0), answer(3, 4.0)], committed=[], deaths=[])
    assert verdict.lost == ("message 2",)
    assert not verdict.good


def test_the_window_excuses_what_was_accepted_and_never_noted() -> None:
    """A death right after it is the reason for a second answer; without one, or when it was noted, nothing is."""
    once, again = answer(1, 1.5, 50), answer(1, 9.0, 51)
    others = [answer(2, 9.5), answer(3, 9.6)]
    everything = [once, again, *others]
    excused = judge(ASKED, everything, committed=noted(again, *others), deaths=[1.7])
    assert (excused.doubled, excused.in_the_window, excused.good) == ((), 1, True)
    for committed, deaths in ((noted(*everything), [1.7]), (noted(again), [9.3]), (noted(again), [1.4])):
        verdict = judge(ASKED, everything, committed=committed, deaths=deaths)
        assert (verdict.doubled, verdict.in_the_window, verdict.good) == (("message 1",), 0, False)


def test_an_answer_after_a_later_ones_is_out_of_order() -> None:
    """In its own chat alone."""
    assert judge(ASKED, [answer(2, 3), answer(1, 4), answer(3, 5)], committed=[], deaths=[]).out_of_order == 1
    other = [Asked(4, 8, 0.0)]
    late = Answer(8, 200, 9.0, other[0].answer)
    assert judge([*ASKED, *other], [*map(answer, (1, 2, 3), (4, 5, 6)), late], committed=[], deaths=[]).good
