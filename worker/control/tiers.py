"""Risk tiers: what the owner allows, is asked for, or denies, whatever the model says.

A policy is written as ``tier=decision`` pairs, comma separated. Of several decisions on a call the strictest counts,
and a tier that the policy does not name is denied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.tools.base import Tier


class Decision(StrEnum):
    """What becomes of a call, the strictest last."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


_STRICTNESS: Final = tuple(Decision)


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """What is decided of each tier."""

    decisions: Mapping[Tier, Decision]

    def decide(self, tiers: Iterable[Tier]) -> Decision:
        """The strictest decision on these tiers; with none at all the call is denied."""
        found = [self.decisions.get(tier, Decision.DENY) for tier in tiers]
        return max(found, key=_STRICTNESS.index, default=Decision.DENY)


def parse(text: str) -> TierPolicy:
    """A policy as it is written in a setting; named twice, a tier's strictest decision counts. Raises ValueError."""
    decisions: dict[Tier, Decision] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        tier, _, decision = map(str.strip, part.partition("="))
        if tier not in tuple(Tier) or decision not in _STRICTNESS:
            raise ValueError(f"tier=decision pairs, comma separated: {_words(Tier)}; {_words(Decision)}; not {part!r}")
        before = decisions.get(Tier(tier), Decision.ALLOW)
        decisions[Tier(tier)] = max(before, Decision(decision), key=_STRICTNESS.index)
    if not decisions:
        raise ValueError(f"tier=decision pairs, comma separated: {_words(Tier)}; {_words(Decision)}")
    return TierPolicy(decisions)


def _words(kind: type[StrEnum]) -> str:
    *others, last = kind
    return f"{', '.join(others)} and {last}"


#: What holds when nothing is set.
DEFAULT: Final = parse("read=allow,write=allow,exec=allow,network=ask")
