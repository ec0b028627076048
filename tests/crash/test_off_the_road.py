"""The supervisor is killed where an update on its road does not come by: each place by what a user does to get there.

Long, like the deaths at all places: `make crash` runs it. Which place is shown by which test says ``elsewhere.py``.
"""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Final

import pytest

from supervisor import facts
from supervisor.contract import EventType
from supervisor.crashpoints import CRASH_FILE
from supervisor.homelock import held
from supervisor.keeper import SUPERVISOR
from supervisor.ledger import Event, Ledger, Update
from supervisor.localbot.app import create_server
from supervisor.localbot.client import LocalBotClient, Message
from supervisor.localbot.faults import FaultKind
from supervisor.localbot.store import BotStore
from supervisor.specs import LABEL_GRANTS, LABEL_PROJECT, LABEL_ROLE
from supervisor.states import Status
from tests.crash.courses import COURSES, Course, told
from tests.crash.elsewhere import CANCELLED_WHILE, deaths, shown_by
from tests.crash.road import SECONDS, Deaths, Road
from tests.e2e.test_purge import of_engine
from tests.e2e.test_rescue import UNUSABLE
from tests.support import candidates
from tests.support.checkouts import CHECKOUT, patch_of, replaced
from tests.support.echo import PREFIX
from tests.support.installation import Install, Installation, wait_for
from tests.support.played import Call, PlayedModel
from tests.support.toolwork import Toolwork

pytestmark = pytest.mark.exhaustive

REFUSED_PACKAGE: Final = "autonous-no-such-package-anywhere"
FAILS: Final = next(course for course in COURSES if course.name == "its tests fail")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below it directories may be granted."""
    return tmp_path_factory.mktemp("ground")


@pytest.fixture(scope="module")
def model() -> PlayedModel:
    """Repeats what it is asked, and calls tools where a test has written so."""
    return PlayedModel({})


@pytest.fixture(scope="module")
def road(
    install: Install, ground: Path, model: PlayedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    """Up, with an N-1, where everything is allowed that leads to one of these places."""
    settings = {
        "AUTONOUS_GRANTABLE_ROOTS": str(ground),
        "AUTONOUS_UPDATE_SELF_CHECK_CMD": "true",
        "AUTONOUS_ALLOW_DEPENDENCY_UPDATES": "1",
        "SUPERVISOR_CRASH_THRESHOLD": "1000",  # workers that cannot start are no reason to go back here
    }
    with Road(install, tmp_path_factory.mktemp("bombs"), model=model, **settings) as made:
        yield made


@pytest.fixture
def bot(road: Road) -> Iterator[LocalBotClient]:
    """The owner's side of the chat."""
    with road.installation.bot() as client:
        yield client


@pytest.fixture
def work(road: Road, model: PlayedModel) -> Toolwork:
    """Tool calls that the model makes."""
    return Toolwork(road.installation, model)


# -- looking


def events(road: Deaths, *types: EventType) -> list[Event]:
    """What the ledger says of these."""
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        return ledger.events(*types)


def update(road: Road, tx: str) -> Update:
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        return ledger.find(tx)


def presses(road: Road, tx: str, verdict: str) -> int:
    """How many presses about an update came to this."""
    found = [event.payload for event in events(road, EventType.UPDATE_PRESSED) if event.payload.get("tx_id") == tx]
    return [payload["verdict"] for payload in found].count(verdict)


def about(bot: LocalBotClient, tx: str) -> list[Message]:
    """The messages about an update as they are now, but its diff."""
    return [m for m in bot.messages() if f"Update {tx[:8]}" in m.text and not m.document]


def card(bot: LocalBotClient, tx: str, label: str) -> Message:
    """The newest card of an update that has this button."""

    def look() -> Message | None:
        found = [m for m in about(bot, tx) if any(button.label == label for button in m.buttons)]
        return found[-1] if found else None

    shown = wait_for(look, 60, f"a card of {tx[:8]} with {label!r}")
    assert shown is not None
    return shown


def said(bot: LocalBotClient, cursor: int, beginning: str) -> list[str]:
    """What the bot said since and as it stands at last, of what begins like this."""
    texts = {e.message.message_id: e.message.text for e in bot.events(cursor) if e.from_bot and e.message is not None}
    return [text for text in texts.values() if text.startswith(beginning)]


def ended(road: Road, miner: Thread) -> None:
    """Somebody came by each place, and a supervisor is there again."""
    miner.join(60)
    assert not miner.is_alive(), f"nobody came by {road.bomb.read_text()}"
    road.answers()


