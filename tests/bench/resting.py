"""What an installation costs while nothing happens."""

from supervisor.homelock import owner
from supervisor.ledger import Ledger
from tests.bench.figures import Figure, megabytes, percent
from tests.bench.procfs import usage
from tests.support.installation import Installation

_MB = 10**6
_LIMITS = {"supervisor": 80 * _MB, "worker": 120 * _MB, "toolbox": 30 * _MB}
_CPU_PERCENT = 0.5


def measure(installation: Installation, over_seconds: float) -> list[Figure]:
    """Memory and CPU of every process; of two workers or toolboxes the larger counts."""
    pids = _pids(installation)
    found = usage(pids, over_seconds)
    figures = []
    for role in ("supervisor", "worker", "toolbox", "local bot"):
        sizes = tuple(float(used.rss_bytes) for name, used in found.items() if name.startswith(role))
        figures.append(
            Figure(
                f"idle: {role} memory",
                (max(sizes),),
                megabytes,
                f"resident set after the updates above; processes of this kind: {len(sizes)}, the largest counts",
                limit=_LIMITS.get(role),
            )
        )
    everything = sum(used.cpu_percent for used in found.values())
    return [
        *figures,
        Figure(
            "idle: supervisor CPU",
            (found["supervisor"].cpu_percent,),
            percent,
            f"of one core, over {over_seconds:g} s; all processes together {percent(everything)}",
            limit=_CPU_PERCENT,
        ),
    ]


def _pids(installation: Installation) -> dict[str, int]:
    bot = installation.paths.localbot_db
    pids = {
        "supervisor": installation.supervisor_pid(),
        "local bot": int(owner(bot.with_name(f"{bot.name}.pid"))),
    }
    with Ledger.read_only(installation.paths.ledger) as ledger:
        for row in ledger.living_workers():
            pids[f"worker {row.worker_id}"] = installation.inspect(row.worker_id)["State"]["Pid"]
            pids[f"toolbox {row.worker_id}"] = installation.inspect(f"{row.worker_id}-toolbox")["State"]["Pid"]
    return pids
