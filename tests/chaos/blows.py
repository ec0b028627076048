"""What happens to an installation in a chaos run: something of it is killed or frozen, at random."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from supervisor.homelock import held
from supervisor.specs import LABEL_PROJECT
from tests.support.installation import Installation
from tests.support.privateengine import PrivateEngine

PAUSE_SECONDS = (1.0, 9.0)
#: How long nobody may see to it that a supervisor runs.
AWAY_SECONDS = (0.0, 3.0)


class Blows:
    """Deals one blow after the other, and counts what it ``dealt``."""

    def __init__(self, installation: Installation, chance: random.Random, say: Callable[[str], None]) -> None:
        self._installation = installation
        self._chance = chance
        self._say = say
        self.dealt: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "worker killed": (5, self._kill_worker),
            "worker frozen": (1, self._freeze_worker),
            "toolbox killed": (1, self._kill_toolbox),
            "supervisor killed": (4, self._kill_supervisor),
            "supervisor and worker killed": (2, self._kill_both),
            "everything killed": (1, self._kill_everything),
        }

    def add_engine(self, engine: PrivateEngine) -> None:
        """Blows to the engine itself, which must be the run's own."""

        def cut_power() -> None:
            engine.cut_power()
            time.sleep(self._chance.uniform(*AWAY_SECONDS))
            engine.start()

        self._kinds["engine restarted"] = (1, engine.restart)
        self._kinds["engine's machine lost its power"] = (1, cut_power)

    def deal(self, over: threading.Event) -> None:
        """Until it is over."""
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        while not over.wait(self._chance.uniform(*PAUSE_SECONDS)):
            (name,) = self._chance.choices(names, weights)
            with suppress(DockerException, RequestException):  # it was gone before
                self._kinds[name][1]()
                self.dealt[name] += 1
                self._say(name)

    def _kill_worker(self) -> None:
        self._on_container("worker", self._installation.docker.kill)

    def _freeze_worker(self) -> None:
        self._on_container("worker", self._installation.docker.pause)

    def _kill_toolbox(self) -> None:
        self._on_container("toolbox", self._installation.docker.kill)

    def _kill_supervisor(self) -> None:
        if held(self._installation.paths.lock):
            with suppress(ProcessLookupError):
                os.kill(self._installation.supervisor_pid(), signal.SIGKILL)
        time.sleep(self._chance.uniform(*AWAY_SECONDS))
        self.bring_up()

    def _kill_both(self) -> None:
        self._kill_worker()
        self._kill_supervisor()

    def _kill_everything(self) -> None:
        """As when the machine loses its power, but for the bot: that is Telegram's machine."""
        if held(self._installation.paths.lock):
            self._installation.kill_supervisor()
        ours = {"label": f"{LABEL_PROJECT}={self._installation.project}"}
        for found in self._installation.docker.containers(filters=ours):
            with suppress(APIError):
                self._installation.docker.kill(found["Id"])
        time.sleep(self._chance.uniform(*AWAY_SECONDS))
        self.bring_up()

    def bring_up(self) -> None:
        """What a keeper does, too, but that waits longer after each death. A supervisor may die again meanwhile."""
        self._installation.run("up")

    def _on_container(self, role: str, act: Callable[[str], None]) -> None:
        found = self._installation.containers(role)
        if found:
            act(self._chance.choice(found)["Id"])
