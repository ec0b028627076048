"""Candidates that mean harm to who judges them: each is judged in time, and the supervisor and its host stay well."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from supervisor.gates.exam import BEHAVES
from tests.support import candidates
from tests.support.checkouts import patch_of
from tests.support.exhaustive import but_for
from tests.support.installation import Install, Installation, wait_for
from worker.models.dummy import OFFLINE_REPLY

MIB = 1024 * 1024
CANARY = "sk-canary/5d1b+hostile=e8b2/do-not-leak"
TEST = "tests/worker/test_aaa_hostile.py"
IN_THE_EXAM = 'import os, sys\nif os.environ.get("AUTONOUS_WORKER_INSTANCE") == "0":\n'
AS_BEFORE = "from worker.app import main\nsys.exit(main())\n"
BEHAVES_ITSELF = f"{IN_THE_EXAM}    pass\n{AS_BEFORE}"


def hostile_in_the_exam(checkout: Path, source: str, then: str = AS_BEFORE) -> bytes:
    """Does this before it starts as ever, in an exam and nowhere else."""
    indented = "".join(f"    {line}\n" for line in source.strip().splitlines())
    return patch_of(checkout, {candidates.MAIN: f"{IN_THE_EXAM}{indented}{then}"})


def hostile_test(checkout: Path, source: str) -> bytes:
    """A test module that runs before all others."""
    return patch_of(checkout, {TEST: source})


@dataclass
class Watch:
    """Looks at a supervisor all the time, and at the processes and files that it has."""

    installation: Installation
    files: list[int] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    disk: list[int] = field(default_factory=list)
    children: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._pid = self.installation.supervisor_pid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Look no further."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        proc = Path(f"/proc/{self._pid}")
        while not self._stop.wait(0.05):
            self.files.append(len(list((proc / "fd").iterdir())))
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
            self.rss.append(int(status["VmRSS"].split()[0]) * 1024)
            self.disk.append(_size(self.installation.paths.run))
            for task in (proc / "task").iterdir():
                with contextlib.suppress(OSError):
                    for child in map(int, (task / "children").read_text().split()):
                        self._look_at(child)

    def _look_at(self, child: int) -> None:
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"examroom" in command:
            self.children[child] = (command, Path(f"/proc/{child}/environ").read_bytes())

    def assert_well(self) -> None:
        """As many open files and as much memory as ever."""
        assert max(self.files) < 150
        assert max(self.rss) - self.rss[0] < 40 * MIB


def _size(directory: Path) -> int:
    total, todo = 0, [str(directory)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as listing:
            for entry in listing:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
    return total


def left_of_gates(installation: Installation) -> list[object]:
    """Containers and files of tests and exams."""
    files = [path for gate in ("test", "exam") for path in (installation.paths.run / gate).glob("*")]
    return [*files, *installation.containers("test"), *installation.containers("exam")]


def assert_all_is_well(installation: Installation) -> None:
    """Nothing of a gate is left, little was logged, and the worker answers as before."""
    wait_for(lambda: not left_of_gates(installation), 10, "the end of the gates' containers and files")
    assert (installation.paths.logs / "supervisor.log").stat().st_size < MIB
    assert installation.status()["pending"] == []
    assert installation.say("still there?") == OFFLINE_REPLY


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, with a key that nobody may see."""
    made = install(OPENAI_API_KEY=CANARY, AUTONOUS_MODEL_PROVIDER="dummy")
    made.up()
    return made


@pytest.fixture
def watch(installation: Installation) -> Iterator[Watch]:
    """Watches during a test; afterwards all must be well."""
    with Watch(installation) as watching:
        yield watching
    assert_all_is_well(installation)


# -- in the exam

