"""The ledger shared by processes: races, kills, readers beside writers, full and torn files."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger, LedgerMissing, LedgerUnusable, LostRace, NewUpdate, Origin
from supervisor.states import TRANSITIONS, Status
from tests.support.leftout import only_root

NOBODY = 65534


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that another user may enter, as pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process with its own ledger: it says when it is up, and goes on when told."""
    prelude = (
        "import sys\nfrom pathlib import Path\nfrom supervisor.contract import EventType\n"
        "from supervisor.ledger import *\nfrom supervisor.states import Status\n"
    )
    argv = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """All that it says from now on."""
    output, _ = process.communicate(timeout=30)
    return output.strip()


def up(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def submit(ledger: Ledger) -> str:
    return ledger.create(NewUpdate(origin=Origin.CLI, patch=b"x" * 5000)).tx_id


def assert_every_status_has_its_events(ledger: Ledger) -> int:
    """Follow each update's events from created to the status in its row; returns how many moves there were."""
    moves = 0
    for row in ledger.updates():
        status, events = Status.CREATED, ledger.events(parent_id=row.event_id)
        while events:
            step = status, Status(events[0].payload["status_to"])
            expected = list(TRANSITIONS[step])
            if step[1] is Status.ROLLED_BACK:
                expected.append(EventType.REVISION_PROMOTED)
            assert [event.event_type for event in events[: len(expected)]] == expected
            assert {event.payload["status_from"] for event in events[: len(expected)]} == {status}
            status, events, moves = step[1], events[len(expected) :], moves + 1
        assert status is row.status
    return moves


RACER = """
ledger = Ledger(Path(sys.argv[1]))
print("up", flush=True)
for line in sys.stdin:
    try:
        ledger.move(line.strip(), Status.CREATED, Status.BUILDING)
        print("won", flush=True)
    except LostRace as lost:
        print("lost to", lost.actual, flush=True)
"""


def test_of_many_processes_that_want_one_move_exactly_one_gets_it(directory: Path) -> None:
    """Three processes race for each of 25 updates: one wins, the others are told what happened."""
    with Ledger(directory / "supervisor.db") as ledger:
        ids = [submit(ledger) for _ in range(25)]
        racers = [up(racer) for racer in [start(RACER, ledger.path) for _ in range(3)]]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("".join(f"{tx_id}\n" for tx_id in ids))
            racer.stdin.flush()
        answers = [said(racer).splitlines() for racer in racers]
        assert [sorted(answer) for answer in zip(*answers, strict=True)] == [
            ["lost to building", "lost to building", "won"]
        ] * len(ids)
        assert assert_every_status_has_its_events(ledger) == len(ids)


def test_of_many_threads_that_want_one_move_exactly_one_gets_it(directory: Path) -> None:
    """One ledger shared by eight threads keeps the same promise, and no write of a thread is lost."""
    with Ledger(directory / "supervisor.db") as ledger:
        ids = [submit(ledger) for _ in range(10)]
        won: list[str] = []
        lost: list[str] = []
        barrier = threading.Barrier(8, timeout=20)

        def run() -> None:
            for tx_id in ids:
                barrier.wait()
                ledger.append(EventType.ROLLBACK_ATTEMPTED, {})
                try:
                    ledger.move(tx_id, Status.CREATED, Status.CANCELLED)
                    won.append(tx_id)
                except LostRace:
                    lost.append(tx_id)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == sorted(ids)
        assert sorted(lost) == sorted(ids * 7)
        assert len(ledger.events(EventType.ROLLBACK_ATTEMPTED)) == 80
        assert assert_every_status_has_its_events(ledger) == len(ids)


def test_processes_that_make_the_ledger_at_once_all_get_it(directory: Path) -> None:
    """Nobody fails because another one is making or migrating the file at the same moment."""
    code = (
        "print('up', flush=True); sys.stdin.readline()\nledger = Ledger(Path(sys.argv[1]))\n"
        "ledger.append(EventType.PROCESS_STARTED, {})\nprint('done')"
    )
    for attempt in range(4):
        path = directory / f"{attempt}.db"
        makers = [up(maker) for maker in [start(code, path) for _ in range(3)]]
        for maker in makers:
            assert maker.stdin is not None
            maker.stdin.write("go\n")
            maker.stdin.flush()
        assert [said(maker) for maker in makers] == ["done"] * 3
        with Ledger(path) as ledger:
            assert len(ledger.events(EventType.PROCESS_STARTED)) == 3


def test_a_file_that_another_process_is_making_is_waited_for(directory: Path) -> None:
    """Also at the one step for which SQLite itself would not wait: the change to a write-ahead log."""
    path = directory / "supervisor.db"
    maker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.3, maker.execute, ["COMMIT"])
    done.start()
    with Ledger(path) as ledger:
        ledger.append(EventType.PROCESS_STARTED, {})
    done.join()
    maker.close()


