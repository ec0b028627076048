"""How long the reading commands take over a long history."""

import random
import time

from supervisor.ledger import Ledger, NewUpdate, Origin
from supervisor.states import Status
from tests.bench.figures import Figure, seconds
from tests.support.installation import Installation

_LIMITS = {"status": 0.4, "history": 0.6}


def measure(installation: Installation, *, records: int, runs: int) -> list[Figure]:
    """Both commands after ``records`` more updates: with no supervisor, then with one. It is up at the end."""
    installation.down()
    _write_history(installation, records)
    alone = {command: _times(installation, command, runs) for command in _LIMITS}
    installation.up()
    beside = {command: _times(installation, command, runs) for command in _LIMITS}
    return [
        Figure(
            f"`{command}` with {records} updates",
            beside[command],
            seconds,
            f"the whole process, supervisor running; with none: median {seconds(sorted(alone[command])[runs // 2])}",
            limit=limit,
        )
        for command, limit in _LIMITS.items()
    ]


def _times(installation: Installation, command: str, runs: int) -> tuple[float, ...]:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        installation.run(command).expect(0)
        taken.append(time.perf_counter() - started)
    return tuple(taken)


def _write_history(installation: Installation, records: int) -> None:
    """Updates with everything that the gates leave in their rows, cancelled at the end so that nobody works on them."""
    chance = random.Random(records)
    with Ledger(installation.paths.ledger) as ledger:
        base = ledger.good_revision()
        for number in range(records):
            new = NewUpdate(
                origin=Origin.CLI, title=f"change number {number}", why="to see", patch=b"x" * 2000, base_sha=base.sha
            )
            update = ledger.create(new)
            sha = f"{chance.getrandbits(160):040x}"
            tests = {"passed": 131, "failed": 0, "skipped": 1, "failing": []}
            parts = [{"name": f"part {n}", "passed": True, "detail": "", "seconds": 0.1} for n in range(8)]
            at = time.time()
            ledger.amend(
                update.tx_id,
                {
                    "sha": sha,
                    "tree": sha,
                    "patch_id": sha,
                    "deps_image_id": base.deps_image_id,
                    "image_id": f"sha256:{chance.getrandbits(256):064x}",
                    "image_tag": f"{installation.project}/worker:{sha[:12]}",
                    "size_bytes": 300_000_000,
                    "unique_bytes": 5_000,
                    "changes": [
                        {"path": f"worker/{n}.py", "kind": "modified", "added": 3, "deleted": 1} for n in "abc"
                    ],
                    "test_summary": tests,
                    "self_check_summary": {"candidate": parts, "base_after": parts},
                    "build_started_at": at,
                    "build_finished_at": at + 1,
                    "test_started_at": at + 1,
                    "test_finished_at": at + 8,
                },
            )
            ledger.move(update.tx_id, Status.CREATED, Status.CANCELLED)
