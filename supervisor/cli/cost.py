"""``cost``: what the models have cost."""

import json
import time
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from supervisor import settings as settings_module
from supervisor.cli.options import AsJson

_DAY_SECONDS = 86_400


def cost(
    by: Annotated[Literal["day", "run", "chat", "revision"], typer.Option("--by", help="What to add up by.")] = "day",
    days: Annotated[int, typer.Option("--days", min=1, help="How far to look back.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show tokens and dollars by day, run, chat or revision; works without a supervisor. Days are UTC."""
    from supervisor import costs

    found = costs.spent(settings_module.load().paths.agent_db, by=by, since=time.time() - days * _DAY_SECONDS)
    rows = [{by: name, **asdict(sums)} for name, sums in found.items()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo(f"No model was called in the last {days} days.")
        return
    from supervisor.cli.tables import console, cost_table

    console().print(cost_table(by, found))
