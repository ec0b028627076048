"""Starting and ending the local bot's own process, which outlives the supervisor that started it."""

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.homelock import held, owner
from supervisor.localbot.client import LocalBotAway, LocalBotClient
from supervisor.paths import Paths

_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 10.0


class LocalBotFailed(Exception):
    """The local bot did not come up; the message is one line for the user."""


def token(paths: Paths) -> str:
    """The local bot's token, made once for each home."""
    file = paths.home / "localbot.token"
    if not file.exists():
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as writing:
            writing.write(f"1:local{secrets.token_hex(16)}")
        with suppress(FileExistsError):
            os.link(partial, file)  # whoever is first has made it
        partial.unlink()
    return file.read_text()


def running(paths: Paths) -> bool:
    """Whether the local bot's process of this home lives; costs next to nothing to ask."""
    return held(_pid_file(paths))


def ensure(paths: Paths) -> None:
    """Start the local bot unless it answers, and return when it does. Raises LocalBotFailed."""
    if _answers(paths):
        return
    log = paths.logs / "localbot.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "supervisor.localbot"),
                *("--socket", str(paths.localbot_socket), "--user-socket", str(paths.localbot_user_socket)),
                *("--database", str(paths.localbot_db)),
            ],
            env={**_clean_environment(), "AUTONOUS_LOCALBOT_TOKEN": token(paths)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(paths):
        # Another one may have been quicker; then ours ends, and theirs answers.
        if time.monotonic() > deadline or (process.poll() is not None and not running(paths)):
            raise LocalBotFailed(f"the local bot did not come up; see {log}")
        time.sleep(0.05)


def stop(paths: Paths) -> None:
    """End the local bot of this home, if it runs."""
    if not running(paths):
        return
    with suppress(ValueError, ProcessLookupError):
        os.kill(int(owner(_pid_file(paths))), signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while running(paths) and time.monotonic() < deadline:
        time.sleep(0.05)


def _answers(paths: Paths) -> bool:
    with LocalBotClient(paths.localbot_user_socket) as client, suppress(LocalBotAway):
        client.ping()
        return True
    return False


def _pid_file(paths: Paths) -> Path:
    return paths.localbot_db.with_name(paths.localbot_db.name + ".pid")


def _clean_environment() -> dict[str, str]:
    # No key of the owner's has any business in this process.
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
