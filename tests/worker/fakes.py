"""A Bot API, a supervisor and a model server that speak the real protocols."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs

from supervisor.contract import (
    Announcement,
    Beat,
    Claim,
    Claimed,
    Command,
    Grants,
    Kept,
    KeptUpdate,
    Press,
    Pressed,
    Problem,
    Progress,
    Role,
    RoleGrant,
    Submission,
    Submitted,
    Taken,
    Told,
    Welcome,
    WorkerState,
)
from tests.worker.httpserver import HttpServer, Request, Response

TOKEN = "123456789:test-token-that-nobody-may-see"
OWNER = 42
BEAT_SECONDS = 0.05
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)


class _Html(HTMLParser):
    """Telegram's HTML as far as these tests need it: the plain text, or ValueError where a tag does not fit."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        if self._open:
            raise ValueError("can't parse entities: Can't find end tag")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"b", "i", "s", "a", "code", "pre"}:
            raise ValueError("can't parse entities: Unsupported start tag")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            raise ValueError("can't parse entities: Unmatched end tag")

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(html: str) -> str:
    """The plain text of Telegram's HTML. Raises ValueError."""
    return _Html(html).text


class FakeTelegram:
    """``fail_next`` holds answers for coming calls of a method, in place of what it would do.

    ``slow`` is for how many seconds a method holds back its answer once it has done what it does.

    ``calls`` are all calls but the polls, ``sent`` the bot's messages as they are now, by chat and plain text.
    """

    def __init__(self, path: Path) -> None:
        self.server = HttpServer(path, self._handle)
        self.updates: list[dict[str, object]] = []
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.sent: list[tuple[int, str]] = []
        self.polls: list[int | None] = []
        self.polling = 0
        self.webhook = ""
        self.slow: dict[str, float] = {}
        self.fail_next: dict[str, deque[Response]] = {}
        self._news = asyncio.Condition()
        self._next_update = 1000
        self._held: list[dict[str, object]] | None = None

    async def say(
        self, text: str, *, user: int = OWNER, chat: int | None = None, kind: str = "private", **more: object
    ) -> int:
        """Somebody writes to the bot; gives the update's id. ``more`` are further fields of the message."""
        sender = {"id": user, "is_bot": False, "first_name": "X"}
        message = {
            "message_id": self._next_update,
            "date": 1_700_000_000,
            "chat": {"id": chat or user, "type": kind},
            "from": sender,
            "text": text,
            **more,
        }
        self._next_update += 1
        await self.deliver({"update_id": self._next_update, "message": message})
        return self._next_update

    async def press(self, data: str, message_id: int, *, user: int = OWNER) -> str:
        """Somebody presses a button in their private chat; gives the callback's id."""
        self._next_update += 1
        sender = {"id": user, "is_bot": False, "first_name": "X"}
        message = {"message_id": message_id, "date": 1_700_000_000, "chat": {"id": user, "type": "private"}}
        press = {"id": str(self._next_update), "from": sender, "chat_instance": "1", "data": data, "message": message}
        await self.deliver({"update_id": self._next_update, "callback_query": press})
        return str(self._next_update)

    @asynccontextmanager
    async def at_once(self) -> AsyncIterator[None]:
        """What is said inside comes in one batch."""
        self._held = []
        yield
        held, self._held = self._held, None
        async with self._news:
            self.updates += held
            self._news.notify_all()

    async def deliver(self, update: dict[str, object]) -> None:
        if self._held is not None:
            self._held.append(update)
            return
        async with self._news:
            self.updates.append(update)
            self._news.notify_all()

    def texts(self, chat: int = OWNER) -> list[str]:
        return [text for to, text in self.sent if to == chat]

    def fail(self, method: str, *responses: Response) -> None:
        self.fail_next.setdefault(method, deque()).extend(responses)

    async def _handle(self, request: Request) -> Response:
        prefix, _, method = request.path.rpartition("/")
        assert prefix == f"/bot{TOKEN}", request.path
        fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if method != "getUpdates":
            self.calls.append((method, fields))
        if self.fail_next.get(method):
            return self.fail_next[method].popleft()
        response = await self._do(method, fields)
        await asyncio.sleep(self.slow.get(method, 0))
        return response

    async def _do(self, method: str, fields: dict[str, str]) -> Response:
        match method:
            case "getUpdates" if self.webhook:
                return telegram_error(409, WEBHOOK_ACTIVE)
            case "getWebhookInfo":
                return _ok({"url": self.webhook, "has_custom_certificate": False, "pending_update_count": 0})
            case "deleteWebhook":
                self.webhook = ""
                return _ok(True)
            case "getUpdates":
                return _ok(await self._get_updates(fields))
            case "sendMessage":
                return self._put(len(self.sent) + 1, fields)
            case "editMessageText":
                return self._put(int(fields["message_id"]), fields)
            case _:
                return _ok(True)

    def called(self, method: str) -> list[dict[str, str]]:
        return [fields for name, fields in self.calls if name == method]

    def _put(self, message_id: int, fields: dict[str, str]) -> Response:
        """Set the text of a message, perhaps a new one."""
        try:
            text = rendered(fields["text"]) if fields.get("parse_mode") == "HTML" else fields["text"]
        except ValueError as error:
            return telegram_error(400, f"Bad Request: {error}")
        chat_id = int(fields["chat_id"])
        if message_id > len(self.sent):
            self.sent.append((chat_id, text))
        elif self.sent[message_id - 1] == (chat_id, text):
            return telegram_error(400, "Bad Request: message is not modified: the new text is the same")
        else:
            self.sent[message_id - 1] = (chat_id, text)
        message = {"message_id": message_id, "date": 1_700_000_000, "chat": {"id": chat_id, "type": "private"}}
        return _ok(message | {"text": text})

    async def _get_updates(self, fields: dict[str, str]) -> list[dict[str, object]]:
        offset = int(fields["offset"]) if "offset" in fields else None
        self.polls.append(offset)
        self.polling += 1
        try:
            async with self._news, asyncio.timeout(float(fields.get("timeout", 0)) or 0.001):
                await self._news.wait_for(lambda: self._waiting(offset))
        except TimeoutError:
            return []
        finally:
            self.polling -= 1
        return self._waiting(offset)

    def _waiting(self, offset: int | None) -> list[dict[str, object]]:
        return [update for update in self.updates if offset is None or int(str(update["update_id"])) >= offset]


