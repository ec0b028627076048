"""``python -m tests.demo``: a conversation in which the agent changes itself, fails, and is taken back.

In a home and a project of its own, which are gone afterwards. Exit code 0 when all went as it is told, 1 when not, 3
without an engine.
"""

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from supervisor.engine import Engine
from supervisor.hostengine import EngineMissing, ensure_engine
from supervisor.images.builds import ImagesUnavailable, ensure_deps
from tests.demo import part
from tests.demo.stage import PATIENCE_SECONDS, Stage
from tests.support.checkouts import CHECKOUT
from tests.support.installation import Installation, wait_for
from tests.support.played import PlayedModel
from tests.support.projects import new_project

_SETTINGS: Final = {
    "OPENAI_API_KEY": "sk-no-account-needed",
    "OPENAI_MODEL": "played",
    "AUTONOUS_OPENAI_UDS": "/run/autonous/played.sock",
    "AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS": "10",
}


def main() -> int:
    """Play it; the exit code."""
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        ensure_engine(console.print, interactive=False)
        ensure_deps(Engine(), console.print)
    except (EngineMissing, ImagesUnavailable) as error:
        console.print(f"error: {error}")
        return 3
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as directory:
        installation = Installation(Path(directory) / "home", CHECKOUT, dict(_SETTINGS), project=new_project("demo"))
        try:
            _perform(installation, console)
        except (AssertionError, TimeoutError) as error:
            console.print(f"error: it did not go as told: {error}\n{installation.log_tail()}")
            return 1
        finally:
            installation.remove()
    console.print(f"\nEverything is gone again; it took {time.monotonic() - begun:.0f} s.")
    return 0


def _perform(installation: Installation, console: Console) -> None:
    installation.paths.create(worker_uid=10001)
    with PlayedModel(part.PARTS).serve(installation.paths.contract_directory / "played.sock"):
        installation.up()
        with installation.bot() as client:
            stage = Stage(installation, console, client)
            stage.scene("A new home, and its first worker")
            stage.run("status")
            with stage.listening():
                first = _it_learns(stage)
                _it_falls_back(stage)
                _it_is_taken_back(stage, first)
            stage.scene("What there was: every revision with its image")
            stage.run("history")


def _it_learns(stage: Stage) -> str:
    """A change from the wish to the use of it; its tx."""
    stage.scene("It changes itself")
    stage.say(part.ROLL)
    stage.tree(_reached(stage, "/dice rolls a die", "staged"))
    stage.press("Approve", "/dice rolls a die")
    tx = _reached(stage, "/dice rolls a die", "promoted")
    stage.say("/dice")
    stage.hear("You rolled a ")
    stage.tree(tx)
    return tx


def _it_falls_back(stage: Stage) -> None:
    """A change that passes every gate and fails in service."""
    stage.scene("It makes a mistake that no test finds")
    stage.say(part.ROLL_MANY)
    _reached(stage, "/dice takes a number", "staged")
    stage.press("Approve", "/dice takes a number")
    tx = _reached(stage, "/dice takes a number", "deployed_unstable")
    stage.remark("It is on probation. So many dice keep it busy for hours: its loop stands still, its beats stop.")
    begun = time.monotonic()
    stage.say(part.TOO_MANY)
    stage.hear("You rolled a ")
    stage.remark(
        f"After {time.monotonic() - begun:.1f} s the worker before it has answered the same message: nothing was lost."
    )
    assert _reached(stage, "/dice takes a number", "rolled_back") == tx
    stage.tree(tx)


def _it_is_taken_back(stage: Stage, tx: str) -> None:
    """A rollback by hand, without a model."""
    stage.scene("You take it back")
    stage.say(f"rollback {tx[:8]}")
    stage.press("Go back", tx[:8])
    _reached(stage, "/dice rolls a die", "rolled_back")
    stage.say("/dice")
    stage.hear("answer to: /dice")
    stage.remark("The command is gone, so the model is asked again.")
    stage.tree(tx)
    stage.run("status")


def _reached(stage: Stage, title: str, status: str) -> str:
    """Wait until the update of that title is so far, and show the status then; its tx."""

    def look() -> str | None:
        entry = next((entry for entry in stage.installation.history() if entry["title"] == title), None)
        return str(entry["tx_id"]) if entry and entry["status"] == status else None

    tx = str(wait_for(look, PATIENCE_SECONDS, f"{title!r} is {status}"))
    stage.glance(title)
    return tx


sys.exit(main())
