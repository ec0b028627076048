"""An installation of its own for tests: a private home and project, driven through the real command line."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker

from supervisor.control import ControlClient, SupervisorAway
from supervisor.engine import Engine, EngineError, engine_url
from supervisor.homelock import held, owner
from supervisor.ledger import Ledger, NewerLedger
from supervisor.localbot.client import LocalBotClient
from supervisor.paths import Paths
from supervisor.specs import LABEL_PROJECT, LABEL_ROLE
from tests.support import commands
from tests.support.projects import new_project

T = TypeVar("T")
Install = Callable[..., "Installation"]

#: What a command gets of the environment of whoever runs the tests; nothing that sets up an installation is among it.
PASSED_ON = ("PATH", "HOME", "LANG", "DOCKER_HOST", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
#: Short, so that a test waits for no more than what it is about.
QUICK = {
    "AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS": "2",
    "AUTONOUS_DRAIN_SECONDS": "5",
    "AUTONOUS_MIN_FREE_BYTES": "1000000",
    "SUPERVISOR_RESTART_DELAY_SECONDS": "0.2",
    "TG_SLEEP_SECONDS": "0.2",
}
COMMAND_SECONDS = 180
#: A preview has become the final text by then.
SETTLE_SECONDS = 1.0
#: How cards, endings, files and notices of the supervisor's begin.
SUPERVISORS_WORDS = re.compile(
    r"Update [0-9a-f]{8} |The whole of update|Shall this update|This update waits"
    r"|Approved by|It is |Expired without|Set aside|A newer card|Nothing was changed"
    r"|No worker runs: |The revision before fails just as |The container engine was away "
)


def wait_for(look: Callable[[], T], seconds: float, what: str) -> T:
    """What ``look`` gives as soon as it is true; fails the test when it is not within the time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return found


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    command: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for programs."""
        return json.loads(self.out)

    def expect(self, code: int) -> "Result":
        """Itself, when it ended with this code."""
        assert self.code == code, f"`{self.command}` ended with {self.code}, not {code}:\n{self.out}\n{self.err}"
        return self

    def refusal(self, code: int = 1) -> str:
        """The one line on standard error of a command that ended with this code and printed nothing else."""
        self.expect(code)
        lines = self.err.splitlines()
        assert len(lines) == 1, f"`{self.command}` said more than one line:\n{self.err}"
        assert self.out == ""
        return lines[0]


@dataclass
class Installation:
    """One home, one project, and the checkout whose code runs it."""

    home: Path
    checkout: Path
    settings: dict[str, str] = field(default_factory=dict)
    project: str = field(default_factory=new_project)

    def __post_init__(self) -> None:
        self.paths = Paths(self.home)
        self.docker = docker.APIClient(base_url=engine_url(), version="auto")

    # -- commands

    @property
    def environment(self) -> dict[str, str]:
        """All that a command of this installation is given."""
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {
            "PYTHONPATH": str(self.checkout),
            "AUTONOUS_HOME": str(self.home),
            "AUTONOUS_PROJECT": self.project,
        }
        return {**passed_on, **own, **QUICK, **self.settings}

    def run(self, *arguments: str, given: bytes = b"", settings: Mapping[str, str] | None = None) -> Result:
        """Run a command to its end, whatever it ends with; ``settings`` are for this one alone."""
        process = commands.run(
            arguments,
            given=given,
            cwd=self.checkout,
            env={**self.environment, **(settings or {})},
            seconds=COMMAND_SECONDS,
        )
        return Result(" ".join(arguments), process.returncode, process.stdout.decode(), process.stderr.decode())

    def up(self) -> None:
        """Bring it up."""
        self.run("up").expect(0)

    def down(self) -> None:
        """Take it down."""
        self.run("down").expect(0)

    def status(self) -> dict[str, Any]:
        """Who is active, who stands by, what waits."""
        return dict(self.run("status", "--json").expect(0).json)

    def history(self) -> list[dict[str, Any]]:
        """Every revision with its image, newest first."""
        return list(self.run("history", "--json").expect(0).json)

    def show(self, tx: str) -> dict[str, Any]:
        """All that is known of an update."""
        return dict(self.run("show", tx, "--json").expect(0).json)

    def say(self, text: str, seconds: float = 30) -> str:
        """The one reply of the worker to a text; what the supervisor writes by itself meanwhile is none."""
        replies = self.run("say", text, "--wait", f"{seconds:g}", "--json").expect(0).json["replies"]
        first = min((reply["message_id"] for reply in replies), default=0)
        own = [reply["text"] for reply in replies if not SUPERVISORS_WORDS.match(reply["text"])]
        if replies and not own:  # the supervisor was quicker
            with self.bot() as bot:
                wait_for(lambda: self._workers_words(bot, first), seconds, f"an answer to {text!r}")
                time.sleep(SETTLE_SECONDS)
                own = self._workers_words(bot, first)
        assert len(own) == 1, replies
        return str(own[0])

    def _workers_words(self, bot: LocalBotClient, after: int) -> list[str]:
        return [m.text for m in bot.messages(after) if m.text and not SUPERVISORS_WORDS.match(m.text)]

    def submit(self, patch: bytes, *options: str) -> dict[str, Any]:
        """Hand in a patch and wait until it is staged, or how else it ends."""
        return dict(self.run("submit", "-", "--wait", "--json", *options, given=patch).json)

    def stage(self, patch: bytes, *options: str) -> str:
        """Hand in a patch that passes all gates; its tx."""
        answer = self.submit(patch, *options)
        assert answer["status"] == "staged", self.run("show", answer["tx_id"]).out
        return str(answer["tx_id"])

    def promote(self, patch: bytes) -> str:
        """Hand in a patch, approve it, and wait until it has proven itself; its tx."""
        tx = self.stage(patch)
        self.run("approve", tx, "--wait").expect(0)
        return tx

    def status_of(self, tx: str) -> str:
        """Where an update is. Read without a command, since much of the tests' time is spent in asking for it."""
        try:
            with Ledger.read_only(self.paths.ledger) as ledger:
                return str(ledger.find(tx).status)
        except NewerLedger:  # the installation's own checkout knows it
            return str(self.show(tx)["status"])

    def active_sha(self) -> str:
        """The revision that is in service."""
        return str(self.status()["active"]["sha"])

    def updates(self) -> list[str]:
        """The tx of every update, oldest first."""
        with Ledger.read_only(self.paths.ledger) as ledger:
            return [update.tx_id for update in reversed(ledger.updates())]

    def settled(self, seconds: float = 60) -> dict[str, Any]:
        """The status, as soon as nothing is on its way and the active worker is healthy."""

        def look() -> dict[str, Any] | None:
            status = self.status_at_once()
            rests = all(update["status"] == "staged" for update in status["pending"])
            return status if rests and status["active"] and status["active"]["health"] == "healthy" else None

        found = wait_for(look, seconds, "an active healthy worker and nothing on its way")
        assert found is not None
        return found

    def status_at_once(self) -> dict[str, Any]:
        """The same as ``status``, from a supervisor that runs, without a command."""
        try:
            return ControlClient(self.paths.control_socket).status()
        except SupervisorAway:
            return self.status()

    # -- processes and the local bot

    def bot(self) -> LocalBotClient:
        """The user's side of the local bot."""
        return LocalBotClient(self.paths.localbot_user_socket)

    def supervisor_pid(self) -> int:
        """The process that holds the home."""
        assert held(self.paths.lock), "no supervisor runs"
        return int(owner(self.paths.lock))

    def kill_supervisor(self) -> None:
        """SIGKILL, also to a keeper that would start another one; and see it gone."""
        supervisor = self.supervisor_pid()
        self.kill_keeper()
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not held(self.paths.lock), 5, "the end of the supervisor")

    def kill_keeper(self) -> None:
        """SIGKILL to whoever would start another supervisor; the one that runs goes on."""
        self._kill_holder(self.paths.keeper_lock)

    @property
    def localbot_lock(self) -> Path:
        """Held by the local bot's process."""
        return self.paths.localbot_db.with_name(f"{self.paths.localbot_db.name}.pid")

    def _kill_holder(self, lock: Path) -> None:
        if held(lock):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(owner(lock)), signal.SIGKILL)
            wait_for(lambda: not held(lock), 5, f"the end of the process that held {lock.name}")

    # -- what the engine sees

    def containers(self, role: str = "worker") -> list[dict[str, Any]]:
        """The engine's own description of the living containers with this role."""
        labels = [f"{LABEL_PROJECT}={self.project}", f"{LABEL_ROLE}={role}"]
        return [self.inspect(found["Id"]) for found in self.docker.containers(filters={"label": labels})]

    def inspect(self, container: str) -> dict[str, Any]:
        """The engine's own description of a container."""
        return dict(self.docker.inspect_container(container))

    def active_container(self) -> dict[str, Any]:
        """The engine's own description of the active worker's container."""
        return self.inspect(self.status()["active"]["container"])

    # -- the end

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the supervisor's log, for who has to find out why a test failed."""
        file = self.paths.logs / "supervisor.log"
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""

    def _removed_from_engine(self) -> bool:
        """Remove what the engine has; False when a container came up that was asked for before the supervisor's end."""
        engine = Engine()
        for view in engine.containers(self.project):
            engine.remove(view.id)
        try:
            for network in engine.networks(self.project):
                engine.remove_network(network)
            for image in engine.images({LABEL_PROJECT: self.project}):
                engine.remove_image(image.id)
        except EngineError:
            return False
        return True

    def remove(self) -> None:
        """End and remove all there is of it, whatever state it is in; the home's files stay to be looked at."""
        for lock in (self.paths.keeper_lock, self.paths.lock, self.localbot_lock):
            self._kill_holder(lock)
        wait_for(self._removed_from_engine, 30, "the engine to let go of it")
        shutil.rmtree(self.paths.run, ignore_errors=True)
        self.docker.close()