FLOODS = """
import socket
def flood(name):
    held = []
    for _ in range(1000):
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect("/run/autonous/" + name)
            one.send(b"GET / HTTP/1.1")
        except OSError:
            pass
        held.append(one)
    return held
held = [flood(name) for name in ("supervisor.sock", "localbot.sock", "model.sock")]
del held
"""
POSTS = """
import http.client, json, socket
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)
body = json.dumps({"messages": [{"role": "user", "content": "[]," * 3_000_000}]})
token = os.environ["TELEGRAM_BOT_TOKEN"]
paths = {"model": "/v1/chat/completions", "localbot": f"/bot{token}/sendMessage", "supervisor": "/v1/beat"}
for _ in range(10):
    for name, path in paths.items():
        try:
            Connection(f"/run/autonous/{name}.sock").request("POST", path, body, {"content-type": "application/json"})
        except OSError:
            pass
"""
ATTACKS = {"3,000 connections": FLOODS, "9 MB requests": POSTS}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_the_exams_servers(installation: Installation, checkout: Path, watch: Watch, attack: str) -> None:
    """It hits a process of the exam's own, with limits and without secrets; the supervisor does not notice."""
    answer = installation.submit(hostile_in_the_exam(checkout, ATTACKS[attack]))
    assert answer["status"] == "staged", answer
    watch.assert_well()
    assert len(watch.children) == 2
    for command, environ in watch.children.values():
        assert CANARY.encode() not in command + environ
        assert b"AUTONOUS" not in environ
    installation.run("cancel", answer["tx_id"]).expect(0)


WRITES = """
for number in range(20):
    with open(f"{DIRECTORY}/{number}", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
"""
DIGS = """
os.chdir("/state")
for _ in range(3000):
    os.mkdir("a")
    os.chdir("a")
"""
HIDES = """
held = []
for number in range(3):
    held.append(open(f"/state/{number}", "wb"))
    os.unlink(f"/state/{number}")
    for _ in range(700):
        held[-1].write(bytes(1 << 20))
"""
WAITS = "import time\ntime.sleep(3600)\n"


FILLS = {
    "state": (WRITES.replace("{DIRECTORY}", "/state"), "it wrote too much into its state: more than 64 MiB"),
    "toolbox": (
        WRITES.replace("{DIRECTORY}", "/run/toolbox"),
        "it wrote too much into the directories that it shares",
    ),
    "depth": (DIGS, "it wrote too much into its state: directories that cannot be looked into"),
}


@pytest.mark.parametrize("where", but_for(["state"], FILLS))
def test_a_candidate_that_fills_the_disk(installation: Installation, checkout: Path, watch: Watch, where: str) -> None:
    """It is ended while it writes, blamed for it, and what it wrote is removed."""
    attack, reason = FILLS[where]
    answer = installation.submit(hostile_in_the_exam(checkout, attack, then=WAITS))
    assert answer["status"] == "self_check_failed", answer
    assert f"the candidate failed the part {BEHAVES!r}: {reason}" in answer["reason"]
    assert "while 'comes up' was asked" in answer["reason"]
    assert installation.show(answer["tx_id"])["blame"] == "own"
    assert max(watch.disk) < 1024 * MIB
    watch.assert_well()


@pytest.mark.exhaustive  # so much of the disk is a trial for others' exams, too
def test_a_candidate_that_hides_what_it_writes(installation: Installation, checkout: Path, watch: Watch) -> None:
    """In files that it has removed. The disk may be somebody else's doing, so it is blamed when that happens twice."""
    answer = installation.submit(hostile_in_the_exam(checkout, HIDES, then=WAITS))
    assert answer["status"] == "self_check_failed", answer
    assert answer["reason"] == "it wrote too much, into files that it had removed"
    assert installation.show(answer["tx_id"])["blame"] == "own"
    assert max(watch.disk) < 1024 * MIB
    watch.assert_well()


def test_an_exam_whose_supervisor_is_killed(installation: Installation, checkout: Path) -> None:
    """Its process ends by itself and takes the container with it; the exam is held anew by the next supervisor."""
    with Watch(installation) as watch:
        tx = installation.run("submit", "-", "--json", given=hostile_in_the_exam(checkout, "pass", WAITS)).json["tx_id"]
        wait_for(lambda: installation.containers("exam"), 30, "the exam")
        (exam,) = installation.containers("exam")
        (process,) = watch.children
        watch.stop()
        installation.kill_supervisor()
    wait_for(lambda: not Path(f"/proc/{process}").exists(), 10, "the end of the exam's process")
    assert exam["Id"] not in {found["Id"] for found in installation.containers("exam")}
    installation.up()
    wait_for(lambda: installation.containers("exam"), 30, "another exam")
    installation.run("cancel", tx).expect(0)
    wait_for(lambda: not installation.containers("exam"), 10, "the end of the exam")
    assert_all_is_well(installation)


# -- in its tests


