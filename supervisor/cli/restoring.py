"""``restore``: the worker's state as it was before an update."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor import settings as settings_module
from supervisor.cli.completion import updates
from supervisor.cli.options import AsJson

if TYPE_CHECKING:
    from supervisor.agent_db.restore import Restored
    from supervisor.ledger import Update
    from supervisor.settings import Settings

Deployed = Annotated[
    str,
    typer.Argument(metavar="TX", help="The update before whose deploy the state was so.", autocompletion=updates()),
]


def restore(tx: Deployed, as_json: AsJson = False) -> None:
    """Bring the worker's state back as it was before an update; newer messages, answers and events are kept.

    The worker is stopped for that, and started again when it ran. Its revision stays the one that it is.
    """
    from supervisor import installation
    from supervisor.agent_db import restore
    from supervisor.homelock import held, home_lock
    from supervisor.ledger import Ledger

    settings = settings_module.load()
    paths = settings.paths
    with Ledger.read_only(paths.ledger) as ledger:
        update = ledger.find(tx)
        snapshot = restore.snapshot_of(ledger, update)
    restore.check_snapshot(snapshot)
    ran = held(paths.lock)
    installation.take_down(settings, _say)
    try:
        with home_lock(paths.lock):
            about = {"tx_id": update.tx_id}
            restored = restore.restore(paths.agent_db, snapshot, paths.snapshots, about=about)
            _record(settings, update, restored)
    finally:
        if ran:
            installation.bring_up(settings, _say, interactive=False)
    if as_json:
        typer.echo(
            json.dumps({"tx_id": update.tx_id, **asdict(restored), "replaced": str(restored.replaced)}, indent=2)
        )
        return
    carried = ", ".join(f"{count} {table}" for table, count in restored.carried.items()) or "nothing"
    typer.echo(f"The state is as it was before update {update.tx_id[:8]}; carried across since then: {carried}.")
    typer.echo(f"What was there before is in {restored.replaced}.")
    if restored.lost:
        _say(f"warning: nothing could be carried across: {restored.lost}")


def _record(settings: "Settings", update: "Update", restored: "Restored") -> None:
    from supervisor.contract import EventType
    from supervisor.ledger import Ledger

    payload = {"tx_id": update.tx_id, "carried": dict(restored.carried), "lost": restored.lost}
    with Ledger(settings.paths.ledger) as ledger:
        ledger.append(EventType.STATE_RESTORED, payload, parent_id=update.event_id)


def _say(line: str) -> None:
    typer.echo(line, err=True)
