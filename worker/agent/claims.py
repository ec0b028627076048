"""Claims of a bot that nobody owns yet: the supervisor knows the code, so it is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from supervisor.contract import Claim, Claimed, EventType
from worker.agent.owners import Owners
from worker.control.retry import RetryPolicy
from worker.store import Store

CLAIMED_TEXT: Final = "Welcome. This bot is yours now: I answer you, and nobody else."
WAITING_TEXT: Final = (
    "I cannot check that code now, because my supervisor is away. I ask again until it answers: "
    "you need not send it twice."
)
#: Anyone may send a code to a bot that nobody owns: no more people than this are remembered at once.
MOST_WAITING: Final = 16
#: A claim waits for as long as the supervisor is away, so only the pauses are bounded.
WAITS: Final = RetryPolicy(max_retries=0, base_seconds=0.25, max_seconds=10)

#: Relays a claim to the supervisor; gives None when the supervisor cannot be reached.
RelayClaim = Callable[[Claim], Awaitable[Claimed | None]]


class Claims:
    """Relays claims one after the other. ``answered`` is called for a chat with an answer to be sent."""

    def __init__(
        self,
        *,
        relay: RelayClaim,
        owners: Owners,
        store: Store,
        process_event: int,
        answered: Callable[[int], None],
    ) -> None:
        self._relay = relay
        self._owners = owners
        self._store = store
        self._process_event = process_event
        self._answered = answered
        self._waiting: dict[int, Claim] = {}
        self._news = asyncio.Event()

    def take(self, claim: Claim) -> None:
        """Have a claim settled; a person's later one takes the place of an earlier one."""
        if claim.user_id not in self._waiting and len(self._waiting) >= MOST_WAITING:
            self._refuse(claim, "too_many_claims")
            return
        self._waiting[claim.user_id] = claim
        self._news.set()

    async def run(self) -> None:
        """Settle claims for ever. What is not settled when this is cancelled waits for the next run."""
        while True:
            self._news.clear()
            await self._settle_all()
            await self._news.wait()

    async def _settle_all(self) -> None:
        failures = 0
        while self._waiting:
            claim = next(iter(self._waiting.values()))
            claimed = await self._relay(claim)
            if claimed is not None:
                failures = 0
                self._settle(claim, claimed)
                continue
            failures += 1
            if failures == 1:
                self._tell(claim, WAITING_TEXT)
            await asyncio.sleep(WAITS.wait_seconds(failures))

    def _settle(self, claim: Claim, claimed: Claimed) -> None:
        if self._waiting.get(claim.user_id) == claim:  # no later one came meanwhile
            del self._waiting[claim.user_id]
        if not claimed.accepted:
            self._refuse(claim, "wrong_code")
            return
        self._owners.tell(claimed.owners)
        self._tell(claim, CLAIMED_TEXT)

    def _tell(self, claim: Claim, text: str) -> None:
        self._store.outbox.add(claim.chat_id, text)
        self._answered(claim.chat_id)

    def _refuse(self, claim: Claim, reason: str) -> None:
        payload = {"chat_id": claim.chat_id, "user_id": claim.user_id, "reason": reason}
        self._store.events.append(EventType.MESSAGE_REFUSED, payload, parent_id=self._process_event)
