"""The direct commands of an owner's chat: what they are answered. No model has a say in any of it."""

import time
from collections.abc import Callable, Collection
from typing import Any, Final

from supervisor import views
from supervisor.contract import Command
from supervisor.ledger import AmbiguousPrefix, Ledger, UnknownUpdate, Update
from supervisor.revisions import Revisions
from supervisor.units import age, size
from supervisor.updates.progress import reason

NAMES: Final = ("approve", "cancel", "rollback", "history", "show", "diff", "revision", "status")
NOT_YOURS: Final = "Only an owner of this bot may ask for that."
_MOST_UPDATES: Final = 10


class Commands:
    """Answers in plain text. ``status`` gives what ``supervisor status --json`` shows."""

    def __init__(self, ledger: Ledger, revisions: Revisions, *, status: Callable[[], dict[str, Any]]) -> None:
        self._ledger = ledger
        self._revisions = revisions
        self._status = status

    def answer(self, command: Command, *, owners: Collection[int]) -> str:
        """The text for the chat."""
        if command.user_id not in owners:
            return NOT_YOURS
        answers: dict[str, Callable[[Command], str]] = {
            "history": lambda _: self._history(),
            "revision": lambda _: self._revision(),
            "status": lambda _: self._status_text(),
            "show": self._about(self._show),
        }
        if answer := answers.get(command.name):
            return answer(command)
        return f"/{command.name} is not known here; known are {', '.join(f'/{name}' for name in NAMES)}."

    def _about(self, tell: Callable[[Update], str]) -> Callable[[Command], str]:
        """An answer about the update that the command names."""

        def answer(command: Command) -> str:
            if not command.argument:
                return f"Which update? /{command.name} <tx>; /history lists them."
            try:
                return tell(self._ledger.find(command.argument))
            except (UnknownUpdate, AmbiguousPrefix) as error:
                return str(error)

        return answer

    def _history(self) -> str:
        entries = views.history(self._ledger)
        lines = [_line(entry) for entry in entries[:_MOST_UPDATES]]
        more = [f"and {len(entries) - _MOST_UPDATES} older ones"] if len(entries) > _MOST_UPDATES else []
        return "\n".join([*lines, *more])

    def _revision(self) -> str:
        active = self._status()["active"]
        if active is None:
            return "Nothing is active now."
        revision = self._ledger.revision(active["sha"])
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(active["since"]))
        return (
            f"revision {active['sha'][:12]}\nupdate {revision.tx_id[:8]}\nimage {revision.image_tag}\n"
            f"active since {since} ({age(active['since'])})"
        )

    def _status_text(self) -> str:
        status = self._status()
        lines = []
        for role in ("active", "standby"):
            worker = status[role]
            lines.append(
                f"{role}: {worker['sha'][:12]}, {worker['health']}, {age(worker['since'])}" if worker else f"{role}: -"
            )
        lines += [f"{u['tx_id'][:8]} is {u['status']}: {u['title']}" for u in status["pending"]]
        lines += [status["paused"]] if status.get("paused") else []
        return "\n".join(lines)

    def _show(self, update: Update) -> str:
        tests = update.test_summary or {}
        lines = [f"{update.tx_id[:8]} is {update.status}", update.title, update.why]
        lines += [f"{change['path']} +{change['added']} -{change['deleted']}" for change in update.changes]
        lines += [f"tests: {tests['passed']} passed, {tests['failed']} failed"] if tests else []
        lines += [f"image: {update.image_tag}, adds {size(update.unique_bytes)}"] if update.image_tag else []
        lines += [f"reason: {reason(update)}"] if update.last_error else []
        return "\n".join(line for line in lines if line)


def _line(entry: dict[str, Any]) -> str:
    mark = "* " if entry["active"] else "N-1 " if entry["n_minus_1"] else ""
    return f"{mark}{entry['tx_id'][:8]} {entry['status']}, {age(entry['created_at'])}: {entry['title']}"
