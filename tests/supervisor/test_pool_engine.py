"""What the supervisor builds on in an engine, asked of the fake one and of the real one alike.

The other tests of the roll-out run on the fake alone; these hold it to what a real engine does.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from supervisor.engine import ContainerGone, Engine, EngineError, ImageMissing, NameTaken
from supervisor.images.builds import Deps
from supervisor.specs import MIB, ContainerSpec, Limits, gate_spec
from supervisor.workers.containers import Engine as FleetEngine
from supervisor.workers.exits import Watch
from tests.supervisor.fakes.engine import FakeEngine, Idle
from tests.support.projects import new_project

UID = 10001
FAKE_IMAGE = "sha256:fake"
#: A process that waits for SIGTERM, says so, and ends with 0.
_WAITS = "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(600)"
WAITS = ("python", "-c", _WAITS)
EXITS = ("sh", "-c", "sleep 0.3; exit 7")  # the engine notes a start that late, at times
NEEDS_TOO_MUCH = ("python", "-c", "bytearray(200_000_000)")
NO_PROGRAM = ("/no/such/program",)
MEMORY = Limits(memory=64 * MIB)


class Scripted(Idle):
    """What the fake engine makes of the commands above."""

    def __init__(self, spec: ContainerSpec, exited: Callable[[int, bool], None]) -> None:
        super().__init__(spec, exited)
        self._command = spec.command

    def start(self) -> None:
        if self._command == NO_PROGRAM:
            raise EngineError("no such file or directory")
        if self._command == EXITS:
            self._exited(7, False)
        if self._command == NEEDS_TOO_MUCH:
            self._exited(137, True)


@dataclass
class Bench:
    """An engine, an image that has Python in it, and a project of one's own."""

    engine: FakeEngine | Engine
    image_id: str
    project: str

    def spec(self, name: str = "one", role: str = "test", command: tuple[str, ...] = WAITS) -> ContainerSpec:
        return gate_spec(
            project=self.project,
            name=f"{self.project}-{name}",
            image_id=self.image_id,
            uid=UID,
            role=role,
            command=command,
        )

    def run(self, name: str = "one", role: str = "test") -> str:
        """A container whose process has begun."""
        container = self.engine.run(self.spec(name, role))
        self.until(lambda: self.engine.logs(container) != "")
        return container

    def until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not met():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    project = new_project("pool")
    if request.param == "fake":
        fake = FakeEngine(Scripted)
        fake.add_image(FAKE_IMAGE, "fake:1", {"kept": "yes"})
        yield Bench(fake, FAKE_IMAGE, project)
        return
    deps: Deps = request.getfixturevalue("deps")
    engine: Engine = request.getfixturevalue("engine")
    yield Bench(engine, deps.image_id, project)
    for view in engine.containers(project):
        engine.remove(view.id)
    engine.remove_network(f"{project}-net")


def test_both_are_what_the_supervisor_asks_for(bench: Bench) -> None:
    """By their types; this line is checked by mypy."""
    asked_for: FleetEngine = bench.engine
    assert asked_for.version()["api"]


def test_a_container_that_runs_is_seen_by_name_and_by_id(bench: Bench) -> None:
    """With its image, its labels, and since when."""
    before = time.time()
    container = bench.run()
    by_id, by_name = bench.engine.inspect(container), bench.engine.inspect(f"{bench.project}-one")
    assert by_id is not None
    assert by_id == by_name
    assert (by_id.id, by_id.name, by_id.image_id) == (container, f"{bench.project}-one", bench.image_id)
    assert (by_id.status, by_id.running, by_id.finished_at) == ("running", True, 0)
    assert before - 1 < by_id.started_at < time.time() + 1
    assert by_id.pid > 0
    assert by_id.labels["autonous.project"] == bench.project
    assert by_id.labels["autonous.role"] == "test"


def test_containers_are_listed_by_project_and_label_dead_ones_too(bench: Bench) -> None:
    """And nobody else's."""
    one = bench.run("one", "worker")
    bench.run("two", "toolbox")
    bench.engine.kill(one)
    assert len(bench.engine.containers(bench.project)) == 2
    assert [view.id for view in bench.engine.containers(bench.project, role="worker")] == [one]
    assert bench.engine.containers(bench.project, role="exam") == []
    assert bench.engine.containers(f"{bench.project}x") == []


def test_a_killed_container_stays_with_its_exit_code(bench: Bench) -> None:
    """137, until it is removed; killing it again does nothing, and says so."""
    container = bench.run()
    assert bench.engine.kill(container)
    assert bench.engine.wait(container, timeout=10) == 137
    view = bench.engine.inspect(container)
    assert view is not None
    assert (view.status, view.running, view.exit_code, view.oom_killed, view.pid) == ("exited", False, 137, False, 0)
    assert view.finished_at >= view.started_at
    assert not bench.engine.kill(container)
    bench.engine.stop(container, seconds=1)
    assert bench.engine.wait(container, timeout=1) == 137


def test_a_stopped_container_may_end_by_itself(bench: Bench) -> None:
    """TERM first: a process that obeys ends with its own code, long before the time is over."""
    container = bench.run()
    started = time.monotonic()
    bench.engine.stop(container, seconds=30)
    assert time.monotonic() - started < 10
    view = bench.engine.inspect(container)
    assert view is not None
    assert (view.status, view.exit_code, view.oom_killed) == ("exited", 0, False)


