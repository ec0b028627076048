"""What the bot's program can do on the local bot, seen through python-telegram-bot, and what the user sees of it."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Message
from telegram.constants import ChatAction, MessageLimit, ParseMode
from telegram.error import BadRequest, EndPointNotFound

from supervisor.localbot.client import Button, LocalBotRefused
from tests.supervisor.localbot_support import TOKEN, Running, local_bot, short_directory

pytestmark = pytest.mark.anyio

BUTTONS = InlineKeyboardMarkup(
    [[InlineKeyboardButton("Approve", callback_data="a:1"), InlineKeyboardButton("Cancel", callback_data="c:1")]]
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def running() -> Iterator[Running]:
    with short_directory() as directory, local_bot(directory) as running:
        yield running


@pytest.fixture
async def bot(running: Running) -> AsyncIterator[Bot]:
    async with running.bot() as bot:
        yield bot


async def test_bot_may_write_first_to_the_owner_only(bot: Bot, running: Running) -> None:
    """Chat 1 is there from the start; any other comes into being when its user writes."""
    assert (await bot.send_message(1, "hello")).text == "hello"
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(7, "hello")
    running.user.send("hi", chat_id=7, user_id=7)
    assert (await bot.send_message(7, "hello")).message_id == 2


async def test_message_ids_count_in_each_chat(bot: Bot, running: Running) -> None:
    """User and bot share the numbers of a chat, and chats do not share them."""
    assert running.user.send("one").message_id == 1
    assert (await bot.send_message(1, "two")).message_id == 2
    assert running.user.send("three").message_id == 3
    assert running.user.send("one", chat_id=7, user_id=7).message_id == 1


@pytest.mark.parametrize("unit", ["a", "\u00e9", "\U0001f600"])
async def test_longest_text_is_counted_in_utf16_units(bot: Bot, unit: str) -> None:
    """4096 units pass and one more is refused, in a message and in an edit."""
    count = MessageLimit.MAX_TEXT_LENGTH // (len(unit.encode("utf-16-le")) // 2)
    message = await bot.send_message(1, unit * count)
    with pytest.raises(BadRequest, match="Message is too long"):
        await bot.send_message(1, unit * count + "b")
    with pytest.raises(BadRequest, match="Message_too_long"):
        await message.edit_text(unit * count + "b")


async def test_markup_does_not_count(bot: Bot) -> None:
    """The limit is for the text without its tags."""
    message = await bot.send_message(1, f"<b>{'a' * 4096}</b>", parse_mode=ParseMode.HTML)
    assert len(message.text or "") == 4096


@pytest.mark.parametrize("text", ["", " \n "])
async def test_empty_text_is_refused(bot: Bot, text: str) -> None:
    """Nothing, or nothing to see, is no message."""
    with pytest.raises(BadRequest, match="Message text is empty"):
        await bot.send_message(1, text)


async def test_html_becomes_entities(bot: Bot) -> None:
    """Tags turn into entities that cover the same words."""
    message = await bot.send_message(1, "\U0001f600 <b>bold</b> &lt;<code>x</code>", parse_mode=ParseMode.HTML)
    assert message.text == "\U0001f600 bold <x"
    assert {entity.type: text for entity, text in message.parse_entities().items()} == {"bold": "bold", "code": "x"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<b>bold", 'Can\'t find end tag corresponding to start tag "b"'),
        ("<b><i>x</b></i>", "Unmatched end tag at byte offset 7"),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("1 < 2", 'Unsupported start tag "" at byte offset 2'),
        ("<script>x</script>", 'Unsupported start tag "script"'),
    ],
)
async def test_bad_html_is_refused(bot: Bot, text: str, reason: str) -> None:
    """What Telegram cannot parse is refused in its words, in messages, captions and edits."""
    with pytest.raises(BadRequest, match="Can't parse entities") as refused:
        await bot.send_message(1, text, parse_mode=ParseMode.HTML)
    assert reason.lower() in refused.value.message.lower()  # the library changes the case
    with pytest.raises(BadRequest, match="Can't parse entities"):
        await bot.send_document(1, b"x", caption=text, parse_mode=ParseMode.HTML)
    message = await bot.send_message(1, "before")
    with pytest.raises(BadRequest, match="Can't parse entities"):
        await message.edit_text(text, parse_mode=ParseMode.HTML)


async def test_edit_changes_text_and_takes_buttons_off(bot: Bot, running: Running) -> None:
    """An edit shows as an edit to the user; buttons that are not sent again are gone."""
    message = await bot.send_message(1, "sure?", reply_markup=BUTTONS)
    assert running.user.messages()[0].buttons == (Button("Approve", "a:1"), Button("Cancel", "c:1"))
    edited = await message.edit_text("done")
    assert isinstance(edited, Message)
    assert (edited.message_id, edited.text, edited.reply_markup) == (message.message_id, "done", None)
    (shown,) = running.user.messages()
    assert (shown.text, shown.buttons, shown.edited) == ("done", (), True)
    assert [event.kind for event in running.user.events()] == ["message", "edit"]


async def test_buttons_are_edited_alone(bot: Bot, running: Running) -> None:
    """editMessageReplyMarkup leaves the text."""
    message = await bot.send_message(1, "sure?", reply_markup=BUTTONS)
    await message.edit_reply_markup(None)
    (shown,) = running.user.messages()
    assert (shown.text, shown.buttons) == ("sure?", ())


async def test_edit_without_a_change_is_refused(bot: Bot) -> None:
    """The same text, entities and buttons again are "not modified"; a change of one of them is not."""
    message = await bot.send_message(1, "<b>same</b>", parse_mode=ParseMode.HTML, reply_markup=BUTTONS)
    with pytest.raises(BadRequest, match="Message is not modified"):
        await message.edit_text("<b>same</b>", parse_mode=ParseMode.HTML, reply_markup=BUTTONS)
    with pytest.raises(BadRequest, match="Message is not modified"):
        await message.edit_reply_markup(BUTTONS)
    await message.edit_text("same", reply_markup=BUTTONS)
    with pytest.raises(BadRequest, match="Message is not modified"):
        await message.edit_text("same", reply_markup=BUTTONS)


async def test_only_own_messages_can_be_edited(bot: Bot, running: Running) -> None:
    """A user's message can't be edited, and one that does not exist is not found."""
    theirs = running.user.send("mine").message_id
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("yours", 1, theirs)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("yours", 1, 99)


async def test_press_becomes_a_callback_that_can_be_answered(bot: Bot, running: Running) -> None:
    """A press by label arrives with its data and message, and the answer's text reaches the user."""
    message = await bot.send_message(1, "sure?", reply_markup=BUTTONS)
    pressed = running.user.press("Approve")
    (update,) = await bot.get_updates()
    query = update.callback_query
    assert query is not None
    assert query.message is not None
    assert (query.data, query.from_user.id, query.message.message_id) == ("a:1", 1, message.message_id)
    assert await query.answer("on its way")
    (event,) = running.user.events(pressed.cursor)
    assert (event.kind, event.text) == ("answer", "on its way")


