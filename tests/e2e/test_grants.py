"""What an owner opens to the tools: a directory for a time, the network for a call; and what is never opened."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.localbot.client import Message
from supervisor.localbot.store import OWNER
from tests.support.installation import Install, wait_for
from tests.support.leftout import leave_out
from tests.support.played import Call
from tests.support.toolwork import Toolwork, toolwork

MIB = 1024 * 1024
STRANGER = 666


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose subdirectories can be granted."""
    made = tmp_path_factory.mktemp("ground")
    for name in ("read", "write", "short", "asked", "cut", "kept"):
        (made / name).mkdir()
        (made / name / "file").write_text(f"the file of {name}\n")
        (made / name).chmod(0o777)
    (made / "link").symlink_to("/etc")
    return made


@pytest.fixture(scope="module")
def work(install: Install, ground: Path) -> Iterator[Toolwork]:
    """Up, with a small workspace where the machine lets us make one."""

    def small(**settings: str) -> object:
        made = install(**settings)
        made.paths.create(worker_uid=10001)
        mount = ["mount", "-t", "tmpfs", "-o", "size=192m,mode=0777", "tmpfs", str(made.paths.workspace)]
        subprocess.run(mount, check=False, capture_output=True)
        workspaces.append(made.paths.workspace)
        return made

    workspaces: list[Path] = []
    settings = {"AUTONOUS_GRANTABLE_ROOTS": str(ground), "AUTONOUS_MIN_FREE_BYTES": str(64 * MIB)}
    try:
        with toolwork(small, **settings) as here:  # type: ignore[arg-type]
            yield here
    finally:
        subprocess.run(["umount", "-l", *workspaces], check=False, capture_output=True)


def granted(work: Toolwork, path: Path, mode: str = "ro", hours: str = "1") -> int:
    """Grant it; the number."""
    told = work.installation.say(f"/grant {path} {mode} {hours}")
    assert told.startswith(f"Granted: {path}, "), told
    return int(told.rpartition("/revoke_")[2].split()[0])


def test_a_directory_is_open_while_it_is_granted(work: Toolwork, ground: Path) -> None:
    """To read or to write, as it was said; not before, not after, and nothing beside it."""
    path = ground / "read"
    before = work.do(Call("read", {"path": str(path / "file")}), Call("bash", {"command": f"cat {path}/file"}))
    assert [result["ok"] for result in before] == [False, False]
    number = granted(work, path)
    assert str(path) in work.installation.say("/grants")
    read, cat, touch, beside = work.do(
        Call("read", {"path": str(path / "file")}),
        Call("bash", {"command": f"cat {path}/file"}),
        Call("bash", {"command": f"touch {path}/new"}),
        Call("bash", {"command": f"ls {ground}"}),
    )
    assert "the file of read" in read["stdout"]
    assert cat["ok"]
    assert "Read-only file system" in touch["stdout"] + touch["stderr"]
    assert beside["stdout"].split() == ["read"]
    assert work.events("grant.used")[-1]["path"] == str(path)
    assert work.installation.say(f"/revoke_{number}").startswith(f"Revoked: {path}.")
    after = work.do(Call("read", {"path": str(path / "file")}), Call("bash", {"command": f"cat {path}/file"}))
    assert [result["ok"] for result in after] == [False, False]
    assert work.ledger_events("grant.created")[-1]["user_id"] == 1
    assert work.ledger_events("grant.revoked")[-1]["number"] == number

    number = granted(work, ground / "write", "rw")
    assert work.do(Call("write", {"path": str(ground / "write" / "new"), "content": "written"}))[0]["ok"]
    assert (ground / "write" / "new").read_text() == "written"
    work.installation.say(f"/revoke {number}")


def test_a_grant_ends_with_its_time(work: Toolwork, ground: Path) -> None:
    """The very next call is denied, and a call under way is cut."""
    path = ground / "short"
    granted(work, path, "rw", str(12 / 3600))
    job = work.begin(
        Call("bash", {"command": f"cd {path} && cat file"}),
        Call("bash", {"command": f"cd {path} && sleep 60", "timeout_seconds": 90}),
        Call("bash", {"command": f"cat {path}/file"}),
    )
    read, cut, after = work.results(job, 60)
    assert "the file of short" in read["stdout"]
    assert (cut["ok"], cut["meta"]["code"]) == (False, "toolbox_ended")
    assert not after["ok"]
    assert work.ledger_events("grant.expired")[-1]["path"] == str(path)
    assert "Nothing is granted" in work.installation.say("/grants")


