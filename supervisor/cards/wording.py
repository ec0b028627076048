"""The supervisor's own words around a card: what it asks, what became of it, and how an update ended."""

from typing import Final

from supervisor.cards.content import LONGEST, as_html, escape, moment, sections, utf16
from supervisor.gates import untrusted
from supervisor.ledger import Action, Card, CardKind, Update
from supervisor.states import Status, may_move
from supervisor.updates.progress import reason

#: What each kind of card lets a person do.
BUTTONS: Final[dict[CardKind, tuple[tuple[str, Action], ...]]] = {
    CardKind.APPROVAL: (("Approve", Action.APPROVE), ("Reject", Action.REJECT)),
    CardKind.CANCEL: (("Cancel it", Action.CANCEL), ("Keep it", Action.KEEP)),
    CardKind.ROLLBACK: (("Go back", Action.ROLLBACK), ("Stay", Action.KEEP)),
}
#: What a card shows when nothing was decided; these are no statuses.
EXPIRED: Final = "expired"
KEPT: Final = "kept"
SET_ASIDE: Final = "set_aside"
REPLACED: Final = "replaced"
#: What a card that counts no more shows in the end.
OVER: Final = frozenset({EXPIRED, KEPT, SET_ASIDE, REPLACED})
_LONGEST_REASON: Final = 500
_LOG_LINES: Final = 15
_LONGEST_LOG: Final = 1500

_SHOWN: Final[dict[str, str]] = {
    Status.DEPLOYING: "It is being deployed.",
    Status.DEPLOYED_UNSTABLE: "It is in service, on probation.",
    Status.PROMOTED: "It is promoted.",
    Status.DEPLOY_FAILED: "Its deploy failed; what ran before goes on.",
    Status.CANCELLED: "It is cancelled.",
    Status.SUPERSEDED: "It is superseded: another update became the good one.",
    Status.ROLLBACK_PENDING: "It is being rolled back.",
    Status.ROLLED_BACK: "It is rolled back.",
    SET_ASIDE: "Set aside; it is asked about again below.",
    REPLACED: "A newer card has taken this one's place.",
    KEPT: "Nothing was changed.",
}


def asks(card: Card, update: Update) -> bool:
    """Whether there is still something to decide."""
    match card.kind:
        case CardKind.APPROVAL:
            return update.status is Status.STAGED and update.digest == card.digest
        case CardKind.CANCEL:
            return may_move(update.status, Status.CANCELLED)
        case CardKind.ROLLBACK:
            return update.status in (Status.DEPLOYED_UNSTABLE, Status.PROMOTED)


def question(card: Card, update: Update, *, expires_at: float, terminal: bool, again: bool) -> str:
    """A card that is about to be sent. ``again`` when an earlier copy of it may be in the chat."""
    tx8 = update.tx_id[:8]
    heading = {
        CardKind.APPROVAL: "Shall this update be deployed?",
        CardKind.CANCEL: f"Shall this update be cancelled? It is {update.status}.",
        CardKind.ROLLBACK: "Shall this update be taken back? What was there before it becomes active again.",
    }[card.kind]
    notes = [f"Expires {moment(expires_at)}."]
    if terminal and card.kind is CardKind.APPROVAL:
        heading = "This update waits for its approval on the terminal."
        notes = [f"<code>supervisor approve {tx8}</code> or <code>supervisor cancel {tx8}</code>"]
    if again:
        notes.append("Sent again; the buttons of an earlier copy count no more.")
    return as_html(sections(update), above=f"<b>{escape(heading)}</b>", below="\n".join(notes))


def answered(shown: str, card: Card, update: Update) -> str:
    """The same card when it asks nothing any more."""
    return as_html(sections(update), above=f"<b>{escape(_became(shown, card, update))}</b>")


def _became(shown: str, card: Card, update: Update) -> str:
    if shown == EXPIRED:
        command = {CardKind.APPROVAL: "approve", CardKind.CANCEL: "cancel", CardKind.ROLLBACK: "rollback"}[card.kind]
        return f"Expired without a decision. /{command} {update.tx_id[:8]} asks again."
    if shown == Status.APPROVED:
        return f"Approved by {_who(update.approval_by)}, {moment(update.approval_at or 0)}."
    approved = f" Approved by {_who(update.approval_by)}." if update.approval_by else ""
    return _SHOWN.get(shown, f"It is {shown}.") + approved


def ending(update: Update, *, in_service: str, again: Update | None = None) -> str:
    """The final word about an update, as a message of its own. ``in_service`` is the good revision now.

    ``again`` is the update that a superseded one was made again as.
    """
    name = f"<b>Update {update.tx_id[:8]}</b> {escape(_quoted(update.title))}"
    why = escape(untrusted.line(reason(update), _LONGEST_REASON))
    running = f"In service: <code>{in_service[:12]}</code>."
    match update.status:
        case Status.PROMOTED:
            return f"{name} is promoted. {running} /rollback_{update.tx_id[:8]} goes back."
        case Status.ROLLED_BACK:
            because = "You asked for it." if update.blame == "person" else why
            return _with_log(f"{name} was rolled back: {because}\n{running}", update)
        case Status.DEPLOY_FAILED:
            return _with_log(f"{name} was not deployed: {why}\n{running}", update)
        case Status.SUPERSEDED if again is not None:
            return f"{name} was superseded and is made again on the new base, as update {again.tx_id[:8]}."
        case Status.SUPERSEDED:
            return f"{name} was superseded: {why}"
        case _:
            return _with_log(f"{name} is {update.status}: {why}\n{running}", update)


def _with_log(text: str, update: Update) -> str:
    """With the last lines of what was printed, as many as a message holds."""
    printed = (update.last_error or "").partition("\n")[2].strip()
    lines = untrusted.tail(printed, _LONGEST_LOG).splitlines()[-_LOG_LINES:]
    while lines:
        whole = f"{text}\n<pre>{escape(chr(10).join(lines))}</pre>"
        if utf16(whole) <= LONGEST:
            return whole
        lines = lines[1:]
    return text


def _quoted(title: str) -> str:
    shown = untrusted.line(title, 120)
    return f"“{shown}”" if shown else ""


def _who(by: str | None) -> str:
    kind, _, user = (by or "").partition(":")
    return (
        f"user {user}"
        if kind == "chat" and user
        else f"the {by}"
        if by == "terminal"
        else untrusted.line(by or "-", 40)
    )
