"""The command line.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 3 engine out of reach, 130 ended by Ctrl-C.
What a command imports is imported inside it, so that ``status`` does not pay for the Docker SDK.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from typer.exceptions import Abort, TyperException

from supervisor.cli.app import app
from supervisor.cli.errors import FAILED, INTERRUPTED, ErrorLine, explain

__all__ = ["guarded", "main"]


def main() -> None:
    """Run one command."""
    sys.exit(guarded(_run))


def _run() -> int:
    try:
        code = int(app(standalone_mode=False) or 0)
    except Abort:  # a question was answered by Ctrl-C or Ctrl-D
        _end(ErrorLine("nothing was done", FAILED))
    except TyperException as error:
        # Of the library's own ways to tell wrong usage, none is one line.
        message = error.format_message()
        if not message:  # no command: the help was printed
            return error.exit_code
        place = getattr(error, "ctx", None)
        more = f" (see {place.command_path} --help)" if place is not None else ""
        _end(ErrorLine(f"{message[0].lower()}{message[1:]}{more}", error.exit_code))
    if code == INTERRUPTED:  # what the library makes of Ctrl-C, without a word
        raise KeyboardInterrupt
    return code


def guarded(command: Callable[[], int]) -> int:
    """Run something; an expected failure becomes one line on standard error and an exit code."""
    try:
        return command()
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        _end(line)
    except KeyboardInterrupt:
        _end(ErrorLine("interrupted", INTERRUPTED))


def _end(line: ErrorLine) -> NoReturn:
    sys.stdout.flush()
    print(f"supervisor: {line.text}", file=sys.stderr)
    sys.stderr.flush()
    # Threads that still wait for an engine or a stream must not keep the command from ending.
    os._exit(line.code)
