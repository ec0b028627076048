"""``say``, ``press`` and ``chat`` against the local bot, with a small bot program at the other end."""

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from telegram import Bot, CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message
from telegram.constants import ChatAction

from supervisor.cli.conversation import chat, clean, press, say
from supervisor.cli.errors import NoLongerAwaited
from supervisor.localbot.client import Event
from tests.supervisor.localbot_support import Running, local_bot, short_directory

BUTTONS = InlineKeyboardMarkup(
    [[InlineKeyboardButton("Approve", callback_data="a:1"), InlineKeyboardButton("Cancel", callback_data="c:1")]]
)


async def reply(bot: Bot, message: Message) -> None:
    """What the bot program does with a text."""
    match message.text:
        case "card":
            await message.reply_text("sure?", reply_markup=BUTTONS)
        case "steps":
            await bot.send_chat_action(1, ChatAction.TYPING)
            shown = await message.reply_text("thinking")
            await asyncio.sleep(0.15)
            await shown.edit_text("thought")
            await bot.send_chat_action(1, ChatAction.TYPING)
            await asyncio.sleep(0.6)
            await message.reply_text("done")
        case "paint":
            await message.reply_text("\x1b[31mred\x1b[0m \x1b]0;title\x07\u202eback\x9b1mx\x00")
        case "file":
            await message.reply_document(b"x", filename="a.diff", caption="the change")
        case "silence":
            pass
        case text:
            await message.reply_text(f"you said {text}")


async def decide(query: CallbackQuery) -> None:
    """What the bot program does with a press."""
    await query.answer("noted")
    await query.edit_message_text(f"decided: {query.data}")


async def program(running: Running, stop: threading.Event) -> None:
    offset = 0
    async with running.bot() as bot:
        while not stop.is_set():
            for update in await bot.get_updates(offset=offset, timeout=1):
                offset = update.update_id + 1
                if update.message is not None:
                    await reply(bot, update.message)
                if update.callback_query is not None:
                    await decide(update.callback_query)


@pytest.fixture
def running() -> Iterator[Running]:
    stop = threading.Event()
    with short_directory() as directory, local_bot(directory) as running:
        thread = threading.Thread(target=lambda: asyncio.run(program(running, stop)))
        thread.start()
        try:
            yield running
        finally:
            stop.set()
            running.user.send("silence")  # ends the open poll
            thread.join(5)


def screen() -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=80), output


def test_say_prints_the_reply(running: Running) -> None:
    """The reply is printed soon after it came, long before the wait is over."""
    console, output = screen()
    started = time.perf_counter()
    assert say(running.user, "hello", wait=20, as_json=False, console=console) == 0
    assert time.perf_counter() - started < 2
    assert output.getvalue() == "you said hello\n"


def test_long_replies_are_not_wrapped(running: Running) -> None:
    """A program that reads the output gets the bot's own lines."""
    console, output = screen()
    say(running.user, "word " * 100, wait=20, as_json=False, console=console)
    assert output.getvalue().count("\n") == 1


def test_json_is_exact(running: Running) -> None:
    """The JSON form has the replies with ids, texts and labels, and nothing else."""
    console, output = screen()
    assert say(running.user, "card", wait=20, as_json=True, console=console) == 0
    assert json.loads(output.getvalue()) == {
        "replies": [{"message_id": 2, "text": "sure?", "buttons": ["Approve", "Cancel"]}]
    }


def test_say_waits_for_the_final_words(running: Running) -> None:
    """Edits and typing mean that more is to come; each reply is shown once, in its last form."""
    console, output = screen()
    say(running.user, "steps", wait=20, as_json=True, console=console)
    assert [reply["text"] for reply in json.loads(output.getvalue())["replies"]] == ["thought", "done"]