def left_of(road: Road, role: str) -> list[str]:
    """Containers of a role, dead ones too."""
    labels = [f"{LABEL_PROJECT}={road.installation.project}", f"{LABEL_ROLE}={role}"]
    return [found["Id"] for found in road.installation.docker.containers(all=True, filters={"label": labels})]


# -- an update's own


def test_while_a_check_of_the_owners_is_made(road: Road) -> None:
    """It is made anew each time, and none is left."""
    miner = road.mine(shown_by("test_while_a_check_of_the_owners_is_made"))
    tx = road.submit("checked", candidates.adds_a_module(CHECKOUT, "checked"))
    road.reach(tx, "staged")
    ended(road, miner)
    assert left_of(road, "check") == []
    road.decide("cancel", tx)
    road.at_rest()


def test_as_a_build_fails(road: Road) -> None:
    """Once, by the update's own fault."""
    files = replaced(CHECKOUT, "worker/requirements.in", "httpx\n", f"httpx\n{REFUSED_PACKAGE}\n")
    miner = road.mine(shown_by("test_as_a_build_fails"))
    tx = road.submit("no such package", patch_of(CHECKOUT, files))
    road.reach(tx, "build_failed")
    ended(road, miner)
    assert road.events_of(tx) == told(Course("", (Status.CREATED, Status.BUILDING, Status.BUILD_FAILED)))
    assert update(road, tx).blame == "own"
    road.at_rest()


@pytest.mark.parametrize("status", CANCELLED_WHILE)
def test_as_it_is_cancelled(road: Road, status: Status) -> None:
    """Whatever it is at: before the commit the owner says it again, after it everybody knows."""
    before, after = deaths(f"ledger.{status}.cancelled")
    wait = CANCELLED_WHILE[status]
    name = f"cancelled_while_{status}"
    if status is Status.APPROVED:
        tx = road.installation.stage(candidates.adds_a_module(CHECKOUT, name))
        road.hold(wait)
        road.decide("approve", tx)
    else:
        road.hold(wait)
        tx = road.submit(name, candidates.adds_a_module(CHECKOUT, name))
    road.until_held()
    road.dies_at(before, lambda: road.installation.run("cancel", tx), waits_at=wait)
    assert road.installation.status_of(tx) == status
    road.hold(wait)
    road.installation.up()
    road.until_held()
    road.dies_at(after, lambda: road.installation.run("cancel", tx), waits_at=wait)
    assert road.installation.status_of(tx) == "cancelled"
    road.installation.up()
    assert "already" in road.installation.run("cancel", tx).expect(0).out
    assert [to for _, _, to in road.events_of(tx)].count("cancelled") == 1
    road.at_rest()
    for role in ("test", "exam", "check"):
        assert wait_for(lambda role=role: left_of(road, role) == [], 20, f"no {role} is left")  # type: ignore[misc]


def test_as_others_are_superseded(road: Road) -> None:
    """One that waits and one that was approved: each once, each made again once."""
    names = ("takes_their_base", "was_approved", "was_staged")
    first, *others = (road.installation.stage(candidates.adds_a_module(CHECKOUT, name)) for name in names)
    road.hold("ledger.deployed_unstable.promoted.before")
    road.decide("approve", first)
    road.until_held()
    road.decide("approve", others[0])
    road.installation.kill_keeper()  # the next place is laid before anybody starts the next supervisor
    for place in shown_by("test_as_others_are_superseded"):
        road.lay(place)
        if not held(road.installation.paths.lock):
            starts_anew(road)
        wait_for(lambda: not road.bomb.exists(), 60, f"somebody to come by {place}")
        wait_for(lambda: not held(road.installation.paths.lock), 5, "the end of the supervisor")
    road.installation.up()
    for tx in others:
        road.reach(tx, "superseded")
    again = [wait_for(lambda tx=tx: made_again(road, tx), 60, "another of it") for tx in others]  # type: ignore[misc]
    for tx, others_again in zip(others, again, strict=True):
        (made,) = others_again
        assert [to for _, _, to in road.events_of(tx)].count("superseded") == 1
        road.reach(made, "created", "building", "testing", "self_checking", "staged")
        road.decide("cancel", made)
    assert road.at_rest()["active"]["tx_id"] == first
    assert [made_again(road, tx) for tx in others] == again


def made_again(road: Road, tx: str) -> list[str]:
    """The updates that name this one as what they are made from."""
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        return [found.tx_id for found in ledger.updates() if found.supersedes == tx]


# -- in the chat


