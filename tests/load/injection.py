"""Failure injection for the control plane: real workers, alone with the dummies, judged by SQL on their databases.

``python -m tests.load.injection`` runs all cases, or those that are named, and prints one line for each.
"""

import base64
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEADLINE_SECONDS: Final = 15.0
PLAIN: Final = {
    "AUTONOUS_COMMANDER": "dummy",
    "AUTONOUS_MODEL_PROVIDER": "dummy",
    "AUTONOUS_CONTROL_RETRY_BASE_SECONDS": "0.05",
    "TG_SLEEP_SECONDS": "0.02",
    "TG_TIMEOUT": "0",
}
TOOLS: Final = json.dumps({"tool_calls": [{"name": "time", "arguments": {}}], "final_answer": ""})
ASKS: Final = f"msgb64:{base64.b64encode(TOOLS.encode()).decode()}"
DONE: Final = "SELECT COUNT(*) FROM events WHERE event_type = 'reply.sent'"


@dataclass(frozen=True)
class Case:
    """A worker's settings, when it is done (a query that gives a number above 0), and what must stand there then."""

    settings: dict[str, str]
    expected: Sequence[tuple[str, object]]
    done: str = DONE
    commander: str = "msg:hello,ok"


def payload(event: str, *names: str) -> str:
    """A query for fields of the payloads of all events of a type."""
    columns = ", ".join(f"json_extract(payload, '$.{name}')" for name in names)
    return f"SELECT {columns} FROM events WHERE event_type = '{event}' ORDER BY id"


def count(event: str) -> str:
    """A query for the number of events of a type."""
    return f"SELECT COUNT(*) FROM events WHERE event_type = '{event}'"


LIMIT: Final = payload("control.limit_reached", "limit_type", "value", "threshold")
INBOX: Final = "SELECT status, attempts FROM inbox ORDER BY id"
CIRCUIT: Final = "SELECT event_type FROM events WHERE event_type LIKE 'circuit.%' ORDER BY id"
UNENDED: Final = """SELECT s.event_type FROM events s WHERE s.event_type LIKE '%.started'
    AND s.event_type NOT LIKE 'process.%' AND 1 != (SELECT COUNT(*) FROM events e WHERE e.parent_id = s.id
    AND e.event_type IN (replace(s.event_type, 'started', 'completed'), replace(s.event_type, 'started', 'failed')))"""

