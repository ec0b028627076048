"""``python -m tests.bench``: the project's figures, each beside its limit, measured now on this machine.

It has installations of its own and takes them down again. Exit code 1 when a limit is missed, 3 without an engine,
which the worker's figures (``--only worker``) do not need.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supervisor.engine import Engine
from supervisor.hostengine import EngineMissing, ensure_engine
from supervisor.images.builds import ImagesUnavailable, ensure_deps
from supervisor.paths import CHECKOUT
from tests.bench import appending, commands, deploys, pipeline, recalling, resting, roles, sidebyside, tools, worker
from tests.bench.figures import Figure, console, seconds, table
from tests.support.checkouts import copy_checkout, patch_of
from tests.support.installation import QUICK, Installation

#: Of the bench's installations; all others have their defaults.
SETTINGS: Final = {**QUICK, "AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS": str(deploys.PROBATION_SECONDS)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    options = _options(arguments)
    # Also when it is told to end: what was started is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()
    engine = None
    if options.only != "worker":
        try:
            ensure_engine(_say, interactive=False)
            engine = Engine()
            ensure_deps(engine, _say)
        except (EngineMissing, ImagesUnavailable) as error:
            _say(f"error: {error}")
            return 3
    console().print(_header(engine, options), highlight=False)
    figures: list[Figure] = []
    beside: list[sidebyside.Seen] = []
    load_before = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            if options.only in {None, "worker"}:
                figures.extend(_measure_worker(Path(name), options))
            if engine is not None and options.only != "side-by-side":
                figures.extend(_measure(Path(name), engine, options))
            if engine is not None and options.side_by_side:
                beside.extend(_measure_beside(Path(name), options))
    finally:  # what was measured is shown, whatever came then
        if figures:
            console().print(table(figures))
        if len(beside) > 1:
            console().print(sidebyside.table(beside, options.side_by_side))
            _say(sidebyside.settings(beside))
    _say(
        f"Took {time.monotonic() - started:.0f} s on {os.cpu_count()} cores; the machine's load was {load_before:.1f} "
        f"before, {os.getloadavg()[0]:.1f} after. Other work on it makes every time longer."
    )
    missed = [figure.name for figure in figures if figure.missed]
    if missed:
        _say(f"Missed: {', '.join(missed)}.")
    return 1 if missed and not options.report_only else 0


def _header(engine: Engine | None, options: argparse.Namespace) -> str:
    """What was measured, on what, and how it was set up."""
    git = ["git", "-C", str(CHECKOUT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    found = None if engine is None else engine.version()
    return "\n".join(
        (
            f"Commit {commit.stdout.strip() or 'unknown'}{', with changes' if changed else ''}; "
            f"Python {platform.python_version()}; kernel {platform.release()}; "
            + (f"Docker {found['version']} (API {found['api']})" if found else "no engine"),
            f"Arguments: {', '.join(f'{name}={value}' for name, value in vars(options).items())}",
            f"Settings: {', '.join(f'{name}={value}' for name, value in SETTINGS.items())}",
        )
    )


def _measure_worker(directory: Path, options: argparse.Namespace) -> Iterator[Figure]:
    yield from worker.measure(directory, messages=options.messages, killed=options.worker_kills, say=_say)
    yield from tools.measure(directory, _say)


def _measure(directory: Path, engine: Engine, options: argparse.Namespace) -> Iterator[Figure]:
    _say("Event append and role changes...")
    yield from appending.measure(directory, options.batches)
    yield from roles.measure(directory, options.role_changes)
    yield from recalling.measure(engine, _say)
    with _installation(directory / "a", all_tests=True) as whole:
        _say(f"{options.rounds} patches through all gates, each beside the bare build and test run...")
        yield from pipeline.measure(whole, engine, options.rounds)
        _say("One is promoted, so that N-1 stands by...")
        path, text = pipeline.one_line(whole.checkout, "promoted")
        whole.promote(patch_of(whole.checkout, {path: text}))
        whole.settled()
        _say(f"Idle for {options.idle_seconds:g} s...")
        yield from resting.measure(whole, options.idle_seconds)
        _say(f"Commands over {options.records} more updates...")
        yield from commands.measure(whole, records=options.records, runs=options.command_runs)
    # Few of the worker's tests: their time is measured above, and these updates are about what comes after.
    with _installation(directory / "b", all_tests=False) as quick:
        _say("Deploys and ways back under load...")
        yield from deploys.Deploys(quick, engine).measure(
            planned=options.deploys, killed=options.kills, wedged=options.wedges, say=_say
        )


def _measure_beside(directory: Path, options: argparse.Namespace) -> Iterator[sidebyside.Seen]:
    _say("The same load under three ways to deploy...")
    image = ensure_deps(Engine(), _say).tag
    with _installation(directory / "c", all_tests=False) as quick:
        yield from sidebyside.measure(directory, quick, image, deploys=options.side_by_side, say=_say)


@contextmanager
def _installation(directory: Path, *, all_tests: bool) -> Iterator[Installation]:
    directory.mkdir()
    checkout = copy_checkout(directory / "checkout", all_tests=all_tests)
    installation = Installation(directory / "home", checkout, settings=SETTINGS)
    started = time.monotonic()
    try:
        installation.up()
        _say(f"An installation of its own is up after {seconds(time.monotonic() - started)}.")
        yield installation
    except BaseException:
        _say(f"The end of the supervisor's log:\n{installation.log_tail()}")
        raise
    finally:
        installation.remove()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--report-only", action="store_true", help="exit code 0 also when a limit is missed")
    parser.add_argument(
        "--only",
        choices=("supervisor", "worker", "side-by-side"),
        help="the figures of one side, or the comparison alone (default: all, the worker first)",
    )
    for name, default, what in (
        ("--deploys", 20, "deploys that are rolled back by a person; with the others more than 50 hand-overs"),
        ("--kills", 8, "deploys whose green is killed in its probation"),
        ("--wedges", 3, "deploys whose green is frozen in its probation"),
        ("--side-by-side", 3, "good deploys in the comparison with other ways to deploy"),
        ("--rounds", 3, "patches through all gates beside the bare work"),
        ("--records", 1000, "updates in the history that the commands read"),
        ("--command-runs", 7, "runs of each command"),
        ("--batches", 11, "pairs of batches of events"),
        ("--role-changes", 200, "role changes"),
        ("--messages", 300, "messages to a worker while everything around it fails"),
        ("--worker-kills", 20, "workers that are killed while messages come in"),
    ):
        parser.add_argument(name, type=int, default=default, help=f"{what} (default {default})", metavar="N")
    parser.add_argument(
        "--idle-seconds", type=float, default=20, help="how long to look at idle processes", metavar="S"
    )
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a program of its own


if __name__ == "__main__":
    sys.exit(main())
