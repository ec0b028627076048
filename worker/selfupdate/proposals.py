"""Proposals: what a working copy has become is handed to the supervisor as an update."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from supervisor.contract import Submission
from worker.selfupdate.base import Away, Declined, Supervisor
from worker.selfupdate.workspace import Workspace
from worker.store import Store, Task
from worker.store.developments import Development
from worker.tools.base import ErrorClass, ToolError

#: The kind of an inbox row that asks for a change, and of one that asks for its repair.
PATCH: Final = "patch"
REPAIR: Final = "repair"
_REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Author:
    """The run that proposes, and what it cost so far; a person who stages a copy has none."""

    task: Task
    model: str
    tokens: int


class Proposals:
    """Hands them in. ``watch`` is told the id of each development that is at the gates now."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        workspace: Workspace,
        store: Store,
        max_repairs: int,
        watch: Callable[[int], None],
    ) -> None:
        self._supervisor = supervisor
        self._workspace = workspace
        self._developments = store.developments
        self._max_repairs = max_repairs
        self._watch = watch

    async def propose(self, chat_id: int, *, title: str, why: str, author: Author | None) -> Development:
        """Submit the chat's copy. Raises ToolError when that makes no update that the gates could judge."""
        before = self.repaired_by(author.task) if author else None
        attempt = before.attempt + 1 if before else 0
        if attempt > self._max_repairs:
            reason = "no attempt is left: tell the owner what you found out, and that /patch begins anew"
            raise ToolError("attempts_exhausted", reason, ErrorClass.POLICY)
        patch = await self._workspace.patch(chat_id)
        if not patch:
            raise ToolError("no_change", "the working copy is what runs already: change something first")
        digest = sha256(patch)
        if same := self._developments.open_with(chat_id, digest):
            raise ToolError("proposed_already", f"just this change was proposed already, as update {same.tx_id[:8]}")
        repairs = before.tx_id if before else ""
        submission = _submission(patch, chat_id, title, why, repairs, author)
        try:
            submitted = await self._supervisor.submit(submission)
        except Away as error:
            raise ToolError("supervisor_away", "the supervisor does not answer just now: try again later") from error
        except Declined as error:
            raise ToolError(error.code, str(error)) from error
        refused = submitted.status == _REFUSED
        development = self._developments.add(
            tx_id=submitted.tx_id,
            chat_id=chat_id,
            task_id=author.task.id if author else None,
            attempt=attempt,
            repairs=repairs,
            title=title,
            patch_sha256=digest,
            status=submitted.status,
            evidence=f"{submitted.code}: {submitted.reason}" if refused else "",
        )
        if refused:
            reason = f"update {submitted.tx_id[:8]} was refused: {submitted.reason}"
            raise ToolError(submitted.code or _REFUSED, reason, ErrorClass.POLICY)
        self._watch(development.id)
        return development

    def repaired_by(self, task: Task) -> Development | None:
        """What a task's next proposal is to repair: what its run proposed in vain, else what it was begun for."""
        mine = self._developments.of_task(task.id)
        if mine is not None:
            return mine if mine.evidence else None
        return self._developments.get(task.update_id) if task.kind == REPAIR else None


def sha256(patch: str) -> str:
    """By what a patch is known."""
    return hashlib.sha256(patch.encode()).hexdigest()


def _submission(patch: str, chat_id: int, title: str, why: str, repairs: str, author: Author | None) -> Submission:
    by = {"model": author.model, "tokens": author.tokens} if author else {}
    return Submission(patch=patch, title=title, why=why, chat_id=chat_id, repairs=repairs, **by)
