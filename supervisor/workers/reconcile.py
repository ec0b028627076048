"""At the start: what the engine has, brought together with what the ledger knows.

Workers that live are adopted as they are and notice nothing. What no ledger row explains goes.
"""

from typing import Protocol

import structlog

from supervisor import facts
from supervisor.contract import Role
from supervisor.engine import ContainerView
from supervisor.ledger import Ledger
from supervisor.revisions import Revisions
from supervisor.specs import LABEL_INSTALLATION, LABEL_WORKER
from supervisor.workers.containers import WorkerContainers

_LOG = structlog.get_logger()


class Engine(Protocol):
    """The part of the engine that is asked."""

    def containers(self, project: str) -> list[ContainerView]:
        """All containers of a project, dead ones too."""

    def remove(self, container_id: str) -> None:
        """Kill and remove a container."""


class ProjectInUse(Exception):
    """Another home runs workers under this project's name; the message is one line for the user."""


def refuse_foreign_workers(engine: Engine, ledger: Ledger, project: str) -> None:
    """Raise ProjectInUse rather than take another installation's workers for left-overs."""
    mine = facts.ensure_installation(ledger)
    for view in engine.containers(project):
        if view.running and LABEL_WORKER in view.labels and view.labels.get(LABEL_INSTALLATION, mine) != mine:
            raise ProjectInUse(
                f"another installation runs {view.name} as project {project!r}; "
                "give this one a name of its own by AUTONOUS_PROJECT"
            )


def reconcile(engine: Engine, ledger: Ledger, containers: WorkerContainers, revisions: Revisions, project: str) -> None:
    """Adopt the living, bury the dead, remove what belongs to nobody. Raises EngineError."""
    lease = ledger.lease()
    known = {row.worker_id for row in ledger.living_workers()}
    for row in ledger.living_workers():
        if not containers.alive(row.worker_id):
            containers.end(row.worker_id, reason="it ended while no supervisor watched")
            known.discard(row.worker_id)
        elif lease is not None and lease.worker_id == row.worker_id:
            containers.adopt(row, role=Role.ACTIVE, epoch=lease.epoch)
            _LOG.info("adopted the active worker", worker=row.worker_id)
        else:
            containers.adopt(row, role=Role.STANDBY, epoch=None)
            _LOG.info("adopted a standby worker", worker=row.worker_id)
    for view in engine.containers(project):
        if view.labels.get(LABEL_WORKER) not in known:
            # Tests and exams that were cut short, and workers that the ledger never heard of.
            _LOG.info("removed a left-over container", container=view.name)
            engine.remove(view.id)
    good = ledger.good_sha()
    if good is not None and revisions.active() != good:
        revisions.set_active(good)
