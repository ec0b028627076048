"""``make chaos MINUTES=n SEED=s``: messages, updates and blows at random, on an installation of its own.

Blows fall on its engine, too, where it can have one of its own; with ENGINE=0 they do not, and it has the machine's.
Ends with what became of every message, and with the seed that repeats the run's choices. Exit code 1 when a message was
lost, doubled outside the window between Telegram's acceptance and our commit, or answered out of order, when two
workers polled at once, or when the installation did not come to rest; 3 without an engine.
"""

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from pathlib import Path

from supervisor.engine import Engine
from supervisor.hostengine import EngineMissing, ensure_engine
from supervisor.images.builds import ImagesUnavailable, base_tag, ensure_deps
from tests.chaos.blows import Blows
from tests.chaos.book import Verdict, judge
from tests.chaos.changes import Changes, has_way_back
from tests.chaos.records import committed, service
from tests.chaos.talk import CHATS, PER_SECOND, Talk
from tests.support import echo
from tests.support.checkouts import copy_checkout
from tests.support.echo import PREFIX, SOCKET, EchoModel
from tests.support.installation import Installation, wait_for
from tests.support.privateengine import PrivateEngine, why_not

SETTINGS = {
    **echo.SETTINGS,
    "AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS": "4",
    # So many deaths are nobody's fault but this run's; a few in a row are a crash loop here, too.
    "SUPERVISOR_CRASH_WINDOW_SECONDS": "20",
}
_REST_SECONDS = 120.0
_TIDY_SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print; the exit code."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        ensure_engine(_say, interactive=False)
        deps = ensure_deps(Engine(), _say)
    except (EngineMissing, ImagesUnavailable) as error:
        _say(f"error: {error}")
        return 3
    if options.engine and (reason := why_not()):
        _say(f"error: ENGINE=1 needs an engine of its own: {reason}")
        return 3
    _say(f"Chaos for {options.minutes:g} minutes, seed {options.seed}.")
    if not options.engine:
        _say(f"No blow falls on the engine: {why_not() or 'ENGINE=0'}.")
    with ExitStack() as stack:
        private = stack.enter_context(PrivateEngine([base_tag(), deps.tag])) if options.engine else None
        if private is not None:
            os.environ["DOCKER_HOST"] = private.url
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        installation = Installation(directory / "home", copy_checkout(directory / "checkout"), settings=SETTINGS)
        stack.callback(installation.remove)
        installation.paths.create(worker_uid=10001)
        stack.enter_context(EchoModel(seconds=0.05).serve(installation.paths.contract_directory / SOCKET))
        installation.up()
        return _run(installation, options, private)


def _run(installation: Installation, options: argparse.Namespace, private: PrivateEngine | None) -> int:
    began = time.time()

    def say(line: str) -> None:
        _say(f"{time.time() - began:7.1f} s  {line}")

    talk = Talk(installation.paths.localbot_user_socket)
    blows = Blows(installation, random.Random(f"{options.seed} blows"), say)
    if private is not None:
        blows.add_engine(private)
    changes = Changes(installation, random.Random(f"{options.seed} changes"), say)
    _together([talk.write, blows.deal, changes.make], options.minutes * 60)
    problems = [*changes.problems, *_come_to_rest(installation, blows, talk)]
    asked, answers = talk.read()
    noted = committed(installation.paths.agent_db)
    verdict = judge(asked, answers, committed=noted, service=service(installation.paths.ledger), over=time.time())
    for answer in answers:
        if any(text == answer.text.removeprefix(PREFIX) for text in verdict.doubled):
            say(f"doubled: {answer.text} at {answer.at - began:.1f} s, noted: {answer.place in noted}")
    problems += _problems(verdict, talk)
    if problems:
        _say(f"The end of the supervisor's log:\n{installation.log_tail(200)}")
    _report(options, verdict, began, blows.dealt, changes.ends)
    for problem in problems:
        print(f"BAD: {problem}")  # noqa: T201 - a program of its own
    return 1 if problems else 0


def _together(actors: Sequence[Callable[[threading.Event], None]], seconds: float) -> None:
    """Let all of them act for so long. Raises what one of them failed with, as soon as it does."""
    over = threading.Event()
    with ThreadPoolExecutor() as pool:
        acting: list[Future[None]] = [pool.submit(act, over) for act in actors]
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline and not any(one.done() for one in acting):
                time.sleep(0.2)
        finally:
            over.set()
        wait(acting)
        for one in acting:
            one.result()


def _come_to_rest(installation: Installation, blows: Blows, talk: Talk) -> list[str]:
    """No more blows: what is left undone gets its time. Gives what does not hold then."""
    problems: list[str] = []
    blows.bring_up()
    checks: list[tuple[str, Callable[[], object], float]] = [
        ("an active healthy worker and nothing on its way", lambda: installation.settled(_REST_SECONDS), 0.1),
        ("N-1 at hand", lambda: has_way_back(installation), _TIDY_SECONDS),
        ("all answers", lambda: talk.unanswered() == 0, _TIDY_SECONDS),
        ("one worker's containers, and those of N-1", lambda: len(installation.containers()) <= 2, _TIDY_SECONDS),
    ]
    for what, look, seconds in checks:
        try:
            wait_for(look, seconds, what)
        except AssertionError as error:
            problems.append(str(error))
    time.sleep(1)  # for an answer too many
    for database in (installation.paths.ledger, installation.paths.agent_db):
        if (state := _integrity(database)) != "ok":
            problems.append(f"{database.name} is damaged: {state}")
    return problems


def _integrity(database: Path) -> str:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def _problems(verdict: Verdict, talk: Talk) -> list[str]:
    found = {
        "lost": ", ".join(verdict.lost),
        "doubled outside the window": ", ".join(verdict.doubled),
        "out of order": str(verdict.out_of_order or ""),
        "polls of two workers at once": str(talk.conflicts() or ""),
    }
    return [f"{what}: {which}" for what, which in found.items() if which]


def _report(
    options: argparse.Namespace, verdict: Verdict, began: float, dealt: Counter[str], ends: Counter[str]
) -> None:
    lines = [
        f"chaos: {options.minutes:g} minutes, {PER_SECOND:g} messages a second in {len(CHATS)} chats",
        f"sent {verdict.sent}, answered {verdict.answered}, lost {len(verdict.lost)}, doubled {len(verdict.doubled)} "
        f"(and {verdict.in_the_window} in the window between Telegram's acceptance and our commit), "
        f"out of order {verdict.out_of_order}",
        f"longest silence {verdict.longest_silence:.1f} s, at {verdict.silent_since - began:.0f} s; "
        f"longest wait of a message {verdict.longest_wait:.1f} s",
        "blows: " + _counted(dealt),
        "updates: " + _counted(ends),
        f"again: make chaos MINUTES={options.minutes:g} SEED={options.seed} ENGINE={options.engine:d}",
    ]
    print("\n".join(lines))  # noqa: T201 - a program of its own


def _counted(things: Counter[str]) -> str:
    return ", ".join(f"{times} {what}" for what, times in things.most_common()) or "none"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=os.environ.get("MINUTES", "10"), metavar="N", help="MINUTES=N")
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(random.SystemRandom().randrange(10**6)))
    engine = "restart the engine, too: one of the run's own (ENGINE=1 or 0; default: where it can have one)"
    wanted = {"1": True, "0": False}.get(os.environ.get("ENGINE", ""), why_not() is None)
    parser.add_argument("--engine", action=argparse.BooleanOptionalAction, default=wanted, help=engine)
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a program of its own


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
