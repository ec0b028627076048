"""The local bot as a process: ``python -m supervisor.localbot --socket PATH --user-socket PATH --database PATH``.

The bot's token comes from AUTONOUS_LOCALBOT_TOKEN, where other users of the machine cannot read it; ``--token`` is
for trying things out. Ends with SIGTERM or SIGINT. Exit code 1 when it cannot serve, 2 on wrong usage.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from supervisor.localbot.app import create_server
from supervisor.localbot.store import BotStore
from supervisor.unixserver import UnixServer

TOKEN_VARIABLE: Final = "AUTONOUS_LOCALBOT_TOKEN"  # noqa: S105 - the name, not the token
_ENDINGS: Final = {signal.SIGTERM, signal.SIGINT}
_LOOK_SECONDS: Final = 5.0  # how soon a server that died by itself is noticed


class AlreadyServed(RuntimeError):
    """Another process holds the database."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m supervisor.localbot", description="The local bot.")
    parser.add_argument(
        "--socket", type=Path, required=True, help="Unix socket for the Bot API, at most 100 bytes long"
    )
    parser.add_argument("--user-socket", type=Path, required=True, help="Unix socket for the user's side, owner only")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file, created when it is missing")
    parser.add_argument("--token", default=os.environ.get(TOKEN_VARIABLE, ""), help=f"default: ${TOKEN_VARIABLE}")
    options = parser.parse_args(arguments)
    if not options.token:
        parser.error(f"a token is needed: set {TOKEN_VARIABLE}")
    os.umask(0o077)  # the database holds what people wrote
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)  # before there are threads; they are waited for below
    try:
        with _only_process_on(options.database), contextlib.closing(BotStore(options.database)) as store:
            server = create_server(store, options.token, socket=options.socket, user_socket=options.user_socket)
            with server:
                print(f"localbot: serving {options.socket} and {options.user_socket}", flush=True)  # noqa: T201 - what is read by who started it
                return _until_told(server)
    except (OSError, ValueError, RuntimeError, sqlite3.Error) as exc:
        print(f"localbot: {exc}", file=sys.stderr)  # noqa: T201
        return 1


def _until_told(server: UnixServer) -> int:
    while server.running:
        if signal.sigtimedwait(_ENDINGS, _LOOK_SECONDS) is not None:
            return 0
    return 1


@contextlib.contextmanager
def _only_process_on(database: Path) -> Iterator[None]:
    """Hold the lock of a database, in a file beside it that carries the process id."""
    path = database.with_name(database.name + ".pid")
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyServed(f"process {file.read().strip()} serves {database} already") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


if __name__ == "__main__":
    sys.exit(main())
