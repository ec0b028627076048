"""The parts of a running supervisor put together."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from supervisor import facts
from supervisor.bot import client as botapi
from supervisor.bot.owner_notices import OwnerNotices
from supervisor.bot.rescue import Rescue, source
from supervisor.cards.assembly import Cards, assemble
from supervisor.contract_handlers import WorkersDesk
from supervisor.engine import Engine
from supervisor.gates.examprocess import ExamProcess
from supervisor.gates.rehearsal import Rehearsal
from supervisor.ledger import Ledger
from supervisor.localbot import process as localbot
from supervisor.localbot.store import OWNER
from supervisor.outages import OutageMonitor, probes_of
from supervisor.paths import Paths
from supervisor.pipeline.pipeline import Pipeline
from supervisor.revisions import Revisions
from supervisor.rollout.rebuild import ImageRebuilder, Reexamination
from supervisor.rollout.rollout import Rollout
from supervisor.sessions import Sessions, Signal
from supervisor.settings import Settings
from supervisor.timing import IN_SERVICE
from supervisor.toolbox.grants import Grants
from supervisor.toolbox.handlers import ToolDesk
from supervisor.toolbox.toolboxes import Toolboxes
from supervisor.updates.decisions import Decisions
from supervisor.workers.containers import WorkerContainers
from supervisor.workers.pool import WorkerPool


@dataclass(frozen=True)
class Base:
    """What is there before the parts, and that they are made of."""

    settings: Settings
    ledger: Ledger
    engine: Engine
    revisions: Revisions
    sessions: Sessions
    signal: Signal
    decisions: Decisions
    started_event: int
    stopped: Callable[[], bool]

    def bot(self) -> botapi.BotClient:
        """The bot, asked anew each time."""
        return botapi.BotClient.of(self.settings)


@dataclass(frozen=True)
class Parts:
    """What works in the threads of a supervisor, and who answers there."""

    toolboxes: Toolboxes
    containers: WorkerContainers
    pipeline: Pipeline
    rebuilder: ImageRebuilder
    outages: OutageMonitor
    rollout: Rollout
    cards: Cards
    desk: WorkersDesk
    tool_desk: ToolDesk
    rescue: Rescue
    owner_notices: OwnerNotices


def build_parts(base: Base) -> Parts:
    """Everything that a supervisor on duty consists of; nothing of it runs yet. Raises LedgerError."""
    poll_turn = threading.Lock()
    installation = facts.ensure_installation(base.ledger)
    grants = Grants(ledger=base.ledger, settings=base.settings, signal=base.signal)
    toolboxes = Toolboxes(
        engine=base.engine,
        ledger=base.ledger,
        settings=base.settings,
        signal=base.signal,
        grants=grants,
        installation=installation,
    )
    containers = _containers(base, toolboxes, installation)
    pipeline = Pipeline(
        engine=base.engine,
        ledger=base.ledger,
        revisions=base.revisions,
        settings=base.settings,
        signal=base.signal,
        started_event=base.started_event,
    )
    pool = _pool(base, containers, poll_turn)
    rebuilder = _rebuilder(base, pool)
    outages = OutageMonitor(
        probes=probes_of(base.settings, engine=containers.engine_trouble),
        ledger=base.ledger,
        sessions=base.sessions,
        timing=IN_SERVICE,
    )
    rollout = _rollout(base, containers, pool, rebuilder, outages)
    cards = assemble(
        settings=base.settings,
        ledger=base.ledger,
        revisions=base.revisions,
        decisions=base.decisions,
        bot=base.bot(),
        signal=base.signal,
    )
    desk = _desk(base, pipeline, rollout, cards, outages)
    return Parts(
        toolboxes=toolboxes,
        containers=containers,
        pipeline=pipeline,
        rebuilder=rebuilder,
        outages=outages,
        rollout=rollout,
        cards=cards,
        desk=desk,
        tool_desk=ToolDesk(
            ledger=base.ledger, toolboxes=toolboxes, grants=grants, signal=base.signal, owners=desk.owners
        ),
        rescue=_rescue(base, desk, rollout, pool, poll_turn),
        owner_notices=OwnerNotices(bot=base.bot, ledger=base.ledger, owners=desk.owners),
    )


def worker_environment(settings: Settings, paths: Paths) -> dict[str, str]:
    """What a worker finds in its environment, beside what is its container's own."""
    environment = dict(settings.worker_values)
    if settings.uses_local_bot:
        environment["TELEGRAM_BOT_TOKEN"] = localbot.token(paths)
        environment["AUTONOUS_TELEGRAM_UDS"] = f"/run/autonous/{paths.localbot_socket.name}"
        if settings.allowed_users:  # the terminal's user is one of them
            owners = (*settings.allowed_users, OWNER)
            environment["AUTONOUS_TELEGRAM_ALLOWED_USERS"] = ",".join(map(str, owners))
    return environment


