"""What programs read: each command prints what its shape says, in each of its states."""

from pathlib import Path

import pytest

from supervisor.cli.shapes import SHAPES
from supervisor.costs import GROUPS
from tests.support import candidates
from tests.support.installation import Install, Installation


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """With an active update, one that was refused, and one that failed."""
    made = install()
    made.up()
    made.promote(candidates.adds_a_module(checkout, "shapes"))
    made.run("submit", "-", "--json", given=b"no patch")
    made.run("submit", "-", "--wait", "--json", given=candidates.crashes_at_start(checkout))
    return made


def fits(installation: Installation, command: str, *words: str, given: bytes = b"") -> None:
    """Runs a command with --json; whatever its exit code, what it prints is of its shape."""
    printed = installation.run(*words, "--json", given=given).out
    SHAPES[command].validate_json(printed, strict=False)


def test_looking(installation: Installation, tmp_path: Path) -> None:
    """With a supervisor that runs, and without one."""
    for command in ("status", "history", "events", "images", "doctor"):
        fits(installation, command, command)
    for entry in installation.history():
        fits(installation, "show TX", "show", entry["tx_id"])
    tx = installation.status()["active"]["tx_id"]
    fits(installation, "diff TX", "diff", tx)
    assert installation.run("diff", tx, "--json").json["patch"] == installation.run("diff", tx).out
    fits(installation, "source DIR", "source", str(tmp_path / "source"))
    assert (tmp_path / "source" / "worker" / "shapes.py").exists()
    for words in (("logs",), ("logs", tx)):
        fits(installation, "logs, logs TX", *words)
    for group in GROUPS:
        fits(installation, "cost", "cost", "--by", group)
    fits(installation, "upgrade", "upgrade")
    installation.kill_supervisor()
    for command in ("status", "history", "events", "images", "doctor"):
        fits(installation, command, command)
    installation.up()


def test_deciding(installation: Installation, checkout: Path) -> None:
    """What was handed in, and what was decided about it, once and twice."""
    decide = "approve TX, cancel TX, rollback TX"
    fits(installation, "submit FILE", "submit", "-", given=b"no patch")
    tx = installation.stage(candidates.adds_a_module(checkout, "decided"))
    fits(installation, "status", "status")
    fits(installation, decide, "approve", tx, "--wait")
    fits(installation, decide, "approve", tx)
    fits(installation, decide, "rollback", tx, "--wait")
    fits(installation, decide, "rollback", tx)


def test_an_answer_has_its_cost(installation: Installation) -> None:
    """However it is added up; the stand-in counts a token each way, and costs nothing."""
    before = {group: spent(installation, group) for group in GROUPS}
    installation.say("hello")
    after = {group: spent(installation, group) for group in GROUPS}
    for group in GROUPS:
        (key,) = (key for key, tokens in after[group].items() if tokens != before[group].get(key))
        tokens_in, tokens_out = before[group].get(key, (0, 0))
        assert after[group][key] == (tokens_in + 1, tokens_out + 1)
        if group == "revision":
            assert key == installation.active_sha()
        if group == "run":
            assert key not in before[group], "each message is a run of its own"


def spent(installation: Installation, group: str) -> dict[str, tuple[int, int]]:
    """Tokens in and out of each day, run, chat or revision, none without any."""
    found = installation.run("cost", "--by", group, "--json").expect(0).json
    assert all(sums["calls"] > 0 and sums["input_tokens"] > 0 and sums["output_tokens"] > 0 for sums in found)
    assert all((sums["cost_usd"], sums["unpriced"]) == (0, 0) for sums in found)
    return {sums[group]: (sums["input_tokens"], sums["output_tokens"]) for sums in found}


def test_talking_and_tidying(installation: Installation) -> None:
    """What was answered, and what would be removed."""
    fits(installation, "say TEXT", "say", "hello")
    fits(installation, "gc", "gc", "--dry-run")