async def test_unknown_callback_is_refused(bot: Bot) -> None:
    """An answer to a press that never was is told as Telegram tells it."""
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query("12345")


async def test_press_takes_the_newest_button_of_that_label(bot: Bot, running: Running) -> None:
    """Of two equal buttons the newer is pressed unless a message is named; one that is gone is told."""
    first = await bot.send_message(1, "sure?", reply_markup=BUTTONS)
    second = await bot.send_message(1, "really?", reply_markup=BUTTONS)
    assert running.user.press("Cancel").message_id == second.message_id
    assert running.user.press("c:1", message_id=first.message_id).message_id == first.message_id
    with pytest.raises(LocalBotRefused, match='no button "Later" in any message of chat 1'):
        running.user.press("Later")
    await second.edit_text("done")
    with pytest.raises(LocalBotRefused, match="no button"):
        running.user.press("Cancel", message_id=second.message_id)


@pytest.mark.parametrize(
    ("method", "call", "status"),
    [
        ("sendMessage", {"chat_id": 1, "text": "\ud800"}, 400),
        ("sendMessage", {"chat_id": 1, "text": "x", "reply_markup": [1]}, 400),
        ("sendMessage", {"chat_id": 1, "text": "x", "reply_markup": {"inline_keyboard": [1]}}, 400),
        ("sendMessage", {"chat_id": 1, "text": "x", "reply_markup": {"inline_keyboard": [[1]]}}, 400),
        ("sendMessage", {"chat_id": "@channel", "text": "x"}, 400),
        ("sendMessage", {"text": "x"}, 400),
        ("editMessageText", {"chat_id": 1, "message_id": 10**30, "text": "x"}, 400),
        ("getUpdates", {"offset": "x"}, 400),
        ("getUpdates", {"allowed_updates": 5}, 400),
        ("getUpdates", {"limit": -1}, 400),
        ("sendMessage", {"chat_id": 1, "text": "x" * (50 * 1024 * 1024)}, 413),
    ],
)
async def test_malformed_calls_are_refused(running: Running, method: str, call: dict[str, Any], status: int) -> None:
    """What no library would send is refused in Telegram's form, and the user's side goes on."""
    transport = httpx.AsyncHTTPTransport(uds=str(running.socket), verify=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost/bot{TOKEN}/") as http:
        answer = await http.post(method, content=json.dumps(call), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["ok"], answer.json()["error_code"]) == (status, False, status)
    assert running.user.send("still there?").update_id is not None


@pytest.mark.parametrize("data", ["x" * 65, "\u00e9" * 33])
async def test_callback_data_has_64_bytes(running: Running, data: str) -> None:
    """Longer data is refused. Sent without the library, which checks for itself."""
    transport = httpx.AsyncHTTPTransport(uds=str(running.socket))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost/bot{TOKEN}/") as http:

        async def send(text: str) -> dict[str, Any]:
            markup = {"inline_keyboard": [[{"text": "OK", "callback_data": text}]]}
            answer = await http.post("sendMessage", json={"chat_id": 1, "text": "x", "reply_markup": markup})
            return {"status": answer.status_code, **answer.json()}

        refused = await send(data)
        accepted = await send(data[:32])
    assert refused == {
        "status": 400,
        "ok": False,
        "error_code": 400,
        "description": "Bad Request: BUTTON_DATA_INVALID",
    }
    assert accepted["ok"]


async def test_document_arrives_byte_for_byte(bot: Bot, running: Running) -> None:
    """A file with every byte, line ends and an odd name comes out as it went in."""
    content = bytes(range(256)) + b"\r\n--not a boundary\r\n\n\r"
    sent = await bot.send_document(
        1, io.BytesIO(content), filename='d\u00e9 "1".diff', caption="the change", reply_markup=BUTTONS
    )
    assert sent.document is not None
    assert (sent.document.file_name, sent.document.file_size) == ('d\u00e9 "1".diff', len(content))
    (shown,) = running.user.messages()
    assert (shown.text, shown.document, len(shown.buttons)) == ("the change", 'd\u00e9 "1".diff', 2)
    assert running.user.document(sent.message_id) == content


async def test_document_refusals(bot: Bot, running: Running) -> None:
    """A caption that is too long, an empty file and a file that is not there are refused."""
    with pytest.raises(BadRequest, match="Message caption is too long"):
        await bot.send_document(1, b"x", caption="a" * 1025)
    with pytest.raises(BadRequest, match="File must be non-empty"):
        await bot.send_document(1, b"", filename="empty")
    with pytest.raises(BadRequest, match="Wrong file identifier"):
        await bot.send_document(1, "some-file-id")
    with pytest.raises(LocalBotRefused, match="no document"):
        running.user.document(1)


async def test_typing_reaches_the_user(bot: Bot, running: Running) -> None:
    """A chat action is an event; an action that Telegram does not know is refused."""
    await bot.send_chat_action(1, ChatAction.TYPING)
    (event,) = running.user.events()
    assert (event.kind, event.text) == ("action", "typing")
    with pytest.raises(BadRequest, match="Wrong parameter action"):
        await bot.send_chat_action(1, "dancing")


async def test_commands_are_kept(bot: Bot) -> None:
    """The menu of commands can be read again; a bad name is refused."""
    await bot.set_my_commands([("status", "How it is"), ("rollback", "Go back")])
    assert [command.command for command in await bot.get_my_commands()] == ["status", "rollback"]
    with pytest.raises(BadRequest, match="Bot_command_invalid"):
        await bot.set_my_commands([("Bad Name", "x")])


async def test_reply_names_its_message(bot: Bot, running: Running) -> None:
    """A reply shows what it replies to, and is refused when that does not exist."""
    question = running.user.send("why?").message_id
    reply = await bot.send_message(1, "because", reply_to_message_id=question)
    assert reply.reply_to_message is not None
    assert reply.reply_to_message.text == "why?"
    with pytest.raises(BadRequest, match="Message to be replied not found"):
        await bot.send_message(1, "because", reply_to_message_id=99)


async def test_unknown_method_is_not_found(bot: Bot) -> None:
    """A method that is not there is 404."""
    with pytest.raises(EndPointNotFound):
        await bot.do_api_request("sendTelepathy")


async def test_unsupported_parse_mode_is_refused(bot: Bot) -> None:
    """Only HTML is parsed here; another mode is an error, never a silently plain text."""
    with pytest.raises(BadRequest, match="Unsupported parse_mode"):
        await bot.send_message(1, "*x*", parse_mode=ParseMode.MARKDOWN_V2)


async def test_user_may_not_send_what_telegram_would_not(running: Running) -> None:
    """An empty text and one over the limit are refused on the user's side, too."""
    with pytest.raises(LocalBotRefused, match="empty"):
        running.user.send("  ")
    with pytest.raises(LocalBotRefused, match="at most 4096"):
        running.user.send("a" * 4097)
