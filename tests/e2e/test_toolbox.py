"""Tools where they really run: what they reach, what they can do to themselves, and that the worker never minds."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from tests.support import candidates
from tests.support.exhaustive import but_for
from tests.support.installation import Install, wait_for
from tests.support.played import Call
from tests.support.toolwork import Toolwork, toolwork

CANARY = "sk-canary-7f3a9c41e8b2-do-not-leak"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def work(install: Install) -> Iterator[Toolwork]:
    """Up, with a key that must not be seen."""
    with toolwork(install, CANARY, AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS="6") as here:
        yield here


def test_two_rounds(work: Toolwork) -> None:
    """Without bash it explores, writes, edits and reads back; with bash it builds, fails once, repairs, finishes."""
    path = "round/greet.py"
    explored = work.do(
        Call("ls", {"path": "."}),
        Call("write", {"path": path, "content": "def greet():\n    return 'helo'\n"}),
        Call("find", {"path": ".", "name_pattern": "greet*"}),
        Call("grep", {"path": ".", "pattern": "helo"}),
        Call("edit", {"path": path, "old_text": "helo", "new_text": "hello"}),
        Call("read", {"path": path}),
    )
    assert [result["ok"] for result in explored] == [True] * 6
    assert "greet.py" in explored[2]["stdout"]
    assert "return 'helo'" in explored[3]["stdout"]
    assert "return 'hello'" in explored[5]["stdout"]
    file = work.installation.paths.workspace / path
    assert file.read_text() == "def greet():\n    return 'hello'\n"

    test = "import greet\nassert greet.greet() == 'hello, world', greet.greet()\nopen('built', 'w').write('yes')\n"
    built = work.do(
        Call("write", {"path": "round/check.py", "content": test}),
        Call("bash", {"command": "python check.py", "cwd": "round"}),
        Call("edit", {"path": path, "old_text": "'hello'", "new_text": "'hello, world'"}),
        Call("bash", {"command": "python check.py && cat built", "cwd": "round"}),
    )
    assert [result["ok"] for result in built] == [True, False, True, True]
    assert "AssertionError: hello" in built[1]["stdout"] + built[1]["stderr"]
    assert "yes" in built[3]["stdout"]
    assert (file.parent / "built").read_text() == "yes"
    names = [event["tool_name"] for event in work.events("tool_call.started")][-10:]
    assert names == ["ls", "write", "find", "grep", "edit", "read", "write", "bash", "edit", "bash"]
    failed = work.events("tool_call.failed")[-1]
    assert (failed["tool_name"], failed["exit_code"]) == ("bash", 1)
    assert {event["by"] for event in work.events("tool_call.allowed")} == {"policy"}


@pytest.mark.parametrize(
    "command",
    [
        "env",
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n'",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
        "cat ~/.bash_history /root/.bash_history; history",
        "grep -rlsI do-not-leak / --exclude-dir=proc --exclude-dir=sys",
    ],
)
def test_there_is_no_secret_to_find(work: Toolwork, command: str) -> None:
    """Neither the model's key nor the bot's token: not in the environment, of no process, in no file."""
    token = (work.installation.paths.home / "localbot.token").read_text().strip()
    result = work.bash(f"{command}; true", timeout_seconds=60)
    assert result["ok"], result
    assert CANARY not in result["stdout"] + result["stderr"]
    assert token not in result["stdout"] + result["stderr"]
    assert "do-not-leak" not in result["stdout"].replace(command, "")


def test_there_is_nothing_of_the_supervisor_or_the_worker(work: Toolwork) -> None:
    """No socket but the toolbox's own, no state, no other process, no network but loopback."""
    result = work.bash(
        "find / -xdev -type s 2>/dev/null; find /run /workspace -type s;"
        "ls -d /state /run/autonous /config /var/run/docker.sock;"
        "touch /state/x; ls /sys/class/net; cat /proc/[0-9]*/cmdline | tr '\\0' ' ';"
        "python -c \"import socket; socket.create_connection(('192.0.2.1', 80), 3)\""
    )
    output = result["stdout"] + result["stderr"]
    sockets = {line for line in output.splitlines() if line.endswith(".sock")}
    assert sockets == {"/run/toolbox/toolbox.sock"}
    assert output.count("No such file or directory") >= 5
    assert "Network is unreachable" in output
    assert "-m worker " not in output
    listening = (
        "import socket as s; a=s.create_server(('127.0.0.1',0)); s.create_connection(a.getsockname()); print('joined')"
    )
    assert "joined" in work.bash(f'python -c "{listening}"')["stdout"]


#: Takes all memory in files that count for no process, so that the kernel takes the largest one: the runner itself.
SUFFOCATE = (
    "echo 1000 >/proc/1/oom_score_adj; python -c "
    "'import os; [os.write(file, bytes(2**20)) for file in map(os.memfd_create, \"ab\") for _ in range(900)]'"
)