def _containers(base: Base, toolboxes: Toolboxes, installation: str) -> WorkerContainers:
    return WorkerContainers(
        engine=base.engine,
        ledger=base.ledger,
        sessions=base.sessions,
        settings=base.settings,
        signal=base.signal,
        environment=lambda: worker_environment(base.settings, base.settings.paths),
        started_event=base.started_event,
        installation=installation,
        toolboxes=toolboxes,
    )


def _pool(base: Base, containers: WorkerContainers, poll_turn: threading.Lock) -> WorkerPool:
    return WorkerPool(
        containers=containers,
        ledger=base.ledger,
        sessions=base.sessions,
        settings=base.settings,
        signal=base.signal,
        stopping=base.stopped,
        poll_turn=poll_turn,
    )


def _rebuilder(base: Base, pool: WorkerPool) -> ImageRebuilder:
    # A room of its own: the pipeline may hold an exam at the same time.
    room = base.settings.paths.run / "again"
    examiner = ExamProcess(base.engine, base.settings.project, base.settings.worker_uid, room)
    return ImageRebuilder(
        engine=base.engine,
        ledger=base.ledger,
        revisions=base.revisions,
        project=base.settings.project,
        exam=Reexamination(Rehearsal(examiner, room, base.settings.paths.agent_db), base.ledger),
        extras=base.settings.extras,
        in_service=lambda: not base.stopped() and pool.in_service(),
        stopping=base.stopped,
    )


def _rollout(
    base: Base, containers: WorkerContainers, pool: WorkerPool, rebuilder: ImageRebuilder, outages: OutageMonitor
) -> Rollout:
    return Rollout(
        engine=base.engine,
        ledger=base.ledger,
        revisions=base.revisions,
        containers=containers,
        pool=pool,
        sessions=base.sessions,
        settings=base.settings,
        signal=base.signal,
        rebuilder=rebuilder,
        outages=outages,
        bot_api_answers=lambda: botapi.answers(base.settings),
    )


def _desk(base: Base, pipeline: Pipeline, rollout: Rollout, cards: Cards, outages: OutageMonitor) -> WorkersDesk:
    return WorkersDesk(
        ledger=base.ledger,
        revisions=base.revisions,
        sessions=base.sessions,
        settings=base.settings,
        signal=base.signal,
        pipeline=pipeline,
        rollout=rollout,
        cards=cards.desk,
        outages=outages,
        stopped=base.stopped,
    )


def _rescue(base: Base, desk: WorkersDesk, rollout: Rollout, pool: WorkerPool, poll_turn: threading.Lock) -> Rescue:
    return Rescue(
        bot=base.bot,
        source=source(base.settings),
        ledger=base.ledger,
        decisions=base.decisions,
        commands=desk.commands,
        owners=desk.owners,
        works=pool.may_poll,
        polls=pool.polls,
        trouble=lambda: rollout.trouble,
        poll_turn=poll_turn,
        signal=base.signal,
        timing=IN_SERVICE,
    )
