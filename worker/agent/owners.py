"""Who may use the bot."""

from collections.abc import Iterable


class Owners:
    """Numeric user ids: the fixed ones, or, with none of these, those that the supervisor keeps."""

    def __init__(self, fixed: Iterable[int]) -> None:
        self._fixed = frozenset(fixed)
        self._told: frozenset[int] = frozenset()

    def tell(self, owners: Iterable[int]) -> None:
        """The supervisor's list, as it is now."""
        self._told = frozenset(owners)

    @property
    def ids(self) -> frozenset[int]:
        """All of them. A person's private chat with the bot has the same id."""
        return self._fixed or self._told

    @property
    def unclaimed(self) -> bool:
        """Whether nobody owns the bot."""
        return not self.ids

    def __contains__(self, user_id: object) -> bool:
        return user_id in self.ids
