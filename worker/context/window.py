"""How much a model can read at once."""

from dataclasses import dataclass
from typing import Final

#: Kept free for the answer, and for what an estimate is wrong by.
RESERVE_TOKENS: Final = 16_384


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
