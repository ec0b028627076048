"""From a wish in the chat to an update at the gates, and back to the model when a gate fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract import Progress, Role, Submitted, WorkerState
from tests.worker.fakes import OWNER, completion
from tests.worker.support import SHA, World, asynchronous, until, world
from tests.worker.test_turns import asks, openai, said
from worker.agent.commands import PATCH_TEXT
from worker.agent.desk import BESIDE_AFTER_SECONDS
from worker.agent.notices import SPOILT
from worker.agent.relaying import ALONE_TEXT
from worker.selfupdate import developing, watching
from worker.tools import selfsource
from worker.tools.registry import OPERATIONS, TOOLS
from worker.tools.server import Toolbox
from worker.tools.workplace import Workplace

TX = ["11111111-aaaa", "22222222-aaaa", "33333333-aaaa"]
PROPOSE = asks("propose_update", title="a joke", why="to laugh")
STAGED = [
    ("building", "applied"),
    ("testing", "built in 0.6 s"),
    ("self_checking", "212 tests passed"),
    ("staged", "exam passed"),
    ("staged", "waiting for you"),
]
FAILED = [("building", "applied"), ("testing", "built in 0.6 s"), ("test_failed", "1 test fails")]
EXAM_FAILED = [*STAGED[:3], ("self_check_failed", "the candidate failed the part 'polls'")]


@dataclass
class Bench:
    """A world with a toolbox that holds a small source, and the settings of its workers."""

    here: World
    workspace: Path
    settings: dict[str, Any]

    def change(self, text: str, chat: int = OWNER) -> None:
        """Change the chat's working copy, as tools would."""
        (self.workspace / "self" / str(chat) / "worker" / "a.py").write_text(text)

    async def told(self, words: str, chat: int = OWNER) -> None:
        """Wait until a message of the chat says this."""
        await until(lambda: any(words in text for text in self.here.telegram.texts(chat)))

    def check_out(self, chat: int = OWNER) -> None:
        arguments = selfsource.CheckoutArguments(chat_id=chat, base=SHA)
        selfsource.checkout(arguments, Workplace(self.workspace, (self.workspace,)))

    def judge(self, number: int, steps: list[tuple[str, str]], evidence: str = "") -> None:
        """What becomes of the next submission, the first one or a later one."""
        tx_id = TX[number]
        self.here.supervisor.verdicts.append(Submitted(tx_id=tx_id, status="created"))
        self.here.supervisor.steps[tx_id] = [
            Progress(tx_id=tx_id, status=status, event="e", text=text, final=place == len(steps), evidence=evidence)
            for place, (status, text) in enumerate(steps, start=1)
        ]


@pytest.fixture
def pristine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "app"
    (root / "worker").mkdir(parents=True)
    (root / "worker" / "a.py").write_text("a = 1\n")
    monkeypatch.setattr(selfsource, "PRISTINE", root)
    monkeypatch.setattr(watching, "INTERVAL_SECONDS", 0.02)
    return root


@asynccontextmanager
async def bench(pristine: Path, *, min_free_bytes: int = 0, **more: Any) -> AsyncIterator[Bench]:
    async with world(**more) as here:
        stop, path, workspace = asyncio.Event(), here.directory / "toolbox.sock", pristine.parent / "workspace"
        workspace.mkdir()
        toolbox = Toolbox(TOOLS | OPERATIONS, Workplace(workspace, (workspace,), min_free_bytes=min_free_bytes))
        serving = asyncio.create_task(toolbox.serve(path, stop))
        await until(path.exists)
        try:
            yield Bench(here, workspace, {"autonous_toolbox_socket": str(path)})
        finally:
            stop.set()
            await serving