BUSY_WRITER = """
ledger = Ledger(Path(sys.argv[1]))
way = [Status.CREATED, Status.BUILDING, Status.TESTING, Status.SELF_CHECKING, Status.STAGED, Status.APPROVED,
       Status.DEPLOYING, Status.DEPLOYED_UNSTABLE, Status.ROLLBACK_PENDING, Status.ROLLED_BACK]
print("up", flush=True)
while True:
    tx_id = ledger.create(NewUpdate(origin=Origin.CLI, patch=b"x" * 5000)).tx_id
    for source, target in zip(way, way[1:]):
        restored = "0" * 40 if target is Status.ROLLED_BACK else None
        ledger.move(tx_id, source, target, restored=restored)
"""


def kill_in_the_middle(path: Path, seconds: float) -> None:
    writer = up(start(BUSY_WRITER, path))
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)


def test_a_killed_writer_leaves_no_status_without_its_events(directory: Path) -> None:
    """SIGKILL in the middle of many moves, again and again on one file: what is there is whole."""
    path = directory / "supervisor.db"
    seen = 0
    for seconds in (0.05, 0.11, 0.17, 0.23):
        kill_in_the_middle(path, seconds)
        with Ledger.read_only(path) as dead:
            moves = assert_every_status_has_its_events(dead)
        assert moves > seen
        seen = moves
    with Ledger(path) as ledger:
        assert assert_every_status_has_its_events(ledger) == seen
        ledger.move(submit(ledger), Status.CREATED, Status.CANCELLED)


