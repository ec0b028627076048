"""What a person is shown before they approve: as plain data for the ledger, and as text for a chat or a terminal.

Pure. Everything in it that a model, a patch or a candidate wrote is made one printable line and escaped: it can say
whatever it likes, and it cannot look like the supervisor's own words.
"""

import html
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from supervisor.gates.risk import Risk
from supervisor.gates.untrusted import line
from supervisor.ledger import Update
from supervisor.units import size

#: What a message of Telegram's holds, in UTF-16 units. Its tags do not count there, and do here.
LONGEST: Final = 4096
_LONGEST_TITLE: Final = 200
_LONGEST_WHY: Final = 700
_LONGEST_LINE: Final = 160
_LISTS: Final = (40, 20, 12, 8, 5, 3, 2, 1)  # lines of each list, the first number with which all of it fits
_SHORT_DIGEST: Final = 12


def card(update: Update, changes: Mapping[str, Any], risk: Risk) -> dict[str, Any]:
    """The card's content. ``changes`` are what staging adds to the update."""
    tests = update.test_summary or {}
    exam = changes.get("self_check_summary", {"candidate": []})
    counts = {key: tests.get(key, 0) for key in ("passed", "failed", "skipped", "before", "after")}
    parts = [*exam["candidate"], *({"name": "the way back", "passed": True} for _ in exam.get("base_after", ())[:1])]
    return {
        "title": update.title,
        "why": update.why,
        "files": update.changes,
        "tests": counts if tests else {},
        "changed_expectations": tests.get("changed_expectations", []),
        "new_skips": tests.get("new_skips", []),
        "fewer_assertions": tests.get("fewer_assertions", []),
        "passed_at_second_try": tests.get("passed_at_second_try", []),
        "failing_on_base_too": tests.get("failing_on_base_too", []),
        "exam": [part["name"] for part in parts if part["passed"]],
        "waived": exam.get("waived", []),
        **({"packages": packages(update.dependencies)} if update.dependencies else {}),
        **risk.summary(),
    }


def packages(dependencies: Mapping[str, Any]) -> list[str]:
    """A line for each package that an update asks for, which cannot be overlooked."""
    return [
        f"{package['name'].upper()} {package['version']}, {size(package['size_bytes'])}, sha256:{package['sha256']}"
        for package in dependencies["packages"]
    ]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it. A ``listing`` may be cut, and then says so."""

    heading: str
    lines: tuple[str, ...]
    listing: bool = True

    def shown(self, most: int) -> tuple[str, ...]:
        """Its lines, as many as may be."""
        if not self.listing or len(self.lines) <= most:
            return self.lines
        return (*self.lines[:most], f"... and {len(self.lines) - most} more")


def sections(update: Update) -> list[Section]:
    """All that the card says about the update itself, the most important first."""
    shown = update.card
    title, why = shown.get("title", update.title), shown.get("why", update.why)
    found = [
        Section(
            f"Update {update.tx_id[:8]}",
            tuple(_one_line(text, most) for text, most in ((title, _LONGEST_TITLE), (why, _LONGEST_WHY)) if text),
            listing=False,
        ),
        *_origin(update),
        *_packages(shown),
        _files(shown.get("files", update.changes)),
        Section("Tests", _tests(shown), listing=False),
        Section(
            "Expectations that the patch changes or deletes; they did not gate", _lines(shown, "changed_expectations")
        ),
        Section("Tests that are skipped now", _lines(shown, "new_skips")),
        Section("Tests that claim less than before", _lines(shown, "fewer_assertions")),
        Section("Tests that passed only at a second try", _lines(shown, "passed_at_second_try")),
        Section("Tests that fail on base too; they did not gate", _lines(shown, "failing_on_base_too")),
        Section("Changes", _lines(shown, "touched")),
        Section("Cannot be parsed", _lines(shown, "unreadable")),
        Section("New imports", _lines(shown, "imports")),
        *(Section(f"New use of {kind}", _printable(uses)) for kind, uses in shown.get("uses", {}).items()),
        Section("Exam passed", (", ".join(_printable(shown.get("exam", []))),) if shown.get("exam") else ()),
        Section(
            "Exam waived, since base fails it too", (", ".join(_lines(shown, "waived")),) if shown.get("waived") else ()
        ),
        Section("Bound", (_bound(update),), listing=False),
    ]
    return [section for section in found if section.lines]


def as_html(parts: Iterable[Section], *, above: str = "", below: str = "", longest: int = LONGEST) -> str:
    """The sections in Telegram's HTML between two texts that are HTML already; lists are cut until all of it fits."""
    parts = list(parts)
    text = ""
    for most in _LISTS:
        text = "\n\n".join(part for part in (above, *(_html(section, most) for section in parts), below) if part)
        if utf16(text) <= longest:
            return text
    # Nothing but very long lines can get here: the first sections, and a word about the others.
    kept = parts[:-1]
    while kept and utf16(text) > longest:
        left_out = Section(
            "Left out, since a message holds no more", ("`supervisor show` has all of it",), listing=False
        )
        text = "\n\n".join(part for part in (above, *(_html(s, 1) for s in [*kept, left_out]), below) if part)
        kept = kept[:-1]
    return text


