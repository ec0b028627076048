"""The little language of the dummies' scripts.

Comma separated steps: ``ok``, ``err:<class>``, ``sleep:<milliseconds>``, ``msg:<text>``, ``msgb64:<base64 of the
text>``. Past the end the last step repeats.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, repeat


class Action(StrEnum):
    """What a step does."""

    OK = "ok"
    ERR = "err"
    SLEEP = "sleep"
    MSG = "msg"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``text`` is the error's class or the message, ``seconds`` how long to sleep."""

    action: Action
    text: str = ""
    seconds: float = 0.0


def parse(script: str) -> tuple[Step, ...]:
    """The steps of a script. Raises ValueError that names the bad step and what is allowed."""
    return tuple(_step(word.strip()) for word in script.split(","))


def endless(steps: tuple[Step, ...]) -> Iterator[Step]:
    """The steps, then the last one for ever."""
    return chain(steps, repeat(steps[-1]))


def _step(word: str) -> Step:
    keyword, _, rest = word.partition(":")
    if word == "ok":
        return Step(Action.OK)
    if keyword == "err" and re.fullmatch(r"[a-z][a-z0-9_]*", rest):
        return Step(Action.ERR, rest)
    if keyword == "sleep" and re.fullmatch(r"[0-9]+", rest):
        return Step(Action.SLEEP, seconds=int(rest) / 1000)
    if keyword == "msg" and rest:
        return Step(Action.MSG, rest)
    if keyword == "msgb64" and rest:
        try:
            return Step(Action.MSG, base64.b64decode(rest, validate=True).decode())
        except ValueError:
            raise ValueError(f"step {word!r} is not base64 of UTF-8 text") from None
    raise ValueError(f"step {word!r} is none of ok, err:<class>, sleep:<ms>, msg:<text>, msgb64:<base64 of the text>")
