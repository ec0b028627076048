"""One whole road of an update, walked while the supervisor is killed at named places."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

from docker.errors import APIError

from supervisor.crashpoints import CRASH_FILE
from supervisor.ledger import Ledger
from tests.support import candidates
from tests.support.checkouts import CHECKOUT
from tests.support.installation import Install, Installation, wait_for

SECONDS = 90

#: What an update goes through from its submission until it is taken back, each status once.
WHOLE_CHAIN = [
    *("created", "building", "testing", "self_checking", "staged", "approved", "deploying"),
    *("deployed_unstable", "promoted", "rollback_pending", "rolled_back"),
]


class Road:
    """An installation whose supervisor can be told where to die; its keeper starts the next one."""

    def __init__(self, install: Install, directory: Path) -> None:
        self.bomb = directory / "crash-here"
        self.installation: Installation = install(**{CRASH_FILE: str(self.bomb)})
        self.installation.up()
        self._messages = 0

    def mine(self, places: Sequence[str], along: Callable[[], object] | None = None) -> Thread:
        """Have one process after the other die at these places, each laid as soon as the one before was come by.

        With ``along``, which is what dies with it, nobody starts the next one before that is done.
        """

        def lay() -> None:
            for number, place in enumerate(places):
                self.bomb.write_text(place)
                if number:
                    # The keeper would do it too, but waits longer after each death.
                    self._start(along)
                while self.bomb.exists():
                    time.sleep(0.01)
                if along is not None:
                    along()
            if along is not None:
                self._start(None)

        if along is not None:
            self.installation.kill_keeper()
        thread = Thread(target=lay, daemon=True)
        thread.start()
        wait_for(self.bomb.exists, 5, "the first of the places")
        return thread

    def _start(self, along: Callable[[], object] | None) -> None:
        self.installation.run("up")
        if along is not None:
            self.installation.kill_keeper()

    def decide(self, *command: str) -> None:
        """A command whose supervisor may die under it: given again, as its owner would."""

        def done() -> bool:
            return self.installation.run(*command).code == 0

        wait_for(done, SECONDS, " ".join(command))

    def reach(self, tx: str, *statuses: str) -> None:
        """Wait until the update has one of these statuses."""
        wait_for(lambda: self.installation.status_of(tx) in statuses, SECONDS, f"{tx} in {statuses}")

    def talk(self) -> None:
        """One message, one answer."""
        self._messages += 1
        assert self.installation.say(f"message {self._messages}")

    def submit(self, name: str) -> str:
        """Hand in a good patch that has never been seen; its tx, also when its supervisor dies before the answer."""
        patch = candidates.adds_a_module(CHECKOUT, name)

        def recorded() -> str:
            self.installation.run("submit", "-", "--title", name, given=patch)
            found = [update["tx_id"] for update in self.installation.history() if update["title"] == name]
            assert len(found) <= 1
            return found[0] if found else ""

        return wait_for(recorded, SECONDS, f"{name} in the ledger")

    def walk(self, name: str, deaths: Sequence[str], along: Callable[[], object] | None = None) -> str:
        """Submit, approve, promote, roll back, dying at each of these places in turn; the tx.

        The places are in the order in which the road comes by them. See :meth:`mine` on ``along``.
        """
        miner = self.mine(deaths, along)
        tx = self.submit(name)
        self.reach(tx, "staged")
        self.decide("approve", tx)
        self.reach(tx, "promoted")
        self.talk()
        self.decide("rollback", tx)
        self.reach(tx, "rolled_back")
        miner.join(timeout=5)
        assert not miner.is_alive(), f"nobody came by {self.bomb.read_text()}"
        return tx

    def kill_containers(self, *roles: str) -> None:
        """All that live of these roles, as a machine does that stops."""
        for role in roles:
            for container in self.installation.containers(role):
                with suppress(APIError):  # it went by itself
                    self.installation.docker.kill(container["Id"])

    def check(self, tx: str, active_before: str) -> None:
        """What must hold at the end: the chain, an event with each status, one active worker, N-1, and answers."""
        with Ledger.read_only(self.installation.paths.ledger) as ledger:
            events = ledger.events(parent_id=ledger.find(tx).event_id)
        moves = [(e.payload["status_from"], e.payload["status_to"]) for e in events if "status_to" in e.payload]
        expected = list(itertools.pairwise(WHOLE_CHAIN))
        assert list(dict.fromkeys(moves)) == expected
        status = self.installation.settled()
        assert status["active"]["sha"] == active_before
        holders = [c["Name"] for c in self.installation.containers()]
        assert status["active"]["container"] in [name.removeprefix("/") for name in holders]
        self.talk()
