"""getUpdates: long polls, offsets that confirm, and one poller at a time."""

from typing import Final

from starlette.types import Receive

from supervisor.localbot.errors import BadRequest, ClientGone, PollConflict
from supervisor.localbot.faults import Poll, PollOutcome, Record
from supervisor.localbot.parameters import Parameters
from supervisor.localbot.store import BotStore, Json
from supervisor.localbot.waiting import Bell, Listener

_MOST_UPDATES: Final = 100
_LONGEST_WAIT_SECONDS: Final = 50.0


class Polling:
    """The receiving end of the bot's queue.

    An update stays in the queue until a later poll confirms it with its offset, so a poll whose answer never arrives
    loses nothing.
    """

    def __init__(self, store: BotStore, bell: Bell, record: Record) -> None:
        self._store = store
        self._bell = bell
        self._record = record
        self._poller: Listener | None = None

    async def get_updates(self, parameters: Parameters, receive: Receive, mark: str) -> list[Json]:
        """The unconfirmed updates, waiting up to ``timeout`` seconds for the first.

        ``PollConflict`` when another poll begins meanwhile, ``ClientGone`` when the client goes away.
        """
        offset = parameters.integer("offset")
        poll = self._record.poll(mark, offset)
        try:
            updates = await self._wait(parameters, receive, offset)
        except BaseException as error:
            self._end(poll, _outcome(error))
            raise
        self._end(poll, PollOutcome.ANSWERED, len(updates))
        return updates

    async def _wait(self, parameters: Parameters, receive: Receive, offset: int) -> list[Json]:
        limit = min(parameters.integer("limit") or _MOST_UPDATES, _MOST_UPDATES)
        timeout = min(max(parameters.seconds("timeout"), 0.0), _LONGEST_WAIT_SECONDS)
        allowed = parameters.parsed("allowed_updates")
        if allowed is not None and not isinstance(allowed, list):
            raise BadRequest("allowed_updates must be an array")
        if limit < 1:
            raise BadRequest("limit must be positive")
        if allowed is not None:
            self._store.set_fact("allowed_updates", allowed)  # for updates to come; an empty list allows all
        if offset:
            self._store.confirm(offset)
        async with self._bell.listen(receive) as listener:
            if self._poller is not None:
                self._poller.refuse(PollConflict())
            self._poller = listener
            try:
                return await listener.until(lambda: self._store.updates(limit), timeout)
            finally:
                if self._poller is listener:
                    self._poller = None

    def _end(self, poll: Poll, outcome: PollOutcome, updates: int = 0) -> None:
        poll.ended, poll.outcome, poll.updates = self._record.clock(), outcome, updates


def _outcome(error: BaseException) -> PollOutcome:
    if isinstance(error, ClientGone):
        return PollOutcome.GONE
    return PollOutcome.CONFLICT if isinstance(error, PollConflict) else PollOutcome.FAILED
