"""``chat`` and ``say``: the terminal's way to the worker through the local bot."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor import settings as settings_module
from supervisor.cli.errors import CommandFailed
from supervisor.cli.options import AsJson

if TYPE_CHECKING:
    from supervisor.localbot.client import LocalBotClient


def chat() -> None:
    """Talk with the worker in the terminal."""
    from supervisor.cli import conversation
    from supervisor.cli.tables import console

    with _client() as client:
        raise typer.Exit(conversation.chat(client, console=console(), lines=sys.stdin))


def say(
    text: Annotated[str | None, typer.Argument(help="What to say.")] = None,
    press: Annotated[str | None, typer.Option(metavar="LABEL", help="Press the newest button with this label.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0)] = 60,
    as_json: AsJson = False,
) -> None:
    """Say one thing, and print the answer."""
    from supervisor.cli import conversation
    from supervisor.cli.tables import console

    if (text is None) == (press is None):
        raise typer.BadParameter("give either a text or --press LABEL")
    with _client() as client:
        if press is not None:
            raise typer.Exit(conversation.press(client, press, wait=wait, as_json=as_json, console=console()))
        raise typer.Exit(conversation.say(client, text or "", wait=wait, as_json=as_json, console=console()))


def _client() -> "LocalBotClient":
    from supervisor.localbot.client import LocalBotClient

    settings = settings_module.load()
    if not settings.uses_local_bot:
        raise CommandFailed("this installation talks through Telegram; `say` and `chat` are the local bot's")
    return LocalBotClient(settings.paths.localbot_user_socket)
