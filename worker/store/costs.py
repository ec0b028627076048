"""What the models have cost, from the events that say so."""

from dataclasses import dataclass
from typing import Final

from supervisor.contract import EventType
from supervisor.contract.ids import first_id
from worker.store.database import Database

_COLUMNS: Final = """
SELECT COUNT(*),
    SUM(json_extract(payload, '$.input_tokens')),
    SUM(json_extract(payload, '$.output_tokens')),
    SUM(json_extract(payload, '$.cost_usd')),
    SUM(json_extract(payload, '$.cost_usd') IS NULL)
FROM events
"""
_SUM: Final = f"""
{_COLUMNS}
WHERE event_type IN ('{EventType.TURN_COMPLETED}', '{EventType.CONTEXT_COMPACTED}') AND id >= ?
    AND json_extract(payload, '$.input_tokens') > 0 AND (? IS NULL OR json_extract(payload, '$.chat_id') = ?)
"""

#: A turn's row names the event of its question, that of a summary its own.
_OF_RUN: Final = f"""
{_COLUMNS}
WHERE event_type = '{EventType.TURN_COMPLETED}' AND parent_id IN (SELECT event_id FROM turns WHERE run_id = ?)
    OR event_type = '{EventType.CONTEXT_COMPACTED}' AND id IN (SELECT event_id FROM turns WHERE run_id = ?)
"""  # noqa: S608 - words of ours


@dataclass(frozen=True, slots=True)
class Cost:
    """Of ``calls`` of models: tokens in and out, US dollars, and how many calls had no known price."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    unpriced: int = 0

    def __str__(self) -> str:
        """For a person."""
        tokens = f"{self.input_tokens:,} tokens in, {self.output_tokens:,} out"
        if self.unpriced == self.calls:
            return tokens if not self.calls else f"{tokens}, price unknown"
        unknown = f" and {self.unpriced} calls of unknown price" if self.unpriced else ""
        return f"{tokens}, ${self.dollars:,.4f}{unknown}"


class Costs:
    """Adds costs up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, moment: float, chat_id: int | None = None) -> Cost:
        """What was spent since a moment, in seconds since the Unix epoch; in one chat, or in all."""
        row = self._database.first(_SUM, (first_id(moment), chat_id, chat_id))
        return Cost() if row is None else Cost(*(value or 0 for value in row))

    def of_run(self, run_id: int) -> Cost:
        """What a run has cost so far, its summaries and earlier attempts included."""
        row = self._database.first(_OF_RUN, (run_id, run_id))
        return Cost() if row is None else Cost(*(value or 0 for value in row))