def test_as_a_button_is_pressed(road: Road, bot: LocalBotClient) -> None:
    """It counts once, whether it decides something or nothing; what nobody heard is pressed again."""
    tx = road.installation.stage(candidates.adds_a_module(CHECKOUT, "pressed"))
    approve = card(bot, tx, "Approve")
    for place in deaths("ledger.staged.approved"):
        road.dies_at(place, lambda: bot.press("Approve", message_id=approve.message_id))
        road.installation.up()
        assert presses(road, tx, "accepted") == place.endswith(".after")
    road.reach(tx, "promoted")
    assert update(road, tx).approval_by == "chat:1"

    bot.send(f"/rollback {tx[:8]}")
    stay = card(bot, tx, "Stay")
    for place in shown_by("test_as_a_button_is_pressed"):
        road.dies_at(place, lambda: bot.press("Stay", message_id=stay.message_id))
        road.installation.up()
        assert presses(road, tx, "accepted") == 1 + place.endswith(".after")
    wait_for(lambda: next(m for m in about(bot, tx) if m.message_id == stay.message_id).buttons == (), 30, "its end")
    assert road.installation.status_of(tx) == "promoted"
    assert presses(road, tx, "accepted") == 2
    assert road.at_rest()["active"]["tx_id"] == tx


def test_as_the_bot_does_not_take_an_ending(road: Road, bot: LocalBotClient) -> None:
    """It is told at most once; after a death of which nobody knows what was told, its card shows it all the same."""
    before, after = shown_by("test_as_the_bot_does_not_take_an_ending")
    tx = road.installation.stage(candidates.adds_a_module(CHECKOUT, "told"))
    card(bot, tx, "Approve")
    road.hold("ledger.deployed_unstable.promoted.before")
    road.decide("approve", tx)
    road.until_held()
    bot.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=1)
    road.dies_at(after, lambda: None)
    road.installation.up()
    wait_for(lambda: endings(bot, tx, "is promoted"), 60, "the ending")
    bot.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=1)
    road.dies_at(before, lambda: road.installation.run("rollback", tx))
    bot.clear_faults()
    road.installation.up()
    road.reach(tx, "rolled_back")
    wait_for(lambda: any(m.text.startswith("It is rolled back") for m in about(bot, tx)), 30, "what the card says")
    road.at_rest()
    assert len(endings(bot, tx, "is promoted")) == 1
    assert len(endings(bot, tx, "was rolled back")) <= 1


def endings(bot: LocalBotClient, tx: str, words: str) -> list[str]:
    return [m.text for m in about(bot, tx) if m.text.startswith(f"Update {tx[:8]} ") and words in m.text]


# -- tools


def test_as_a_directory_is_granted_and_taken_back(road: Road, bot: LocalBotClient, ground: Path) -> None:
    """Granted once and taken back once; whatever the ledger says, the toolboxes have it soon and nothing else."""
    path = ground / "granted"
    path.mkdir(mode=0o777)
    for place, there in zip(deaths("ledger.grant"), (0, 1), strict=True):
        road.dies_at(place, lambda: bot.send(f"/grant {path} ro 1"))
        assert len(events(road, EventType.GRANT_CREATED)) == there
        road.installation.up()
        in_accordance(road)
    (number,) = in_accordance(road)
    for place, there in zip(deaths("ledger.grant.end"), (0, 1), strict=True):
        road.dies_at(place, lambda: bot.send(f"/revoke {number}"))
        assert len(events(road, EventType.GRANT_REVOKED)) == there
        road.installation.up()
        in_accordance(road)
    assert in_accordance(road) == []
    assert len(events(road, EventType.GRANT_CREATED)) == 1
    assert "Nothing is granted" in road.installation.say("/grants")
    road.at_rest()


def in_accordance(road: Road) -> list[int]:
    """The grants in the ledger, as soon as every toolbox has them and no other."""
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        numbers = [row.number for row in ledger.open_grants()]

    def look() -> bool:
        boxes = road.installation.containers("toolbox")
        wanted = ",".join(map(str, numbers))
        return len(boxes) == 2 and all(box["Config"]["Labels"][LABEL_GRANTS] == wanted for box in boxes)

    wait_for(look, 60, f"toolboxes with {numbers}")
    return numbers


def test_as_a_call_is_given_the_network(road: Road, bot: LocalBotClient, work: Toolwork) -> None:
    """The call ends, its toolbox with it, and the next one is asked for anew."""
    online = Call("bash", {"command": "echo there", "network": True})
    for place in shown_by("test_as_a_call_is_given_the_network"):
        job = work.begin(online)
        question = work.question(job)
        road.dies_at(place, lambda question=question: work.press("Allow", question))  # type: ignore[misc]
        road.installation.up()
        work.results(job)
        assert wait_for(lambda: left_of(road, "network-toolbox") == [], 30, "the end of its toolbox")
    job = work.begin(online)
    work.press("Allow", work.question(job))
    assert work.results(job)[0]["stdout"].strip() == "there"
    road.at_rest()


