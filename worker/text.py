"""Texts that can be written down."""


def sound(text: str) -> str:
    """The text as any file or database takes it.

    Half a surrogate pair, as JSON of a model's may have it, is put together with its other half, or replaced.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
