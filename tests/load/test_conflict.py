"""Somebody else polls the same bot for a while."""

import random
import signal

import httpx
import pytest

from tests.load.stage import TOKEN, Model, stage, wait_for


@pytest.mark.fault(43)
def test_another_poller_is_waited_out() -> None:
    """On a 409 the worker keeps away for some seconds, which is no failure to the breaker, and then goes on."""
    with stage(Model(random.Random(1)), range(1, 2)) as here:
        here.start()
        wait_for(here.bot.polls, 20, "the first poll")
        transport = httpx.HTTPTransport(uds=str(here.bot_socket), verify=False)
        with httpx.Client(transport=transport, base_url="http://localhost") as other:
            for _ in range(3):
                other.get(f"/bot{TOKEN}/getUpdates", params={"timeout": 1}, timeout=10)
        wait_for(lambda: "Conflict" in here.log.read_text(), 10, "the conflict")
        here.bot.send("still there?")
        wait_for(lambda: here.answers(1) == ["re:still there?"], 20, "the answer")
        assert here.rows("SELECT 1 FROM events WHERE event_type = 'circuit.opened'") == []
        assert here.stop(signal.SIGTERM) == 0
