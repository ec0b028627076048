"""Long texts in pieces."""


def utf16_units(text: str) -> int:
    """The length as Telegram counts it."""
    return len(text) + sum(character > "\uffff" for character in text)


def split(text: str, limit: int) -> list[str]:
    """Pieces of at most ``limit`` UTF-16 units that make up the text when put together again.

    A piece ends after the last line break that fits, else after the last space, else anywhere.
    """
    pieces = []
    while utf16_units(text) > limit:
        end = _fitting(text, limit)
        for separator in ("\n", " "):
            cut = text.rfind(separator, 0, end) + 1
            if cut:
                break
        else:
            cut = end
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text] if text else pieces


def _fitting(text: str, limit: int) -> int:
    """How many characters fit into ``limit`` units."""
    units = 0
    for index, character in enumerate(text):
        units += 2 if character > "\uffff" else 1
        if units > limit:
            return index
    return len(text)
