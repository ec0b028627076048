"""Three ways to bring a new revision of a polling worker into service, with the same watch over it afterwards."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import docker
from docker.errors import APIError, NotFound
from docker.types import (
    ContainerSpec,
    Healthcheck,
    Mount,
    RestartPolicy,
    RollbackConfig,
    TaskTemplate,
    UpdateConfig,
)

from supervisor.engine import engine_url
from supervisor.localbot.app import create_server
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import BotStore
from tests.bench import poller
from tests.bench.load import Asked
from tests.chaos.records import committed, service
from tests.support import candidates
from tests.support.installation import Installation, wait_for
from tests.support.projects import new_project

#: How long each of the three watches a new revision before it counts as good.
WATCH_SECONDS = 10
#: What a health check sees of a poller that is wedged.
SILENT_SECONDS = 3
_CHECK_SECONDS = 1
_CHECKS = 2
_STOP_SECONDS = 5
_SECOND = 1_000_000_000
_TOKEN = "123456789:bench-token"
#: The bot is behind a socket; to make a network of its own would cost each container time.
_NETWORK = "host"
_SETTLED_SECONDS = 120


class Way(Protocol):
    """A way. ``fault`` is "" for a good revision, else "exit" or "wedge", three seconds after it took over."""

    name: str
    settings: str

    @property
    def bot(self) -> LocalBotClient:
        """The user's side of its bot."""

    @property
    def socket(self) -> Path:
        """Where that is."""

    def excused(self, asked: Sequence[Asked]) -> int:
        """How many were answered once more because their sender died before it could note the first answer."""

    def prepare(self, fault: str) -> Callable[[], None]:
        """What comes before the deploy; gives the deploy, which ends when the new revision counts as good, or the
        one before is back.
        """


class Supervised:
    """This project's worker under its supervisor, through all gates."""

    name = "supervisor"

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._number = 0
        self.bot = installation.bot()
        self.socket = installation.paths.localbot_user_socket
        self.settings = (
            f"green beside blue, one of them polls; probation {WATCH_SECONDS} s; falls back to warm N-1; "
            "the gates come before, and are not counted"
        )

    def excused(self, asked: Sequence[Asked]) -> int:
        """By the ledger, and by what the workers noted."""
        noted = committed(self._installation.paths.agent_db)
        held = service(self._installation.paths.ledger)
        return sum(
            one.places[0] not in noted and held.holder_died(one.answers[0], one.answers[1])
            for one in asked
            if one.twice
        )

    def prepare(self, fault: str) -> Callable[[], None]:
        """Through the gates; the bad ones are such as pass them."""
        self._number += 1
        checkout = self._installation.checkout
        after = poller.FAULT_AFTER_SECONDS + self._number / 1e6  # no two are the same change
        match fault:
            case "exit":
                patch = candidates.exits_in_service(checkout, after)
            case "wedge":
                patch = candidates.wedges_in_service(checkout, after)
            case _:
                patch = candidates.adds_a_module(checkout, f"side_by_side_{self._number}")
        tx = self._installation.stage(patch)
        expected = "rolled_back" if fault else "promoted"

        def deploy() -> None:
            self._installation.run("approve", tx).expect(0)
            wait_for(lambda: self._installation.status_of(tx) == expected, _SETTLED_SECONDS, expected)

        return deploy


@dataclass
class _Stage:
    """A bot, and the poller's script beside its socket, in a directory that containers mount."""

    directory: Path
    image: str
    client: docker.APIClient = field(init=False)
    project: str = field(default_factory=lambda: new_project("bench"))

    def __post_init__(self) -> None:
        self.client = docker.APIClient(base_url=engine_url(), version="auto")
        (self.directory / "poller.py").write_bytes(Path(poller.__file__).read_bytes())

    @property
    def command(self) -> list[str]:
        return ["python", "/bot/poller.py"]

    def environment(self, fault: str, number: int) -> dict[str, str]:
        named = {"BOT_SOCKET": "/bot/bot.sock", "BOT_TOKEN": _TOKEN, "REVISION": str(number)}
        return {**named, **({"FAULT": fault} if fault else {})}

    @property
    def healthcheck(self) -> Healthcheck:
        age = f"$(( $(date +%s) - $(stat -c %Y {poller.ALIVE}) ))"
        return Healthcheck(
            test=["CMD-SHELL", f"test {age} -lt {SILENT_SECONDS}"],
            interval=_CHECK_SECONDS * _SECOND,
            timeout=_CHECK_SECONDS * _SECOND,
            retries=_CHECKS,
        )


@contextmanager
def stage(directory: Path, image: str) -> Iterator[_Stage]:
    """A bot whose sockets are in a directory of its own."""
    directory.mkdir()
    store = BotStore(":memory:")
    try:
        with create_server(store, _TOKEN, socket=directory / "bot.sock", user_socket=directory / "user.sock"):
            made = _Stage(directory, image)
            yield made
            made.client.close()
    finally:
        store.close()


