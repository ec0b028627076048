"""What a Telegram message holds besides text, named in words that the model can read."""

from collections.abc import Iterator
from typing import Final

from telegram import (
    Animation,
    Audio,
    Document,
    Message,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
    Video,
    VideoNote,
    Voice,
)

_UNIT: Final = 1024
_TIMED = (Animation, Audio, Video, VideoNote, Voice)
_FILES: Final = ("animation", "audio", "document", "video", "video_note", "voice")


def described(message: Message) -> str:
    """The message's text or caption, with a line in brackets for all else. Empty when there is nothing to be named."""
    words = message.text or message.caption or ""
    notes = list(_notes(message))
    return "\n".join(line for line in (words, *notes) if line)


def origin(message: Message) -> str:
    """Who wrote a forwarded message first, as far as Telegram says. Empty when it is not a forwarded one."""
    match message.forward_origin:
        case None:
            return ""
        case MessageOriginUser(sender_user=user):
            return user.full_name
        case MessageOriginHiddenUser(sender_user_name=name):
            return name
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            return chat.title or "a chat"
        case _:
            return "somebody"


def _notes(message: Message) -> Iterator[str]:
    for name in _FILES:
        # Telegram gives an animation once more as a document.
        if (file := getattr(message, name)) and not (name == "document" and message.animation):
            yield _file(name.replace("_", " "), file)
    if message.photo:
        largest = message.photo[-1]
        yield f"[attached photo, {largest.width} x {largest.height}; you cannot see it]"
    if message.sticker:
        yield f"[sticker {message.sticker.emoji or ''}]".replace(" ]", "]")
    if message.location:
        yield f"[location: latitude {message.location.latitude}, longitude {message.location.longitude}]"
    if message.contact:
        contact = message.contact
        yield f"[contact: {contact.first_name} {contact.last_name or ''}, {contact.phone_number}]".replace(" ,", ",")


def _file(kind: str, file: Animation | Audio | Document | Video | VideoNote | Voice) -> str:
    facts = [
        getattr(file, "file_name", None) or "",
        getattr(file, "mime_type", None) or "",
        _size(file.file_size),
        f"{_seconds(file)} s" if isinstance(file, _TIMED) else "",
    ]
    return f"[attached {kind}: {', '.join(filter(None, facts)) or 'no name'}; you cannot open it]"


def _seconds(file: Animation | Audio | Video | VideoNote | Voice) -> int:
    duration = file.duration
    return duration if isinstance(duration, int) else round(duration.total_seconds())


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size} bytes" if size < _UNIT else f"{size / _UNIT:.0f} KiB"
