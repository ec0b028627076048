"""As little as a bot can be, for engines that know nothing of leases: polls, answers, and confirms with its next poll.

It ends on SIGTERM between two polls, or in one, and never between an answer and its confirmation. ``FAULT`` makes it a
bad revision: ``exit`` or ``wedge`` three seconds after its first poll. Runs by itself in a container.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx

ALIVE = Path("/tmp/alive")  # touched with every poll; a health check looks at its age
POLL_SECONDS = 1
#: Late enough to have passed a health check, and to be the only one.
FAULT_AFTER_SECONDS = 3.0
PAUSE_SECONDS = 0.2


class Poller:
    """One bot."""

    def __init__(self, client: httpx.Client, fault: str) -> None:
        self._client = client
        self._fault = fault
        self._polling = False
        self._leaving = False
        self._offset = 0

    def leave(self, *_: object) -> None:
        """SIGTERM."""
        self._leaving = True
        if self._polling:
            raise SystemExit(0)

    def run(self) -> None:
        """Until it is told to leave."""
        began = time.monotonic()
        while not self._leaving:
            ALIVE.touch()
            try:
                updates = self._poll(POLL_SECONDS)
                for update in updates:
                    self._answer(update["message"]["chat"]["id"])
                    self._offset = update["update_id"] + 1
            except (httpx.HTTPError, KeyError):  # somebody else polls, or the Bot API is away
                time.sleep(PAUSE_SECONDS)
            if self._fault and time.monotonic() - began > FAULT_AFTER_SECONDS:
                self._fail()
        self._poll(0)

    def _poll(self, seconds: int) -> list[dict[str, Any]]:
        self._polling = True
        try:
            answer = self._client.get("getUpdates", params={"offset": self._offset, "timeout": seconds}).json()
        finally:
            self._polling = False
        return list(answer["result"])

    def _answer(self, chat: int) -> None:
        self._client.post("sendMessage", json={"chat_id": chat, "text": "well, thank you"}).raise_for_status()

    def _fail(self) -> None:
        if self._fault == "exit":
            os._exit(7)
        time.sleep(3600)


def main() -> int:
    """Run one, from the environment."""
    transport = httpx.HTTPTransport(uds=os.environ["BOT_SOCKET"], verify=False)
    base_url = f"http://localhost/bot{os.environ['BOT_TOKEN']}/"
    poller = Poller(httpx.Client(transport=transport, base_url=base_url, timeout=10), os.environ.get("FAULT", ""))
    signal.signal(signal.SIGTERM, poller.leave)
    poller.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
