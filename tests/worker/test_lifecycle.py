"""The worker under a supervisor: roles, leases, drains."""

import time

import pytest

from supervisor.contract import Role, RoleGrant, WorkerState
from tests.worker.support import SHA, asynchronous, open_store, until, world
from worker.store import Fenced
from worker.store.migrations import MIGRATIONS


@asynchronous
async def test_standby_announces_itself_and_takes_no_work() -> None:
    """A worker in standby says what it is, beats, and polls nothing."""
    async with world() as here, here.worker():
        await here.telegram.say("hello")
        await here.supervisor.reaches(WorkerState.STANDBY)
        seen = len(here.supervisor.beats)
        await until(lambda: len(here.supervisor.beats) > seen + 2)
        announced = here.supervisor.announcements[0]
        assert (announced.sha, announced.provider, announced.source) == (SHA, "dummy", "telegram:123456789")
        assert announced.schema_version == max(MIGRATIONS)
        assert here.telegram.polls == []


@asynchronous
async def test_activation_drain_and_activation_again() -> None:
    """The active worker answers; released it polls nothing; with a later epoch it answers again."""
    async with world() as here, here.active_worker():
        await here.telegram.say("one")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        await here.supervisor.order(Role.DRAIN, deadline=20)
        await here.supervisor.reaches(WorkerState.RELEASED)
        await until(lambda: here.telegram.polling == 0)
        assert here.supervisor.beats[-1].epoch is None
        assert all(beat.state is not WorkerState.DRAINING for beat in here.supervisor.beats), "nothing was in hand"
        polls = len(here.telegram.polls)
        await here.telegram.say("two")
        await here.supervisor.order(Role.STANDBY)
        await here.supervisor.reaches(WorkerState.STANDBY)
        assert len(here.telegram.polls) == polls
        await here.supervisor.order(Role.ACTIVE, epoch=2)
        await until(lambda: here.telegram.texts() == ["dummy-ok", "dummy-ok"])
        assert here.rows("SELECT epoch FROM lease") == [(2,)]


@asynchronous
async def test_roles_take_effect_at_once() -> None:
    """A worker is active, answers, and is released again long before any pause or long poll would end."""
    async with world() as here, here.worker(tg_sleep_seconds=30):
        await here.supervisor.reaches(WorkerState.STANDBY)
        begun = time.monotonic()
        await here.supervisor.order(Role.ACTIVE, epoch=1)
        await until(lambda: here.supervisor.beats[-1].polls_ok)
        await here.telegram.say("hello")
        await until(here.telegram.texts)
        await here.supervisor.order(Role.DRAIN)
        await here.supervisor.reaches(WorkerState.RELEASED)
        assert time.monotonic() - begun < 5


@asynchronous
async def test_drain_finishes_the_run_in_hand_and_stores_what_comes() -> None:
    """While draining, the run in hand is answered, new messages are stored, and no other run starts."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:400") as task:
        await here.telegram.say("long")
        await until(lambda: here.events("turn.started"))
        await here.supervisor.order(Role.DRAIN, deadline=20)
        await here.supervisor.reaches(WorkerState.DRAINING)
        await here.telegram.say("late")
        await here.supervisor.reaches(WorkerState.RELEASED)
        assert here.telegram.texts() == ["dummy-after-sleep"]
        assert here.rows("SELECT text, status FROM inbox") == [("long", "done"), ("late", "queued")]
        assert not task.done()


@asynchronous
async def test_a_drain_that_is_taken_back_goes_on_working() -> None:
    """Made active again while it drains, the worker takes up the messages that it had only stored."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:300,ok"):
        await here.telegram.say("long")
        await until(lambda: here.events("turn.started"))
        await here.supervisor.order(Role.DRAIN, deadline=20)
        await here.supervisor.reaches(WorkerState.DRAINING)
        await here.telegram.say("late")
        await here.supervisor.order(Role.ACTIVE, epoch=1)
        await until(lambda: here.telegram.texts() == ["dummy-after-sleep", "dummy-ok"])


@asynchronous
async def test_the_deadline_of_a_drain_cuts_the_run() -> None:
    """A run that outlives the deadline is cut, and its message is queued as if it had not been claimed."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:60000"):
        await here.telegram.say("endless")
        await until(lambda: here.events("turn.started"))
        await here.supervisor.order(Role.DRAIN, deadline=0.6)
        await here.supervisor.reaches(WorkerState.RELEASED)
        assert here.rows("SELECT status, attempts FROM inbox") == [("queued", 0)]
        assert here.events("agent.failed")[0]["error_class"] == "interrupted"


@asynchronous
async def test_exit_ends_the_process_with_a_last_beat() -> None:
    """Told to exit, the worker says so and ends."""
    async with world() as here, here.active_worker() as task:
        await here.supervisor.order(Role.EXIT, deadline=5)
        await task
        assert here.supervisor.state is WorkerState.EXITING


@asynchronous
async def test_a_later_lease_in_the_database_ends_the_worker() -> None:
    """As soon as another worker holds a later lease, the next write fails and the worker ends as fenced."""
    async with world() as here, here.active_worker() as task:
        other = open_store(here.database)
        other.lease.take(2)
        other.close()
        await here.telegram.say("hello")
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert caught.value.subgroup(Fenced) is not None
        assert here.rows("SELECT COUNT(*) FROM inbox") == [(0,)]
        assert here.telegram.texts() == []


@asynchronous
async def test_an_epoch_older_than_the_databases_is_refused() -> None:
    """A lease that the database has outgrown is not taken up."""
    async with world() as here:
        store = open_store(here.database)
        store.lease.take(5)
        store.close()
        async with here.worker() as task:
            await here.supervisor.order(Role.ACTIVE, epoch=4)
            with pytest.raises(ExceptionGroup) as caught:
                await task
            assert caught.value.subgroup(Fenced) is not None


@asynchronous
async def test_the_worker_goes_on_while_the_supervisor_is_away() -> None:
    """With the supervisor gone it answers; to a new one, which counts anew, it announces itself and listens."""
    async with world() as here, here.active_worker():
        await here.supervisor.order(Role.ACTIVE, epoch=1)
        await here.supervisor.server.stop()
        await here.telegram.say("anybody there?")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        here.supervisor.grant = RoleGrant(role=Role.ACTIVE, epoch=1)
        await here.supervisor.server.start()
        await until(lambda: len(here.supervisor.announcements) == 2)
        await here.supervisor.order(Role.DRAIN)
        await here.supervisor.reaches(WorkerState.RELEASED)