@pytest.mark.fault(
    12,
    what="cut back to the last whole commit",
    user="nothing",
    within="at the start",
)
def test_a_torn_log_is_cut_back_to_the_last_whole_commit(directory: Path) -> None:
    """However the write-ahead log was torn, the ledger opens, is whole, and can be written."""
    path = directory / "supervisor.db"
    kill_in_the_middle(path, 0.15)
    log = Path(f"{path}-wal")
    whole = log.read_bytes()
    assert len(whole) > 100_000
    kept = []
    for attempt, keep in enumerate((0, 20, len(whole) // 3, len(whole) // 2 + 1234, len(whole) - 1)):
        torn = directory / f"torn{attempt}.db"
        shutil.copy(path, torn)
        Path(f"{torn}-wal").write_bytes(whole[:keep] + b"\xff" * min(keep, 777))
        with Ledger(torn) as ledger:
            kept.append(assert_every_status_has_its_events(ledger))
            ledger.move(submit(ledger), Status.CREATED, Status.CANCELLED)
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


READER = """
import os
if sys.argv[2] != "0":
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with Ledger.read_only(Path(sys.argv[1])) as ledger:
    print(len(ledger.events()), flush=True)
"""


@pytest.mark.parametrize("user", [os.getuid(), NOBODY])
def test_a_reader_leaves_nothing_behind(directory: Path, user: int) -> None:
    """Beside a living writer, after a killed one and after a closed one, as the same and as another user."""
    if user != os.getuid():
        only_root("be another user")
    path = directory / "supervisor.db"
    with Ledger(path) as ledger:
        ledger.append(EventType.PROCESS_STARTED, {})
        beside = names(directory)
        assert said(start(READER, path, user)) == "1"
        assert names(directory) == beside == ["supervisor.db", "supervisor.db-shm", "supervisor.db-wal"]
    assert names(directory) == ["supervisor.db"]
    assert said(start(READER, path, user)) == "1"
    assert names(directory) == ["supervisor.db"]

    code = "import os\nledger = Ledger(Path(sys.argv[1]))\nledger.append(EventType.PROCESS_STARTED, {})\nos._exit(0)"
    said(start(code, path))
    left = names(directory)
    assert said(start(READER, path, user)) == "2"
    assert names(directory) == left == beside


def test_a_reader_sees_what_is_written_after_it_opened(directory: Path) -> None:
    """Also when no writer lived when it was opened, and when the writer has gone again."""
    path = directory / "supervisor.db"
    Ledger(path).close()
    with Ledger.read_only(path) as ledger:
        assert ledger.events() == []
        with Ledger(path) as writer:
            writer.append(EventType.PROCESS_STARTED, {})
            assert len(ledger.events()) == 1
            writer.append(EventType.PROCESS_STARTED, {})
        assert len(ledger.events()) == 2
        assert names(directory) == ["supervisor.db"]


def test_a_reader_cannot_write(directory: Path) -> None:
    """A ledger opened for reading refuses every change with one line."""
    path = directory / "supervisor.db"
    Ledger(path).close()
    with Ledger.read_only(path) as ledger:
        for change in (lambda: ledger.append(EventType.PROCESS_STARTED, {}), lambda: ledger.set_fact("a", "b")):
            with pytest.raises(LedgerUnusable, match="readonly database"):
                change()
    with Ledger(path) as ledger:
        assert ledger.events() == []


def test_a_missing_ledger_is_told_and_not_made(directory: Path) -> None:
    """Reading makes no file."""
    path = directory / "supervisor.db"
    with pytest.raises(LedgerMissing, match=f"^cannot use the ledger {path}: there is no such file$"):
        Ledger.read_only(path)
    assert names(directory) == []


def test_files_that_cannot_be_a_ledger_are_told(directory: Path) -> None:
    """A directory, a text file, another database, a path that leads nowhere: one line each, untouched."""
    (directory / "folder").mkdir()
    (directory / "text").write_text("this is no database, but it is long enough to look like one " * 40)
    with sqlite3.connect(directory / "other") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    for name in ("folder", "text", "other", "nowhere/supervisor.db", "text/supervisor.db"):
        for opened in (Ledger, Ledger.read_only):
            with pytest.raises(LedgerUnusable) as told:
                opened(directory / name)
            assert str(told.value).startswith(f"cannot use the ledger {directory / name}: ")
            assert "\n" not in str(told.value)
    assert names(directory) == ["folder", "other", "text"]
    assert (directory / "text").read_text().startswith("this is no database")


@pytest.mark.fault(10)
def test_a_ledger_without_permission_is_told(directory: Path) -> None:
    """Another user who may not write, or not even look, gets one line."""
    only_root("be another user")
    path = directory / "supervisor.db"
    Ledger(path).close()
    code = READER.replace("Ledger.read_only(Path", "(Ledger(Path").replace(") as", ")) as")
    code = f"import os\ntry:\n{code}\nexcept LedgerError as error:\n    print(error)".replace(
        code, "\n".join(f"    {line}" for line in code.splitlines())
    )
    assert said(start(code, path, NOBODY)) == f"cannot use the ledger {path}: attempt to write a readonly database"
    directory.chmod(0o700)
    assert said(start(code, path, NOBODY)) == f"cannot use the ledger {path}: Permission denied"


FILLER = """
import resource
ledger = Ledger(Path(sys.argv[1]))
tx_id = ledger.create(NewUpdate(origin=Origin.CLI)).tx_id
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
reasons = set()
for attempt in range(3):
    try:
        while True:
            ledger.append(EventType.PROCESS_STARTED, {"x": "y" * 3000})
    except LedgerUnusable as full:
        reasons.add(full.reason)
    try:
        ledger.move(tx_id, Status.CREATED, Status.BUILDING, changes={"last_error": "z" * 9000})
    except LedgerUnusable as full:
        reasons.add(full.reason)
print(*reasons, sep=';')
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.append(EventType.PROCESS_STARTED, {"after": True})
print(ledger.find(tx_id).status)
"""


@pytest.mark.fault(
    9,
    what="the whole transaction is taken back, and told",
    user="`status` names the reason",
    within="at once",
)
def test_no_space_left_takes_the_whole_transaction_back(directory: Path) -> None:
    """A commit that finds no room is told; nothing of it is on file, and with room again the ledger goes on."""
    path = directory / "supervisor.db"
    reason, status = said(start(FILLER, path)).splitlines()
    assert set(reason.split(";")) <= {"disk I/O error", "database or disk is full"}
    assert status == "created"
    with Ledger(path) as ledger:
        assert assert_every_status_has_its_events(ledger) == 0
        assert ledger.events()[-1].payload == {"after": True}


@pytest.mark.fault(
    10,
    what="reading goes on; the write is told as failed",
    user="one line",
    within="the busy time-out",
)
def test_a_locked_ledger_is_told_after_a_while_and_can_be_read(directory: Path) -> None:
    """A writer that holds the lock too long costs the others one line, not their reading."""
    path = directory / "supervisor.db"
    with Ledger(path) as ledger:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        waiting: list[str] = []

        def write() -> None:
            with pytest.raises(LedgerUnusable) as told:
                ledger.append(EventType.PROCESS_STARTED, {})
            waiting.append(told.value.reason)

        thread = threading.Thread(target=write)
        thread.start()
        assert ledger.events() == []
        assert waiting == []
        thread.join()
        holder.close()
        assert waiting == ["database is locked"]
        ledger.append(EventType.PROCESS_STARTED, {})
