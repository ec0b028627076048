"""Runs that are killed again and again, in the real process, and what the exam's model server makes of the adapter."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from supervisor.modelserver import ScriptedModel
from supervisor.unixserver import UnixServer
from tests.load.injection import ASKS, DONE, UNENDED, rows
from tests.load.test_scale import environment
from worker.models.base import Message, Speaker, ToolSpec
from worker.models.openai import OpenAIModel

KILLS = 12
TURNS = 6
STARTED = "SELECT 1 FROM events WHERE event_type = 'process.started'"


def test_a_run_survives_kills_at_random(tmp_path: Path) -> None:
    """Killed wherever it is, the run goes on: one answer, every event with its end, and no tool called twice."""
    database, chance = tmp_path / "agent.db", random.Random(4)
    settings = environment(
        database,
        AUTONOUS_DUMMY_COMMANDER_SCRIPT="msg:hello,ok",
        AUTONOUS_DUMMY_PROVIDER_SCRIPT=",".join([ASKS] * TURNS + ["sleep:150", "ok"]),
        AUTONOUS_CONTROL_MAX_TURNS="1000",
        AUTONOUS_CONTROL_MAX_RETRIES="1000",
        AUTONOUS_CONTROL_NO_PROGRESS_K="1000",
    )
    for number in range(KILLS + 1):
        worker = subprocess.Popen([sys.executable, "-m", "worker"], env=settings, stderr=subprocess.DEVNULL)
        settings["AUTONOUS_DUMMY_COMMANDER_SCRIPT"] = "ok"  # the message is sent once
        try:
            launched = time.monotonic()
            while len(rows(database, STARTED)) <= number or not rows(database, "SELECT 1 FROM inbox"):
                assert time.monotonic() < launched + 20
                time.sleep(0.005)
            if number < KILLS:
                time.sleep(chance.uniform(0, 0.4))
                worker.send_signal(signal.SIGKILL)
            else:
                while rows(database, DONE) != [(1,)]:
                    assert time.monotonic() < launched + 20
                    time.sleep(0.02)
        finally:
            worker.terminate()
            worker.wait(timeout=10)
    assert rows(database, "SELECT status FROM inbox") == [("done",)]
    assert rows(database, "SELECT COUNT(*) FROM history WHERE role = 'assistant'") == [(1,)]
    assert rows(database, UNENDED) == []
    assert rows(database, "SELECT COUNT(*) FROM tool_calls WHERE status = 'begun'") == [(0,)]
    begun = rows(database, "SELECT COUNT(*) FROM events WHERE event_type = 'tool_call.started'")
    assert begun == rows(database, "SELECT COUNT(*) FROM tool_calls WHERE event_id IS NOT NULL")
    cut = rows(database, "SELECT COUNT(*) FROM tool_calls WHERE status = 'interrupted'")
    starts = rows(database, "SELECT COUNT(*) FROM events WHERE event_type = 'agent.started'")
    print(f"{KILLS} kills: {starts[0][0]} attempts, {begun[0][0]} tool calls, {cut[0][0]} cut")  # noqa: T201


def test_the_exams_model_server_streams_to_the_adapter(tmp_path: Path) -> None:
    """What the exam answers with comes piece by piece, and plainly, with its tokens."""

    async def ask() -> None:
        model = OpenAIModel(api_key="k", base_url=None, model="exam", socket=str(tmp_path / "m.sock"))
        pieces: list[str] = []
        question = [Message(Speaker.USER, "hello")]
        try:
            tools = [ToolSpec("time", "", {"type": "object"})]
            streamed = await model.complete(question, tools, pieces.append)
            plain = await model.complete(question, tools)
        finally:
            await model.close()
        assert "".join(pieces) == streamed.text == plain.text == "marker"
        assert (streamed.tokens, streamed.estimated) == (plain.tokens, False)

    with UnixServer(ScriptedModel("marker").app(), tmp_path / "m.sock"):
        asyncio.run(ask())
