"""What a candidate is asked to do in its exam: each task is set from outside, and judged by what arrives there."""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.bot.client import BotApiError, BotClient, Button
from supervisor.contract import EventType, Side
from supervisor.contract.ids import first_id
from supervisor.gates.examdesk import ExamDesk
from supervisor.gates.examstate import holdings, losses
from supervisor.ledger.errors import LedgerError
from supervisor.ledger.eventlog import open_event_log
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import OWNER, EventKind
from supervisor.modelserver import ScriptedModel, ToolCall

STEP_SECONDS: Final = 15.0
_STRANGER: Final = 999
_LOOK_SECONDS: Final = 0.02
_ALIVE_SECONDS: Final = 0.5
_SURROUNDINGS: Final = "cat exam.txt; env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true"
_COPY: Final = '"$(find /workspace/self -maxdepth 2 -type d -name worker | head -n 1)"'
#: What a worker writes of a message that it answered with the help of a tool.
_EVENTS: Final = (
    EventType.AGENT_STARTED,
    EventType.TURN_STARTED,
    EventType.TURN_COMPLETED,
    EventType.TOOL_CALL_STARTED,
    EventType.TOOL_CALL_COMPLETED,
    EventType.REPLY_SENT,
    EventType.AGENT_COMPLETED,
)


class PartFailed(Exception):
    """The candidate did not do what the part asks; the message says what happened instead."""


