"""A disk is full, a real one that is small: the engine's, which is the test's own, or the home's."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.images.builds import Deps, base_tag
from supervisor.ledger import Ledger
from supervisor.pipeline.pipeline import RETRY_SECONDS
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for
from tests.support.leftout import leave_out
from tests.support.privateengine import PrivateEngine, why_not

DISK_MIB = 700
HOME_MIB = 64
#: Of a disk that is filled, in bytes: less than the setting by which it counts as full.
SPARED_AT_MOST = 500_000
#: The pipeline tries again every five.
RETRIED_SECONDS = 8


@pytest.fixture(scope="module")
def private(deps: Deps) -> Iterator[PrivateEngine]:
    """An engine on a small disk, which the tests of this file find in the environment."""
    if reason := why_not():
        leave_out(reason)
    engine = PrivateEngine([base_tag(), deps.tag], disk_mib=DISK_MIB)
    with engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.url)
        yield engine


@pytest.fixture(scope="module")
def installation(
    private: PrivateEngine, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Up on that engine, with a small disk of its own for its home; the bot is elsewhere, as Telegram is."""
    made = install()
    made.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={HOME_MIB}m", "tmpfs", str(made.home)], check=True)
    try:
        made.home.chmod(0o700)
        made.paths.localbot_db.symlink_to(tmp_path_factory.mktemp("bot") / "localbot.db")
        made.up()
        yield made
        made.remove()
    finally:
        subprocess.run(["umount", "--lazy", str(made.home)], check=True)


@pytest.mark.fault(
    8,
    what="the update waits, and goes on when there is room; nobody is blamed",
    user="`status` names the reason; the worker answers",
    within=f"{RETRY_SECONDS:g} s after there is room",
)
def test_no_space_left_in_a_build(installation: Installation, private: PrivateEngine, checkout: Path) -> None:
    """The update waits and says why, nobody is blamed, the worker answers; with room again it passes its gates."""
    private.fill_disk(leave_bytes=4096)
    try:
        patch = candidates.adds_a_module(checkout, "without_room")
        tx = installation.run("submit", "-", "--json", given=patch).expect(0).json["tx_id"]
        wait_for(
            lambda: "no space left" in installation.status_at_once().get("paused", ""), 30, "the reason why it waits"
        )
        assert installation.status_of(tx) in {"created", "building"}
        assert installation.say("do you still answer?")
    finally:
        private.clear_disk()
    wait_for(lambda: not installation.status_at_once().get("paused"), RETRY_SECONDS + 1, "the next attempt")
    wait_for(lambda: installation.status_of(tx) == "staged", 60, "the end of the gates")
    assert installation.show(tx)["blame"] is None


def fill(filler: Path) -> None:
    """Take the room of a home's disk, though others may write there meanwhile."""
    with filler.open("wb") as file:
        for spared in range(0, SPARED_AT_MOST, SPARED_AT_MOST // 8):
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - spared)
                return
    raise AssertionError("the disk cannot be filled")


@pytest.mark.fault(9)
def test_no_space_left_in_a_probation(installation: Installation, private: PrivateEngine) -> None:
    """Of the update from above, on both disks: its clock stands still; with room again it is promoted, unblamed."""
    tx = installation.updates()[-1]
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    filler = installation.home / "filler"
    fill(filler)
    private.fill_disk(leave_bytes=4096)
    try:
        wait_for(lambda: "the disk is full" in str(installation.status().get("trouble")), 10, "the reason")
        with installation.bot() as bot:
            sent = bot.send("in the probation")
            time.sleep(5)  # more than what is left of its window
            assert installation.status_of(tx) == "deployed_unstable"
            assert len(bot.messages(sent.message_id + 1)) == 0
            filler.unlink()
            wait_for(lambda: len(bot.messages(sent.message_id + 1)) == 1, 30, "the answer")
    finally:
        filler.unlink(missing_ok=True)
        private.clear_disk()
    wait_for(lambda: installation.status_of(tx) in ("promoted", "rolled_back"), 30, "the end of the probation")
    with Ledger.read_only(installation.paths.ledger) as ledger:
        update = ledger.find(tx)
        assert (update.status, update.blame) == ("promoted", None), update.last_error
        assert ledger.failed_before(update.patch_id or "") is None


@pytest.mark.fault(9)
def test_no_space_left_in_the_home(installation: Installation) -> None:
    """`status` says so, a submission is told as failed, nobody dies of it; then what was written is answered, once."""
    supervisor, active = installation.supervisor_pid(), installation.settled()["active"]
    filler = installation.home / "filler"
    with installation.bot() as bot:
        fill(filler)
        try:
            sent = bot.send("one")
            bot.send("two")
            wait_for(lambda: "the disk is full" in str(installation.status().get("trouble")), 10, "the reason")
            told = installation.run("submit", "-", given=b"a patch").refusal()
            assert "full" in told
            time.sleep(3)
            assert len(bot.messages(sent.message_id + 1)) == 0
        finally:
            filler.unlink()
        wait_for(lambda: len(bot.messages(sent.message_id + 1)) == 2, 30, "both answers")
        assert installation.say("three")
        assert len(bot.messages(sent.message_id + 1)) == 3
    status = installation.settled()
    assert (installation.supervisor_pid(), status["active"]["container"]) == (supervisor, active["container"])
    wait_for(lambda: "trouble" not in installation.status(), RETRIED_SECONDS, "the next try")