def test_no_reply_is_told(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """When the wait runs out: an empty list, one line, exit code 1. Without a wait there is nothing to miss."""
    console, output = screen()
    assert say(running.user, "silence", wait=0.3, as_json=True, console=console) == 1
    assert json.loads(output.getvalue()) == {"replies": []}
    assert capsys.readouterr().err == "no reply within 0.3 s\n"
    assert say(running.user, "silence", wait=0, as_json=False, console=console) == 0


def test_a_wait_that_is_interrupted_says_where_the_answer_will_be(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C takes back nothing that was said."""
    console, output = screen()

    def interrupted(*_: object, **__: object) -> list[Event]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.user, "events", interrupted)
        with pytest.raises(NoLongerAwaited, match="it was sent; `supervisor chat` shows the answer"):
            say(running.user, "hello", wait=20, as_json=False, console=console)
    assert output.getvalue() == ""
    assert "hello" in [event.message.text for event in running.user.events() if event.message is not None]


def test_press_shows_what_follows(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """A press prints the answer and the edited card; then the button is gone, which is one line."""
    console, output = screen()
    say(running.user, "card", wait=20, as_json=False, console=console)
    assert press(running.user, "Approve", wait=20, as_json=False, console=console) == 0
    assert output.getvalue() == "sure?\n[1] Approve  [2] Cancel\n* noted\ndecided: a:1\n"
    assert press(running.user, "Approve", wait=20, as_json=False, console=console) == 1
    assert capsys.readouterr().err == 'no button "Approve" in any message of chat 1\n'


def test_nobody_there_is_one_line(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a local bot each command ends with one line and exit code 1."""
    console, _ = screen()
    with short_directory() as directory, local_bot(directory) as other:
        away = other.user
        other.user_socket.unlink()
        assert say(away, "hello", wait=1, as_json=False, console=console) == 1
        assert press(away, "OK", wait=1, as_json=False, console=console) == 1
        assert chat(away, console=console, lines=io.StringIO("hello\n")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("does not answer on" in line for line in lines)


@pytest.mark.parametrize("choice", ["1", "/press 1", "/press Approve"])
def test_chat_reads_a_script(running: Running, choice: str) -> None:
    """Each line waits for its answer, so a script can press the buttons of the answer before."""
    console, output = screen()
    assert chat(running.user, console=console, lines=io.StringIO(f"card\n\n{choice}\nhello\n")) == 0
    assert output.getvalue().splitlines() == [
        "sure?",
        "[1] Approve  [2] Cancel",
        "* noted",
        "(edited) decided: a:1",
        "you said hello",
    ]


def test_number_without_a_button_is_a_text(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare number is sent when there is nothing to press; /press says so."""
    console, output = screen()
    assert chat(running.user, console=console, lines=io.StringIO("/press 7\n42\n")) == 1
    assert output.getvalue() == "you said 42\n"
    assert capsys.readouterr().err == "there is no button 7\n"


def test_file_is_named(running: Running) -> None:
    """A document shows its name and caption."""
    console, output = screen()
    say(running.user, "file", wait=20, as_json=False, console=console)
    assert output.getvalue() == "the change\n[file] a.diff\n"


def test_terminal_is_not_steered(running: Running) -> None:
    """Colours, titles, control and direction characters of the bot do not reach the terminal."""
    console, output = screen()
    say(running.user, "paint", wait=20, as_json=False, console=console)
    assert output.getvalue() == "red backx\n"


def test_clean_keeps_what_is_text() -> None:
    """Letters, line ends, tabs and emoji stay."""
    text = "a\n\tb \u00e9\U0001f468\u200d\U0001f469 [1] ]0;x"
    assert clean(text) == text


@contextmanager
def terminal(socket: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A chat in a terminal of its own: the terminal's other end, and the process."""
    code = (
        # Whoever runs the tests in the background has them ignore the interrupt.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from supervisor.cli.conversation import chat; from supervisor.localbot.client import LocalBotClient\n"
        f"sys.exit(chat(LocalBotClient(Path({str(socket)!r})), console=Console(), lines=sys.stdin))"
    )
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        try:
            yield ours, process
        finally:
            process.kill()
            os.close(ours)


def read_until(end: int, wanted: str) -> str:
    """What the terminal shows, up to the wanted words."""
    shown, deadline = "", time.monotonic() + 10
    while wanted not in shown and time.monotonic() < deadline:
        shown += os.read(end, 4096).decode()
    assert wanted in shown
    return shown


def test_chat_at_a_terminal(running: Running) -> None:
    """What was said last is shown, news come while nothing is typed, a number presses, Ctrl-D ends it."""
    console, _ = screen()
    say(running.user, "earlier", wait=20, as_json=False, console=console)
    with terminal(running.user_socket) as (end, process):
        read_until(end, "you said earlier")
        running.user.send("card")
        read_until(end, "[1] Approve")
        os.write(end, b"1\n")
        read_until(end, "decided: a:1")
        os.write(end, b"\x04")
        assert process.wait(5) == 0


def test_ctrl_c_ends_the_chat(running: Running) -> None:
    """An interrupt is no error and leaves no traceback."""
    with terminal(running.user_socket) as (end, process):
        os.write(end, b"hello\n")
        read_until(end, "you said hello")
        process.send_signal(2)
        assert process.wait(5) == 0
