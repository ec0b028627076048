"""``images``, ``gc``, ``upgrade``."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor import settings as settings_module
from supervisor.cli.errors import FAILED
from supervisor.cli.options import AsJson, Wait

if TYPE_CHECKING:
    from supervisor.images.garbage import Held
    from supervisor.settings import Settings

_KEEP = 10


def images(as_json: AsJson = False) -> None:
    """Show this project's images: revision, update, sizes, which is active, which N-1, and why each one stays."""
    from supervisor.engine import Engine
    from supervisor.images import garbage
    from supervisor.ledger import Ledger

    settings = settings_module.load()
    with Ledger.read_only(settings.paths.ledger) as ledger:
        found = garbage.survey(ledger, Engine(), settings.project)
    if as_json:
        typer.echo(json.dumps([_plain(image) for image in found], indent=2))
        return
    from supervisor.cli.tables import console, images_table

    console().print(images_table([_plain(image) for image in found]))


def gc(
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many revisions keep their image.")] = _KEEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove images and snapshots of old revisions; never what runs, N-1, or what these need."""
    from supervisor.contract import Redactor
    from supervisor.engine import Engine
    from supervisor.images import garbage
    from supervisor.ledger import Ledger

    settings = settings_module.load()
    with (
        Ledger.read_only(settings.paths.ledger),  # refuses a home that is none, rather than make it one
        Ledger(settings.paths.ledger, redact=Redactor(settings.secrets)) as ledger,
    ):
        collected = garbage.collect(
            ledger, Engine(), settings.project, settings.paths.snapshots, keep=keep, dry_run=dry_run
        )
    snapshots = [str(file) for file in collected.snapshots]
    if as_json:
        shown = {"dry_run": dry_run, "images": [_plain(i) for i in collected.images], "snapshots": snapshots}
        typer.echo(json.dumps(shown, indent=2))
        return
    verb = "would be removed" if dry_run else "removed"
    for image in collected.images:
        update = f"update {image.tx_id[:8]}" if image.tx_id else "no update"
        typer.echo(f"{verb}: image {image.tag or image.image_id[7:19]} ({update})")
    for snapshot in snapshots:
        typer.echo(f"{verb}: snapshot {snapshot}")
    if not (collected.images or snapshots):
        typer.echo("Nothing to remove.")


def upgrade(wait: Wait = False, as_json: AsJson = False) -> None:
    """Bring the checkout's worker, as it is after a pull, into what the agent made of itself: an update like any."""
    from supervisor import installation
    from supervisor.cli.outcome import report
    from supervisor.control import ControlClient
    from supervisor.engine import Engine
    from supervisor.images.builds import checkout_lock, ensure_deps

    settings = settings_module.load()
    client = ControlClient(settings.paths.control_socket)
    client.status()  # before anything is built for nobody
    installation.refresh(settings, _say)
    answer = client.upgrade(ensure_deps(Engine(), _say, checkout_lock(settings.extras)).image_id)
    if answer["tx_id"] is not None:
        del answer["conflicts"]
        report(answer, wait, as_json)
        return
    current = answer["status"] == "current"
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(answer["reason"] if current else f"{answer['reason']}; nothing was created", err=not current)
        for conflict in answer["conflicts"]:
            typer.echo(f"  {conflict['path']}: {conflict['reason']}", err=True)
    if not current:
        raise typer.Exit(FAILED)


def newer(settings: "Settings") -> str | None:
    """A line for the user when the checkout has what the worker did not grow from."""
    from supervisor.engine import Engine, EngineError
    from supervisor.ledger import Ledger
    from supervisor.paths import CHECKOUT
    from supervisor.pipeline.upgrade import checkout_files, news, under_way
    from supervisor.revisions import Revisions

    with Ledger.read_only(settings.paths.ledger) as ledger:
        if under_way(ledger):
            return None
        try:
            found = news(ledger, Revisions(settings.paths.revisions), Engine(), checkout_files(CHECKOUT))
        except EngineError:
            return None  # what runs goes on without an answer to this
    return f"The checkout is newer than the worker ({found}); `supervisor upgrade` takes it over." if found else None


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _plain(image: "Held") -> dict[str, Any]:
    from supervisor.images.garbage import ACTIVE, N_MINUS_1

    return {
        **asdict(image),
        "active": image.role == "worker" and ACTIVE in image.reasons,
        "n_minus_1": image.role == "worker" and N_MINUS_1 in image.reasons,
    }