@pytest.mark.parametrize("wish", ["/patch tell jokes", "I would like you to tell jokes from now on"])
@asynchronous
async def test_a_wish_becomes_an_update(pristine: Path, wish: str) -> None:
    """By the command or in ordinary talk: the submission says who wanted what and what it cost; one message shows
    how far it is.
    """
    async with bench(pristine) as b:
        b.judge(0, STAGED)
        b.check_out()
        b.change("a = 2\n")
        script = f"{PROPOSE},msg:Proposed."
        async with b.here.active_worker(**b.settings, autonous_dummy_provider_script=script):
            await b.here.telegram.say(wish)
            await b.told("waiting for you")
            await until(lambda: "Proposed." in b.here.telegram.texts())
        (submission,) = b.here.supervisor.submissions
        assert "+a = 2" in submission.patch
        assert (submission.title, submission.why, submission.chat_id) == ("a joke", "to laugh", OWNER)
        assert (submission.model, submission.tokens, submission.repairs) == ("dummy", 2, "")
        assert (
            "Update 11111111: a joke\n✓ applied\n✓ built in 0.6 s\n✓ 212 tests passed\n✓ exam passed\n… waiting for you"
        ) in b.here.telegram.texts()
        assert b.here.rows("SELECT status, watched FROM developments") == [("staged", 0)]


@asynchronous
async def test_a_development_run_is_told_what_it_must_know(pristine: Path) -> None:
    """Where its source is, what failed lately, and that it may take longer than an ordinary run."""
    async with bench(pristine) as b, openai(b.here, completion("I see.")) as (fake, model):
        b.here.supervisor.updates = [
            {"tx_id": "9" * 36, "title": "x", "status": "rolled_back", "reason": "it wedged", "evidence": "last words"}
        ]
        settings = {**b.settings, **model, "autonous_control_max_tokens": 5}
        async with b.here.active_worker(**settings):
            await b.here.telegram.say("/patch tell jokes")
            await until(lambda: "I see." in b.here.telegram.texts())
            await b.here.telegram.say("hello")
            await until(lambda: b.here.telegram.texts().count("I see.") == 2)
        (role, system), (_, wish) = said(fake, 0)
        assert role == "system"
        for words in (str(b.workspace / "self" / str(OWNER)), SHA[:12], "run-tests", "it wedged", "last words"):
            assert words in system
        assert wish == "/patch tell jokes"
        assert (b.workspace / "self" / str(OWNER) / "worker" / "a.py").read_text() == "a = 1\n"
        assert said(fake, 1)[0] == ("system", "Be a test.")
        # The ordinary run was dearer than allowed, the other was not.
        assert len(b.here.events("control.limit_reached")) == 1


@pytest.mark.parametrize("steps", [FAILED, EXAM_FAILED])
@asynchronous
async def test_a_failed_gate_goes_back_to_the_model(pristine: Path, steps: list[tuple[str, str]]) -> None:
    """Tests or exam: with the evidence; its next attempt is linked to the update that failed."""
    async with (
        bench(pristine) as b,
        openai(b.here, _proposes("1"), completion("Proposed."), _proposes("2")) as (
            fake,
            model,
        ),
    ):
        b.judge(0, steps, evidence="joke: AssertionError")
        b.judge(1, STAGED)
        b.check_out()
        b.change("a = 2\n")
        async with b.here.active_worker(**{**b.settings, **model}):
            await b.here.telegram.say("/patch tell jokes")
            await until(lambda: b.here.rows("SELECT 1 FROM inbox WHERE kind = 'repair'"))
            b.change("a = 3\n")
            await until(lambda: len(b.here.supervisor.submissions) == 2)
        first, second = b.here.supervisor.submissions
        assert (first.repairs, second.repairs) == ("", TX[0])
        assert "a = 3" in second.patch
        request = next(text for role, text in said(fake, 2) if role == "user" and "did not pass" in text)
        assert f"did not pass: {steps[-1][0]}." in request
        assert "joke: AssertionError" in request
        assert "attempt 2 of 3" in request
        assert any(f"✗ {steps[-1][1]}" in text for text in b.here.telegram.texts())


def _proposes(call_id: str) -> Any:
    function = {"name": "propose_update", "arguments": '{"title": "a joke"}'}
    return completion(None, tool_calls=[{"id": call_id, "type": "function", "function": function}])