ABUSES = {
    "kill everything": "kill -9 -1; sleep 5",
    "fork bomb": "bomb() { bomb | bomb & }; bomb; sleep 20",
    "fork bomb and away": ":(){ :|:& };:",
    "sleepers": "for i in $(seq 2000); do sleep 600 & done; wait",
    "memory": 'python -c "x = bytearray(2 * 1024**3); print(len(x))"',
    "memory in tmp": "head -c 2G /dev/zero >/tmp/full && echo it fitted",
    "one large file": "head -c 3G /dev/zero >/workspace/large && echo it fitted",
    "endless output": "yes",
    "stop the runner": "kill -STOP 1; kill -STOP -1; sleep 600",
}


@pytest.mark.parametrize("abuse", but_for(("kill everything", "fork bomb", "memory", "stop the runner"), ABUSES))
def test_what_a_command_does_to_its_toolbox_stays_there(work: Toolwork, abuse: str) -> None:
    """The call comes back as a result, the worker answers at once, and the next call works."""
    result = work.bash(ABUSES[abuse], timeout_seconds=6)
    assert "it fitted" not in result["stdout"]
    if abuse != "fork bomb and away":  # its command itself is a success
        assert not result["ok"], result
        assert result["stderr"] or result["stdout"] or {"killed", "stopped"} & result["meta"].keys(), result
    assert work.answers_within() < 2
    fine = work.bash("echo fine; rm -f /workspace/large /tmp/full")
    assert (fine["ok"], fine["stdout"].strip()) == (True, "fine"), fine
    assert len(result["stdout"].encode()) <= 60_000


@pytest.mark.exhaustive
def test_a_toolbox_out_of_memory_in_a_probation_bans_nothing(work: Toolwork, checkout: Path) -> None:
    """Its own end, not that of a command alone, does not count against the update, which is promoted."""
    installation = work.installation
    tx = installation.stage(candidates.adds_a_module(checkout, "frugal"))
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    green = installation.status_at_once()["active"]
    last, fine = work.do(Call("bash", {"command": SUFFOCATE}), Call("bash", {"command": "echo fine"}))
    assert (last["ok"], last["meta"]["code"]) == (False, "toolbox_ended")
    assert (fine["ok"], fine["stdout"].strip()) == (True, "fine")
    with Ledger.read_only(installation.paths.ledger) as ledger:
        ended = ledger.events(EventType.TOOLBOX_RESTARTED)[-1]
    assert (ended.payload["worker_id"], ended.payload["reason"]) == (green["container"], "out of memory")
    wait_for(lambda: installation.status_of(tx) in ("promoted", "rolled_back"), 30, "the end of the probation")
    with Ledger.read_only(installation.paths.ledger) as ledger:
        update = ledger.find(tx)
        assert (update.status, update.blame) == ("promoted", None), update.last_error
        assert ended.timestamp < (update.promoted_at or 0)
        assert ledger.failed_before(update.patch_id or "") is None
    after = installation.settled()["active"]
    assert (after["container"], after["tx_id"]) == (green["container"], tx)


def test_a_toolbox_that_ends_in_mid_call_is_a_result(work: Toolwork) -> None:
    """Another one is there within about a second, and the ledger says why."""
    before = work.toolbox()
    job = work.begin(Call("bash", {"command": "sleep 60", "timeout_seconds": 90}), Call("bash", {"command": "echo on"}))
    wait_for(lambda: work.events("tool_call.started")[-1]["arguments"].get("command") == "sleep 60", 20, "the call")
    time.sleep(0.5)
    begun = time.monotonic()
    work.installation.docker.kill(before["Id"])
    wait_for(lambda: work.toolbox()["Id"] != before["Id"], 10, "the next toolbox")
    took = time.monotonic() - begun
    ended, fine = work.results(job)
    assert (ended["ok"], ended["meta"]["code"]) == (False, "toolbox_ended")
    assert "the toolbox ended" in ended["stderr"]
    assert (fine["ok"], fine["stdout"].strip()) == (True, "on")
    assert took < 4
    assert work.ledger_events("toolbox.restarted")[-1]["exit_code"] == 137


@pytest.mark.exhaustive
def test_a_toolbox_that_does_not_answer_is_made_anew(work: Toolwork) -> None:
    """The worker notices, and the supervisor replaces it."""
    before = work.toolbox()
    work.installation.docker.pause(before["Id"])
    silent, fine = work.do(Call("bash", {"command": "echo one"}), Call("bash", {"command": "echo two"}), seconds=120)
    assert (silent["ok"], silent["meta"]["code"]) == (False, "toolbox_ended")
    assert (fine["ok"], fine["stdout"].strip()) == (True, "two")
    assert work.toolbox()["Id"] != before["Id"]
    assert work.ledger_events("toolbox.restarted")[-1]["reason"] == "it does not answer"


def test_output_is_seen_while_it_comes(work: Toolwork) -> None:
    """The preview shows the end of it."""
    job = work.begin(Call("bash", {"command": "for i in 1 2 3 4 5 6 7; do echo line-$i; sleep 1; done"}))
    with work.installation.bot() as bot:
        preview = bot.wait_for(lambda message: "line-2" in message.text, 20, after=job.sent.cursor)
    assert "bash" in preview.text
    assert "line-7" in work.results(job)[0]["stdout"]
