"""Failure injection for the tools: real workers, alone with the dummies, judged by SQL on their databases.

``python -m tests.load.tool_injection`` runs all cases, one for each tool and one for the toolbox, or those that are
named. The dummy model makes the calls in order, one in a turn, whatever comes of them.
"""

import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.load.injection import DONE, Case, run

#: One row for each call: which tool, its exit code, and of a failure the class and the code.
OUTCOMES: Final = """SELECT json_extract(payload, '$.tool_name'), json_extract(payload, '$.exit_code'),
    json_extract(payload, '$.error_class'), json_extract(payload, '$.code') FROM events
    WHERE event_type IN ('tool_call.completed', 'tool_call.failed') ORDER BY id"""
#: What a call gave, as the model was told, by the number of the call.
TOLD: Final = "SELECT json_extract(result, '$.{}') FROM tool_calls ORDER BY id LIMIT 1 OFFSET {}"
STARTED: Final = """SELECT COUNT(*) FROM events WHERE event_type = 'tool_call.started'
    AND json_extract(payload, '$.arguments') IS NOT NULL"""
GONE: Final = "toolbox_ended"
NOTHING: Final[dict[str, object]] = {}


@dataclass(frozen=True)
class Call:
    """A call, and what its event must say: the exit code, and of a failure the class and the code."""

    tool: str
    arguments: dict[str, object]
    exit_code: int | None = 0
    error_class: str | None = None
    code: str | None = None
    told: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Story:
    """Calls in a workspace that ``prepare`` has filled."""

    calls: Sequence[Call]
    prepare: Callable[[Path], object] = lambda _: None
    settings: dict[str, str] = field(default_factory=dict)

    def case(self, workspace: Path) -> Case:
        """The same for the worker and its database."""
        steps = [{"tool_calls": [{"name": call.tool, "arguments": call.arguments}]} for call in self.calls]
        script = [f"msgb64:{base64.b64encode(json.dumps(step).encode()).decode()}" for step in steps]
        outcomes = [(call.tool, call.exit_code, call.error_class, call.code) for call in self.calls]
        told = [
            (TOLD.format(name, number), [(value,)])
            for number, call in enumerate(self.calls)
            for name, value in call.told.items()
        ]
        return Case(
            {
                "WORKSPACE_DIR": str(workspace),
                "AUTONOUS_DUMMY_PROVIDER_SCRIPT": ",".join([*script, "msg:done"]),
                "AUTONOUS_TOOL_TIMEOUT_SECONDS": "1",
                "AUTONOUS_TOOL_MAX_OUTPUT_BYTES": "4096",
                **self.settings,
            },
            [(OUTCOMES, outcomes), (STARTED, [(len(self.calls),)]), *told],
            done=DONE,
        )


def refused(tool: str, **arguments: object) -> Call:
    """Arguments that do not fit: nothing ran."""
    return Call(tool, arguments, None, "validation", "bad_arguments")


def outside(tool: str, **arguments: object) -> Call:
    """A path that leads out."""
    return Call(tool, arguments, 1, "policy", "outside_root")


def failed(tool: str, code: str, error_class: str = "tool_exec", **arguments: object) -> Call:
    """The tool could not do it."""
    return Call(tool, arguments, 1, error_class, code)


def many(workspace: Path) -> None:
    """More than a page holds, a way out, and what is no file."""
    for number in range(600):
        (workspace / f"f{number:03}").write_text(f"hit {number}\n")
    (workspace / "out").symlink_to("/etc")
    os.mkfifo(workspace / "fifo")


def texts(workspace: Path) -> None:
    """Files of every kind that a text tool meets."""
    many(workspace)
    (workspace / "crlf").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    (workspace / "latin").write_bytes(b"caf\xe9\n")
    (workspace / "binary").write_bytes(b"\0\1\2")
    (workspace / "long").write_text("line\n" * 5000)
    (workspace / "explosive").write_text("a" * 64 + "!\n")


