"""``submit``, ``approve``, ``cancel``, ``rollback``."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from supervisor import settings as settings_module
from supervisor.cli.completion import updates
from supervisor.cli.errors import FAILED, CommandFailed
from supervisor.cli.lifecycle import AsJson
from supervisor.cli.text import printable

if TYPE_CHECKING:
    from supervisor.ledger import Update
    from supervisor.settings import Settings

_TX_HELP: Final = "The update's id, or the beginning of it."
Tx = Annotated[str, typer.Argument(metavar="TX", help=_TX_HELP, autocompletion=updates())]
Staged = Annotated[str, typer.Argument(metavar="TX", help=_TX_HELP, autocompletion=updates("staged"))]
Unfinished = Annotated[
    str,
    typer.Argument(
        metavar="TX",
        help=_TX_HELP,
        autocompletion=updates("created", "building", "testing", "self_checking", "staged", "approved"),
    ),
]
InService = Annotated[
    str, typer.Argument(metavar="TX", help=_TX_HELP, autocompletion=updates("deployed_unstable", "promoted"))
]
Wait = Annotated[bool, typer.Option("--wait", help="End when there is a result.")]

_LOOK_SECONDS: Final = 0.1
_STARTING_SECONDS: Final = 20.0


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A git patch, or - for standard input.")],
    title: Annotated[str, typer.Option(help="What it does, in a few words.")] = "",
    why: Annotated[str, typer.Option(help="Why it is wanted.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also when the same change failed before.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Hand in a patch of the worker's source: it is built, tested and examined, then waits for approval."""
    for name, text in (("--title", title), ("--why", why)):
        if not text.isprintable():
            raise CommandFailed(f"{name} cannot be used: it must be one line of printable characters")
    patch = _read(file)
    title = title or ("a patch from standard input" if file == "-" else Path(file).stem)
    report(_client().submit(patch_hex=patch.hex(), title=title, why=why, force=force), wait, as_json)


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


def approve(tx: Staged, wait: Wait = False, as_json: AsJson = False) -> None:
    """Let a staged update be deployed. With --wait: until it is promoted, or how else it ends."""
    answer = _client().decide("approve", tx)
    _finish(answer, wait, as_json, good=("approved", "deploying", "deployed_unstable", "promoted"))


def cancel(tx: Unfinished, as_json: AsJson = False) -> None:
    """End an update that was not deployed yet."""
    _finish(_client().decide("cancel", tx), False, as_json, good=("cancelled",))


def rollback(tx: InService, wait: Wait = False, as_json: AsJson = False) -> None:
    """Go back to what was there before the active update; no model and, if need be, no supervisor is involved."""
    answer = _ask_for_way_back(tx)
    _finish(answer, wait, as_json, good=("rollback_pending", "rolled_back"))


def _ask_for_way_back(tx: str) -> dict[str, Any]:
    """By the supervisor, or by this process where none runs; one that is just starting is waited for."""
    from supervisor.control import SupervisorAway
    from supervisor.homelock import HomeInUse, held

    settings = settings_module.load()
    deadline = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            answer: dict[str, Any] = _client().decide("rollback", tx)
        except SupervisorAway:
            try:
                if not held(settings.paths.lock):
                    return _go_back_alone(settings, tx)
            except HomeInUse:
                pass  # somebody was quicker to start one
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return answer


def _go_back_alone(settings: "Settings", tx: str) -> dict[str, Any]:
    from supervisor.installation import InstallationFailed, start_supervisor
    from supervisor.ledger import Ledger
    from supervisor.logs import to_file
    from supervisor.rollout.rollback_wait import RollbackUnfinished
    from supervisor.service import Service
    from supervisor.systemd import ServiceFailed

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with Ledger.read_only(settings.paths.ledger) as ledger:
        ledger.find(tx)  # nothing is set up for an update that does not exist
    settings.paths.create(worker_uid=settings.worker_uid)
    to_file(settings.secrets, settings.paths.supervisor_log)
    say("No supervisor runs; going back without it...")
    try:
        decided = Service(settings).roll_back(tx)
    except RollbackUnfinished as unfinished:
        if not unfinished.interrupted:
            start_supervisor(settings, say)
        raise
    if not decided.already:
        try:
            start_supervisor(settings, say)
        except (InstallationFailed, ServiceFailed) as error:
            say(f"warning: {error}")
    return asdict(decided)


def _finish(answer: dict[str, Any], wait: bool, as_json: bool, *, good: tuple[str, ...]) -> None:
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


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}; give a file with a git patch, or -") from None


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


def _client() -> Any:
    from supervisor.control import ControlClient

    return ControlClient(settings_module.load().paths.control_socket)