class _NeverCut:
    """The poller fails between two polls, and never between an answer and its confirmation."""

    def excused(self, asked: Sequence[Asked]) -> int:
        """So nothing is."""
        return 0


class Swarm(_NeverCut):
    """``docker service update`` on a swarm of this one node. A swarm that it had to make is left again."""

    name = "swarm service"
    settings = (
        f"docker service update, order start-first, failure action rollback, monitor {WATCH_SECONDS} s; health check "
        f"every {_CHECK_SECONDS} s, {_CHECKS} failures; restart condition any"
    )

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage
        self._docker = stage.client
        self._number = 0
        self._service = ""
        self._mine = False
        self.socket = stage.directory / "user.sock"
        self.bot = LocalBotClient(self.socket)

    def __enter__(self) -> "Swarm":
        self._mine = self._docker.info()["Swarm"]["LocalNodeState"] == "inactive"
        if self._mine:
            self._docker.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
        made = self._docker.create_service(
            self._task(""),
            name=self._stage.project,
            update_config=UpdateConfig(
                parallelism=1, failure_action="rollback", monitor=WATCH_SECONDS * _SECOND, order="start-first"
            ),
            rollback_config=RollbackConfig(parallelism=1, failure_action="pause", order="start-first"),
        )
        self._service = made["ID"]
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(APIError):
            self._docker.remove_service(self._service)
        if self._mine:
            self._docker.leave_swarm(force=True)

    def prepare(self, fault: str) -> Callable[[], None]:
        """Nothing comes before."""

        def deploy() -> None:
            self._number += 1
            version = self._docker.inspect_service(self._service)["Version"]["Index"]
            self._docker.update_service(
                self._service,
                version,
                task_template=self._task(fault),
                fetch_current_spec=True,
                name=self._stage.project,
            )
            wait_for(
                lambda: self._state(version) in {"completed", "rollback_completed"}, _SETTLED_SECONDS, "the update"
            )

        return deploy

    def _task(self, fault: str) -> TaskTemplate:
        spec = ContainerSpec(
            self._stage.image,
            command=self._stage.command,
            user=str(os.getuid()),
            env=self._stage.environment(fault, self._number),
            mounts=[Mount("/bot", str(self._stage.directory), type="bind")],
            stop_grace_period=_STOP_SECONDS * _SECOND,
            healthcheck=self._stage.healthcheck,
        )
        restart = RestartPolicy(condition="any", delay=_SECOND // 2)
        return TaskTemplate(spec, restart_policy=restart, networks=[_NETWORK])

    def _state(self, before: int) -> str:
        """How far the update is that was ordered at this version."""
        service = self._docker.inspect_service(self._service)
        return str(service.get("UpdateStatus", {}).get("State", "")) if service["Version"]["Index"] > before else ""


class Recreated(_NeverCut):
    """What a script of a few lines does: stop, remove, run the new one, look at it for a while; else the old one."""

    name = "stop and recreate"
    settings = (
        f"docker stop, rm, run; watched for {WATCH_SECONDS} s: an exit or {_CHECKS} failed health checks, one every "
        f"{_CHECK_SECONDS} s, bring the old one back"
    )

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage
        self._docker = stage.client
        self._number = 0
        self.socket = stage.directory / "user.sock"
        self.bot = LocalBotClient(self.socket)

    def __enter__(self) -> "Recreated":
        self._run("")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def prepare(self, fault: str) -> Callable[[], None]:
        """Nothing comes before."""

        def deploy() -> None:
            self._number += 1
            self._stop()
            self._run(fault)
            until = time.monotonic() + WATCH_SECONDS
            while time.monotonic() < until:
                time.sleep(0.1)
                if not self._well():
                    self._stop()
                    self._run("")
                    return

        return deploy

    def _run(self, fault: str) -> None:
        made = self._docker.create_container(
            self._stage.image,
            command=self._stage.command,
            user=str(os.getuid()),
            name=self._stage.project,
            environment=self._stage.environment(fault, self._number),
            healthcheck=self._stage.healthcheck,
            host_config=self._docker.create_host_config(binds=[f"{self._stage.directory}:/bot"], network_mode=_NETWORK),
        )
        self._docker.start(made["Id"])

    def _stop(self) -> None:
        with suppress(NotFound):
            self._docker.stop(self._stage.project, timeout=_STOP_SECONDS)
            self._docker.remove_container(self._stage.project, force=True)

    def _well(self) -> bool:
        state: dict[str, Any] = self._docker.inspect_container(self._stage.project)["State"]
        return bool(state["Running"]) and state.get("Health", {}).get("Status") != "unhealthy"
