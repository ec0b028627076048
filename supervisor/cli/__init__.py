"""The command line. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 3 engine out of reach.

What a command imports is imported inside it, so that ``status`` does not pay for the Docker SDK.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from supervisor.cli.app import app
from supervisor.cli.errors import FAILED, ErrorLine, explain

__all__ = ["guarded", "main"]


def main() -> None:
    """Run one command."""
    guarded(lambda: app(standalone_mode=True))


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
        _end(ErrorLine("interrupted", FAILED))


def _end(line: ErrorLine) -> NoReturn:
    sys.stdout.flush()
    print(f"supervisor: {line.text}", file=sys.stderr)
    sys.stderr.flush()
    # Threads that still wait for an engine or a stream must not keep the command from ending.
    os._exit(line.code)