def judged(installation: Installation, patch: bytes) -> dict[str, Any]:
    """How the tests of a candidate ended."""
    answer = installation.submit(patch)
    assert answer["status"] == "test_failed", answer
    shown = installation.show(answer["tx_id"])
    text = shown["last_error"]
    assert len(text) < 40_000
    assert all(character.isprintable() or character in "\n\t" for character in text)
    return shown


def test_tests_that_fill_the_disk(installation: Installation, checkout: Path, watch: Watch) -> None:
    """All that they can write of the host's is one file, and that has a size."""
    source = """
def test_fill():
    with open("/report", "wb") as file:
        while True:
            file.write(bytes(1 << 20))
"""
    assert "the report cannot be read" in judged(installation, hostile_test(checkout, source))["last_error"]
    source = 'import pathlib\n\ndef test_more():\n    pathlib.Path("/report/more").write_text("x")\n'
    assert "Not a directory" in judged(installation, hostile_test(checkout, source))["last_error"]
    assert max(watch.disk) < 80 * MIB


HARMFUL_LINES = {
    "deep": "'[' * 200_000",
    "long": '\'{"id": "\' + \'x\' * 8_000_000 + \'", "outcome": "failed"}\'',
    "escapes": '\'{"id": "\\\\u001b[2J\\\\ud800"}\'',
}


@pytest.mark.parametrize("kind", but_for(["deep"], HARMFUL_LINES))
def test_a_report_that_harms_its_reader(installation: Installation, checkout: Path, watch: Watch, kind: str) -> None:
    """It is no report, and the tests failed by that."""
    line = HARMFUL_LINES[kind]
    source = (
        f'import os\n\ndef test_report():\n    with open("/report", "a") as file:\n        file.write({line} + "\\n")\n'
    )
    assert "the report cannot be read" in judged(installation, hostile_test(checkout, source))["last_error"]
    watch.assert_well()


@pytest.mark.exhaustive
def test_forged_names_and_texts(installation: Installation, checkout: Path, watch: Watch) -> None:
    """What is kept of them is short and does nothing to a terminal."""
    source = """
import json

def test_forge():
    with open("/report", "a") as file:
        for number in range(3000):
            name = f"tests/worker/test_x.py::test_{number}\\n\\x1b[2J APPROVED " + "x" * 400
            file.write(json.dumps({"id": name, "outcome": "failed", "text": "\\x1b[31m" + "y" * 4000}) + "\\n")
"""
    summary = judged(installation, hostile_test(checkout, source))["test_summary"]
    assert summary["failed"] == 3000
    assert len(summary["failing"]) == 200
    assert all(name.isprintable() and len(name) <= 300 for name in summary["failing"])
    watch.assert_well()


def test_tests_that_are_skipped_by_another_test(installation: Installation, checkout: Path, watch: Watch) -> None:
    """The tests of base did not run, so they have not been passed."""
    source = """
import pytest

def test_first(request):
    for item in request.session.items:
        item.add_marker(pytest.mark.skip(reason="not today"))
"""
    shown = judged(installation, hostile_test(checkout, source))
    assert "tests that base passes were skipped: tests/worker/test_models_dummy.py::" in shown["last_error"]
    assert candidates.CHANGED_TEST in shown["test_summary"]["new_skips"]


@pytest.mark.exhaustive
def test_a_fork_bomb(install: Install, checkout: Path) -> None:
    """It ends with the time that the tests have; what it made goes with its container."""
    installation = install(AUTONOUS_UPDATE_PIPELINE_TIMEOUT_SECONDS="15")
    installation.up()
    source = """
import os

def test_bomb():
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
    started = time.monotonic()
    with Watch(installation) as watch:
        assert "the tests did not end within" in judged(installation, hostile_test(checkout, source))["last_error"]
    assert time.monotonic() - started < 60
    watch.assert_well()
    assert_all_is_well(installation)


@pytest.mark.exhaustive
def test_processes_that_stay_behind(installation: Installation, checkout: Path, watch: Watch) -> None:
    """They end with the tests, which nobody waits for."""
    source = """
import subprocess, sys

def test_leave():
    for _ in range(20):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(4711)"], start_new_session=True)
"""
    answer = installation.submit(hostile_test(checkout, source))
    assert answer["status"] == "staged", answer
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _says(p, b"sleep(4711)")]
    installation.run("cancel", answer["tx_id"]).expect(0)


def _says(file: Path, words: bytes) -> bool:
    try:
        return words in file.read_bytes()
    except OSError:
        return False
