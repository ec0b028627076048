"""Tool calls of a running installation, made by a model that plays parts and asserted on by what it was given back."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from supervisor.localbot.client import Message, Sent
from supervisor.localbot.faults import Call as BotCall
from tests.support.installation import Install, Installation, wait_for
from tests.support.played import Call, PlayedModel

SOCKET = "played.sock"
SETTINGS = {
    "OPENAI_MODEL": "played",
    "AUTONOUS_MODEL_PROVIDER": "openai",
    "AUTONOUS_OPENAI_UDS": f"/run/autonous/{SOCKET}",
}


@dataclass(frozen=True)
class Job:
    """A message that the model meets with tool calls, one in each turn."""

    name: str
    sent: Sent


class Toolwork:
    """Has the model call tools, over Telegram's real client and the model's."""

    def __init__(self, installation: Installation, model: PlayedModel) -> None:
        self.installation = installation
        self.model = model
        self._numbers = count(1)

    def begin(self, *calls: Call) -> Job:
        """Send a message for which the model makes these calls."""
        name = f"job-{next(self._numbers)};"
        self.model.parts[name] = [*([call] for call in calls), f"{name} is done"]
        with self.installation.bot() as bot:
            return Job(name, bot.send(name))

    def results(self, job: Job, seconds: float = 90) -> list[dict[str, Any]]:
        """The envelopes that the model was given for a job's calls."""
        with self.installation.bot() as bot:
            bot.wait_for(lambda message: f"{job.name} is done" in message.text, seconds, after=job.sent.cursor)
        scene = next(scene for scene in reversed(self.model.scenes) if job.name in scene.text)
        return [json.loads(result) for result in scene.results]

    def do(self, *calls: Call, seconds: float = 90) -> list[dict[str, Any]]:
        """Make the calls and give their envelopes."""
        return self.results(self.begin(*calls), seconds)

    def bash(self, command: str, seconds: float = 90, **arguments: object) -> dict[str, Any]:
        """The envelope of one command."""
        return self.do(Call("bash", {"command": command, **arguments}), seconds=seconds)[0]

    def answers_within(self) -> float:
        """Seconds until a plain message is answered."""
        begun = time.monotonic()
        with self.installation.bot() as bot:
            sent = bot.send("are you there?")
            bot.wait_for(lambda message: message.text.endswith("are you there?"), 20, after=sent.cursor)
        return time.monotonic() - begun

    def question(self, job: Job, seconds: float = 30) -> Message:
        """What the owner is asked in a job."""
        with self.installation.bot() as bot:
            return bot.wait_for(lambda message: bool(message.buttons), seconds, after=job.sent.cursor)

    def press(self, button: str, question: Message, **who: int) -> None:
        """Press one of its buttons."""
        data = next(found.data for found in question.buttons if found.label == button)
        with self.installation.bot() as bot:
            bot.press(data, message_id=question.message_id, **who)

    def shown(self, question: Message) -> Message:
        """The question as it stands now."""
        with self.installation.bot() as bot:
            return next(m for m in bot.messages() if m.message_id == question.message_id)

    def answers(self) -> list[BotCall]:
        """The bot's answers to presses, refused ones too."""
        with self.installation.bot() as bot:
            return [call for call in bot.calls() if call.method.lower() == "answercallbackquery"]

    def events(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of the worker's events of a type."""
        return _events(self.installation.paths.agent_db, event_type)

    def ledger_events(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of the supervisor's events of a type."""
        return _events(self.installation.paths.ledger, event_type)

    def toolbox(self) -> dict[str, Any]:
        """The engine's description of the active worker's toolbox."""
        name = f"{self.installation.status()['active']['container']}-toolbox"
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [c for c in self.installation.containers("toolbox") if c["Name"] == f"/{name}"]
            return bool(found)

        wait_for(look, 30, "a toolbox")
        return found[0]


def _events(path: Any, event_type: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT payload FROM events WHERE event_type = ? ORDER BY id", (event_type,)).fetchall()
    return [json.loads(payload) for (payload,) in rows]


@contextmanager
def toolwork(install: Install, key: str = "sk-played", **settings: str) -> Iterator[Toolwork]:
    """An installation that is up, with a model behind the real adapter."""
    made = install(OPENAI_API_KEY=key, **SETTINGS, **settings)
    made.paths.create(worker_uid=10001)
    model = PlayedModel({})
    with model.serve(made.paths.contract_directory / SOCKET):
        made.up()
        yield Toolwork(made, model)
