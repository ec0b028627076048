"""Self-update end to end: a success, a test that fails, a crash after the switch, judged by SQL on the ledger.

``python -m tests.load.updates`` runs all cases, or those that are named, and prints one line for each. They share one
installation of their own on the real engine, which is gone afterwards; every question is about the case's own update.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.engine import Engine
from supervisor.hostengine import EngineMissing, ensure_engine
from supervisor.images.builds import ImagesUnavailable, ensure_deps
from tests.support import candidates
from tests.support.checkouts import copy_checkout, patch_of, replaced
from tests.support.installation import Installation, wait_for

END_SECONDS: Final = 120.0
GONE_SECONDS: Final = 5.0
#: The events of an update, in order.
STORY: Final = """SELECT event_type FROM events WHERE parent_id = (SELECT event_id FROM artifacts WHERE tx_id = :tx)
    AND event_type LIKE 'update.%' AND json_extract(payload, '$.status_to') IS NOT NULL ORDER BY id"""
#: Which update the active worker runs.
ACTIVE: Final = """SELECT workers.tx_id = :tx FROM leases JOIN workers USING (worker_id) ORDER BY epoch DESC LIMIT 1"""
GOOD: Final = """SELECT json_extract(payload, '$.sha') = (SELECT sha FROM artifacts WHERE tx_id = :tx)
    FROM events WHERE event_type = 'revision.promoted' ORDER BY id DESC LIMIT 1"""
#: Every change of status has its event, and no status was written past the table.
LAST: Final = """SELECT json_extract(payload, '$.status_to') = (SELECT status FROM artifacts WHERE tx_id = :tx)
    FROM events WHERE parent_id = (SELECT event_id FROM artifacts WHERE tx_id = :tx)
    AND json_extract(payload, '$.status_to') IS NOT NULL ORDER BY id DESC LIMIT 1"""
_STAGED: Final = [
    ("update.build.started",),
    ("update.build.completed",),
    ("update.test.started",),
    ("update.test.completed",),
    ("update.self_check.started",),
    ("update.self_check.completed",),
    ("update.artifact.staged",),
]
_DEPLOYED: Final = [("update.approved",), ("update.deploy.started",), ("update.deploy.completed",)]
_BACK: Final = [("update.rollback.started",), ("update.rollback.completed",)]


@dataclass(frozen=True)
class Case:
    """A patch of the checkout, what it comes to, and what must stand in the ledger then."""

    patch: Callable[[Path], bytes]
    end: str
    expected: Sequence[tuple[str, object]]


def fails_a_test(checkout: Path) -> bytes:
    """Says something else than its test expects."""
    return patch_of(checkout, replaced(checkout, candidates.MODEL, '"dummy-ok"', '"dummy-no"'))


CASES: Final[dict[str, Case]] = {
    "success": Case(
        lambda checkout: candidates.adds_a_module(checkout, "success"),
        "promoted",
        (
            (STORY, [*_STAGED, *_DEPLOYED, ("update.promoted",)]),
            ("SELECT approval_by, approval_digest = digest, blame, code FROM artifacts WHERE tx_id = :tx",
             [("terminal", 1, None, None)]),
            ("SELECT created_at < build_started_at, build_started_at < build_finished_at,"
             " deploy_started_at < deploy_finished_at, deploy_finished_at < promoted_at"
             " FROM artifacts WHERE tx_id = :tx", [(1, 1, 1, 1)]),
            ("SELECT json_extract(test_summary, '$.failed') FROM artifacts WHERE tx_id = :tx", [(0,)]),
            (ACTIVE, [(1,)]),
            (GOOD, [(1,)]),
        ),
    ),
    "test_failure": Case(
        fails_a_test,
        "test_failed",
        (
            (STORY, [*_STAGED[:3], ("update.test.failed",)]),
            ("SELECT blame, approval_by, deploy_started_at, self_check_started_at FROM artifacts WHERE tx_id = :tx",
             [("own", None, None, None)]),
            ("SELECT json_array_length(test_summary, '$.failing') > 0 FROM artifacts WHERE tx_id = :tx", [(1,)]),
            ("SELECT COUNT(*) FROM workers WHERE tx_id = :tx", [(0,)]),
            (ACTIVE, [(0,)]),
            (GOOD, [(0,)]),
        ),
    ),
    "crash_fall_back": Case(
        lambda checkout: candidates.exits_in_service(checkout, seconds=0.5),
        "rolled_back",
        (
            (STORY, [*_STAGED, *_DEPLOYED, *_BACK]),
            ("SELECT blame, promoted_at FROM artifacts WHERE tx_id = :tx", [("own", None)]),
            ("SELECT exit_code FROM workers WHERE tx_id = :tx ORDER BY spawned_at LIMIT 1", [(7,)]),
            (ACTIVE, [(0,)]),
            (GOOD, [(0,)]),
            ("SELECT workers.sha = (SELECT base_sha FROM artifacts WHERE tx_id = :tx)"
             " FROM leases JOIN workers USING (worker_id) ORDER BY epoch DESC LIMIT 1", [(1,)]),
        ),
    ),
}  # fmt: skip


def run(case: Case, installation: Installation, checkout: Path) -> list[str]:
    """What is otherwise than it must be."""
    answer = installation.submit(case.patch(checkout))
    tx = str(answer["tx_id"])
    if answer["status"] == "staged":
        installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == case.end, END_SECONDS, f"{case.end}, as it must end")
    wait_for(lambda: (installation.status()["active"] or {}).get("health") == "healthy", END_SECONDS, "a worker")
    # Of workers that went the ledger hears a moment later.
    deadline = time.monotonic() + GONE_SECONDS
    while (problems := unmet(case, installation, tx)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return problems


def unmet(case: Case, installation: Installation, tx: str) -> list[str]:
    """The queries whose answers are now otherwise than they must be."""
    found = [(query, ask(installation, query, tx), expected) for query, expected in (*case.expected, (LAST, [(1,)]))]
    return [f"{query}\n  gives {is_}, not {should}" for query, is_, should in found if is_ != should]


def ask(installation: Installation, query: str, tx: str) -> list[tuple[Any, ...]]:
    """The ledger's answer to a query about an update."""
    connection = sqlite3.connect(f"file:{installation.paths.ledger}?mode=ro", uri=True)
    try:
        return connection.execute(query, {"tx": tx} if ":tx" in query else {}).fetchall()
    finally:
        connection.close()


def main(names: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Run the cases with these names, or all; gives the exit code: 3 without an engine."""
    if unknown := set(names) - CASES.keys():
        say(f"error: no case is called {min(unknown)}; there are {', '.join(CASES)}")
        return 2
    try:
        ensure_engine(say, interactive=False)
        ensure_deps(Engine(), say)
    except (EngineMissing, ImagesUnavailable) as error:
        say(f"error: {error}")
        return 3
    failed = 0
    with tempfile.TemporaryDirectory(prefix="updates-", ignore_cleanup_errors=True) as directory:
        checkout = copy_checkout(Path(directory) / "checkout")
        installation = Installation(Path(directory) / "home", checkout)
        try:
            installation.up()
            for name in names or list(CASES):
                begun = time.monotonic()
                problems = run(CASES[name], installation, checkout)
                failed += bool(problems)
                say(f"{'FAILED' if problems else 'ok':6}  {name} ({time.monotonic() - begun:.1f} s)")
                for problem in problems:
                    say(problem)
        finally:
            installation.remove()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
