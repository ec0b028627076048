"""The chaos run's own arithmetic."""

from collections.abc import Collection, Sequence

import pytest

from tests.chaos.book import Answer, Asked, Service, Verdict, judge

ASKED = [Asked(number, 7, float(number)) for number in (1, 2, 3)]


def answer(number: int, at: float, message_id: int | None = None) -> Answer:
    return Answer(7, message_id or 100 + number, at, ASKED[number - 1].answer)


def noted(*answers: Answer) -> set[tuple[int, int]]:
    return {one.place for one in answers}


def judged(
    answers: Sequence[Answer],
    *,
    committed: Collection[tuple[int, int]] = (),
    service: Service | None = None,
    over: float = 10.0,
    asked: Sequence[Asked] = ASKED,
) -> Verdict:
    return judge(asked, answers, committed=committed, service=service or Service(), over=over)


def test_all_is_well() -> None:
    """Each answered once, in order: the longest wait and the longest silence are told."""
    answers = [answer(1, 1.5), answer(2, 2.5), answer(3, 5.0)]
    verdict = judged(answers, committed=noted(*answers))
    assert verdict.good
    assert (verdict.sent, verdict.answered, verdict.longest_wait) == (3, 3, 2.0)
    assert (verdict.longest_silence, verdict.silent_since) == (2.0, 3.0)


def test_what_has_no_answer_is_lost() -> None:
    """It is named."""
    verdict = judged([answer(1, 2.0), answer(3, 4.0)])
    assert verdict.lost == ("message 2",)
    assert not verdict.good


def test_messages_that_are_never_answered_are_a_silence_to_the_end() -> None:
    """From the last answer on, or from the first of them on when all before were answered."""
    verdict = judged([answer(1, 1.5)], over=42.0)
    assert (verdict.longest_silence, verdict.silent_since) == (40.0, 2.0)


ONCE, AGAIN = answer(1, 1.5, 50), answer(1, 9.0, 51)
OTHERS = [answer(2, 9.5), answer(3, 9.6)]
#: Blue had the lease until green got it, in between the two answers.
GRANTS = [(0.5, "blue"), (2.0, "green")]


def test_the_window_excuses_what_was_accepted_and_never_noted() -> None:
    """The death of whoever held the lease is the reason for a second answer."""
    verdict = judged(
        [ONCE, AGAIN, *OTHERS], committed=noted(AGAIN, *OTHERS), service=Service(GRANTS, {"blue": 1.7, "green": 9.9})
    )
    assert (verdict.doubled, verdict.in_the_window, verdict.good) == ((), 1, True)


def test_a_death_while_the_answer_was_on_its_way_excuses_too() -> None:
    """The bot stamps what it takes, a moment after it was sent."""
    verdict = judged([ONCE, AGAIN, *OTHERS], service=Service(GRANTS, {"blue": 1.4}))
    assert (verdict.doubled, verdict.in_the_window) == ((), 1)


@pytest.mark.parametrize(
    ("ends", "why"),
    [
        ({}, "nobody died"),
        ({"green": 1.7}, "one that stood by died"),
        ({"blue": 9.3}, "it died after the second answer"),
        ({"blue": 0.6}, "it had died long before, so that it did not send"),
        ({"green": 5.0}, "the next holder died, which had not sent the first one"),
    ],
)
def test_no_other_death_excuses(ends: dict[str, float], why: str) -> None:
    """It is doubled then."""
    verdict = judged([ONCE, AGAIN, *OTHERS], committed=noted(AGAIN), service=Service(GRANTS, ends))
    assert (verdict.doubled, verdict.in_the_window, verdict.good) == (("message 1",), 0, False), why


def test_a_death_does_not_excuse_what_was_noted_or_sent_before_any_lease() -> None:
    """Whoever noted it knew that it was sent; where nobody held the lease, nobody was to send."""
    for committed, grants in ((noted(ONCE, AGAIN), GRANTS), (noted(AGAIN), GRANTS[1:])):
        verdict = judged([ONCE, AGAIN, *OTHERS], committed=committed, service=Service(grants, {"blue": 1.7}))
        assert verdict.doubled == ("message 1",)


def test_an_answer_after_a_later_ones_is_out_of_order() -> None:
    """In its own chat alone."""
    assert judged([answer(2, 3), answer(1, 4), answer(3, 5)]).out_of_order == 1
    other = [Asked(4, 8, 0.0)]
    late = Answer(8, 200, 9.0, other[0].answer)
    assert judged([*map(answer, (1, 2, 3), (4, 5, 6)), late], asked=[*ASKED, *other]).good
