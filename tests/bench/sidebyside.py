"""The same load and the same bad revisions under three ways to deploy a polling worker."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from supervisor.localbot.faults import Poll, PollOutcome
from tests.bench.figures import By, seconds
from tests.bench.load import Asked, Load, outcomes
from tests.bench.ways import Recreated, Supervised, Swarm, Way, stage
from tests.support.installation import Installation, wait_for

PER_SECOND = 5.0
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 2.0
_UP_SECONDS = 30.0
KINDS = {"": "good revisions", "exit": "one that exits after 3 s", "wedge": "one that wedges after 3 s"}


@dataclass(frozen=True)
class Deployed:
    """What was seen around one deploy. Times in seconds."""

    asked: tuple[Asked, ...]
    nobody_polls: float  # the longest time in which no poll was open
    conflicts: int
    settled: float  # from the order until the new revision counts as good, or the old one is back
    excused: int = 0  # answered once more, as the sender had died before it could note the first answer

    @property
    def lost(self) -> int:
        """Messages without an answer."""
        return sum(not one.answers for one in self.asked)

    @property
    def doubled(self) -> int:
        """Messages with more than one, but for those that are excused."""
        return sum(one.twice for one in self.asked) - self.excused

    @property
    def longest_wait(self) -> float:
        """Of a message that was answered."""
        return max((one.waited for one in self.asked if one.answers), default=0.0)


@dataclass(frozen=True)
class Seen:
    """One way, with its deploys by their kind."""

    name: str
    settings: str
    deploys: dict[str, list[Deployed]]


def measure(
    directory: Path, installation: Installation, image: str, *, deploys: int, say: Callable[[str], None]
) -> Iterator[Seen]:
    """All three, one after the other; so many good deploys of each, and one of each bad kind."""
    yield _measured(Supervised(installation), deploys, say)
    others: tuple[type[Swarm] | type[Recreated], ...] = (Swarm, Recreated)
    for number, other in enumerate(others):
        with stage(directory / f"side-{number}", image) as made, other(made) as way:
            yield _measured(way, deploys, say)


def _measured(way: Way, deploys: int, say: Callable[[str], None]) -> Seen:
    wait_for(way.bot.polls, _UP_SECONDS, f"the first poll: {way.name}")
    kinds = [*[""] * deploys, "exit", "wedge"]
    found: dict[str, list[Deployed]] = {kind: [] for kind in KINDS}
    for kind in kinds:
        say(f"  {way.name}: {KINDS[kind]}")
        found[kind].append(_deployed(way, kind))
    way.bot.close()
    return Seen(way.name, way.settings, found)


def _deployed(way: Way, kind: str) -> Deployed:
    deploy = way.prepare(kind)
    with Load(way.socket, per_second=PER_SECOND) as load:
        time.sleep(_BEFORE_SECONDS)
        since = time.time()
        deploy()
        settled = time.time() - since
        time.sleep(_AFTER_SECONDS)
    polls = [poll for poll in way.bot.polls() if (poll.ended or since) >= since - _BEFORE_SECONDS / 2]
    asked = tuple(outcomes(way.bot, load.chats))
    conflicts = sum(poll.outcome is PollOutcome.CONFLICT for poll in polls)
    return Deployed(asked, _longest_hole(polls), conflicts, settled, way.excused(asked))


def _longest_hole(polls: Sequence[Poll]) -> float:
    """The longest time in which no poll was open, between the first and the last of them."""
    longest, covered = 0.0, None
    for poll in sorted(polls, key=lambda poll: poll.started):
        if covered is not None:
            longest = max(longest, poll.started - covered)
        covered = max(covered or 0.0, poll.ended if poll.ended is not None else float("inf"))
    return longest


def table(ways: Sequence[Seen], deploys: int) -> Table:
    """Side by side."""
    shown = Table(title="The same load and the same bad revisions, side by side", title_justify="left", expand=False)
    shown.add_column("what", overflow="fold", max_width=52)
    for way in ways:
        shown.add_column(way.name)
    rows: list[tuple[str, Callable[[list[Deployed]], str]]] = [
        ("messages lost", lambda all_: f"{sum(one.lost for one in all_)} of {sum(len(one.asked) for one in all_)}"),
        ("answered twice", lambda all_: str(sum(one.doubled for one in all_))),
        (
            "answered twice, as the sender died before it could note the first",
            lambda all_: str(sum(one.excused for one in all_)),
        ),
        ("polls refused, as two polled at once (409)", lambda all_: str(sum(one.conflicts for one in all_))),
        ("nobody polls, longest", lambda all_: seconds(max(one.nobody_polls for one in all_))),
        ("a message waits, longest", lambda all_: seconds(max(one.longest_wait for one in all_))),
        ("until settled, median", lambda all_: seconds(By.MEDIAN.of([one.settled for one in all_]))),
    ]
    for kind, what in KINDS.items():
        shown.add_row(f"[bold]{deploys} {what}[/bold]" if not kind else f"[bold]{what}[/bold]")
        for name, figure in rows:
            label = "until the old one is back and settled" if kind and name.startswith("until") else name
            shown.add_row(f"  {label}", *(figure(way.deploys[kind]) for way in ways))
        shown.add_section()
    return shown


def settings(ways: Sequence[Seen]) -> str:
    """How each was set up."""
    lines = [
        f"{PER_SECOND:g} messages a second, each in a chat of its own, around each deploy, to the same local Bot API "
        "server.",
        "The supervisor runs this project's worker; the two others run tests/bench/poller.py, which polls, answers and "
        "confirms, and ends between two polls, because the worker by itself relies on a lease.",
        *(f"{way.name}: {way.settings}" for way in ways),
    ]
    return "\n".join(lines)