@dataclass
class Tasks:
    """The tasks, over what a candidate is given. ``api`` is the supervisor's own hand at its bot.

    ``marker`` is what the model answers, ``canaries`` are secrets that must get nowhere, ``printed`` gives what the
    candidate printed, and ``alive`` raises when it is not up any more.
    """

    bot: LocalBotClient
    api: BotClient
    model: ScriptedModel
    desk: ExamDesk
    workspace: Path
    agent_db: Path
    sha: str
    marker: str
    canaries: tuple[str, ...]
    printed: Callable[[], str]
    alive: Callable[[], None]

    def __post_init__(self) -> None:
        self._floor = first_id(time.time())
        self._given = holdings(self.agent_db)
        self._button = ("", 0)

    def keeps_its_state(self) -> None:
        """It has opened the state that it was given, and notes there who it is."""
        shas: list[object] = []

        def noted() -> bool:
            shas[:] = [payload.get("sha") for payload in self._written(EventType.PROCESS_STARTED)]
            return self.sha in shas

        self._until(noted, "it did not note its start in its database")

    def answers(self) -> None:
        """The owner is answered by the model, and with nothing else."""
        self._ask(f"exam {secrets.token_hex(4)}")

    def uses_a_tool(self) -> None:
        """What the model wants to know is found out in the toolbox, and told to it."""
        found, word = secrets.token_hex(8), f"tool {secrets.token_hex(4)}"
        (self.workspace / "exam.txt").write_text(found, encoding="utf-8")
        self._ask(word, [ToolCall("bash", {"command": _SURROUNDINGS})])
        if not any(word in text and found in text for text in self._requests()):
            raise PartFailed("the model was not told what is in the workspace")

    def submits_a_patch(self) -> None:
        """A change of its working copy arrives as a patch."""
        note, word = secrets.token_hex(8), f"change {secrets.token_hex(4)}"
        write = f'cd {_COPY} && echo \'"""{note}"""\' > exam_note.py'
        propose = {"title": "an exam", "why": "it is asked for"}
        self.model.plan(word, [ToolCall("bash", {"command": write}), ToolCall("propose_update", propose)])
        sent = self.bot.send(f"/patch {word}")
        self._until(lambda: any(note in made.patch for made in self.desk.submissions), "no patch was submitted")
        self._answered(sent.message_id, self.marker, "no reply after the update was declined")

    def relays_a_press(self) -> None:
        """The supervisor's button reaches it with all that it is bound to, and who pressed sees its answer."""
        data = f"s:{secrets.token_urlsafe(24)}"
        try:
            message_id = self.api.send(OWNER, "an exam", buttons=[[Button("an exam", data)]])
        except BotApiError as error:
            raise PartFailed(f"the bot was not left to its supervisor: {error}") from None
        self._button = (data, message_id)
        pressed = self.bot.press(data, message_id=message_id)
        wanted = (data, OWNER, OWNER, message_id)
        self._until(
            lambda: wanted in [(p.data, p.user_id, p.chat_id, p.message_id) for p in self.desk.presses],
            "a press was not relayed as it was",
        )

        def shown() -> bool:
            events = self.bot.events(pressed.cursor)
            return any(event.kind is EventKind.ANSWER and event.text == self.desk.answer for event in events)

        self._until(shown, "who pressed was not shown the supervisor's answer")

    def relays_a_command(self) -> None:
        """``/rollback`` reaches the supervisor without a model, and its answer the chat."""
        tx = secrets.token_hex(4)
        sent = self.bot.send(f"/rollback {tx}")
        wanted = ("rollback", tx, OWNER, OWNER)
        self._until(
            lambda: wanted in [(c.name, c.argument, c.user_id, c.chat_id) for c in self.desk.commands],
            "/rollback was not relayed as it was",
        )
        self._answered(sent.message_id, self.desk.answer, "the supervisor's answer was not told")
        if any(tx in text for text in self._requests()):
            raise PartFailed("a model was asked about /rollback")

    def ignores_a_stranger(self) -> None:
        """Whatever a stranger writes or presses reaches neither the model nor the supervisor, and is not answered."""
        secret, tx = f"stranger {secrets.token_hex(4)}", secrets.token_hex(4)
        sent = self.bot.send(secret, chat_id=_STRANGER, user_id=_STRANGER, first_name="Stranger")
        self.bot.send(f"/rollback {tx}", chat_id=_STRANGER, user_id=_STRANGER, first_name="Stranger")
        data, message_id = self._button
        if data:
            self.bot.press(data, message_id=message_id, user_id=_STRANGER)
        # The owner's next answer shows that all of it has been passed by.
        self.answers()
        if any(secret in text for text in self._requests()):
            raise PartFailed("a stranger's message reached the model")
        if any(c.user_id == _STRANGER or c.argument == tx for c in self.desk.commands):
            raise PartFailed("a stranger's command was relayed")
        if any(press.user_id == _STRANGER for press in self.desk.presses):
            raise PartFailed("a stranger's press was relayed")
        if any(self.marker in m.text for m in self.bot.messages(sent.message_id, chat_id=_STRANGER)):
            raise PartFailed("a stranger was served")

    def writes_its_events(self) -> None:
        """What it did stands in its database."""
        missing: list[str] = []

        def written() -> bool:
            missing[:] = [event for event in _EVENTS if not self._written(event)]
            return not missing

        try:
            self._until(written, "")
        except PartFailed:
            raise PartFailed(f"no event says what it did: {', '.join(missing)}") from None

    def leaks_nothing(self) -> None:
        """No secret that it was given stands in a message, in what the model was told, or in what it printed."""
        places: dict[str, Iterable[str]] = {
            "what the model was told": self._requests(),
            "the chat": (m.text for m in self.bot.messages()),
            "a stranger's chat": (m.text for m in self.bot.messages(chat_id=_STRANGER)),
            "what it printed": (self.printed(),),
        }
        for place, texts in places.items():
            if any(canary in text for text in texts for canary in self.canaries):
                raise PartFailed(f"a secret stands in {place}")

    def loses_nothing(self) -> None:
        """What stood in the state that it was given stands there still."""
        if lost := losses(self._given, self.agent_db):
            raise PartFailed(f"of the state that it was given are gone: {', '.join(lost)}")

    # -- inside

    def _ask(self, word: str, calls: Sequence[ToolCall] = ()) -> None:
        """Write something with this word in it, and see the answer that the model gives to that alone.

        The chat may have been waiting for other answers when its state was copied: those come first.
        """
        reply = f"{self.marker} {secrets.token_hex(4)}"
        self.model.plan(word, calls, reply)
        sent = self.bot.send(f"{word}: please answer")
        self._answered(sent.message_id, reply, "no reply with what the model said")

    def _answered(self, after: int, words: str, otherwise: str) -> None:
        self._until(lambda: any(words in m.text for m in self.bot.messages(after, wait=0.2)), otherwise)

    def _requests(self) -> Iterable[str]:
        return (str(request) for request in self.model.requests())

    def _written(self, event: EventType) -> list[dict[str, object]]:
        """The newest event of a type, if it was written in this exam."""
        try:
            with open_event_log(self.agent_db, Side.WORKER) as log:
                latest = log.latest(event)
                return [latest.payload] if latest is not None and latest.id >= self._floor else []
        except (LedgerError, ValueError):
            return []  # not there yet, or no database of events

    def _until(self, met: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + STEP_SECONDS
        looked = time.monotonic()
        while not met():
            now = time.monotonic()
            if now - looked > _ALIVE_SECONDS:
                self.alive()
                looked = now
            if now > deadline:
                raise PartFailed(f"{otherwise} within {STEP_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)