def test_a_grant_that_is_revoked_in_mid_call_cuts_the_call(work: Toolwork, ground: Path) -> None:
    """What is taken back is gone at once."""
    path = ground / "cut"
    number = granted(work, path, "rw")
    job = work.begin(Call("bash", {"command": f"cd {path} && touch begun && sleep 60 && touch over"}))
    wait_for((path / "begun").exists, 20, "the call")
    begun = time.monotonic()
    with work.installation.bot() as bot:
        bot.send(f"/revoke {number}")
    assert work.results(job)[0]["meta"]["code"] == "toolbox_ended"
    assert time.monotonic() - begun < 15
    assert not (path / "over").exists()
    assert work.ledger_events("grant.revoked")[-1]["number"] == number


def test_the_model_may_ask_and_the_owner_decides(work: Toolwork, ground: Path) -> None:
    """By a button; a stranger's press, and a second one, change nothing."""
    path = ground / "asked"
    ask = Call("request_root", {"path": str(path), "mode": "ro", "hours": 0.5, "why": "to see what is there"})
    job = work.begin(ask)
    question = work.question(job)
    assert all(words in question.text for words in (str(path), "to read", "0.5", "to see what is there"))
    work.press("Grant", question, user_id=STRANGER)
    wait_for(lambda: work.events("message.refused"), 10, "the refusal")
    assert work.shown(question).buttons
    work.press("Deny", question)
    assert not work.results(job)[0]["ok"]
    assert work.shown(question).buttons == ()
    assert "Not granted" in work.shown(question).text

    job = work.begin(ask, Call("bash", {"command": f"cat {path}/file"}))
    question = work.question(job)
    work.press("Grant", question)
    yes, cat = work.results(job)
    assert (yes["ok"], cat["stdout"].strip()) == (True, "the file of asked")
    work.installation.say(f"/revoke {yes['meta']['grant']}")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("/", "not under"),
        ("/etc", "not under"),
        ("{home}", "not under"),
        ("{ground}/link", "symlink"),
        ("{ground}/read/../../x", ".."),
        ("{ground}/none", "No such file"),
        ("{ground}/read/file", "no directory"),
        ("read", "absolute"),
    ],
)
def test_what_is_not_granted(work: Toolwork, ground: Path, what: str, why: str) -> None:
    """Told in a line; nothing is recorded."""
    before = len(work.ledger_events("grant.created"))
    told = work.installation.say(f"/grant {what.format(ground=ground, home=work.installation.home)} ro 1")
    assert why in told
    assert "\n" not in told
    assert len(work.ledger_events("grant.created")) == before


def test_a_grant_outlives_the_supervisor(work: Toolwork, ground: Path) -> None:
    """It stands in the ledger, and the toolbox that was made with it goes on."""
    number = granted(work, ground / "kept")
    toolbox = work.toolbox()["Id"]
    work.installation.kill_supervisor()
    work.installation.up()
    assert work.bash(f"cat {ground}/kept/file")["ok"]
    assert work.toolbox()["Id"] == toolbox
    work.installation.say(f"/revoke {number}")
    assert not work.bash(f"cat {ground}/kept/file")["ok"]