CRLF: Final = "ef bb bf 6f 6e 65 0d 0a 32 0d 0a 33 0d 0a\n"
STORIES: Final[dict[str, Story]] = {
    "ls": Story(
        [
            Call("ls", NOTHING, told={"truncated_lines": 1, "next_page_cursor": "f499"}),
            Call("ls", {"cursor": "f499"}, told={"truncated_lines": 0, "next_page_cursor": None}),
            refused("ls", limit=0),
            refused("ls", colour="red"),
            outside("ls", path="out"),
            outside("ls", path="/proc"),
            failed("ls", "not_found", path="missing"),
        ],
        many,
    ),
    "find": Story(
        [
            Call("find", {"name_pattern": "f59[89]"}, told={"stdout": "f598\nf599\n"}),
            Call("find", {"name_pattern": "-delete"}, told={"stdout": ""}),
            failed("find", "bad_pattern", "validation", name_pattern="["),
            refused("find", path=7),
            outside("find", path=".."),
        ],
        many,
    ),
    "grep": Story(
        [
            Call("grep", {"pattern": "hit 59[89]$"}, told={"stdout": "f598:1:hit 598\nf599:1:hit 599\n"}),
            Call("grep", {"pattern": "hit"}, told={"truncated_lines": 1}),
            Call("grep", {"pattern": "--help", "literal": True}, told={"stdout": ""}),
            failed("grep", "bad_pattern", "validation", pattern="("),
            outside("grep", pattern="root", path="out/passwd"),
            outside("grep", pattern="x", path="fifo"),
            Call("grep", {"pattern": "(a|a)*$", "path": "explosive"}, None, "timeout", "timeout"),
        ],
        texts,
    ),
    "read": Story(
        [
            Call("read", {"path": "long"}, told={"truncated_bytes": 1, "next_page_cursor": "819"}),
            Call("read", {"path": "crlf"}, told={"stdout": "one\ntwo\n", "meta.line_ends": "crlf", "meta.bom": 1}),
            Call("read", {"path": "latin"}, told={"stdout": "caf\ufffd\n"}),
            failed("read", "past_the_end", "validation", path="crlf", offset=9),
            failed("read", "binary", path="binary"),
            failed("read", "is_a_directory", path="."),
            outside("read", path="fifo"),
            outside("read", path="out/passwd"),
            refused("read"),
        ],
        texts,
    ),
    "write": Story(
        [
            Call("write", {"path": "new/f", "content": "text\n"}, told={"stdout": "created new/f, 5 bytes"}),
            Call("write", {"path": "new/f", "content": "more\n", "append": True}),
            Call("read", {"path": "new/f"}, told={"stdout": "text\nmore\n"}),
            outside("write", path="out/f", content=""),
            outside("write", path="fifo", content=""),
            failed("write", "is_a_directory", path="new", content=""),
            refused("write", path="f", content=["text"]),
        ],
        many,
    ),
    "edit": Story(
        [
            Call("edit", {"path": "crlf", "old_text": "two", "new_text": "2\n3"}, told={"meta.replaced": 1}),
            Call("bash", {"command": "od -An -tx1 crlf | sed 's/^ //'"}, told={"stdout": CRLF}),
            failed("edit", "no_match", "validation", path="crlf", old_text="two", new_text="2"),
            failed("edit", "not_unique", "validation", path="long", old_text="line", new_text="row"),
            failed("edit", "no_change", "validation", path="latin", old_text="caf", new_text="caf"),
            failed("edit", "not_editable", path="binary", old_text="a", new_text="b"),
            outside("edit", path="out/passwd", old_text="root", new_text="toor"),
            refused("edit", path="crlf", old_text="a"),
        ],
        texts,
    ),
    "bash": Story(
        [
            Call("bash", {"command": "echo out; echo err >&2"}, told={"stdout": "out\n", "stderr": "err\n"}),
            Call("bash", {"cmd": "pwd; exit 3", "workdir": "sub"}, 3, "tool_exec", "exit_code"),
            Call("bash", {"command": "sleep 60 & setsid sleep 60"}, 124, "timeout", "timeout"),
            Call("bash", {"command": "yes"}, 124, "timeout", "timeout", {"truncated_lines": 1}),
            Call("bash", {"command": "sleep 60 & echo done"}, told={"stdout": "done\n", "meta.left_in_background": 1}),
            Call("bash", {"command": "shutdown  now"}, 1, "policy", "denied"),
            outside("bash", command="true", cwd="/etc"),
            refused("bash", command="true", timeout_seconds=0),
            Call("bash", {"command": "kill -9 $PPID"}, None, "tool_exec", "killed"),
        ],
        lambda workspace: (workspace / "sub").mkdir(),
        {"AUTONOUS_TOOL_BASH_DENYLIST": "rm -rf /,shutdown now"},
    ),
    "the toolbox": Story(
        [
            Call("rm", {"path": "f"}, None, "validation", "unknown_tool"),
            # The parent of the process that watches a command is the toolbox itself.
            Call("bash", {"command": "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); sleep 5"}, None, "tool_exec", GONE),
            Call("write", {"path": "f", "content": "after"}),
            Call("read", {"path": "f"}, told={"stdout": "after"}),
        ],
    ),
}


def problems(name: str, directory: Path) -> list[str]:
    """Run one story; gives what is not as it must be, one line each."""
    workspace = directory / "workspace"
    workspace.mkdir()
    story = STORIES[name]
    story.prepare(workspace)
    return run(story.case(workspace), directory)


def main(names: Sequence[str], say: Callable[[str], object] = print) -> int:
    """Run the stories with these names, or all; gives the exit code."""
    unknown = [name for name in names if name not in STORIES]
    if unknown:
        say(f"error: there is no case {unknown[0]!r}: there are {', '.join(STORIES)}")
        return 2
    failures = 0
    for name in names or list(STORIES):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="injection-") as directory:
            found = problems(name, Path(directory))
        failures += bool(found)
        say(f"{'FAILED' if found else 'ok':6}  {name} ({time.monotonic() - begun:.1f} s)")
        for problem in found:
            say(problem)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
