"""``run``, ``up``, ``down``, ``status``."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from supervisor import settings as settings_module
from supervisor.cli.options import AsJson

if TYPE_CHECKING:
    from supervisor.settings import Settings


def run() -> None:
    """Supervise in the foreground; `up` does this in the background."""
    from supervisor.logs import to_standard_error
    from supervisor.proxies import refuse_unusable_proxies
    from supervisor.service import Service

    settings = settings_module.load()
    refuse_unusable_proxies()
    to_standard_error(settings.secrets)
    settings.paths.create(worker_uid=settings.worker_uid)
    Service(settings).run()


def up() -> None:
    """Set everything up, start it, and end when the worker is active and healthy."""
    from supervisor import installation
    from supervisor.cli.images import newer
    from supervisor.cli.tables import console, status_table
    from supervisor.outages import bot_api_trouble
    from supervisor.proxies import refuse_unusable_proxies

    settings = settings_module.load()
    refuse_unusable_proxies()
    if warning := settings_module.env_file_warning():
        _say(f"warning: {warning}")
    status = installation.bring_up(settings, _say, interactive=sys.stdin.isatty())
    out = console()
    out.print(status_table(status))
    out.print()
    if trouble := bot_api_trouble(settings):
        out.print(f"warning: nobody can talk to it: {trouble}", markup=False)
    for line in _what_next(settings):
        out.print(line, markup=False)
    if news := newer(settings):
        _say(news)


def down() -> None:
    """Stop workers, supervisor and local bot; state and images stay."""
    from supervisor import installation

    installation.take_down(settings_module.load(), _say)
    _say("Down. `make up` goes on where it stopped.")


def status(as_json: AsJson = False) -> None:
    """Show who is active, who stands by, and what waits."""
    settings = settings_module.load()
    shown = _status(settings)
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    from supervisor.cli.tables import console, status_table

    out = console()
    if not shown["running"]:
        out.print("[red]The supervisor is not running[/red]; `make up` starts it. What it left behind:")
    if shown.get("paused"):
        out.print(f"Paused: {shown['paused']}", markup=False)
    out.print(status_table(shown))
    for line in shown.get("trouble", []):
        out.print(f"Trouble: {line}", markup=False)


def _status(settings: "Settings") -> dict[str, Any]:
    from supervisor.control import ControlClient, SupervisorAway

    try:
        return ControlClient(settings.paths.control_socket).status()
    except SupervisorAway:
        from supervisor import views
        from supervisor.enginelook import container_runs
        from supervisor.ledger import Ledger

        with Ledger.read_only(settings.paths.ledger) as ledger:
            return views.status(ledger, running=False, container_runs=container_runs)


def _what_next(settings: "Settings") -> list[str]:
    from supervisor import facts
    from supervisor.bot.client import BotApiError, bot_name
    from supervisor.ledger import Ledger

    command = ".venv/bin/supervisor"
    looking = [f"  {command} status     {command} history     {command} --help", "  make down"]
    if settings.uses_local_bot:
        offline = settings.offline and not settings.openai_api_key
        model = ["No OPENAI_API_KEY is set: an offline stand-in answers.", ""] if offline else []
        return [*model, "Talk to it:", f"  {command} say hello", f"  {command} chat", *looking]
    try:
        name = f"@{bot_name(settings)}"
    except BotApiError as error:
        name = f"your bot ({error})"
    with Ledger.read_only(settings.paths.ledger) as ledger:
        claimed = bool(settings.allowed_users or ledger.owners())
        code = ledger.fact(facts.CLAIM)
    if claimed or code is None:
        return [f"Talk to {name} in Telegram.", *looking]
    return [f"Open {name} in Telegram and send it, to become its owner:", f"  /start {code}", *looking]


def _say(line: str) -> None:
    typer.echo(line, err=True)