@asynchronous
async def test_attempts_are_exhausted(pristine: Path) -> None:
    """After the last one the chat is told, and the model is not asked again."""
    async with bench(pristine) as b:
        b.judge(0, FAILED, evidence="no")
        b.check_out()
        b.change("a = 2\n")
        settings = {**b.settings, "autonous_update_max_repairs": 0, "autonous_dummy_provider_script": f"{PROPOSE},ok"}
        async with b.here.active_worker(**settings):
            await b.here.telegram.say("/patch tell jokes")
            await b.told("I leave it at that")
            await asyncio.sleep(0.05)
        assert b.here.rows("SELECT kind FROM inbox") == [("patch",)]
        assert len(b.here.supervisor.submissions) == 1


@asynchronous
async def test_a_refused_patch_may_be_mended_in_the_same_run(pristine: Path) -> None:
    """The model is told why; the next attempt names the refused update, and attempts are counted."""
    async with bench(pristine) as b:
        refused = {"status": "refused", "code": "path_denied", "reason": "setup.py is not yours"}
        b.here.supervisor.verdicts.extend(Submitted(tx_id=tx_id, **refused) for tx_id in TX)
        b.check_out()
        b.change("a = 2\n")
        script = f"{PROPOSE},{PROPOSE},{PROPOSE},{PROPOSE},ok"
        settings = {**b.settings, "autonous_dummy_provider_script": script, "autonous_control_no_progress_k": 99}
        async with b.here.active_worker(**settings):
            await b.here.telegram.say("/patch tell jokes")
            await until(lambda: "dummy-ok" in b.here.telegram.texts())
        assert [submission.repairs for submission in b.here.supervisor.submissions] == ["", TX[0], TX[1]]
        codes = [event["code"] for event in b.here.events("tool_call.failed")]
        assert codes == ["path_denied", "path_denied", "path_denied", "attempts_exhausted"]


@asynchronous
async def test_the_next_worker_goes_on_watching(pristine: Path) -> None:
    """It edits the message of the one before it; a step is not told twice."""
    async with bench(pristine) as b:
        b.judge(0, STAGED[:2])
        b.here.supervisor.steps[TX[0]] = [
            step.model_copy(update={"final": False}) for step in b.here.supervisor.steps[TX[0]]
        ]
        b.check_out()
        b.change("a = 2\n")
        async with b.here.active_worker(**b.settings) as first:
            await b.here.telegram.say("/stage a joke")
            await b.told("built in")
            await b.here.supervisor.order(Role.EXIT)
            await first
        b.here.supervisor.verdicts.clear()
        b.judge(0, STAGED)
        async with b.here.active_worker(epoch=2, **b.settings):
            await b.told("waiting for you")
        assert len(b.here.telegram.texts()) == 1
        assert b.here.supervisor.submissions[0].model == ""


@asynchronous
async def test_a_hand_staged_copy_is_not_repaired_by_a_model(pristine: Path) -> None:
    """It was a person's; the message says what failed."""
    async with bench(pristine) as b:
        b.judge(0, FAILED, evidence="no")
        b.check_out()
        b.change("a = 2\n")
        async with b.here.active_worker(**b.settings):
            await b.here.telegram.say("/stage")
            await b.told("✗ 1 test fails")
        assert b.here.events("agent.started") == []


@asynchronous
async def test_what_cannot_be_staged(pristine: Path) -> None:
    """Nothing changed, no copy, the same again: told in one line each."""
    async with bench(pristine) as b:
        b.judge(0, STAGED)
        async with b.here.active_worker(**b.settings):
            for change, words in ((None, "there is no"), ("a = 1\n", "change something"), ("a = 2\n", "Update 1111")):
                if change:
                    b.check_out()
                    b.change(change)
                await b.here.telegram.say("/stage")
                await b.told(words)
            await b.here.telegram.say("/stage")
            await b.told("proposed already")
            await b.here.telegram.say("/patch")
            await until(lambda: PATCH_TEXT in b.here.telegram.texts())


