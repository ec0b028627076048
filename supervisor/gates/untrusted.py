"""What candidates print, report and write: text made fit to be stored and shown, and directories weighed.

Text of a candidate's may hold terminal escapes, half characters, forged lines, and be as long as its disk allows.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

LONGEST_LOG: Final = 256 * 1024
_LAYOUT: Final = "\n\t"
_MARK_LENGTH: Final = 8
_MOST_ENTRIES: Final = 10_000
_BLOCK_BYTES: Final = 512


class Overweight(Exception):
    """A directory holds more than it may; the message says of what."""


def name(text: str, longest: int) -> str:
    """One printable line of at most ``longest`` characters, still another one for every other text."""
    printable = _escaped(text[: longest + 1])
    if len(printable) <= longest:
        return printable
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_MARK_LENGTH]
    return f"{printable[: longest - _MARK_LENGTH - 1]}~{mark}"


def line(text: str, longest: int) -> str:
    """The beginning of a text as one printable line."""
    return _escaped(text[:longest])[:longest]


def tail(text: str, longest: int) -> str:
    """The end of a text with its line breaks, everything else that is not printable escaped."""
    return _escaped(text[-longest:], besides=_LAYOUT)[-longest:]


def weigh(directory: Path, *, most: int) -> int:
    """Bytes on the disk below a directory, whatever was put there. Raises Overweight beyond ``most`` or its count."""
    bytes_found = entries = 0
    todo = [str(directory)]
    while todo:
        try:
            with os.scandir(todo.pop()) as listing:
                for entry in listing:
                    entries += 1
                    bytes_found += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    if bytes_found > most:
                        raise Overweight(f"more than {most // (1024 * 1024)} MiB")
                    if entries > _MOST_ENTRIES:
                        raise Overweight(f"more than {_MOST_ENTRIES} files")
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone by the time it was looked at
        except OSError as error:  # deeper than a path reaches, or closed
            raise Overweight(f"directories that cannot be looked into: {error.strerror}") from error
    return bytes_found


def _escaped(text: str, besides: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in besides else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
