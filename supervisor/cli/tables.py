"""What people see: tables and lines. Programs use ``--json``."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from supervisor.costs import Spent
from supervisor.units import age, size

_COLOURS: Final = {
    "promoted": "green",
    "healthy": "green",
    "staged": "yellow",
    "approved": "yellow",
    "deployed_unstable": "yellow",
    "starting": "yellow",
    "unhealthy": "red",
}


def console() -> Console:
    """Standard output, wide enough for a table when it is no terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def status_table(status: dict[str, Any]) -> Table:
    """Active, standby and what waits."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    for title in ("", "REVISION", "UPDATE", "HEALTH", "EPOCH", "SINCE", "CONTAINER"):
        table.add_column(title)
    for role in ("active", "standby"):
        worker = status[role]
        if worker is None:
            table.add_row(role, "-")
            continue
        table.add_row(
            role,
            worker["sha"][:12],
            worker["tx_id"][:8],
            coloured(worker["health"]),
            str(worker.get("epoch", "")),
            age(worker["since"]),
            worker["container"],
        )
    for update in status["pending"]:
        sha = (update["sha"] or "-")[:12]
        table.add_row("pending", sha, update["tx_id"][:8], coloured(update["status"]), "", "", plain(update["title"]))
    return table


def history_table(entries: Iterable[dict[str, Any]]) -> Table:
    """Each revision with its image, tests and times; ``*`` is active, ``-1`` is N-1."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "UPDATE", "REVISION", "STATUS", "IMAGE", "ADDS", "TESTS", "BUILT", "BY", "AGE", "TITLE"):
        table.add_column(title, justify="right" if title in ("ADDS", "BUILT") else "left", no_wrap=title != "TITLE")
    for entry in entries:
        tests = entry["tests"]
        built = entry["build_seconds"]
        table.add_row(
            "*" if entry["active"] else "-1" if entry["n_minus_1"] else "",
            entry["tx_id"][:8],
            (entry["sha"] or "-")[:12],
            coloured(entry["status"]),
            (entry["image_id"] or "-").removeprefix("sha256:")[:12],
            size(entry["unique_bytes"]),
            f"{tests['passed']} ok, {tests['failed']} failed" if tests else "-",
            f"{built:.1f} s" if built is not None else "-",
            entry["approved_by"] or "-",
            age(entry["created_at"]),
            plain(entry["title"]),
        )
    return table


def cost_table(by: str, found: Mapping[str, Spent]) -> Table:
    """What was spent by day, run, chat or revision."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (by.upper(), "CALLS", "IN", "CACHED", "OUT", "USD"):
        table.add_column(title, justify="left" if title == by.upper() else "right", no_wrap=True)
    for name, spent in found.items():
        unknown = "unknown" if spent.unpriced == spent.calls else f"{spent.cost_usd:,.4f}"
        some = f" + {spent.unpriced} unknown" if 0 < spent.unpriced < spent.calls else ""
        tokens = (f"{count:,}" for count in (spent.calls, spent.input_tokens, spent.cached_tokens, spent.output_tokens))
        table.add_row(name[:12], *tokens, unknown + some)
    return table


def images_table(images: Iterable[dict[str, Any]]) -> Table:
    """Each image with its sizes, and why it stays; ``*`` is active, ``-1`` is N-1."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "IMAGE", "NAME", "REVISION", "UPDATE", "SIZE", "ADDS", "STAYS BECAUSE"):
        last = title == "STAYS BECAUSE"
        table.add_column(title, justify="right" if title in ("SIZE", "ADDS") else "left", no_wrap=not last)
    for image in images:
        table.add_row(
            "*" if image["active"] else "-1" if image["n_minus_1"] else "",
            image["image_id"].removeprefix("sha256:")[:12],
            image["tag"] or "-",
            (image["sha"] or "-")[:12],
            (image["tx_id"] or "-")[:8],
            size(image["size_bytes"]),
            size(image["unique_bytes"]),
            ", ".join(image["reasons"]) or "[red]nothing: gc takes it[/red]",
        )
    return table


def plain(text: str) -> str:
    """Untrusted text for a table: no control codes, no markup."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else " " for c in text))


def coloured(word: str) -> str:
    """A state in its colour."""
    colour = _COLOURS.get(word, "red" if "fail" in word or "refused" in word else "")
    return f"[{colour}]{word}[/{colour}]" if colour else word