@asynchronous
async def test_two_chats_have_a_copy_each(pristine: Path) -> None:
    """Each one's update holds its own change, is told in its own chat, and says so to the supervisor."""
    async with bench(pristine, owners=(OWNER, 43)) as b:
        b.judge(0, STAGED)
        b.judge(1, STAGED)
        for chat, text in ((OWNER, "a = 42\n"), (43, "a = 43\n")):
            b.check_out(chat)
            b.change(text, chat)
        async with b.here.active_worker(**b.settings):
            await b.here.telegram.say("/stage mine", user=OWNER)
            await b.here.telegram.say("/stage yours", user=43)
            for chat in (OWNER, 43):
                await b.told("waiting", chat)
        sent = {s.chat_id: (s.title, f"+a = {s.chat_id}" in s.patch) for s in b.here.supervisor.submissions}
        assert sent == {OWNER: ("mine", True), 43: ("yours", True)}
        assert [len(b.here.telegram.texts(chat)) for chat in (OWNER, 43)] == [1, 1]


@asynchronous
async def test_a_copy_whose_update_left_the_gates_is_begun_anew(pristine: Path) -> None:
    """It would be in the next update, too. What was changed in it since is kept, and so is what a gate turned down."""
    async with bench(pristine) as b:
        b.judge(0, STAGED)
        copy = b.workspace / "self" / str(OWNER) / "worker" / "a.py"
        async with b.here.active_worker(**b.settings, autonous_dummy_provider_script=f"{asks('own_source')},ok"):
            for status, changed_since, left in (
                ("test_failed", False, "a = 2\n"),
                ("rolled_back", True, "a = 2\nb = 1\n"),
                ("rolled_back", False, "a = 1\n"),
            ):
                b.check_out()
                b.change("a = 2\n")
                if not b.here.supervisor.submissions:
                    await b.here.telegram.say("/stage")
                    await until(lambda: b.here.supervisor.submissions)
                b.here.supervisor.updates = [{"tx_id": TX[0], "status": status, "title": "", "reason": ""}]
                if changed_since:
                    b.change("a = 2\nb = 1\n")
                update = await b.here.telegram.say("/patch more")
                done = f"SELECT 1 FROM inbox WHERE update_id = {update} AND status = 'done'"
                await until(partial(b.here.rows, done))
                assert copy.read_text() == left


@asynchronous
async def test_the_model_may_begin_anew(pristine: Path) -> None:
    """In ordinary talk it asks for its source, and gets the brief; what was done before is put aside."""
    async with bench(pristine) as b:
        b.check_out()
        b.change("a = 2\n")
        script = f"{asks('own_source')},{asks('own_source', fresh=True)},ok"
        async with b.here.active_worker(**b.settings, autonous_dummy_provider_script=script):
            await b.here.telegram.say("what are you made of?")
            await b.told("dummy-ok")
        kept, fresh = (json.loads(result)["stdout"] for (result,) in b.here.rows("SELECT result FROM tool_calls"))
        assert "It holds changes of before" in kept
        assert f"{OWNER}.old" in fresh
        assert (b.workspace / "self" / str(OWNER) / "worker" / "a.py").read_text() == "a = 1\n"
        assert (b.workspace / "self" / f"{OWNER}.old" / "worker" / "a.py").read_text() == "a = 2\n"


@asynchronous
async def test_alone_there_is_no_self_update(pristine: Path) -> None:
    """The commands say so, and the model is offered no such tool."""
    async with world() as here, openai(here, completion("hi")) as (fake, model):
        alone = {"autonous_supervisor_socket": None, "autonous_telegram_allowed_users": frozenset({OWNER})}
        async with here.worker(**alone, **model):
            for text in ("/patch tell jokes", "/stage"):
                await here.telegram.say(text)
            await until(lambda: here.telegram.texts() == [ALONE_TEXT] * 2)
            await here.telegram.say("hello")
            await until(lambda: fake.requests)
        tools: Any = fake.requests[0].get("tools", [])
        assert "propose_update" not in {tool["function"]["name"] for tool in tools}


