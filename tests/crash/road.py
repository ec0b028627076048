"""Whole roads of updates, walked while the supervisor is killed at named places."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from docker.errors import APIError

from supervisor.contract import EventType
from supervisor.control import ControlClient, SupervisorAway
from supervisor.crashpoints import CRASH_FILE, HOLD, held_at
from supervisor.homelock import held
from supervisor.keeper import SUPERVISOR
from supervisor.ledger import Event, Ledger, Update
from supervisor.localbot.faults import PollOutcome
from supervisor.specs import LABEL_PROJECT, LABEL_ROLE
from supervisor.states import FINAL, PENDING, Status
from tests.crash.courses import THERE_AND_BACK, Course
from tests.support import candidates
from tests.support.checkouts import CHECKOUT
from tests.support.conversation import Conversation
from tests.support.echo import PREFIX, SETTINGS, SOCKET, EchoModel
from tests.support.installation import Install, Installation, wait_for
from tests.support.moves import Move, noted, told
from tests.support.played import PlayedModel
from tests.support.polls import overlapping

SECONDS = 240
#: Between two messages of whoever writes all the while, and how long the model thinks: one in two deaths meets a run.
PAUSE_SECONDS = 1.0
THINKS_SECONDS = 0.5


class Deaths:
    """An installation whose supervisor can be told where to die, and to wait. ``bomb`` is the file that says so."""

    def __init__(self, installation: Installation, bomb: Path) -> None:
        self.installation = installation
        self.bomb = bomb

    def dies_at(self, place: str, act: Callable[[], object], *, waits_at: str = "") -> None:
        """Have the supervisor die at a place that it comes by when something is done; nobody starts the next one.

        ``waits_at`` is a place at which another of its threads waits meanwhile.
        """
        self.answers()
        self.installation.kill_keeper()
        self.lay(*([f"{HOLD}{waits_at}"] if waits_at else []), place)
        act()
        self.died(place)

    def died(self, place: str) -> None:
        """The supervisor has come by this place, and nobody has started the next one."""
        self.come_by(place)
        wait_for(lambda: not held(self.installation.paths.lock), 5, "the end of the supervisor")

    def come_by(self, place: str) -> None:
        """Somebody has come by this place, and may have been started again since."""
        wait_for(lambda: not self.bomb.exists(), SECONDS, f"somebody to come by {place}")

    def starts_anew(self, settings: Mapping[str, str] = {}) -> None:
        """A supervisor in place of one that died. A keeper would wait longer after each death, `up` for a worker."""
        subprocess.Popen(
            SUPERVISOR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**self.installation.environment, **settings},
        )

    def answers(self) -> None:
        """A supervisor is there to be asked, and not merely on its way."""

        def look() -> bool:
            with suppress(SupervisorAway):
                return bool(ControlClient(self.installation.paths.control_socket).status())
            return False

        wait_for(look, 60, "a supervisor")

    def command_dies_at(self, place: str, *command: str) -> None:
        """A command that commits by itself dies there, and the supervisor does not."""
        self.answers()
        supervisor = self.installation.supervisor_pid()
        self.lay(place)
        self.installation.run(*command).expect(-9)
        assert not self.bomb.exists()
        assert self.installation.supervisor_pid() == supervisor

    def lay(self, *lines: str) -> None:
        """What the file says from now on; nobody who waits at a place sees it half written."""
        new = self.bomb.with_suffix(".new")
        new.write_text("\n".join(lines))
        new.replace(self.bomb)

    def hold(self, place: str) -> None:
        """Have whoever comes by next wait there."""
        held_at(self.bomb).unlink(missing_ok=True)
        self.lay(f"{HOLD}{place}")

    def until_held(self) -> None:
        """Somebody waits there."""
        wait_for(held_at(self.bomb).exists, SECONDS, f"somebody at {self.bomb.read_text()}")

    # -- looking

    def events(self, *types: EventType) -> list[Event]:
        """What the ledger says of these."""
        with Ledger.read_only(self.installation.paths.ledger) as ledger:
            return ledger.events(*types)

    def update(self, tx: str) -> Update:
        """An update as it is now."""
        with Ledger.read_only(self.installation.paths.ledger) as ledger:
            return ledger.find(tx)

    def left_of(self, role: str) -> list[str]:
        """Containers of a role, dead ones too."""
        labels = [f"{LABEL_PROJECT}={self.installation.project}", f"{LABEL_ROLE}={role}"]
        return [found["Id"] for found in self.installation.docker.containers(all=True, filters={"label": labels})]


class Road(Deaths):
    """An installation with an N-1, whose supervisor can be told where to die; its keeper starts the next one.

    To be entered: its model lives as long. With ``first_death`` its very first process dies there, and there is no N-1.
    """

    def __init__(
        self,
        install: Install,
        directory: Path,
        *,
        first_death: str = "",
        model: EchoModel | PlayedModel | None = None,
        **settings: str,
    ) -> None:
        self._first_death = first_death
        bomb = directory / "crash-here"
        made = install(
            **SETTINGS,
            **{CRASH_FILE: str(bomb)},
            **settings,
        )
        super().__init__(made, bomb)
        self.installation.paths.create(worker_uid=10001)
        model = model or EchoModel(seconds=THINKS_SECONDS)
        self._model = model.serve(self.installation.paths.contract_directory / SOCKET)

    def __enter__(self) -> "Road":
        self._model.__enter__()
        if self._first_death:
            self.bomb.write_text(self._first_death)
            self.decide("up")
            return self
        self.installation.up()
        self.installation.promote(candidates.adds_a_module(CHECKOUT, "the_good_one"))
        return self

    def __exit__(self, *_: object) -> None:
        self._model.__exit__(None, None, None)

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
        if places:
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
        """Wait until the update has one of these statuses; one that ended otherwise is not waited for."""

        def there() -> bool:
            status = self.installation.status_of(tx)
            assert status in statuses or Status(status) not in FINAL, self.installation.run("show", tx).out
            return status in statuses

        wait_for(there, SECONDS, f"{tx} in {statuses}")

    def submit(self, name: str, patch: bytes) -> str:
        """Hand in a patch that has never been seen; its tx, also when its supervisor dies before the answer."""

        def recorded() -> str:
            self.installation.run("submit", "-", "--title", name, given=patch)
            found = [update["tx_id"] for update in self.installation.history() if update["title"] == name]
            assert len(found) <= 1
            return found[0] if found else ""

        return wait_for(recorded, SECONDS, f"{name} in the ledger")

    def walk(
        self,
        name: str,
        deaths: Sequence[str],
        *killed: str,
        course: Course = THERE_AND_BACK,
    ) -> None:
        """Take an update all along its course, dying at each of these places in turn, and see that all is well.

        The places are in the order in which the course comes by them. ``killed`` are roles of containers that die
        with the supervisor; nobody starts the next one before that. Somebody writes all the while.
        """
        before = self.installation.active_sha()
        conversation = Conversation(self.installation, pause=PAUSE_SECONDS)
        found: list[str] = []

        def go() -> None:
            miner = self.mine(deaths, (lambda: self.kill_containers(*killed)) if killed else None)
            tx = self.submit(name, course.patch(name))
            found.append(tx)
            self._bring_about(tx, course)
            miner.join(timeout=30)
            assert not miner.is_alive(), f"nobody came by {self.bomb.read_text()}"

        try:
            conversation.during(go)
        finally:
            self.bomb.unlink(missing_ok=True)
        self.check_answers(conversation, course.ends_a_worker + (len(deaths) if "worker" in killed else 0))
        self.check(found[0], course, before)

    def _bring_about(self, tx: str, course: Course) -> None:
        """What the owner does on this course."""
        if course.passes(Status.STAGED):
            self.reach(tx, "staged")
        if course.passes(Status.APPROVED):
            self.decide("approve", tx)
        if course.chain[-1] is Status.CANCELLED:
            self.decide("cancel", tx)
        if course.passes(Status.PROMOTED):
            self.reach(tx, "promoted")
            self._repeat("approve", tx)
            self.decide("rollback", tx)
        self.reach(tx, str(course.chain[-1]))

    def _repeat(self, command: str, tx: str) -> None:
        """A command that was obeyed changes nothing the second time."""
        before = self.events_of(tx)
        self.decide(command, tx)
        assert self.events_of(tx) == before

    def kill_containers(self, *roles: str) -> None:
        """All that live of these roles, as a machine does that stops."""
        for role in roles:
            for container in self.installation.containers(role):
                with suppress(APIError):  # it went by itself
                    self.installation.docker.kill(container["Id"])

    # -- what must hold at the end

    def check(self, tx: str, course: Course, good: str) -> None:
        """Each move once with its events, its evidence, base active again, N-1 beside it, and nobody else."""
        assert self.events_of(tx) == told(course.chain)
        update = self.installation.show(tx)
        if course.passes(Status.STAGED):
            assert update["test_summary"]["passed"] > 0
            for exam in ("candidate", "base_after"):
                assert all(part["passed"] for part in update["self_check_summary"][exam])
        if course.chain[-1] is Status.ROLLED_BACK:
            self._repeat("rollback", tx)
        if course.chain[-1] is Status.CANCELLED:
            self._repeat("cancel", tx)
        assert self.at_rest()["active"]["sha"] == good
        with self.installation.bot() as bot:
            polls = bot.polls()
        assert overlapping(polls) == []
        assert [poll for poll in polls if poll.outcome is PollOutcome.CONFLICT] == []

    def events_of(self, tx: str) -> list[Move]:
        with Ledger.read_only(self.installation.paths.ledger) as ledger:
            return noted(ledger, tx)

    def at_rest(self) -> dict[str, Any]:
        """The status, as soon as active and standby are what runs, each with its toolbox."""

        def look() -> dict[str, Any] | None:
            status = self.installation.status_at_once()
            if not (status["active"] and status["standby"]) or any(
                update["status"] in PENDING for update in status["pending"]
            ):
                return None
            both = [status["active"], status["standby"]]
            wanted = {worker["container"] for worker in both}
            living = self._names("worker"), self._names("toolbox")
            # Right after a way back it is the revision gone back from that stands by.
            if status["standby"]["sha"] != status["previous"]["sha"]:
                return None
            healthy = all(worker["health"] == "healthy" for worker in both)
            return status if healthy and living == (wanted, {f"{name}-toolbox" for name in wanted}) else None

        status = wait_for(look, SECONDS, "nobody but the active worker and a warm N-1 of the right revision")
        assert status is not None
        return status

    def _names(self, role: str) -> set[str]:
        return {container["Name"].removeprefix("/") for container in self.installation.containers(role)}

    def check_answers(self, conversation: Conversation, killed: int = 0) -> None:
        """Each message once, in its order.

        Telegram may have taken an answer whose worker was killed before it could note that: once more is right then.
        """
        answers = conversation.answers()
        assert list(dict.fromkeys(answers)) == [f"{PREFIX}{text}" for text in conversation.sent]
        assert len(answers) - len(conversation.sent) <= killed, [t for t, n in Counter(answers).items() if n > 1]
