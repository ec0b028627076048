"""The supervisor's own black-box test of a candidate: no patch can reach it, and no report of the candidate's counts.

The candidate gets what a worker in service gets: a supervisor on a socket, a Bot API, a model, its database. Here the
Bot API is a private local bot, the model a server that answers with a marker nobody else knows, and the database a
copy. What it must do there is what it will have to do in service.

All of it runs in a process of its own, :mod:`supervisor.gates.examroom`: what a candidate does to the servers that it
is given, it does not do to the supervisor.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.bot.client import BotClient
from supervisor.contract import Redactor, Role, WorkerState
from supervisor.engine import Engine, EngineError
from supervisor.gates import untrusted
from supervisor.gates.examdesk import ExamDesk
from supervisor.gates.examtasks import STEP_SECONDS, PartFailed, Tasks
from supervisor.gates.testrun import Cancelled
from supervisor.localbot.app import create_server
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import OWNER, BotStore
from supervisor.modelserver import ScriptedModel
from supervisor.paths import give
from supervisor.removal import remove_tree
from supervisor.server import contract_app
from supervisor.sessions import Session, Sessions, Signal, credential_hash
from supervisor.specs import MIB, ContainerSpec, Mount, gate_spec
from supervisor.unixserver import UnixServer

READY_SECONDS: Final = 30.0
COMES_UP: Final = "comes up"
TAKES_THE_LEASE: Final = "takes the lease"
#: Not asked like the others: failed when what the candidate does ends the exam itself.
BEHAVES: Final = "behaves"
_WORKER: Final = "candidate"
_LOOK_SECONDS: Final = 1.0
_LONGEST_DETAIL: Final = 300
_MOST_CONNECTIONS: Final = 64  # to each server; a worker needs three or four
_LARGEST_BODY: Final = 2 * MIB


@dataclass(frozen=True)
class Part:
    """One part of the exam and how it went. ``seconds`` is how long it took."""

    name: str
    passed: bool
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """A whole exam. ``log`` is what the candidate printed, redacted."""

    parts: tuple[Part, ...]
    log: str
    waived: frozenset[str] = frozenset()

    @property
    def failed(self) -> Part | None:
        """The part that was failed and counts; the exam ends with it."""
        return next((part for part in self.parts if not part.passed and part.name not in self.waived), None)


@dataclass(frozen=True)
class Candidate:
    """Whom to examine, and the directory with the copy of agent.db that it gets as its state."""

    image_id: str
    sha: str
    state: Path
    epoch: int


class CutShort(Exception):
    """The exam says nothing of the candidate, unless this happens again; the message is one line."""


def container_name(project: str, room: Path) -> str:
    """The name of the container that sits its exam in a room."""
    return f"{project}-exam-{room.name}"


def toolbox_name(project: str, room: Path) -> str:
    """The name of its toolbox."""
    return f"{container_name(project, room)}-toolbox"


@dataclass(frozen=True)
class Examiner:
    """Holds exams in containers of one installation."""

    engine: Engine
    project: str
    uid: int

    def examine(
        self,
        candidate: Candidate,
        room: Path,
        *,
        waived: frozenset[str] = frozenset(),
        cancelled: Callable[[], bool] = lambda: False,
        note: Callable[[str | Part], None] = lambda _: None,
    ) -> Result:
        """Run the exam until its end or the first part that is failed; ``waived`` parts are tried, and do not count.

        ``room`` is a directory to be made, whose path leaves room for sockets' names; it is gone afterwards. ``note``
        is given each part's name when it begins, and the part when it is over. Raises EngineError, Cancelled.
        """
        try:
            with ExitStack() as stack:
                sitting = _Sitting(self, candidate, room, cancelled, note, stack)
                return sitting.hold(waived)
        finally:
            remove_tree(room)


class _Sitting:
    """One candidate in the exam: what it is given, and what it is asked."""

    def __init__(
        self,
        examiner: Examiner,
        candidate: Candidate,
        room: Path,
        cancelled: Callable[[], bool],
        note: Callable[[str | Part], None],
        stack: ExitStack,
    ) -> None:
        self._examiner = examiner
        self._engine = examiner.engine
        self._candidate = candidate
        self._cancelled = cancelled
        self._note = note
        self._signal = Signal()
        self._sessions = Sessions(self._signal)
        self._sessions.set_owners((OWNER,))
        self._marker = f"marker-{secrets.token_hex(8)}"
        self._model = ScriptedModel(self._marker)
        # Another bot each time: update ids of one bot never come twice, and the state may have seen an exam before.
        self._token = f"{2 + secrets.randbelow(10**9)}:exam{secrets.token_hex(16)}"
        self._credential = secrets.token_urlsafe(32)
        self._key = f"exam-{secrets.token_hex(16)}"
        self._parts: list[Part] = []
        self._directories(room)
        self._sessions.open(_WORKER, sha=candidate.sha, instance=0, credential_hash=credential_hash(self._credential))
        store = BotStore(":memory:")
        stack.callback(store.close)
        contract = room / "contract"
        user_socket = room / "user.sock"  # outside of what the candidate sees: it shall not press its own buttons
        desk = ExamDesk(self._sessions)
        bot = create_server(
            store,
            self._token,
            socket=contract / "localbot.sock",
            user_socket=user_socket,
            largest_body=_LARGEST_BODY,
            most_connections=_MOST_CONNECTIONS,
        )
        for server in (
            UnixServer(contract_app(desk), contract / "supervisor.sock", most_connections=_MOST_CONNECTIONS),
            bot,
            UnixServer(self._model.app(), contract / "model.sock", most_connections=_MOST_CONNECTIONS),
        ):
            stack.enter_context(server)
        self._name = container_name(examiner.project, room)
        self._tasks = Tasks(
            bot=stack.enter_context(LocalBotClient(user_socket)),
            api=stack.enter_context(BotClient("http://localhost/bot", self._token, socket=contract / "localbot.sock")),
            model=self._model,
            desk=desk,
            workspace=room / "workspace",
            agent_db=candidate.state / "agent.db",
            sha=candidate.sha,
            marker=self._marker,
            canaries=(self._token, self._credential, self._key),
            printed=self._printed,
            alive=self._alive,
        )
        for spec in (self._toolbox_spec(room), self._spec(room)):
            stack.callback(self._engine.remove, spec.name)
            self._container = self._engine.run(spec)

    def hold(self, waived: frozenset[str]) -> Result:
        tasks = self._tasks
        for name, part in (
            (COMES_UP, self._comes_up),
            ("keeps its state", tasks.keeps_its_state),
            (TAKES_THE_LEASE, self._takes_the_lease),
            ("polls", self._polls),
            ("answers its owner", tasks.answers),
            ("uses a tool", tasks.uses_a_tool),
            ("submits a patch", tasks.submits_a_patch),
            ("relays a press", tasks.relays_a_press),
            ("relays a rollback", tasks.relays_a_command),
            ("ignores a stranger", tasks.ignores_a_stranger),
            ("writes its events", tasks.writes_its_events),
            ("leaks no secret", tasks.leaks_nothing),
            ("lets go of the lease", self._drains),
            ("exits in order", self._exits),
            ("loses nothing", tasks.loses_nothing),
        ):
            with self._part(name):
                part()
            if not self._parts[-1].passed and name not in waived:
                break
        redact = Redactor((self._token, self._credential, self._key))
        return Result(tuple(self._parts), redact(self._printed()), waived)

    # -- the parts

    def _comes_up(self) -> None:
        self._until(lambda s: s.healthy(time.monotonic()), READY_SECONDS, "it did not get ready")

    def _takes_the_lease(self) -> None:
        self._sessions.assign(_WORKER, Role.ACTIVE, epoch=self._candidate.epoch)
        self._until(
            lambda s: s.state is WorkerState.ACTIVE and s.beat.epoch == self._candidate.epoch,
            STEP_SECONDS,
            "it did not become active",
        )

    def _polls(self) -> None:
        self._until(lambda s: s.beat.polls_ok > 0, STEP_SECONDS, "it never polled the Bot API successfully")

    def _drains(self) -> None:
        self._sessions.assign(_WORKER, Role.DRAIN, deadline_seconds=STEP_SECONDS)
        self._until(lambda s: s.state is WorkerState.RELEASED, STEP_SECONDS, "it did not let go of the lease")

    def _exits(self) -> None:
        self._sessions.assign(_WORKER, Role.EXIT, deadline_seconds=STEP_SECONDS)
        deadline = time.monotonic() + STEP_SECONDS
        while (code := self._engine.wait(self._container, timeout=_LOOK_SECONDS)) is None:
            if self._cancelled():
                raise Cancelled
            if time.monotonic() > deadline:
                raise PartFailed(f"it did not exit within {STEP_SECONDS:g} s")
        if code != 0:
            raise PartFailed(f"it exited with code {code}")

    # -- inside

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        self._note(name)
        started = time.monotonic()
        detail = ""
        try:
            yield
        except PartFailed as failure:
            detail = untrusted.line(str(failure), _LONGEST_DETAIL)
        seconds = round(time.monotonic() - started, 3)
        self._parts.append(Part(name, passed=not detail, detail=detail, seconds=seconds))
        self._note(self._parts[-1])

    def _until(self, met: Callable[[Session], bool], seconds: float, otherwise: str) -> None:
        def decided() -> bool:
            session = self._session()
            return bool(session.problem) or met(session)

        deadline = time.monotonic() + seconds
        while not self._signal.until(decided, min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
            self._alive()
            if time.monotonic() > deadline:
                raise PartFailed(f"{otherwise} within {seconds:g} s")
        if problem := self._session().problem:
            raise PartFailed(problem)

    def _alive(self) -> None:
        if self._cancelled():
            raise Cancelled
        view = self._engine.inspect(self._container)
        if view is None:
            raise EngineError(f"{self._name} was removed by somebody else")
        if not view.running:
            raise PartFailed(f"it exited by itself with code {view.exit_code}")
        if self._session().lost(time.monotonic()):
            raise PartFailed("it stopped answering: no beat from its loop")

    def _printed(self) -> str:
        return untrusted.tail(self._engine.logs(self._container, tail=400), untrusted.LONGEST_LOG)

    def _session(self) -> Session:
        session = self._sessions.get(_WORKER)
        assert session is not None  # noqa: S101 - opened above and never closed
        return session

    def _directories(self, room: Path) -> None:
        for name in ("contract", "config", "toolbox", "workspace"):
            (room / name).mkdir(parents=True)
            (room / name).chmod(0o755)
        for name in ("toolbox", "workspace"):
            give(room / name, self._examiner.uid)

    def _toolbox_spec(self, room: Path) -> ContainerSpec:
        return gate_spec(
            project=self._examiner.project,
            name=toolbox_name(self._examiner.project, room),
            image_id=self._candidate.image_id,
            uid=self._examiner.uid,
            role="exam",
            command=("python", "-m", "worker.tools"),
            mounts=(Mount(room / "workspace", "/workspace"), Mount(room / "toolbox", "/run/toolbox")),
        )

    def _spec(self, room: Path) -> ContainerSpec:
        return gate_spec(
            project=self._examiner.project,
            name=self._name,
            image_id=self._candidate.image_id,
            uid=self._examiner.uid,
            role="exam",
            environment={
                "TELEGRAM_BOT_TOKEN": self._token,
                "OPENAI_API_KEY": self._key,
                "OPENAI_MODEL": "exam",
                "AUTONOUS_MODEL_PROVIDER": "openai",
                "AUTONOUS_TELEGRAM_ALLOWED_USERS": str(OWNER),
                "AUTONOUS_TELEGRAM_UDS": "/run/autonous/localbot.sock",
                "AUTONOUS_OPENAI_UDS": "/run/autonous/model.sock",
                "AUTONOUS_SUPERVISOR_SOCKET": "/run/autonous/supervisor.sock",
                "AUTONOUS_TOOLBOX_SOCKET": "/run/toolbox/toolbox.sock",
                "AUTONOUS_DB_PATH": "/state/agent.db",
                "AUTONOUS_CONFIG_DIR": "/config",
                "AUTONOUS_WORKER_CREDENTIAL": self._credential,
                "AUTONOUS_WORKER_SHA": self._candidate.sha,
                "AUTONOUS_WORKER_INSTANCE": "0",
            },
            mounts=(
                Mount(self._candidate.state, "/state"),
                Mount(room / "contract", "/run/autonous", read_only=True),
                Mount(room / "toolbox", "/run/toolbox"),
                Mount(room / "config", "/config", read_only=True),
            ),
        )
