"""Development: the runs in which the model changes its own source, and the worker's own tools for that."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from worker.agent.journal import Attempt, Journal
from worker.agent.toolset import OwnTool
from worker.control.limits import Limits
from worker.selfupdate import texts
from worker.selfupdate.base import Supervisor, SupervisorError
from worker.selfupdate.proposals import PATCH, REPAIR, Author, Proposals, sha256
from worker.selfupdate.workspace import Workspace
from worker.store import Store, Task
from worker.tools.base import Arguments, ToolError, ToolResult, argument

#: What a development run may cost at least; where an ordinary one may cost more, so may this.
MAX_TURNS: Final = 200
MAX_WALL_TIME_SECONDS: Final = 3600.0
MAX_TOKENS: Final = 2_000_000
#: A copy whose last update got so far is done with: the next wish begins with a fresh one.
_WORK_IN_HAND: Final = frozenset({"created", "building", "testing", "self_checking", "cancelled", *texts.FAILED})
#: The kinds of tasks that develop.
_DEVELOPMENT: Final = frozenset({PATCH, REPAIR})
_MOST_FAILURES: Final = 3
_CAME_TO_NOTHING: Final = frozenset({"deploy_failed", "rolled_back", *texts.FAILED})
_HISTORY_SECONDS: Final = 5.0
_STAGED_TITLE: Final = "staged by hand"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnSourceArguments(Arguments):
    """Whether to go on with the copy that there is."""

    fresh: bool = argument("Put aside what was done in the copy, and begin anew.", default=False)


@dataclass(frozen=True, slots=True)
class ProposeUpdateArguments(Arguments):
    """What the owner is told of the change."""

    title: str = argument("What the change does, in at most 60 characters.", min_length=1, max_length=200)
    why: str = argument("Why it is made, and what the owner should know of it.", default="", max_length=2000)


class Developing:
    """Sets up development runs and carries out what they propose. ``sha`` is the revision that runs here."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        workspace: Workspace,
        proposals: Proposals,
        store: Store,
        journal: Journal,
        model_name: str,
        ordinary: Limits,
        sha: str,
        max_repairs: int,
    ) -> None:
        self._supervisor = supervisor
        self._workspace = workspace
        self._proposals = proposals
        self._store = store
        self._journal = journal
        self._model_name = model_name
        self._ordinary = ordinary
        self._limits = replace(
            ordinary,
            max_turns=max(ordinary.max_turns, MAX_TURNS),
            max_wall_time_seconds=max(ordinary.max_wall_time_seconds, MAX_WALL_TIME_SECONDS),
            max_tokens=max(ordinary.max_tokens, MAX_TOKENS),
        )
        self._sha = sha
        self._max_repairs = max_repairs

    def limits(self, task: Task) -> Limits:
        """A development run may cost more."""
        return self._limits if task.kind in _DEVELOPMENT else self._ordinary

    async def brief(self, task: Task) -> str:
        """A development run has a working copy, and is told of it. Raises ToolError."""
        return await self._brief(task.chat_id) if task.kind in _DEVELOPMENT else ""

    def tools(self) -> Sequence[OwnTool]:
        """What the model can call in any run."""
        return (
            OwnTool(
                "own_source",
                "Shows where a working copy of your own source is, and how to change yourself: call this first when "
                "the owner wants you to be different, unless you know it already.",
                OwnSourceArguments,
                self._own_source,
            ),
            OwnTool(
                "propose_update",
                "Proposes what the working copy of your own source has become as an update of yourself. It is built, "
                "tested and examined; then the owner is asked. Gives the update's id at once.",
                ProposeUpdateArguments,
                self._propose_update,
            ),
        )

    async def stage(self, chat_id: int, title: str) -> str:
        """Propose the chat's copy as it is, without a model; what the chat is told."""
        try:
            await self._proposals.propose(chat_id, title=title or _STAGED_TITLE, why="", author=None)
        except ToolError as error:
            return f"Not staged: {error}"
        return ""  # the message that shows its way says it

    async def _own_source(self, arguments: OwnSourceArguments, attempt: Attempt) -> ToolResult:
        return ToolResult(ok=True, stdout=await self._brief(attempt.task.chat_id, fresh=arguments.fresh))

    async def _propose_update(self, arguments: ProposeUpdateArguments, attempt: Attempt) -> ToolResult:
        author = Author(attempt.task, self._model_name, self._journal.tokens(attempt))
        chat_id = attempt.task.chat_id
        proposed = await self._proposals.propose(chat_id, title=arguments.title, why=arguments.why, author=author)
        text = (
            f"Update {proposed.tx_id[:8]} is at the gates now. If one of them fails you are asked to repair it; "
            "if none does, the owner is asked. Nothing is left for you to do but to say what you did."
        )
        return ToolResult(ok=True, stdout=text, meta={"tx_id": proposed.tx_id, "status": proposed.status})

    async def _brief(self, chat_id: int, *, fresh: bool = False) -> str:
        history = await self._history()
        fresh = fresh or await self._is_done_with(chat_id, history)
        copy = await self._workspace.check_out(chat_id, fresh=fresh)
        return texts.brief(self._sha, copy, self._failures(history), max_repairs=self._max_repairs)

    async def _is_done_with(self, chat_id: int, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the chat's copy is just what became an update, and that has left the gates."""
        last = self._store.developments.of_chat(chat_id)
        status = next((entry["status"] for entry in history if last and entry["tx_id"] == last.tx_id), None)
        if last is None or status is None or status in _WORK_IN_HAND:
            return False
        try:
            return sha256(await self._workspace.patch(chat_id)) == last.patch_sha256
        except ToolError:  # there is none, or nothing that could become a patch
            return False

    async def _history(self) -> Sequence[Mapping[str, Any]]:
        try:
            async with asyncio.timeout(_HISTORY_SECONDS):
                return await self._supervisor.history()
        except (SupervisorError, TimeoutError) as error:
            logger.info("the history of updates is not known just now: %s", error)
            return []

    def _failures(self, history: Sequence[Mapping[str, Any]]) -> str:
        """The latest updates that came to nothing, the latest of all with its evidence."""
        failed = [entry for entry in history if entry["status"] in _CAME_TO_NOTHING][:_MOST_FAILURES]
        lines = [
            f'- update {entry["tx_id"][:8]} "{entry["title"]}" ended as {entry["status"]}: '
            f"{entry.get('reason') or 'nobody wrote down why'}"
            for entry in failed
        ]
        evidence = next((str(entry["evidence"]) for entry in failed if entry.get("evidence")), "")
        if not evidence and (last := self._store.developments.last_failure()) is not None:
            evidence = f"update {last.tx_id[:8]} ended as {last.status}: {last.evidence}"
        return "\n".join([*lines, *([f"\n{evidence}"] if evidence else [])])
