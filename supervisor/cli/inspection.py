"""``history``, ``show``, ``diff``, ``source``, ``logs``, ``events``: they read, and work without a supervisor."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from supervisor import settings as settings_module
from supervisor.cli.completion import updates
from supervisor.cli.errors import CommandFailed
from supervisor.cli.options import AsJson, Tx
from supervisor.cli.text import printable

if TYPE_CHECKING:
    from supervisor.ledger import Update

_SHOWN: Final = 30


def history(
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help=f"The newest; {_SHOWN} by default, all with --json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every revision with its image: sizes, tests, approver, times; which is active, which is N-1."""
    from supervisor import views
    from supervisor.ledger import Ledger

    with Ledger.read_only(settings_module.load().paths.ledger) as ledger:
        entries = views.history(ledger)
    if as_json:
        typer.echo(json.dumps(entries[:limit], indent=2))
        return
    from supervisor.cli.tables import console, history_table

    shown = entries[: limit or _SHOWN]
    console().print(history_table(shown))
    if len(entries) > len(shown):
        typer.echo(f"and {len(entries) - len(shown)} older ones; `supervisor history -n {len(entries)}` shows them all")


def show(tx: Tx, as_json: AsJson = False) -> None:
    """Show all that is known of one update, with the reason when it failed."""
    update = _find(tx)
    if as_json:
        typer.echo(json.dumps(asdict(update), indent=2))
        return
    from supervisor.cards.content import as_text, sections

    if update.card:
        typer.echo(f"{as_text(sections(update))}\n")
    for name, value in _facts(update):
        lines = printable(str(value)).splitlines() or [""]
        typer.echo(f"{name:<14}{lines[0]}")
        for line in lines[1:]:
            typer.echo(f"{'':<14}{line}")


def diff(tx: Tx, as_json: AsJson = False) -> None:
    """Print what an update changes, as a patch that `git apply` takes."""
    from supervisor.revisions import Revisions

    update = _find(tx)
    if not update.sha:
        raise CommandFailed(f"update {update.tx_id[:8]} was refused and made no revision")
    if not update.base_sha:
        raise CommandFailed("this is the first revision; `supervisor source DIR` writes it out")
    patch = Revisions(settings_module.load().paths.revisions).diff(update.base_sha, update.sha)
    if as_json:
        shown = {"tx_id": update.tx_id, "base_sha": update.base_sha, "sha": update.sha, "patch": patch}
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(patch, nl=False)


def source(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    as_json: AsJson = False,
) -> None:
    """Write the active revision's source into a directory."""
    from supervisor.ledger import Ledger
    from supervisor.revisions import Revisions

    paths = settings_module.load().paths
    with Ledger.read_only(paths.ledger) as ledger:
        revision = ledger.good_revision()
    try:
        Revisions(paths.revisions).export(revision.sha, directory)
    except OSError as error:
        raise CommandFailed(f"{directory} cannot be written: {error.strerror}") from None
    if as_json:
        typer.echo(json.dumps({"sha": revision.sha, "directory": str(directory.absolute())}, indent=2))
        return
    typer.echo(f"{revision.sha[:12]} is in {directory}", err=True)


def logs(
    tx: Annotated[
        str | None,
        typer.Argument(
            metavar="[TX]", help="The steps of this update; else the supervisor's log.", autocompletion=updates()
        ),
    ] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="The last lines of the supervisor's log.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the logs of an update's steps, or the supervisor's own."""
    found = _logs(tx, lines)
    if as_json:
        typer.echo(json.dumps([{"log": name, "text": text} for name, text in found], indent=2))
        return
    for name, text in found:
        if tx is not None:
            typer.echo(f"--- {name}")
        typer.echo(text if tx is None else printable(text))


def _logs(tx: str | None, lines: int) -> list[tuple[str, str]]:
    """The name and the text of each log. Raises CommandFailed where there is none yet."""
    paths = settings_module.load().paths
    if tx is None:
        file = paths.logs / "supervisor.log"
        if not file.exists():
            raise CommandFailed(f"there is no log yet in {paths.logs}")
        return [("supervisor", "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]))]
    update = _find(tx)
    steps = sorted(paths.steps(update.tx_id).glob("*.log"))
    if not steps:
        raise CommandFailed(f"update {update.tx_id[:8]} has no logs yet")
    return [(step.stem, step.read_text(encoding="utf-8", errors="replace")) for step in steps]


def events(
    tx: Annotated[str | None, typer.Option("--tx", help="The events of this update.", autocompletion=updates())] = None,
    root: Annotated[int | None, typer.Option("--id", help="The event to start from.")] = None,
    depth: Annotated[int | None, typer.Option("-L", "--level", min=1, help="How many levels to show.")] = None,
    no_payload: Annotated[bool, typer.Option("--no-payload", help="Names only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what happened as one tree, from the supervisor's start down to the worker's events."""
    from supervisor import eventtree

    paths = settings_module.load().paths
    tree = eventtree.load_tree(paths.ledger, paths.agent_db, tx=tx, root=root, depth=depth)
    for note in tree.notes:
        typer.echo(note, err=True)
    if as_json:
        typer.echo(json.dumps(eventtree.to_json(tree.roots), indent=2))
        return
    for line in eventtree.render(tree.roots, payload=not no_payload):
        typer.echo(line)


def _find(tx: str) -> "Update":
    from supervisor.ledger import Ledger

    with Ledger.read_only(settings_module.load().paths.ledger) as ledger:
        return ledger.find(tx)


def _facts(update: "Update") -> list[tuple[str, Any]]:
    tests = update.test_summary or {}
    exam = update.self_check_summary or {}
    facts: list[tuple[str, Any]] = [
        ("update", update.tx_id),
        ("status", update.status),
        ("from", update.origin),
        ("revision", update.sha),
        ("base", update.base_sha),
        ("image", f"{update.image_tag} {update.image_id}" if update.image_id else None),
        ("digest", update.digest),
        ("exam", _exam(exam.get("candidate", []))),
        ("exam of base", _exam(exam.get("base_after", []))),
        ("waived", "\n".join(exam.get("waived", []))),
        *(() if update.card else _uncarded(update, tests)),
        ("approved by", update.approval_by),
        ("created", _time(update.created_at)),
        ("deployed", _time(update.deploy_finished_at)),
        ("promoted", _time(update.promoted_at)),
        ("blame", update.blame),
        ("code", update.code),
        ("reason", printable(update.last_error or "")),
    ]
    return [(name, value) for name, value in facts if value]


def _uncarded(update: "Update", tests: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the card would say, of one that did not get as far."""
    yield "title", update.title
    yield "why", update.why
    yield "files", "\n".join(f"{c['path']} +{c['added']} -{c['deleted']}" for c in update.changes)
    if tests:
        yield "tests", f"{tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
    for name, key in (
        ("failing", "failing"),
        ("changed tests", "changed_expectations"),
        ("new skips", "new_skips"),
        ("fewer asserts", "fewer_assertions"),
    ):
        yield name, "\n".join(tests.get(key, []))


def _exam(parts: list[dict[str, Any]]) -> str:
    return "\n".join(f"{'ok' if p['passed'] else 'FAILED':<7}{p['name']} {printable(p['detail'])}" for p in parts)


def _time(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