@pytest.fixture
def server() -> Iterator[int]:
    """Somebody on this machine who answers."""
    with socket.create_server(("0.0.0.0", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.sendall(b"hello from outside")
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def replay(work: Toolwork, question: Message, button: str) -> None:
    """The same press once more, as if somebody had kept it; until it is answered."""
    data = next(found.data for found in question.buttons if found.label == button)
    before = len(work.answers())
    message = {"message_id": question.message_id, "date": 1, "chat": {"id": OWNER, "type": "private"}}
    sender = {"id": OWNER, "is_bot": False, "first_name": "Owner"}
    press = {"id": "replayed", "from": sender, "message": message, "chat_instance": "1", "data": data}
    with work.installation.bot() as bot:
        bot.update("callback_query", press)
    wait_for(lambda: len(work.answers()) > before, 10, "the answer")


def reach(port: int) -> str:
    """A command that reads what the server on the container's gateway says."""
    return (
        "python - <<'END'\n"
        "import socket, struct\n"
        "route = [l.split() for l in open('/proc/net/route')][1:]\n"
        "found = [socket.inet_ntoa(struct.pack('<I', int(r[2], 16))) for r in route if r[1] == '00000000']\n"
        f"print(socket.create_connection(((found or ['192.0.2.1'])[0], {port}), 5).recv(100).decode())\n"
        "END"
    )


def test_a_call_may_have_the_network_when_the_owner_says_so(work: Toolwork, server: int) -> None:
    """In a container of its own, that is gone afterwards and of no use to the next call; the call is shown whole."""
    command = reach(server)
    online = Call("bash", {"command": command, "network": True})
    toolbox = work.toolbox()["Id"]
    job = work.begin(online, Call("bash", {"command": command}))
    question = work.question(job)
    assert all(f"│ {line}\n" in question.text for line in command.splitlines())
    work.press("Allow", question)
    outside, inside = work.results(job)
    assert (outside["ok"], outside["stdout"].strip()) == (True, "hello from outside"), outside
    assert (inside["ok"], "Network is unreachable" in inside["stdout"] + inside["stderr"]) == (False, True)
    assert work.installation.containers("network-toolbox") == []
    assert work.toolbox()["Id"] == toolbox
    opened, closed = work.ledger_events("toolbox.opened")[-1], work.ledger_events("toolbox.closed")[-1]
    assert (len(opened["call_sha256"]), opened["chat_id"], closed["reason"]) == (64, 1, "the call ended")
    assert command not in str(opened)
    replay(work, question, "Allow")
    assert len(work.ledger_events("toolbox.opened")) == 1

    job = work.begin(online)
    work.press("Deny", work.question(job))
    assert work.results(job)[0]["meta"]["code"] == "denied"
    assert len(work.ledger_events("toolbox.opened")) == 1
    assert [event["by"] for event in work.events("tool_call.denied")][-1] == "owner"


def test_a_toolbox_with_a_network_has_no_secret_and_ends_with_its_call(work: Toolwork) -> None:
    """Nor state, nor a way to the supervisor; a worker that stops the call takes it along."""
    job = work.begin(Call("bash", {"command": "env; ls -d /state /run/autonous; sleep 60", "network": True}))
    work.press("Allow", work.question(job))
    (container,) = wait_for(lambda: work.installation.containers("network-toolbox"), 20, "the container")
    assert not any("sk-played" in word for word in container["Config"]["Env"])
    assert {mount["Destination"] for mount in container["Mounts"]} == {"/workspace", "/run/toolbox"}
    assert container["HostConfig"]["NetworkMode"] == f"{work.installation.project}-tools-net"
    assert (container["HostConfig"]["Memory"], container["HostConfig"]["PidsLimit"]) == (1024 * MIB, 512)
    work.installation.run("say", "/stop", "--wait", "10")
    wait_for(lambda: work.installation.containers("network-toolbox") == [], 10, "its end")


def test_a_full_workspace_pauses_what_writes(work: Toolwork) -> None:
    """A call that fills it is stopped at the floor; then reading works, and the others say what is to be done."""
    workspace = work.installation.paths.workspace
    if not workspace.is_mount():  # only root can make one
        leave_out("no mount could be made here")
    filling, running, writing, looking = work.do(
        Call("bash", {"command": "i=0; while :; do head -c 4M /dev/zero >f$i; i=$((i+1)); sleep 0.05; done"}),
        Call("bash", {"command": "echo fine"}),
        Call("write", {"path": "one", "content": "more"}),
        Call("ls", {"path": "."}),
    )
    assert [result["meta"].get("code") for result in (filling, running, writing)] == ["no_space"] * 3
    assert "AUTONOUS_MIN_FREE_BYTES" in running["stderr"]
    assert looking["ok"]
    seen = os.statvfs(workspace)
    assert seen.f_bavail * seen.f_frsize > 0
    for file in workspace.glob("f*"):
        file.unlink()
    assert work.bash("echo fine")["ok"]
