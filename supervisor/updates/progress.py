"""What is told of an update on its way through the gates: a line for each step, and the evidence when one fails."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from supervisor.contract import EventType as E
from supervisor.contract import Progress
from supervisor.ledger import Event, Ledger, Update
from supervisor.states import FINAL, TRANSITIONS, Status

#: Bytes of evidence that are handed to a model.
LONGEST_EVIDENCE: Final = 3 * 1024
_MOST_NAMES: Final = 20
_LAST_EVENTS: Final = frozenset(events[-1] for events in TRANSITIONS.values())
#: Something failed that the next attempt can learn from.
FAILED: Final = frozenset(
    {
        Status.REFUSED,
        Status.BUILD_FAILED,
        Status.TEST_FAILED,
        Status.SELF_CHECK_FAILED,
        Status.DEPLOY_FAILED,
        Status.ROLLED_BACK,
    }
)


def follow(
    ledger: Ledger, update: Update, *, wait: Callable[[], None], stopped: Callable[[], bool]
) -> Iterator[Progress]:
    """Each step of the update, past ones first, until it needs a person or is over. ``wait`` is for news."""
    seen = 0
    while not stopped():
        for event in ledger.events(parent_id=update.event_id, after=seen):
            seen = event.id
            if step := _step(event, lambda: ledger.find(update.tx_id)):
                yield step
                if step.final:
                    return
        wait()


def evidence(update: Update) -> str:
    """Why an update failed: the reason, the names of the tests, and the end of what was printed.

    At most ``LONGEST_EVIDENCE`` bytes; empty for one that did not fail.
    """
    if update.status not in FAILED or not update.last_error:
        return ""
    reason, _, printed = update.last_error.partition("\n")
    names = (update.test_summary or {}).get("failing", [])
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    head = _first("\n".join([reason, *names[:_MOST_NAMES], *more]), LONGEST_EVIDENCE)
    room = LONGEST_EVIDENCE - len(head.encode()) - 2
    return f"{head}\n\n{_last(printed.strip(), room)}".strip()


def reason(update: Update) -> str:
    """Why an update ended, in one line."""
    return (update.last_error or "").partition("\n")[0]


def _step(event: Event, now: Callable[[], Update]) -> Progress | None:
    payload = event.payload
    if "status_to" not in payload:  # about its image or its end, and no step on its way
        return None
    update, status = now(), str(payload["status_to"])
    over = status in FINAL or status == Status.STAGED
    final = over and event.event_type in _LAST_EVENTS
    return Progress(
        tx_id=update.tx_id,
        status=status,
        event=event.event_type,
        text=_text(event.event_type, payload, update),
        final=final,
        evidence=evidence(update) if final else "",
    )


def _text(event: str, payload: dict[str, Any], update: Update) -> str:
    tests = update.test_summary or {}
    if deferred := payload.get("deferred"):
        return str(deferred)
    match event:
        case E.UPDATE_BUILD_STARTED:
            return "applied"
        case E.UPDATE_BUILD_COMPLETED:
            return f"built in {payload.get('duration_ms', 0) / 1000:.1f} s"
        case E.UPDATE_TEST_COMPLETED:
            skipped = f", {tests['skipped']} skipped" if tests.get("skipped") else ""
            return f"{tests.get('passed', 0)} tests passed{skipped}"
        case E.UPDATE_SELF_CHECK_COMPLETED:
            return "exam passed"
        case E.UPDATE_STAGED:
            return "waiting for you"
        case E.UPDATE_CANCELLED:
            return "cancelled"
        case _:
            return str(payload.get("error", "")) or (reason(update) if payload["status_to"] in FINAL else "")


def _first(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _last(text: str, most: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= most else "…" + encoded[len(encoded) - max(0, most - 3) :].decode(errors="ignore")