def as_text(parts: Iterable[Section]) -> str:
    """The sections for a terminal, whole."""
    return "\n".join("\n".join((section.heading, *(f"  {text}" for text in section.lines))) for section in parts)


def utf16(text: str) -> int:
    """The length of a text as Telegram counts it."""
    return len(text) + sum(character > "\uffff" for character in text)


def escape(text: str) -> str:
    """Text for the inside of Telegram's HTML."""
    return html.escape(text, quote=False)


def moment(seconds: float) -> str:
    """A time that means the same to everybody."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _html(section: Section, most: int) -> str:
    # Monospaced, so that no name of a file becomes a link, and nothing in it a command that can be tapped on.
    body = "\n".join(escape(text) for text in section.shown(most))
    return f"<b>{escape(section.heading)}</b>\n<pre>{body}</pre>"


def _one_line(text: str, most: int = _LONGEST_LINE) -> str:
    whole = " ".join(text.split())
    return line(whole, most) + (" ... (cut)" if len(whole) > most else "")


def _origin(update: Update) -> list[Section]:
    by = f" by {_one_line(update.model)}, {update.tokens:,} tokens" if update.model else ""
    lines = [f"from: {update.origin}{by}"] if by else []
    lines += [f"another attempt after {update.repairs[:8]}"] if update.repairs else []
    lines += [f"made again of {update.supersedes[:8]}, on a newer base"] if update.supersedes else []
    return [Section("Comes", tuple(lines), listing=False)] if lines else []


def _packages(shown: Mapping[str, Any]) -> list[Section]:
    asked = _lines(shown, "packages")
    later = ("They are fetched, and the gates are run on them, only after your approval.",)
    return [Section("ASKS FOR PACKAGES", asked + later, listing=False)] if asked else []


def _files(changes: list[dict[str, Any]]) -> Section:
    added, deleted = (sum(change[key] for change in changes) for key in ("added", "deleted"))
    lines = tuple(
        f"{_one_line(change['path'])} +{change['added']} -{change['deleted']}"
        + (" (deleted)" if change.get("kind") == "deleted" else "")
        for change in changes
    )
    return Section(f"Files: {len(changes)}, +{added} -{deleted} lines", lines)


def _tests(shown: Mapping[str, Any]) -> tuple[str, ...]:
    tests = shown.get("tests", {})
    if not tests:
        return ()
    counts = f"{tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
    both = f"; base has {tests['before']} test functions, this has {tests['after']}" if tests.get("before") else ""
    return (counts + both,)


def _bound(update: Update) -> str:
    base = f", base {update.base_sha[:12]}" if update.base_sha else ""
    image = f", image {update.image_id.removeprefix('sha256:')[:12]}" if update.image_id else ""
    adds = f" (adds {size(update.unique_bytes)})" if update.unique_bytes is not None else ""
    return f"digest {(update.digest or '-')[:_SHORT_DIGEST]}, revision {(update.sha or '-')[:12]}{base}{image}{adds}"


def _lines(shown: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return _printable(shown.get(name, []))


def _printable(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(_one_line(text) for text in texts)
