"""The disk under a database is full: a real one, which is small and lies in memory. Only root can mount one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger, LedgerUnusable, NewUpdate, Origin
from supervisor.states import Status
from tests.support.faults import ROOT
from tests.support.leftout import only_root
from tests.worker.support import asynchronous, until, world

DISK_KIB = 4096


class Disk:
    """A directory on a filesystem of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._filler = directory / "filler"

    def fill(self) -> None:
        """Leave not a byte."""
        with self._filler.open("wb") as file:
            while free := shutil.disk_usage(self.directory).free:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)

    def clear(self) -> None:
        """Have room again."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    only_root("mount a disk of its own")
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(directory)], check=True)
    try:
        yield Disk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.fault(9)
def test_no_space_left_for_the_ledger(disk: Disk) -> None:
    """The commit is told as failed and taken back, with its event; it is read all the while, and goes on with room."""
    path = disk.directory / "supervisor.db"
    with Ledger(path) as ledger:
        tx = ledger.create(NewUpdate(origin=Origin.CLI)).tx_id
        ledger.move(tx, Status.CREATED, Status.BUILDING)
        before = ledger.events()
        disk.fill()
        with pytest.raises(LedgerUnusable, match="full"):
            ledger.move(tx, Status.BUILDING, Status.TESTING, changes={"last_error": "x" * 100_000})
        assert ledger.find(tx).status is Status.BUILDING
        assert ledger.events() == before
        with Ledger.read_only(path) as reader:
            assert reader.find(tx).status is Status.BUILDING
        disk.clear()
        ledger.move(tx, Status.BUILDING, Status.TESTING)
        added = [event.event_type for event in ledger.events()[len(before) :]]
        assert added == [EventType.UPDATE_BUILD_COMPLETED, EventType.UPDATE_TEST_STARTED]


TALKATIVE = """
import sys, structlog
from pathlib import Path
from supervisor import logs
logs.to_file([], Path(sys.argv[1])) if len(sys.argv) > 1 else logs.to_standard_error([])
for number in range(3000):
    structlog.get_logger().warning("no space left", number=number)
print("still here")
"""


@pytest.mark.fault(9)
@pytest.mark.parametrize("named", [True, False], ids=["its file", "standard error"])
def test_no_space_left_for_the_log(disk: Disk, named: bool) -> None:
    """What cannot be written is lost, and ends nobody who wanted to tell it."""
    log = disk.directory / "supervisor.log"
    with log.open("a") as file:
        disk.fill()
        told = subprocess.run(
            [sys.executable, "-c", TALKATIVE, *([str(log)] if named else [])],
            stdout=subprocess.PIPE,
            stderr=None if named else file,
            cwd=ROOT,
            check=False,
        )
    assert told.stdout == b"still here\n"


@pytest.mark.fault(9)
@asynchronous
async def test_no_space_left_for_the_workers_database(disk: Disk) -> None:
    """What comes meanwhile is not confirmed to the Bot API; with room again each message is answered once, in order."""
    async with world() as here:
        here.database = disk.directory / "agent.db"
        async with here.active_worker() as worker:
            await here.telegram.say("before")
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
            disk.fill()
            await here.telegram.say("one " + "x" * 4000)
            await here.telegram.say("two " + "x" * 4000)
            polls = len(here.telegram.polls)
            await until(lambda: len(here.telegram.polls) > polls + 3)
            assert not worker.done()
            disk.clear()
            await until(lambda: len(here.telegram.texts()) == 3)
            await until(lambda: {status for (status,) in here.rows("SELECT status FROM inbox")} == {"done"})
        assert here.telegram.texts() == ["dummy-ok"] * 3
        texts = [text.split()[0] for (text,) in here.rows("SELECT text FROM inbox ORDER BY id")]
        assert texts == ["before", "one", "two"]
