"""How much a model can read at once."""

from dataclasses import dataclass
from typing import Final

#: Kept free for the answer, and for what an estimate is wrong by.
RESERVE_TOKENS: Final = 16_384
#: What was refused is more than the window, by how much nobody knows.
LEARNED_SHARE: Final = 0.95
#: No model has a smaller window.
LEAST_LEARNED: Final = 8192


@dataclass(frozen=True, slots=True)
class Window:
    """A model's window of ``tokens``, of which ``taken`` are the descriptions of the tools."""

    tokens: int
    taken: int = 0

    @property
    def threshold(self) -> int:
        """How many tokens messages may have. Of a small window the reserve takes a half at most."""
        return max(self.tokens - RESERVE_TOKENS, self.tokens // 2) - self.taken

    def budget(self, factor: float) -> int:
        """The same in tokens as they are estimated, of which each counts ``factor``."""
        return int(self.threshold / factor)


class LearnedWindow:
    """A window that may prove smaller than the ``tokens`` that are known of it: the list is wrong, or the server's own.

    Apart from the calibration, which is about the language of a chat: a request that is refused tells nothing of it.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._refused: dict[int, int] = {}
        self._ceilings: dict[int, int] = {}

    def ceiling(self, chat_id: int) -> int | None:
        """How many estimated tokens a chat's next request may have, where that is known of nothing but a refusal."""
        return self._ceilings.get(chat_id)

    def refused(self, chat_id: int, *, estimated: int, messages: int) -> None:
        """So many tokens as estimated, the tools among them, did not fit; ``messages`` without the tools."""
        self._refused[chat_id] = min(estimated, self._refused.get(chat_id, estimated))
        self._ceilings[chat_id] = messages // 2

    def answered(self, chat_id: int, *, estimated: int, factor: float) -> None:
        """So many tokens as estimated, each of which counts ``factor``, did fit: that tells how long the others were.

        What was longer than the window, or no longer than this, does not say that the window is smaller.
        """
        if (refused := self._refused.pop(chat_id, None)) is None:
            return
        del self._ceilings[chat_id]
        if refused > estimated:
            self.tokens = min(self.tokens, max(int(refused * factor * LEARNED_SHARE), LEAST_LEARNED))