def _ok(result: object) -> Response:
    return Response({"ok": True, "result": result})


def telegram_error(status: int, description: str, **parameters: object) -> Response:
    body = {"ok": False, "error_code": status, "description": description, "parameters": parameters}
    return Response(body, status=status)


class FakeSupervisor:
    """Gives roles, and remembers what the worker told. While ``away`` it hangs up on every claim.

    A submission gets the next of ``verdicts``, and then its ``steps``. Routes in ``unknown`` are such as it has not.
    ``slow`` is for how many seconds it holds back the answer of a route once it has done what was asked.
    """

    def __init__(self, path: Path, *, owners: tuple[int, ...] = (OWNER,)) -> None:
        self.server = HttpServer(path, self._handle)
        self.owners = list(owners)
        self.announcements: list[Announcement] = []
        self.beats: list[Beat] = []
        self.claims: list[Claim] = []
        self.code = "right-code"
        self.granted = Grants()
        self.presses: list[Press] = []
        self.commands: list[Command] = []
        self.submissions: list[Submission] = []
        self.verdicts: deque[Submitted | Problem] = deque()
        self.steps: dict[str, list[Progress]] = {}
        self.updates: list[dict[str, object]] = []
        self.away = False
        self.kept: list[KeptUpdate] = []
        self.taken: list[int] = []
        self.fails: deque[str] = deque()  # paths whose next request is hung up on
        self.unknown: set[str] = set()
        self.slow: dict[str, float] = {}
        self.grant = RoleGrant(role=Role.STANDBY)
        self._changed = asyncio.Condition()

    @property
    def state(self) -> WorkerState | None:
        return self.beats[-1].state if self.beats else None

    async def order(
        self, role: Role, *, epoch: int | None = None, deadline: float | None = None, kept: bool | None = None
    ) -> None:
        async with self._changed:
            serial = self.grant.serial + 1
            self.grant = RoleGrant(role=role, epoch=epoch, serial=serial, deadline_seconds=deadline, kept=kept)
            self._changed.notify_all()

    async def reaches(self, *states: WorkerState) -> None:
        """Wait until the worker says that it is in one of these states."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.state in states)

    async def _handle(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer worker-credential"
        if request.path in self.unknown:
            return Response({"detail": "Not Found"}, status=404)
        if request.path in self.fails:
            self.fails.remove(request.path)
            return Response(hang_up=True)
        response = self._serve_agent(request) or await self._serve_process(request)
        await asyncio.sleep(self.slow.get(request.path, 0))
        return response

    def _serve_agent(self, request: Request) -> Response | None:
        """What the agent asks."""
        match request.path:
            case "/v1/grants":
                return Response(self.granted.model_dump(mode="json"))
            case "/v1/kept" | "/v1/kept/taken":
                return self._hand_over(request)
            case "/v1/press":
                self.presses.append(Press.model_validate_json(request.body))
                return Response(Pressed(text="Approved.", alert=True).model_dump(mode="json"))
            case "/v1/command":
                command = Command.model_validate_json(request.body)
                self.commands.append(command)
                return Response(Told(text=f"about {command.argument}").model_dump(mode="json"))
            case "/v1/updates":
                self.submissions.append(Submission.model_validate_json(request.body))
                verdict = self.verdicts.popleft()
                return Response(verdict.model_dump(mode="json"), status=409 if isinstance(verdict, Problem) else 200)
            case "/v1/history":
                return Response(self.updates)
            case path if path.endswith("/progress"):
                return Response(stream=self._progress(path.split("/")[3]))
        return None

    async def _serve_process(self, request: Request) -> Response:
        """What every worker asks."""
        match request.path:
            case "/v1/announce":
                self.announcements.append(Announcement.model_validate_json(request.body))
                welcome = Welcome(instance=1, beat_seconds=BEAT_SECONDS, grant=self.grant, owners=self.owners)
                return Response(welcome.model_dump(mode="json"))
            case "/v1/role":
                return Response(stream=self._roles())
            case "/v1/beat":
                async with self._changed:
                    self.beats.append(Beat.model_validate_json(request.body))
                    self._changed.notify_all()
                return Response(self.grant.model_dump(mode="json"))
            case "/v1/claim" if self.away:
                return Response(hang_up=True)
            case "/v1/claim":
                claim = Claim.model_validate_json(request.body)
                self.claims.append(claim)
                accepted = claim.code == self.code
                if accepted:
                    self.owners.append(claim.user_id)
                return Response(Claimed(accepted=accepted, owners=self.owners).model_dump(mode="json"))
            case path:
                raise AssertionError(path)

    def _hand_over(self, request: Request) -> Response:
        if request.path.endswith("/taken"):
            self.taken += Taken.model_validate_json(request.body).ids
            self.kept = [update for update in self.kept if update.id not in self.taken]
        return Response(Kept(updates=self.kept).model_dump(mode="json"))

    async def _progress(self, tx_id: str) -> AsyncIterator[bytes]:
        for step in self.steps.get(tx_id, []):
            yield step.model_dump_json().encode() + b"\n"

    async def _roles(self) -> AsyncIterator[bytes]:
        while True:
            yield self.grant.model_dump_json().encode() + b"\n"
            seen = self.grant.serial
            async with self._changed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_SECONDS):
                        while self.grant.serial == seen:
                            await self._changed.wait()


class FakeOpenAI:
    """Answers chat completions with ``answers``, the last one again and again."""

    def __init__(self, path: Path, *answers: Response) -> None:
        self.server = HttpServer(path, self._handle)
        self.requests: list[dict[str, object]] = []
        self._answers = deque(answers)

    async def _handle(self, request: Request) -> Response:
        assert (request.method, request.path) == ("POST", "/v1/chat/completions")
        self.requests.append(json.loads(request.body))
        return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


def completion(content: str | None, **message: object) -> Response:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": content, **message},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return Response(body)