@pytest.mark.parametrize(("command", "code", "oom"), [(EXITS, 7, False), (NEEDS_TOO_MUCH, 137, True)])
def test_a_container_that_ends_by_itself_says_how(
    bench: Bench, command: tuple[str, ...], code: int, *, oom: bool
) -> None:
    """With its own exit code, or with the mark of one that needed too much memory."""
    container = bench.engine.run(replace(bench.spec(command=command), limits=MEMORY))
    assert bench.engine.wait(container, timeout=20) == code
    view = bench.engine.inspect(container)
    assert view is not None
    assert (view.status, view.exit_code, view.oom_killed, view.pid) == ("exited", code, oom, 0)
    assert view.started_at <= view.finished_at <= time.time() + 1


@pytest.mark.parametrize("missing", ["network", "program"])
def test_what_cannot_be_started_stays_as_it_was_made(bench: Bench, missing: str) -> None:
    """An error that is told, and a container that never ran: to kill or to stop it does nothing, to remove it does."""
    spec = bench.spec(command=NO_PROGRAM if missing == "program" else WAITS)
    with pytest.raises(EngineError) as told:
        bench.engine.run(replace(spec, network=f"{bench.project}-nowhere") if missing == "network" else spec)
    assert isinstance(told.value, ContainerGone) == (missing == "network")
    (view,) = bench.engine.containers(bench.project)
    assert (view.status, view.running, view.pid) == ("created", False, 0)
    assert (view.started_at, view.finished_at) == (0, 0)
    assert view.exit_code == {"network": 128, "program": 127}[missing]
    assert bench.engine.wait(view.id, timeout=5) == view.exit_code
    assert not bench.engine.kill(view.id)
    bench.engine.stop(view.id, seconds=1)
    assert bench.engine.inspect(view.id) == view
    bench.engine.remove(view.id)
    assert bench.engine.containers(bench.project) == []


def test_a_wait_that_is_too_short_gives_nothing(bench: Bench) -> None:
    """The container goes on."""
    container = bench.run()
    assert bench.engine.wait(container, timeout=0.3) is None
    view = bench.engine.inspect(container)
    assert view is not None
    assert view.running


def test_what_is_removed_is_gone(bench: Bench) -> None:
    """Running or dead, by name or id, and once more without complaint."""
    container = bench.run()
    bench.engine.remove(f"{bench.project}-one")
    bench.engine.remove(container)
    assert bench.engine.inspect(container) is None
    assert bench.engine.containers(bench.project) == []
    assert not bench.engine.kill(container)
    bench.engine.stop(container, seconds=1)
    with pytest.raises(ContainerGone):
        bench.engine.wait(container, timeout=1)
    with pytest.raises(ContainerGone):
        bench.engine.logs(container)


def test_a_name_is_free_again_after_the_removal(bench: Bench) -> None:
    """And taken until then, also by a dead one."""
    container = bench.run()
    bench.engine.kill(container)
    with pytest.raises(NameTaken):
        bench.engine.run(bench.spec())
    bench.engine.remove(container)
    assert bench.run() != container


def test_a_missing_image_makes_no_container(bench: Bench) -> None:
    """Nothing is pulled, and nothing is left behind."""
    with pytest.raises(ImageMissing):
        bench.engine.run(replace(bench.spec(), image_id=f"sha256:{'0' * 64}"))
    assert bench.engine.containers(bench.project) == []


def test_an_image_is_found_by_id_and_by_tag(bench: Bench) -> None:
    """Or not at all."""
    image = bench.engine.image(bench.image_id)
    assert image is not None
    assert image.tags
    assert bench.engine.image(image.tags[0]) == image
    assert bench.engine.image("nobody/nothing:1") is None


def test_a_network_is_made_once_and_can_be_joined(bench: Bench) -> None:
    """Asking for it again changes nothing."""
    name = f"{bench.project}-net"
    for _ in range(2):
        bench.engine.ensure_network(name, bench.project)
    container = bench.engine.run(replace(bench.spec(), network=name))
    view = bench.engine.inspect(container)
    assert view is not None
    assert view.running
    bench.engine.remove(container)


def watched(watch: Watch) -> tuple[list[tuple[str, str]], threading.Thread]:
    """What a stream of events tells, as it comes."""
    told: list[tuple[str, str]] = []

    def listen() -> None:
        for event in watch:
            if event.action in ("die", "destroy"):
                told.append((event.action, event.name))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    return told, thread


def test_the_stream_tells_of_every_end(bench: Bench) -> None:
    """A death and a removal, by the container's name, for this project alone; and it ends when it is closed."""
    other = replace(bench, project=f"{bench.project}x")
    watch = bench.engine.watch(bench.project)
    told, thread = watched(watch)
    one, two = bench.run("one"), bench.run("two")
    foreign = other.run("one")
    bench.engine.kill(one)
    bench.engine.remove(one)
    bench.engine.stop(two, seconds=5)
    other.engine.remove(foreign)
    name = f"{bench.project}-one"
    bench.until(lambda: len(told) >= 3)
    assert told == [("die", name), ("destroy", name), ("die", f"{bench.project}-two")]
    watch.close()
    thread.join(10)
    assert not thread.is_alive()
