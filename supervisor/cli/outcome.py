"""What became of an update, told: at once, or when it is where it should be."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import typer

from supervisor import settings as settings_module
from supervisor.cli.errors import FAILED, CommandFailed, NoLongerAwaited
from supervisor.cli.text import printable

if TYPE_CHECKING:
    from supervisor.ledger import Update

_LOOK_SECONDS: Final = 0.1


def report(answer: dict[str, Any], wait: bool, as_json: bool) -> None:
    """Tell what became of an update that was handed in, with ``wait`` when it is staged or over."""
    if wait and answer["status"] != "refused":
        from supervisor.states import FINAL, Status

        ended = FINAL | {Status.STAGED, Status.APPROVED, Status.DEPLOYING, Status.PROMOTED}
        update = _follow(answer["tx_id"], lambda u: u.status in ended, quiet=as_json)
        answer = {
            "tx_id": update.tx_id,
            "status": str(update.status),
            "code": update.code or "",
            "reason": _first_line(update.last_error),
        }
    bad = answer["status"] not in ("created", "building", "testing", "self_checking", "staged", "approved")
    _tell(answer, as_json, f"update {answer['tx_id'][:8]} is {answer['status']}", bad=bad)
    if not as_json and answer["status"] == "staged":
        typer.echo(f"Look at it with `supervisor show {answer['tx_id'][:8]}`, then `supervisor approve` it.", err=True)


def finish(answer: dict[str, Any], wait: bool, as_json: bool, *, good: tuple[str, ...]) -> None:
    """Tell what became of a decision, with ``wait`` when what it began is over; ``good`` are the states it aimed at."""
    reason = answer["message"]
    if wait:
        from supervisor.states import FINAL, Status

        # A promoted update may still be rolled back, but nothing goes on by itself.
        ended = (FINAL | {Status.PROMOTED}) if "promoted" in good else FINAL
        update = _follow(answer["tx_id"], lambda u: u.status in ended, quiet=as_json)
        answer["status"] = str(update.status)
        reason = _first_line(update.last_error) if answer["status"] not in good else reason
    shown = {"tx_id": answer["tx_id"], "status": answer["status"], "reason": reason}
    text = f"update {answer['tx_id'][:8]}: {reason}" if answer["already"] else None
    _tell(
        shown, as_json, text or f"update {answer['tx_id'][:8]} is {answer['status']}", bad=answer["status"] not in good
    )


def _follow(tx_id: str, done: "Callable[[Update], bool]", *, quiet: bool) -> "Update":
    """Look at the ledger until the update is where it should be, telling each new status."""
    try:
        return _look_until(tx_id, done, quiet=quiet)
    except KeyboardInterrupt:
        raise NoLongerAwaited(f"update {tx_id[:8]} goes on; `supervisor show {tx_id[:8]}` says how far it is") from None


def _look_until(tx_id: str, done: "Callable[[Update], bool]", *, quiet: bool) -> "Update":
    from supervisor.homelock import held
    from supervisor.ledger import Ledger
    from supervisor.rollout import rollback_wait

    paths = settings_module.load().paths
    told = None
    with Ledger.read_only(paths.ledger) as ledger:
        while not done(update := ledger.find(tx_id)):
            if update.status != told and not quiet:
                typer.echo(f"{update.status}...", err=True)
                told = update.status
            if update.status == "rollback_pending" and rollback_wait.failed(ledger, update):
                raise CommandFailed(f"update {tx_id[:8]}: no earlier revision runs; see `supervisor logs`")
            if not held(paths.lock):
                raise CommandFailed(
                    f"the supervisor ended while update {tx_id[:8]} was {update.status}; `make up` goes on"
                )
            time.sleep(_LOOK_SECONDS)
    return update


def _tell(answer: dict[str, Any], as_json: bool, text: str, *, bad: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        code = f" [{answer['code']}]" if answer.get("code") else ""
        reason = f": {answer['reason']}" if bad and answer.get("reason") else ""
        typer.echo(printable(f"{text}{code}{reason}"), err=bad)
    if bad:
        raise typer.Exit(FAILED)


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
