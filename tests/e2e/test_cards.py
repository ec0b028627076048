"""Cards on a real installation: the supervisor asks in the chat, the worker relays, and only a button decides."""

import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.localbot.client import LocalBotClient, Message
from supervisor.localbot.store import OWNER
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for

STRANGER = 999


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up."""
    made = install()
    made.up()
    return made


@pytest.fixture
def bot(installation: Installation) -> Iterator[LocalBotClient]:
    """The owner's side of the chat."""
    with installation.bot() as client:
        yield client


def shown(bot: LocalBotClient, tx: str, chat: int = OWNER) -> list[Message]:
    """The messages about an update, as they are now, but its diff."""
    return [m for m in bot.messages(chat_id=chat) if f"Update {tx[:8]}" in m.text and not m.document]


def card(bot: LocalBotClient, tx: str, seconds: float = 10) -> Message:
    """The card of an update with its buttons."""

    def look() -> Message | None:
        return next((m for m in reversed(shown(bot, tx)) if m.buttons), None)

    found = wait_for(look, seconds, f"a card of {tx[:8]}")
    assert found is not None
    return found


def settled(bot: LocalBotClient, tx: str, words: str, seconds: float = 30) -> Message:
    """The message about an update that begins with these words."""

    def look() -> Message | None:
        return next((m for m in reversed(shown(bot, tx)) if m.text.startswith(words)), None)

    found = wait_for(look, seconds, f"{words!r} about {tx[:8]}")
    assert found is not None
    return found


