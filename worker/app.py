"""The composition root: settings, store, commander, model, agent, link, and the life of the process."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NoReturn

from supervisor.contract import Announcement, EventType, Redactor, Role, RoleGrant
from worker import __version__, log, safeguards
from worker.agent.claims import Claims
from worker.agent.commands import MENU, DirectCommands
from worker.agent.conversation import Conversations
from worker.agent.courier import Courier
from worker.agent.dead_letters import DeadLetters
from worker.agent.desk import Desk
from worker.agent.intake import Intake
from worker.agent.journal import Journal
from worker.agent.loop import AgentLoop
from worker.agent.menu import Menu
from worker.agent.owners import Owners
from worker.agent.presses import Presses
from worker.agent.preview import Previews
from worker.agent.recalling import Recalling
from worker.agent.relaying import STAGE, Relaying
from worker.agent.runs import Runs
from worker.agent.seen import Seen
from worker.agent.status import status_text
from worker.agent.terms import SameForAll
from worker.agent.toolset import Toolset
from worker.context import (
    ContextBuilder,
    InTurn,
    LastMessages,
    LongMessages,
    PlainAssembler,
    PromptUnreadable,
    SystemPrompt,
)
from worker.context.compressor import MESSAGE_SHARE
from worker.control.breaker import Breaker
from worker.duty import Duty
from worker.factory import (
    make_commander,
    make_link,
    make_memory,
    make_model,
    make_operations,
    make_prices,
    smallest_window,
)
from worker.selfupdate.assembly import SelfUpdate, assemble
from worker.settings import Settings, SettingsError, load, secrets
from worker.store import Fenced, Store, StoreUnusable
from worker.tools.steady import SteadyToolbox
from worker.vitals import Vitals

logger = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """What the process says when it ends."""

    DONE = 0
    CRASHED = 1
    BAD_SETTINGS = 2
    FENCED = 3


def main() -> int:
    """Run the worker of this process; gives its exit code."""
    # Process 1 of a container has no default signal handlers: until the loop has its own, a signal ends it here.
    signal.signal(signal.SIGTERM, _leave_at_once)
    redact = Redactor(secrets(os.environ))
    log.set_up(redact)
    try:
        settings = load()
        prompt = SystemPrompt.load(settings.autonous_config_dir, settings.worker_system_prompt)
        store = Store(settings.autonous_db_path, clock=time.time, sha=settings.autonous_worker_sha, redact=redact)
    except (SettingsError, PromptUnreadable, StoreUnusable) as error:
        return _cannot_start(redact(str(error)))
    try:
        app = App(settings, prompt, store, redact)
        gc.freeze()  # what is there by now stays, and is no garbage at the end either
        gc.enable()
        asyncio.run(app.run())
    except SettingsError as error:  # of what is only found out when a part is put together
        return _cannot_start(redact(str(error)))
    except Exception as error:
        if isinstance(error, ExceptionGroup) and error.subgroup(Fenced) is not None:
            logger.error("fenced: another worker holds a later lease")  # noqa: TRY400 - expected, no traceback
            return ExitCode.FENCED
        logger.exception("the worker crashed")
        return ExitCode.CRASHED
    finally:
        store.close()
    return ExitCode.DONE


def _cannot_start(why: str) -> ExitCode:
    sys.stderr.write(f"worker: {why}\n")
    return ExitCode.BAD_SETTINGS


def _leave_at_once(*_: object) -> NoReturn:
    """SIGTERM before there is any work."""
    raise SystemExit(ExitCode.DONE)


class App:
    """One worker, put together from its settings."""

    def __init__(self, settings: Settings, prompt: SystemPrompt, store: Store, redact: Redactor) -> None:
        self._settings = settings
        self._store = store
        self._redact = redact
        self._prompt = prompt
        self._commander = make_commander(settings)
        self._model = make_model(settings)
        self._window = settings.autonous_model_context_window or smallest_window(self._model)
        self._memory = make_memory(settings, store)
        self._owners = Owners(settings.autonous_telegram_allowed_users or self._commander.owners)
        self._vitals = Vitals()
        self._presses = Presses(commander=self._commander, store=store, vitals=self._vitals)
        self._process_event = self._record_start()
        self._link = make_link(settings, self._announcement(), self._vitals)
        self._safeguards = safeguards.assemble(
            settings=settings,
            commander=self._commander,
            link=self._link,
            presses=self._presses,
            store=store,
            redact=redact,
        )
        if self._link is None and self._owners.unclaimed:
            logger.warning("nobody owns this bot: set AUTONOUS_TELEGRAM_ALLOWED_USERS")

    async def run(self) -> None:
        """Work until told to leave. Raises an exception group with Fenced inside when the lease is lost."""
        try:
            async with asyncio.TaskGroup() as group:
                duty = Duty(
                    desk=self._make_desk(group),
                    lease=self._store.lease,
                    owners=self._owners,
                    vitals=self._vitals,
                    drain_seconds=self._settings.autonous_drain_seconds,
                )
                for signum in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(signum, duty.leave)
                await self._follow(duty, group)
        finally:
            await self._commander.close()
            await self._model.close()
            await self._safeguards.toolbox.close()
            await self._memory.close()
            if self._link is not None:
                await self._link.close()

    async def _follow(self, duty: Duty, group: asyncio.TaskGroup) -> None:
        """Do what the supervisor says; without one be active from now on."""
        if self._link is None:
            duty.receive(RoleGrant(role=Role.ACTIVE, epoch=self._store.lease.stored() + 1))
            await duty.run()
            return
        connected = group.create_task(self._link.run(duty))
        await duty.run()
        await self._link.farewell(duty)
        connected.cancel()

    def _make_desk(self, group: asyncio.TaskGroup) -> Desk:
        settings, store, vitals, redact = self._settings, self._store, self._vitals, self._redact
        courier = Courier(
            group=group,
            commander=self._commander,
            store=store,
            vitals=vitals,
            redact=redact,
            process_event=self._process_event,
        )
        breaker = Breaker(
            policy=settings.circuit, events=store.events, process_event=self._process_event, monotonic=time.monotonic
        )
        journal = self._make_journal()

        def queued(chat_id: int) -> None:
            runs.chats.wake(chat_id)

        self_update = self._make_self_update(journal, queued=queued, answered=courier.chats.wake)
        runs = self._make_runs(group, breaker, journal, self_update, answered=courier.chats.wake)
        dead_letters = DeadLetters(
            store=store,
            process_event=self._process_event,
            cooldown_seconds=settings.autonous_control_dead_replay_seconds,
            queued=runs.chats.wake,
        )
        claims = self._make_claims(answered=courier.chats.wake)
        relaying = Relaying(
            supervisor=self._link,
            own={
                **({STAGE: self_update.developing.stage} if self_update else {}),
                **self._safeguards.granting.commands(),
            },
            store=store,
            vitals=vitals,
            answered=courier.chats.wake,
        )
        self._presses.handle("s:", relaying.press, kept=True)
        commands = DirectCommands(
            store=store,
            status=partial(status_text, store, self._model, settings.autonous_worker_sha),
            runs=runs,
            dead_letters=dead_letters,
            relaying=relaying,
            recalling=Recalling(memory=self._memory.recaller, store=store, vitals=vitals, answered=courier.chats.wake),
        )
        intake = Intake(
            commander=self._commander,
            store=store,
            owners=self._owners,
            commands=commands,
            claims=claims,
            presses=self._presses,
            keeper=self._link,
            gate=breaker,
            seen=Seen(commander=self._commander, store=store),
            vitals=vitals,
            redact=redact,
            process_event=self._process_event,
            pause_seconds=settings.tg_sleep_seconds,
            drop_pending=settings.tg_drop_pending,
            queued=runs.chats.wake,
            answered=courier.chats.wake,
        )
        menu = Menu(self._commander, MENU)
        beside = [dead_letters.run, menu.publish, relaying.run, self._memory.indexing.run]
        if claims is not None:
            beside.append(claims.run)
        if self_update is not None:
            beside.append(self_update.watching.run)
        return Desk(group=group, intake=intake, runs=runs, courier=courier, with_intake=[commands.run], beside=beside)

    def _make_claims(self, *, answered: Callable[[int], None]) -> Claims | None:
        """Who relays claims; None without a supervisor, which alone knows the code."""
        if self._link is None:
            return None
        return Claims(
            relay=self._link.claim,
            owners=self._owners,
            store=self._store,
            process_event=self._process_event,
            answered=answered,
        )

    def _make_journal(self) -> Journal:
        return Journal(
            self._store,
            redact=self._redact,
            process_event=self._process_event,
            model_name=self._model.model_name,
            price=make_prices(self._settings, self._model),
            monotonic=time.monotonic,
        )

    def _make_self_update(
        self, journal: Journal, *, queued: Callable[[int], None], answered: Callable[[int], None]
    ) -> SelfUpdate | None:
        """How the worker changes itself; None without a supervisor, which alone can do that."""
        settings, toolbox = self._settings, self._safeguards.toolbox
        if self._link is None or not isinstance(toolbox, SteadyToolbox):
            return None
        return assemble(
            supervisor=self._link,
            operations=make_operations(settings, toolbox),
            commander=self._commander,
            store=self._store,
            journal=journal,
            redact=self._redact,
            vitals=self._vitals,
            model_name=self._model.model_name,
            limits=settings.limits,
            sha=settings.autonous_worker_sha,
            max_repairs=settings.autonous_update_max_repairs,
            queued=queued,
            answered=answered,
        )

    def _make_runs(
        self,
        group: asyncio.TaskGroup,
        breaker: Breaker,
        journal: Journal,
        self_update: SelfUpdate | None,
        *,
        answered: Callable[[int], None],
    ) -> Runs:
        settings, store, vitals, redact = self._settings, self._store, self._vitals, self._redact
        own = (*self._safeguards.granting.tools(), *(self_update.developing.tools() if self_update else ()))
        toolset = Toolset(self._safeguards.guard, own)
        agent = AgentLoop(
            model=self._model,
            conversations=self._make_conversations(journal, toolset),
            toolset=toolset,
            journal=journal,
            terms=self_update.developing if self_update else SameForAll(settings.limits),
            no_progress_k=settings.autonous_control_no_progress_k,
            progressed=vitals.progressed,
        )
        return Runs(
            group=group,
            agent=agent,
            journal=journal,
            observe=Previews(commander=self._commander, store=store, redact=redact).of,
            store=store,
            retries=settings.retries,
            no_progress_k=settings.autonous_control_no_progress_k,
            breaker=breaker,
            vitals=vitals,
            redact=redact,
            limit=settings.autonous_max_concurrent_chats,
            answered=answered,
        )

    def _make_conversations(self, journal: Journal, toolset: Toolset) -> Conversations:
        store = self._store
        return Conversations(
            model=self._model,
            context=self._make_context(),
            history=store.history,
            summaries=store.summaries,
            recall=self._memory.recaller,
            journal=journal,
            window=self._window,
            tools=toolset.specs,
        )

    def _make_context(self) -> ContextBuilder:
        shown = self._settings.tg_history_window
        longest = int(self._window * 4 * MESSAGE_SHARE)
        return ContextBuilder(
            system_prompt=self._prompt.text,
            provider=self._memory.provider,
            why=self._memory.provider.why,
            compressor=InTurn(LastMessages(shown), LongMessages(longest), max_messages=shown),
            assembler=PlainAssembler(),
            events=self._store.events,
        )

    def _announcement(self) -> Announcement:
        """What the supervisor is told first."""
        return Announcement(
            sha=self._settings.autonous_worker_sha,
            version=__version__,
            pid=os.getpid(),
            schema_version=self._store.schema_version,
            provider=self._model.provider,
            source=self._commander.source,
        )

    def _record_start(self) -> int:
        """Write the first events of this process; gives the id under which all others hang."""
        process_event = self._store.events.append(
            EventType.PROCESS_STARTED,
            {
                "role": "worker",
                "pid": os.getpid(),
                "version": __version__,
                "instance": self._settings.autonous_worker_instance,
                "provider": self._model.provider,
                "source": self._commander.source,
            },
            parent_id=self._settings.autonous_parent_event_id,
        )
        self._store.events.append(
            EventType.SYSTEM_PROMPT_LOADED,
            {"origin": self._prompt.origin, "chars": len(self._prompt.text)},
            parent_id=process_event,
        )
        return process_event