CASES: Final[dict[str, Case]] = {
    "retries and exhaustion": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "err:provider_api", "AUTONOUS_CONTROL_MAX_RETRIES": "2"},
        [
            (INBOX, [("dead", 3)]),
            (payload("retry.scheduled", "attempts", "wait_seconds"), [(1, 0.05), (2, 0.1)]),
            (payload("retry.exhausted", "attempts", "error_class", "stalled"), [(3, "provider_api", 0)]),
            (count("progress.stalled"), [(0,)]),
            ("SELECT COUNT(*) FROM history", [(0,)]),
        ],
    ),
    "no claim before its time": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "err:db,ok", "AUTONOUS_CONTROL_RETRY_BASE_SECONDS": "0.6"},
        [
            (INBOX, [("done", 2)]),
            (
                # From the failure: that a retry is scheduled is written when its wait has begun.
                "SELECT MIN(b.timestamp - a.timestamp) >= 0.6 FROM events a, events b WHERE a.event_type ="
                " 'agent.failed' AND b.event_type = 'agent.started' AND b.id > a.id",
                [(1,)],
            ),
        ],
    ),
    "stalled attempts": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "err:provider_api", "AUTONOUS_CONTROL_MAX_RETRIES": "5"},
        [
            (INBOX, [("dead", 3)]),
            (payload("progress.stalled", "k", "attempts"), [(3, 3)]),
            (payload("retry.exhausted", "attempts", "stalled"), [(3, 1)]),
        ],
    ),
    "stalled tool calls": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": ASKS},
        [
            (INBOX, [("dead", 1)]),
            (payload("progress.stalled", "k"), [(3,)]),
            (count("tool_call.completed"), [(2,)]),
            (count("retry.exhausted"), [(1,)]),
        ],
    ),
    "max turns": Case(
        {
            "AUTONOUS_DUMMY_PROVIDER_SCRIPT": ASKS,
            "AUTONOUS_CONTROL_MAX_TURNS": "7",
            "AUTONOUS_CONTROL_NO_PROGRESS_K": "99",
        },
        [
            (LIMIT, [("max_turns", 7, 7)]),
            (count("turn.started"), [(7,)]),
            (count("turn.completed"), [(7,)]),
            (payload("agent.failed", "error_class"), [("limit",)]),
            ("SELECT COUNT(*) FROM outbox WHERE text LIKE '%AUTONOUS_CONTROL_MAX_TURNS%' AND status = 'sent'", [(1,)]),
        ],
    ),
    "wall time": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "sleep:60000", "AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS": "0.5"},
        [
            (payload("control.limit_reached", "limit_type", "threshold"), [("max_wall_time_seconds", 0.5)]),
            ("SELECT json_extract(payload, '$.value') < 1 FROM events WHERE event_type LIKE '%limit_reached'", [(1,)]),
            (count("retry.scheduled"), [(0,)]),
        ],
    ),
    "tokens": Case(
        {
            "AUTONOUS_DUMMY_PROVIDER_SCRIPT": ASKS,
            "AUTONOUS_CONTROL_MAX_TOKENS": "8",
            "AUTONOUS_CONTROL_NO_PROGRESS_K": "99",
        },
        [(LIMIT, [("max_tokens", 8, 8)]), (count("turn.completed"), [(4,)])],
    ),
    "the day's budget": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "ok", "AUTONOUS_BUDGET_TOKENS_PER_DAY": "4"},
        [
            (LIMIT, [("budget_tokens_per_day", 4, 3.2), ("budget_tokens_per_day", 4, 4)]),
            (count("turn.started"), [(2,)]),
            ("SELECT COUNT(*) FROM outbox WHERE text LIKE '%AUTONOUS_BUDGET_TOKENS_PER_DAY%'", [(2,)]),
        ],
        commander="msg:one,msg:two,msg:three,ok",
        done="SELECT COUNT(*) >= 4 FROM events WHERE event_type = 'reply.sent'",
    ),
    "polls that fail": Case(
        {"AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS": "0.3"},
        [
            (CIRCUIT, [("circuit.opened",), ("circuit.half_open",), ("circuit.closed",)]),
            (payload("circuit.opened", "error_class", "threshold"), [("command_source_api", 5)]),
            (INBOX, [("done", 1)]),
        ],
        commander=",".join(["err:command_source_api"] * 5 + ["msg:hello", "ok"]),
    ),
    "a model that fails": Case(
        {
            "AUTONOUS_DUMMY_PROVIDER_SCRIPT": ",".join(["err:provider_api"] * 3 + ["ok"]),
            "AUTONOUS_CONTROL_CIRCUIT_THRESHOLD": "2",
            "AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS": "0.3",
            "AUTONOUS_CONTROL_NO_PROGRESS_K": "99",
        },
        [
            (
                CIRCUIT,
                [(f"circuit.{name}",) for name in ("opened", "half_open", "opened", "half_open", "closed")],
            ),
            (payload("circuit.opened", "error_class"), [("provider_api",)] * 2),
            (INBOX, [("done", 4)]),
        ],
    ),
    "an empty answer": Case(
        {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "msgb64:IA==,msg:{},ok"},
        [
            (payload("agent.failed", "error_class"), [("validation",)]),
            ("SELECT text FROM history WHERE role = 'assistant'", [("{}",)]),
        ],
    ),
    "a dead letter and what follows it": Case(
        {
            "AUTONOUS_DUMMY_PROVIDER_SCRIPT": "err:validation,ok",
            "AUTONOUS_CONTROL_MAX_RETRIES": "0",
        },
        [(INBOX, [("dead", 1), ("done", 1)]), (count("retry.exhausted"), [(1,)])],
        commander="msg:poison,msg:fine,ok",
        done="SELECT COUNT(*) >= 2 FROM events WHERE event_type = 'reply.sent'",
    ),
}


def run(case: Case, directory: Path) -> list[str]:
    """Run one case; gives what is not as it must be, one line each."""
    database = directory / "agent.db"
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **PLAIN,
        "AUTONOUS_DB_PATH": str(database),
        "AUTONOUS_CONFIG_DIR": str(directory),
        "AUTONOUS_DUMMY_COMMANDER_SCRIPT": case.commander,
        **case.settings,
    }
    with (directory / "log").open("w") as log:
        worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, stderr=log)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not _number(database, case.done):
            if worker.poll() is not None or time.monotonic() > deadline:
                return [f"it did not get there:\n{(directory / 'log').read_text()}"]
            time.sleep(0.02)
    finally:
        worker.terminate()
        worker.wait(timeout=10)
    found = [(query, rows(database, query), expected) for query, expected in (*case.expected, (UNENDED, []))]
    return [f"{query}\n  gives {is_}, not {should}" for query, is_, should in found if is_ != should]


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    """The answer to a query; none while there is no database."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return []


def _number(database: Path, query: str) -> object:
    found = rows(database, query)
    return found[0][0] if found else 0


def main(names: Sequence[str], say: Callable[[str], object] = print) -> int:
    """Run the cases with these names, or all; gives the exit code."""
    failed = 0
    for name in names or list(CASES):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="injection-") as directory:
            problems = run(CASES[name], Path(directory))
        failed += bool(problems)
        say(f"{'FAILED' if problems else 'ok':6}  {name} ({time.monotonic() - begun:.1f} s)")
        for problem in problems:
            say(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