def verdicts(installation: Installation, tx: str) -> list[str]:
    """What came of each press about an update, oldest first."""
    with closing(sqlite3.connect(f"file:{installation.paths.ledger}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT payload ->> 'verdict' FROM events WHERE event_type = 'update.press' AND payload ->> 'tx_id' = ?"
            " ORDER BY id",
            (tx,),
        ).fetchall()
    return [verdict for (verdict,) in rows]


def strangers_refused(installation: Installation) -> int:
    """How often the worker has noted that it passed the stranger by."""
    with closing(sqlite3.connect(f"file:{installation.paths.agent_db}?mode=ro", uri=True)) as connection:
        (number,) = connection.execute(
            "SELECT COUNT(*) FROM events WHERE event_type = 'message.refused' AND payload ->> 'reason' = 'stranger'"
            " AND payload ->> 'user_id' = ?",
            (STRANGER,),
        ).fetchone()
    return int(number)


def until_verdicts(installation: Installation, tx: str, *wanted: str) -> None:
    """Wait until the presses about an update have come to this."""
    wait_for(lambda: verdicts(installation, tx) == list(wanted), 10, f"{wanted} for {tx[:8]}")


def pressed(callback_id: str, message: Message, label: str) -> dict[str, Any]:
    """The owner's press of a button as the bot is told of it, whether the button is still there or not."""
    place = {"message_id": message.message_id, "chat": {"id": OWNER, "type": "private", "first_name": "x"}, "date": 1}
    return {
        "id": callback_id,
        "from": {"id": OWNER, "is_bot": False, "first_name": "Owner"},
        "message": place,
        "chat_instance": "1",
        "data": next(button.data for button in message.buttons if button.label == label),
    }


Stage = Callable[[str], str]


@pytest.fixture
def stage(installation: Installation, checkout: Path) -> Stage:
    """Stages an update that adds a module of this name."""
    return lambda name: installation.stage(candidates.adds_a_module(checkout, name))


def test_rejected(installation: Installation, bot: LocalBotClient, stage: Stage) -> None:
    """By the button, through the worker; the command line shows the same card."""
    tx = stage("rejected")
    asked = card(bot, tx)
    assert [button.label for button in asked.buttons] == ["Approve", "Reject"]
    assert re.search(r"^Expires \d{4}-\d\d-\d\d \d\d:\d\d UTC\.$", asked.text, re.MULTILINE)
    assert f"\nBound\ndigest {installation.show(tx)['digest'][:12]}, revision " in asked.text
    body = asked.text.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    on_terminal = [line.strip() for line in installation.run("show", tx).expect(0).out.splitlines()]
    assert [line for line in body.splitlines() if line and line not in on_terminal] == []
    diff = wait_for(
        lambda: next((m for m in bot.messages() if m.document == f"change-{tx[:8]}.patch"), None), 10, "the diff"
    )
    assert diff is not None
    assert bot.document(diff.message_id).decode() == installation.run("diff", tx).expect(0).out
    bot.press("Reject", message_id=asked.message_id)
    assert settled(bot, tx, "It is cancelled.").buttons == ()
    assert installation.status_of(tx) == "cancelled"
    until_verdicts(installation, tx, "accepted")


def test_a_stranger_a_replay_and_a_forgery_decide_nothing(
    installation: Installation, bot: LocalBotClient, stage: Stage
) -> None:
    """Each press is noted; the owner's own is good afterwards, and once."""
    tx = stage("replayed")
    asked = card(bot, tx)
    good = pressed("forged", asked, "Approve")

    def press(number: int, **changed: object) -> None:
        bot.update("callback_query", {**good, "id": f"forged-{number}", **changed})

    press(1, message={**good["message"], "message_id": asked.message_id + 1000})
    until_verdicts(installation, tx, "wrong_message")
    bot.press("Reject", message_id=asked.message_id)
    settled(bot, tx, "It is cancelled.")
    press(2)
    until_verdicts(installation, tx, "wrong_message", "accepted", "nonce_used")
    refused = strangers_refused(installation)
    press(3, **{"from": {"id": STRANGER, "is_bot": False, "first_name": "S"}})
    press(4, data="s:guessed")
    assert installation.say("still there?")  # both have been passed by
    assert verdicts(installation, tx) == ["wrong_message", "accepted", "nonce_used"]
    assert strangers_refused(installation) == refused + 1
    assert installation.status_of(tx) == "cancelled"


def test_approved_in_the_chat_and_taken_back_there(
    installation: Installation, bot: LocalBotClient, stage: Stage
) -> None:
    """The whole road by buttons, with an ending for each; a second press of the same button is too late."""
    tx = stage("approved")
    asked = card(bot, tx)
    bot.press("Approve", message_id=asked.message_id)
    until_verdicts(installation, tx, "accepted")
    bot.update("callback_query", pressed("again", asked, "Approve"))
    until_verdicts(installation, tx, "accepted", "nonce_used")
    assert "is promoted" in settled(bot, tx, f"Update {tx[:8]} ", seconds=60).text
    settled(bot, tx, "It is promoted.")
    assert installation.show(tx)["approval_by"] == f"chat:{OWNER}"
    bot.send(f"/rollback {tx[:8]}")
    confirm = card(bot, tx)
    assert [button.label for button in confirm.buttons] == ["Go back", "Stay"]
    assert installation.status_of(tx) == "promoted"
    bot.press("Go back", message_id=confirm.message_id)
    wait_for(lambda: installation.status_of(tx) == "rolled_back", 30, "the way back")
    wait_for(
        lambda: any("was rolled back: You asked for it." in m.text for m in shown(bot, tx)), 30, "the word about it"
    )


@pytest.mark.exhaustive
def test_one_card_at_a_time(installation: Installation, bot: LocalBotClient, stage: Stage) -> None:
    """The second comes when the first is decided, also when that happens on the terminal."""
    first, second = stage("first"), stage("second")
    card(bot, first)
    assert [m for m in shown(bot, second) if m.buttons] == []
    installation.run("cancel", first).expect(0)
    settled(bot, first, "It is cancelled.")
    asked = card(bot, second)
    bot.press("Reject", message_id=asked.message_id)
    settled(bot, second, "It is cancelled.")


def test_the_ending_is_told_when_the_worker_is_dead(
    installation: Installation, bot: LocalBotClient, checkout: Path
) -> None:
    """Under its card, with the reason and its last words, among which even a forged card is but a quotation."""
    tx = installation.stage(candidates.forges_a_card(checkout))
    asked = card(bot, tx)
    bot.press("Approve", message_id=asked.message_id)
    word = settled(bot, tx, f"Update {tx[:8]} ", seconds=60)
    said, *quoted = word.text.splitlines()[0], *word.text.splitlines()[2:]
    assert said.endswith("was rolled back: exited by itself with code 7")
    assert word.text.splitlines()[1].startswith("In service: ")
    assert [line for line in quoted if line in candidates.FORGED_CARD] == list(candidates.FORGED_CARD)
    assert [m.text for m in bot.messages() if m.text.startswith(candidates.FORGED_CARD) and m.buttons] == []
    assert (word.buttons, word.reply_to) == ((), asked.message_id)
    assert installation.show(tx)["approval_by"] == f"chat:{OWNER}"
    told = next(e.at for e in bot.events() if e.message is not None and e.message.message_id == word.message_id)
    senders = {c.mark.partition(".")[0] for c in bot.calls() if c.method == "sendMessage" and abs(c.at - told) < 0.05}
    assert senders == {str(installation.supervisor_pid())}
    installation.settled()


@pytest.mark.exhaustive
def test_a_base_that_moves(installation: Installation, bot: LocalBotClient, stage: Stage) -> None:
    """What was overtaken is made again on the new base, and asked about anew."""
    overtaken, winner = stage("overtaken"), stage("winner")
    old = card(bot, overtaken)
    installation.run("approve", winner, "--wait").expect(0)
    assert installation.status_of(overtaken) == "superseded"
    word = settled(bot, overtaken, f"Update {overtaken[:8]} ", seconds=30).text
    again = next(entry["tx_id"] for entry in installation.history() if entry["tx_id"][:8] in word.split("update ")[-1])
    assert installation.show(again)["supersedes"] == overtaken
    gone = next(m for m in bot.messages() if m.message_id == old.message_id)
    assert (gone.text.splitlines()[0].split(":")[0], gone.buttons) == ("It is superseded", ())
    wait_for(lambda: installation.status_of(again) == "staged", 60, "the gates of the second one")
    assert f"made again of {overtaken[:8]}" in card(bot, again).text
    assert {b.data for b in old.buttons}.isdisjoint(b.data for b in card(bot, again).buttons)
    installation.run("cancel", again).expect(0)


@pytest.mark.exhaustive
def test_a_conflict_is_told_by_file(installation: Installation, bot: LocalBotClient, checkout: Path) -> None:
    """What cannot be made again on the new base ends with the names of the files that both have changed."""
    overtaken, winner = (installation.stage(candidates.answers(checkout, f"I am the {n} one.")) for n in ("1st", "2nd"))
    old = card(bot, overtaken)
    installation.run("approve", winner, "--wait").expect(0)
    word = settled(bot, overtaken, f"Update {overtaken[:8]} ")
    assert "was superseded: " in word.text
    assert candidates.MODEL in word.text
    assert word.reply_to == old.message_id
    gone = next(m for m in bot.messages() if m.message_id == old.message_id)
    assert gone.buttons == ()


def test_direct_commands(installation: Installation, bot: LocalBotClient, stage: Stage) -> None:
    """Asked in the chat, relayed by the worker, answered by the supervisor; what decides asks back first."""
    tx = stage("asked_about")
    card(bot, tx)

    def answer(command: str, *words: str) -> Message:
        cursor = bot.send(command).cursor
        return bot.wait_for(lambda m: all(word in m.text for word in words), 10, after=cursor)

    assert answer("/history", f"{tx[:8]} staged").text.count("\n")
    assert "worker/asked_about.py +1 -0" in answer(f"/show {tx[:8]}", f"{tx[:8]} is staged").text
    attached = answer(f"/diff {tx[:8]}", f"The whole of update {tx[:8]}")
    assert bot.document(attached.message_id).decode() == installation.run("diff", tx).expect(0).out
    answer("/revision", f"revision {installation.active_sha()[:12]}")
    asked = answer(f"/cancel {tx[:8]}", "Shall this update be cancelled?")
    assert [button.label for button in asked.buttons] == ["Cancel it", "Keep it"]
    assert installation.status_of(tx) == "staged"
    bot.press("Cancel it", message_id=asked.message_id)
    wait_for(lambda: installation.status_of(tx) == "cancelled", 10, "the press to count")


@pytest.fixture(scope="module")
def terminal(install: Install) -> Installation:
    """One that is approved on the terminal alone."""
    made = install(AUTONOUS_APPROVAL="terminal")
    made.up()
    return made


@pytest.mark.exhaustive
def test_on_the_terminal_alone(terminal: Installation, checkout: Path) -> None:
    """The chat has a notice without buttons; text decides nothing; the terminal does."""
    tx = terminal.stage(candidates.adds_a_module(checkout, "by_terminal"))
    with terminal.bot() as bot:
        notice = settled(bot, tx, "This update waits for its approval on the terminal.")
        assert notice.buttons == ()
        assert f"supervisor approve {tx[:8]}" in notice.text
        bot.send(f"/approve {tx[:8]}")
        bot.wait_for(lambda m: "terminal alone" in m.text, 10)
        assert terminal.status_of(tx) == "staged"
        terminal.run("approve", tx, "--wait").expect(0)
        settled(bot, tx, "It is promoted.")


@pytest.mark.exhaustive
def test_expired(terminal: Installation, checkout: Path) -> None:
    """It loses its buttons and says so, over a restart of the supervisor; /approve asks again."""
    terminal.settings |= {"AUTONOUS_APPROVAL": "chat", "AUTONOUS_APPROVAL_EXPIRY_SECONDS": "2"}
    terminal.up()
    tx = terminal.stage(candidates.adds_a_module(checkout, "expired"))
    with terminal.bot() as bot:
        old = card(bot, tx)
        os.kill(terminal.supervisor_pid(), signal.SIGKILL)
        gone = settled(bot, tx, "Expired without a decision.", seconds=30)
        assert (gone.message_id, gone.buttons) == (old.message_id, ())
        bot.send(f"/approve {tx[:8]}")
        again = card(bot, tx)
        assert again.message_id != old.message_id
        bot.press("Reject", message_id=again.message_id)
        settled(bot, tx, "It is cancelled.")
