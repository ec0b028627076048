"""Puts the parts of self-update together."""

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.contract import Redactor
from worker.agent.journal import Journal
from worker.commander.base import Commander
from worker.control.limits import Limits
from worker.selfupdate.base import Supervisor
from worker.selfupdate.developing import Developing
from worker.selfupdate.proposals import Proposals
from worker.selfupdate.watching import Watching
from worker.selfupdate.workspace import Operations, Workspace
from worker.store import Store
from worker.vitals import Vitals


@dataclass(frozen=True, slots=True)
class SelfUpdate:
    """What a worker with a supervisor has besides."""

    developing: Developing
    watching: Watching


def assemble(
    *,
    supervisor: Supervisor,
    operations: Operations,
    commander: Commander,
    store: Store,
    journal: Journal,
    redact: Redactor,
    vitals: Vitals,
    model_name: str,
    limits: Limits,
    sha: str,
    max_repairs: int,
    queued: Callable[[int], None],
    answered: Callable[[int], None],
) -> SelfUpdate:
    """All of it. ``limits`` are those of an ordinary run."""
    workspace = Workspace(operations, sha)
    watching = Watching(
        supervisor=supervisor,
        commander=commander,
        store=store,
        redact=redact,
        vitals=vitals,
        max_repairs=max_repairs,
        queued=queued,
        answered=answered,
    )
    proposals = Proposals(
        supervisor=supervisor, workspace=workspace, store=store, max_repairs=max_repairs, watch=watching.watch
    )
    developing = Developing(
        supervisor=supervisor,
        workspace=workspace,
        proposals=proposals,
        store=store,
        journal=journal,
        model_name=model_name,
        ordinary=limits,
        sha=sha,
        max_repairs=max_repairs,
    )
    return SelfUpdate(developing, watching)
