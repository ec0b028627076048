"""Text from elsewhere, made fit for a terminal."""


def printable(text: str) -> str:
    """Lines and tabs stay; other control codes are shown as unknown characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
