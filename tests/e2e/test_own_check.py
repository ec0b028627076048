"""AUTONOUS_UPDATE_SELF_CHECK_CMD: the owner's own check, in the candidate and after the exam."""

from pathlib import Path

from supervisor.gates.owncheck import NAME
from tests.support import candidates
from tests.support.installation import Install


def test_the_owners_own_check(install: Install, checkout: Path) -> None:
    """It sees the candidate's source, no key and no network; what it lets through has it on the card."""
    command = (
        'test -f worker/wanted.py && test -z "$OPENAI_API_KEY" && ! grep -q eth0 /proc/net/dev || (echo no; exit 7)'
    )
    here = install(AUTONOUS_UPDATE_SELF_CHECK_CMD=command, OPENAI_API_KEY="sk-canary-for-the-own-check")
    here.up()
    failed = here.submit(candidates.adds_a_module(checkout, "unwanted"))
    assert (failed["status"], failed["reason"]) == (
        "self_check_failed",
        f"the candidate failed {NAME}: exit code 7: no",
    )
    tx = here.stage(candidates.adds_a_module(checkout, "wanted"))
    assert NAME in here.show(tx)["card"]["exam"]
    assert here.containers("check") == []
