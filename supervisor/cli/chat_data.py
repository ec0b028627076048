"""``export``, ``forget``, ``prune``: what is kept of people and of the past, and how it leaves."""

import json
import os
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from supervisor import settings as settings_module
from supervisor.cli.errors import CommandFailed
from supervisor.cli.options import AsJson

if TYPE_CHECKING:
    from supervisor.agent_db.chats import Kept
    from supervisor.paths import Paths
    from supervisor.settings import Settings

_DAY_SECONDS: Final = 86_400

Chat = Annotated[int, typer.Option("--chat", metavar="ID", help="The chat's number; the terminal's is 1.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def export(
    chat: Chat,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A new file; else standard output.")] = None,
) -> None:
    """Write out all that is kept of a chat, as JSON lines: messages, answers, runs, events, updates."""
    from supervisor.agent_db import chats
    from supervisor.agent_db.access import AgentDbUnusable

    paths = settings_module.load().paths
    found = _find(paths, chat, pass_over=(AgentDbUnusable,))
    lines = 0
    with _new_file(file) as out:
        # The database first: a prune that goes on meanwhile moves events from there into the files.
        there = list(chats.export(paths.agent_db, chat))
        written = {record["row"]["id"] for record in there if record["table"] == "events"}
        for record in (*there, *_pruned(paths, chat, found, written), *_updates(paths.ledger, chat)):
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines += 1
    typer.echo(f"{lines} lines; {found.of_its_own}", err=True)
    if found.copies:
        typer.echo(f"not in it: {found.copies}", err=True)


def forget(chat: Chat, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove all that is kept of a chat from the worker's database, its snapshots, pruned events and the local bot."""
    from supervisor.agent_db import chats

    settings = settings_module.load()
    paths = settings.paths
    found = _find(paths, chat)
    _confirm(f"This removes of chat {chat} for good: {found}.", yes)
    worker_lives = _a_worker_lives(settings)
    if worker_lives:
        chats.refuse_work_in_hand(paths.agent_db, chat)
    # Before the databases, which tell what the files hold of the chat: one that is cut off is finished by the next.
    pruned_events = _forget_pruned(paths, found)
    removed = chats.forget(paths.agent_db, chat, worker_lives=worker_lives)
    for snapshot in found.snapshots:
        chats.forget(snapshot, chat, worker_lives=False)
    messages = chats.forget_copy(paths.localbot_db, chat)
    if as_json:
        shown = {"chat_id": chat, "rows": dict(removed.rows), "events": removed.events}
        shown |= {"snapshots": len(found.snapshots), "pruned_events": pruned_events, "local_bot_messages": messages}
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(f"removed: {_counted(removed.rows, removed.events)}")
    if found.snapshots or pruned_events or messages:
        elsewhere = f"what stood in {len(found.snapshots)} snapshots, {pruned_events} pruned events"
        typer.echo(f"removed: {elsewhere}, and {messages} messages of the local bot")


@dataclass(frozen=True, slots=True)
class _Found:
    """All that is kept of a chat, wherever it stands."""

    kept: "Kept"
    snapshots: tuple[Path, ...]
    known_events: Set[int]
    pruned_events: Set[int]
    in_copy: int

    def __str__(self) -> str:
        return ", and ".join(filter(None, (self.of_its_own, self.copies)))

    @property
    def of_its_own(self) -> str:
        """What there is besides the copies."""
        pruned = [f"{len(self.pruned_events)} pruned events"] if self.pruned_events else []
        return ", and ".join([_counted(self.kept.rows, self.kept.events), *pruned])

    @property
    def copies(self) -> str:
        """What was copied from there."""
        snapshots = [f"what stands in {len(self.snapshots)} snapshots"] if self.snapshots else []
        local_bot = ["what the local bot has of it"] if self.in_copy else []
        return ", and ".join([*snapshots, *local_bot])


def _find(paths: "Paths", chat: int, *, pass_over: tuple[type[Exception], ...] = ()) -> _Found:
    """A copy that ends in an error to ``pass_over`` is left out. Raises UnknownChat, AgentDbUnusable, CommandFailed."""
    from supervisor.agent_db import chats, pruned

    kept = chats.survey(paths.agent_db, chat)
    copies, in_copy = {}, 0
    for file in sorted(paths.snapshots.glob("*.db")):
        with suppress(*pass_over):
            copies[file] = chats.survey(file, chat)
    with suppress(*pass_over):
        in_copy = chats.in_copy(paths.localbot_db, chat)
    snapshots = tuple(file for file, copied in copies.items() if copied)
    known = {event for found in (kept, *copies.values()) for event in found.event_ids}
    with _told("the files of pruned events cannot be read"):
        pruned_events = pruned.survey(paths.logs, chat, known)
    if not (kept or snapshots or pruned_events or in_copy):
        raise chats.unknown(paths.agent_db, chat)
    return _Found(kept, snapshots, known, pruned_events, in_copy)


def _pruned(paths: "Paths", chat: int, found: _Found, written: Set[int]) -> Iterator[dict[str, Any]]:
    """What only the files have, and was not ``written`` from the database. Raises CommandFailed."""
    from supervisor.agent_db import pruned

    with _told("the files of pruned events cannot be read"):
        events = pruned.survey(paths.logs, chat, found.known_events | written)
        for event in pruned.export(paths.logs, events - written):
            yield {"table": "events", "row": event}


def _forget_pruned(paths: "Paths", found: _Found) -> int:
    """How many lines went. Raises CommandFailed: the databases are as they were then."""
    from supervisor.agent_db import pruned

    with _told("not all is removed: try again, once the files of pruned events can be written"):
        return pruned.forget(paths.logs, found.pruned_events)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandFailed(f"{what}: {error.strerror}") from None


def prune(
    older_than: Annotated[int, typer.Option("--older-than", metavar="DAYS", min=1, help="The age in days.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="A new file for what is removed; else one in logs/.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove old events from both databases; never what the state is derived from, nor the record of updates."""
    from supervisor.agent_db import pruned, pruning
    from supervisor.ledger import Ledger

    paths = settings_module.load().paths
    before = time.time() - older_than * _DAY_SECONDS
    told: dict[str, object] = {"older_than_days": older_than, "before": before}
    file = None
    with Ledger.read_only(paths.ledger):  # refuses a home that is none, rather than make it one
        pass
    with Ledger(paths.ledger) as ledger:
        of_ledger = ledger.due_events(before)
        of_agent = pruning.due_events(paths.agent_db, before) if paths.agent_db.exists() else []
        counts = (len(of_ledger), len(of_agent))
        if not dry_run and any(counts):
            both = f"{counts[0]} events of the supervisor and {counts[1]} of the worker"
            _confirm(f"This removes {both} from before {time.ctime(before)} for good.", yes)
            file = to or pruned.new_file(paths.logs)
            with _new_file(file) as out:
                kept = pruned.PrunedFile(out)
                removed = ledger.prune_events(of_ledger, told, partial(kept.keep, "supervisor"))
                keep = partial(kept.keep, "worker")
                counts = (removed, pruning.prune_events(paths.agent_db, of_agent, told, keep) if of_agent else 0)
    if as_json:
        shown = {"older_than_days": older_than, "dry_run": dry_run, "supervisor": counts[0], "worker": counts[1]}
        typer.echo(json.dumps({**shown, "file": str(file) if file else None}, indent=2))
        return
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{verb}: {counts[0]} events of the supervisor, {counts[1]} of the worker")
    if file:
        unsearched = (
            ""
            if pruned.is_searched(file, paths.logs)
            else "; export and forget never search it, so it is yours to look into, and to remove"
        )
        typer.echo(f"what was removed is in {file}{unsearched}")


def _confirm(what: str, yes: bool) -> None:
    """Go on only when somebody agrees, who must be asked on a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed("nothing was removed: nobody can be asked here; add --yes to remove it for good")
    typer.echo(what, err=True)
    if not typer.confirm("Remove it?", err=True):
        raise CommandFailed("nothing was removed")


def _counted(rows: Any, events: int) -> str:
    named = [f"{count} {table}" for table, count in rows.items()]
    return ", ".join([*named, f"{events} events"])


def _updates(ledger_path: Path, chat: int) -> Iterator[dict[str, Any]]:
    """The updates that came out of a chat: they are the record of what was changed, and stay."""
    from supervisor.ledger import Ledger

    with Ledger.read_only(ledger_path) as ledger:
        for update in ledger.updates():
            if update.chat_id == chat:
                names = ("tx_id", "status", "title", "why", "created_at")
                yield {"table": "updates", "row": {name: getattr(update, name) for name in names}}


def _a_worker_lives(settings: "Settings") -> bool:
    """Whether one may be at work; when the engine does not answer, one may be."""
    from supervisor.enginelook import container_runs
    from supervisor.ledger import Ledger

    with Ledger.read_only(settings.paths.ledger) as ledger:
        living = [worker.worker_id for worker in ledger.living_workers()]
    return any(container_runs(worker_id) is not False for worker_id in living)


@contextmanager
def _new_file(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that nobody else can read and that was not there."""
    if path is None:
        yield sys.stdout
        return
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            yield out
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None