@asynchronous
async def test_a_supervisor_that_is_away_is_watched_again(pristine: Path) -> None:
    """Its stream ended in the middle: the steps are asked for anew."""
    async with bench(pristine) as b:
        b.judge(0, STAGED)
        whole = b.here.supervisor.steps.pop(TX[0])
        b.check_out()
        b.change("a = 2\n")
        async with b.here.active_worker(**b.settings):
            await b.here.telegram.say("/stage")
            await until(lambda: b.here.supervisor.submissions)
            await asyncio.sleep(0.1)
            b.here.supervisor.steps[TX[0]] = whole
            await b.here.supervisor.reaches(WorkerState.ACTIVE)
            await b.told("waiting for you")


def test_a_development_run_may_cost_more() -> None:
    """These are in the documentation."""
    limits = (developing.MAX_TURNS, developing.MAX_WALL_TIME_SECONDS, developing.MAX_TOKENS)
    assert limits == (200, 3600.0, 2_000_000)


@asynccontextmanager
async def deaf_toolbox(directory: Path) -> AsyncIterator[dict[str, Any]]:
    """One that takes every call and answers nothing; the settings of a worker beside it."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(listen, directory / "deaf.sock")
    async with server:
        yield {"autonous_toolbox_socket": str(directory / "deaf.sock")}


@asynchronous
async def test_a_deaf_toolbox_holds_up_nobody_else() -> None:
    """While the worker waits for its working copy, what only the supervisor answers is answered."""
    async with world() as here, deaf_toolbox(here.directory) as settings, here.active_worker(**settings):
        await here.telegram.say("/stage")
        await until(lambda: here.rows("SELECT 1 FROM relays"))
        await here.telegram.say("/rollback 1a2b3c4d")
        await until(lambda: here.telegram.texts() == ["about 1a2b3c4d"])
        assert here.rows("SELECT name FROM relays WHERE answered_at IS NULL") == [("stage",)]


@asynchronous
async def test_the_wait_for_the_working_copy_is_the_runs_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at the limit like any other wait."""
    monkeypatch.setattr(developing, "MAX_WALL_TIME_SECONDS", 0.2)
    async with world() as here, deaf_toolbox(here.directory) as settings:
        async with here.active_worker(**settings, autonous_control_max_wall_time_seconds=0.2):
            await here.telegram.say("/patch\ntell jokes")
            await until(here.telegram.texts)
        assert "AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS" in here.telegram.texts()[0]
        assert here.rows("SELECT kind, status FROM inbox") == [("patch", "done")]


@asynchronous
async def test_a_toolbox_with_no_space_is_no_error_of_the_worker(pristine: Path) -> None:
    """The wish is given up after its attempts and its author is told why; the beats count no internal error."""
    async with bench(pristine, min_free_bytes=10**18) as b:
        settings = {**b.settings, "autonous_control_max_retries": 1}
        async with b.here.active_worker(**settings):
            await b.here.telegram.say("/patch tell jokes")
            await b.told("gave up after 2 attempts")
            beats = len(b.here.supervisor.beats)
            await until(lambda: len(b.here.supervisor.beats) > beats + 1)
            assert b.here.supervisor.beats[-1].internal_errors == 0


@asynchronous
async def test_a_command_that_breaks_down_does_not_stand_before_the_others(pristine: Path) -> None:
    """Its author gets an apology, once, and the next one is carried out."""
    async with bench(pristine) as b, b.here.active_worker(**b.settings):
        await asyncio.sleep(2 * BESIDE_AFTER_SECONDS)  # what watches updates has looked
        b.here.execute("ALTER TABLE developments RENAME COLUMN patch_sha256 TO gone")
        b.check_out()
        b.change("a = 2\n")
        await b.here.telegram.say("/stage")
        await b.told(SPOILT)
        await b.here.telegram.say("/grants")
        await b.told("Can be granted")
        assert b.here.telegram.texts().count(SPOILT) == 1
