"""The commands, each a few lines over the part that does the work."""

from collections.abc import Callable

import typer

from supervisor import __version__
from supervisor.cli import chat, chat_data, cost, images, inspection, lifecycle, maintenance, restoring, updates

app = typer.Typer(
    name="supervisor",
    help="Runs the agent, and turns its patches into revisions that can be taken back.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autonous {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True, callback=_show_version),
) -> None:
    del version


_PANELS: dict[str, list[Callable[..., None]]] = {
    "Running": [lifecycle.run, lifecycle.up, lifecycle.down, lifecycle.status],
    "Updates": [updates.submit, updates.approve, updates.cancel, updates.rollback, images.upgrade],
    "Looking": [
        inspection.history,
        inspection.show,
        inspection.diff,
        inspection.source,
        inspection.logs,
        inspection.events,
        cost.cost,
    ],
    "Images": [images.images, images.gc],
    "What is kept": [chat_data.export, chat_data.forget, chat_data.prune, restoring.restore],
    "Talking": [chat.chat, chat.say],
    "Upkeep": [maintenance.doctor, maintenance.install_service],
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