# -- what the owner does on the machine


def test_as_the_supervisor_is_told_to_end(road: Road) -> None:
    """``down`` given again ends all, and the update in hand goes on with the next ``up``."""
    tx = ""
    for number, place in enumerate(shown_by("test_as_the_supervisor_is_told_to_end")):
        name = f"taken_down_{number}"
        road.hold("engine.start.test.after")
        tx = road.submit(name, candidates.adds_a_module(CHECKOUT, name))
        road.until_held()
        road.dies_at(place, lambda: road.installation.run("down"))
        road.installation.down()
        assert road.installation.containers() == []
        assert road.installation.status_of(tx) == "testing"
        road.hold("engine.start.test.after")
        road.installation.up()
        road.until_held()
        road.bomb.unlink()
        road.decide("cancel", tx)
    road.at_rest()


def test_as_old_events_are_removed(road: Road) -> None:
    """The command given again removes what is left, once."""
    old = 1_600_000_000.0
    before, after = shown_by("test_as_old_events_are_removed")
    command = ("prune", "--older-than", "30", "--yes")
    for first in (1000, 2000):
        with closing(sqlite3.connect(road.installation.paths.ledger, timeout=10)) as database, database:
            rows = [(first + number, old, "worker.ready") for number in range(3)]
            database.executemany("INSERT INTO events VALUES (?, ?, NULL, ?, '{}')", rows)
        road.command_dies_at(before if first == 1000 else after, *command)
        left = json.loads(road.installation.run(*command, "--json").expect(0).out)["supervisor"]
        assert left == (3 if first == 1000 else 0)
    pruned = [event.payload["removed"] for event in events(road, EventType.EVENTS_PRUNED)]
    assert pruned == [3, 3]
    assert json.loads(road.installation.run(*command, "--json").expect(0).out)["supervisor"] == 0
    road.at_rest()


def test_as_images_are_removed(road: Road) -> None:
    """The next ``gc`` finishes it, and what runs has its image all the while."""
    gc = ("gc", "--keep", "1")

    def due() -> set[str]:
        told = road.installation.run(*gc, "--dry-run", "--json").expect(0).json
        return {image["image_id"] for image in told["images"]}

    number = 0
    places = shown_by("test_as_images_are_removed")
    while len(due()) < len(places):
        number += 1
        road.installation.submit(FAILS.patch(f"to_be_removed_{number}"))
    for place in places:
        before = due()
        road.command_dies_at(place, *gc)
        assert bool(before - due()) == (place != "engine.remove_image.before")
        assert_all_have_their_images(road)
    road.installation.run(*gc).expect(0)
    assert due() == set()
    assert_all_have_their_images(road)
    road.at_rest()


def assert_all_have_their_images(road: Road) -> None:
    """Every container that runs, and what can be gone back to."""
    for role in ("worker", "toolbox"):
        for container in road.installation.containers(role):
            assert road.installation.docker.inspect_image(container["Image"])


# -- nothing runs


def test_while_nothing_runs(road: Road, bot: LocalBotClient) -> None:
    """What was written is kept, and answered once when a worker is back; the owner is told what goes on.

    What the supervisor itself had sent as it died is sent once more, since nobody knows that it was.
    """
    assert road.installation.say("hello") == f"{PREFIX}hello"
    cursor = bot.events()[-1].cursor
    stops_working(road)
    for place in shown_by("test_while_nothing_runs"):
        kind = place.rpartition(".")[0]
        if kind == "ledger.kept.taken":
            break
        road.lay(place)  # before anybody starts who might come by at once
        if not held(road.installation.paths.lock):
            starts_anew(road, UNUSABLE)
        if kind == "ledger.keep":
            bot.send(f"kept {place}")
        if kind == "ledger.kept.answered":
            bot.send("/status")
        wait_for(lambda: not road.bomb.exists(), 120, f"somebody to come by {place}")
        wait_for(lambda: not held(road.installation.paths.lock), 5, "the end of the supervisor")
    starts_anew(road, UNUSABLE)
    wait_for(lambda: said(bot, cursor, "No worker runs: "), 60, "the notice")
    wait_for(lambda: len(said(bot, cursor, "Nothing runs: ")) >= 3, 60, "the answers to /status")
    assert said(bot, cursor, PREFIX) == []

    taken = deaths("ledger.kept.taken")
    road.lay(taken[0])
    road.installation.run("up")
    wait_for(lambda: not road.bomb.exists(), SECONDS, taken[0])
    road.lay(taken[1])
    road.installation.run("up")
    wait_for(lambda: not road.bomb.exists(), SECONDS, taken[1])
    road.installation.up()
    texts = [f"{PREFIX}kept {place}" for place in deaths("ledger.keep")]
    wait_for(lambda: len(said(bot, cursor, PREFIX)) >= len(texts), 60, "the answers to what was kept")
    assert road.installation.say("and now?") == f"{PREFIX}and now?"
    assert said(bot, cursor, PREFIX) == [*texts, f"{PREFIX}and now?"]
    assert len(said(bot, cursor, "No worker runs: ")) == 2  # the first of them was sent, and its sending not noted
    assert len(said(bot, cursor, "Nothing runs: ")) == 3  # of two questions; one answer was not noted
    assert len(events(road, EventType.RESCUE_STARTED)) == 1
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        assert ledger.notices() == []
    road.at_rest()


