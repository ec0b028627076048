"""Arguments and options that several commands share."""

from typing import Annotated, Final

import typer

from supervisor.cli.completion import updates

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the outcome.")]

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
