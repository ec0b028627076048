"""``submit``, ``approve``, ``cancel``, ``rollback``."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from supervisor import settings as settings_module
from supervisor.cli.errors import CommandFailed, NoLongerAwaited
from supervisor.cli.options import AsJson, InService, Staged, Unfinished, Wait
from supervisor.cli.outcome import finish, report

if TYPE_CHECKING:
    from supervisor.settings import Settings

_LOOK_SECONDS: Final = 0.1
_STARTING_SECONDS: Final = 20.0


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A git patch, or - for standard input.")],
    title: Annotated[str, typer.Option(help="What it does, in a few words.")] = "",
    why: Annotated[str, typer.Option(help="Why it is wanted.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Accept a change that failed before.")] = False,
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


def approve(tx: Staged, wait: Wait = False, as_json: AsJson = False) -> None:
    """Let a staged update be deployed. With --wait: until it is promoted, or how else it ends."""
    answer = _client().decide("approve", tx)
    finish(answer, wait, as_json, good=("approved", "deploying", "deployed_unstable", "promoted"))


def cancel(tx: Unfinished, as_json: AsJson = False) -> None:
    """End an update that was not deployed yet."""
    finish(_client().decide("cancel", tx), False, as_json, good=("cancelled",))


def rollback(tx: InService, wait: Wait = False, as_json: AsJson = False) -> None:
    """Go back to what was there before the active update; no model and, if need be, no supervisor is involved."""
    answer = _ask_for_way_back(tx)
    finish(answer, wait, as_json, good=("rollback_pending", "rolled_back"))


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
    from supervisor.proxies import refuse_unusable_proxies
    from supervisor.rollout.rollback_wait import RollbackUnfinished
    from supervisor.service import Service
    from supervisor.systemd import ServiceFailed

    def say(line: str) -> None:
        typer.echo(line, err=True)

    refuse_unusable_proxies()
    with Ledger.read_only(settings.paths.ledger) as ledger:
        ledger.find(tx)  # nothing is set up for an update that does not exist
    settings.paths.create(worker_uid=settings.worker_uid)
    to_file(settings.secrets, settings.paths.supervisor_log)
    say("No supervisor runs; going back without it...")
    try:
        decided = Service(settings).roll_back(tx)
    except RollbackUnfinished as unfinished:
        if unfinished.interrupted:
            raise NoLongerAwaited(str(unfinished)) from None
        start_supervisor(settings, say)
        raise
    if not decided.already:
        try:
            start_supervisor(settings, say)
        except (InstallationFailed, ServiceFailed) as error:
            say(f"warning: {error}")
    return asdict(decided)


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}; give a file with a git patch, or -") from None


def _client() -> Any:
    from supervisor.control import ControlClient

    return ControlClient(settings_module.load().paths.control_socket)