def stops_working(road: Road) -> None:
    """Every worker ends at its start from now on, and those that ran are gone."""
    road.installation.run("up", settings=UNUSABLE).expect(1)
    road.installation.kill_keeper()
    road.kill_containers("worker")


def starts_anew(road: Deaths, settings: Mapping[str, str] = {}) -> None:
    """A supervisor in place of the one that died. A keeper would wait longer after each death, `up` for a worker."""
    subprocess.Popen(
        SUPERVISOR,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**road.installation.environment, **settings},
    )


# -- of an installation of its own: it has an owner yet to be, and is removed


@pytest.fixture
def unclaimed(install: Install, tmp_path: Path) -> Iterator[tuple[Deaths, LocalBotClient]]:
    """At a bot of Telegram's that nobody has claimed, with the side of its users; not up yet."""
    bomb = tmp_path / "crash-here"
    token = "123456:" + "a" * 35
    made = install(
        TELEGRAM_BOT_TOKEN=token,
        TELEGRAM_API_BASE_URL="http://127.0.0.1:9",  # the supervisor itself has nothing to say here
        AUTONOUS_TELEGRAM_UDS="/run/autonous/telegram.sock",
        **{CRASH_FILE: str(bomb)},
    )
    made.paths.create(worker_uid=10001)
    socket, user = made.paths.contract_directory / "telegram.sock", made.paths.run / "users.sock"
    with (
        closing(BotStore(tmp_path / "bot.db")) as store,
        create_server(store, token, socket=socket, user_socket=user),
        LocalBotClient(user) as client,
    ):
        yield Deaths(made, bomb), client


def test_as_a_bot_is_claimed_and_as_an_installation_is_purged(unclaimed: tuple[Deaths, LocalBotClient]) -> None:
    """One owner, by one event; and ``make purge`` given again leaves nothing."""
    road, bot = unclaimed
    road.installation.up()
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        code = ledger.fact(facts.CLAIM)
    before, after = deaths("ledger.owner")
    road.dies_at(before, lambda: bot.send(f"/start {code}"))
    assert events(road, EventType.OWNER_CLAIMED) == []
    road.lay(after)
    road.installation.run("up")  # the worker claims it again, as soon as there is anybody to hear it
    wait_for(lambda: not road.bomb.exists(), 60, "the worker to claim it again")
    assert len(events(road, EventType.OWNER_CLAIMED)) == 1
    road.installation.up()
    sent = bot.send("are you there?")
    bot.wait_for(lambda message: bool(message.text), 60, after=sent.cursor)
    bot.send(f"/start {code}")
    time.sleep(1)
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        assert list(ledger.owners()) == [1]
    assert len(events(road, EventType.OWNER_CLAIMED)) == 1

    networks = of_engine(road.installation)["network"]
    assert networks
    for place, gone in zip(deaths("engine.remove_network"), (0, 1), strict=True):
        road.lay(place)
        assert purge(road.installation) == -9
        assert not road.bomb.exists()
        assert len(networks) - len(of_engine(road.installation)["network"]) == gone
    assert purge(road.installation) == 0
    assert not any(of_engine(road.installation).values())


def purge(installation: Installation) -> int:
    """What the Makefile's target runs, with nobody to ask."""
    command = [sys.executable, "-m", "supervisor.purge"]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=180,
        cwd=installation.checkout,
        env=installation.environment,
    ).returncode
