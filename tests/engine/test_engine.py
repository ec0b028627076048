"""The gateway to the engine: what containers do under it, and what its errors are."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.engine import (
    ContainerGone,
    ContainerView,
    Engine,
    EngineError,
    EngineUnreachable,
    ImageMissing,
    NameTaken,
)
from supervisor.hostengine import DEFAULT_SOCKET
from supervisor.images.builds import Deps
from supervisor.specs import MIB, WORKER_UID, ContainerSpec, Limits, gate_spec
from tests.support.projects import new_project
from tests.support.proxy import EngineProxy

NO_IMAGE = f"sha256:{'0' * 64}"


class Containers:
    """Containers of a project of their own, removed afterwards."""

    def __init__(self, engine: Engine, image_id: str) -> None:
        self.engine = engine
        self.project = new_project()
        self._image_id = image_id

    def spec(
        self, *command: str, role: str = "test", image_id: str = "", limits: Limits | None = None
    ) -> ContainerSpec:
        spec = gate_spec(
            project=self.project,
            name=f"{self.project}-{uuid.uuid4().hex[:8]}",
            image_id=image_id or self._image_id,
            uid=WORKER_UID,
            role=role,
            command=command,
        )
        return replace(spec, limits=limits) if limits else spec

    def run(self, *command: str, role: str = "test", limits: Limits | None = None) -> str:
        return self.engine.run(self.spec(*command, role=role, limits=limits))

    def output(self, code: int, *command: str, limits: Limits | None = None) -> str:
        """What a command prints that ends with this code."""
        container = self.run(*command, limits=limits)
        assert self.engine.wait(container, timeout=60) == code, self.engine.logs(container)
        return self.engine.logs(container)

    def python(self, lines: Sequence[str], *, code: int = 0, limits: Limits | None = None) -> str:
        return self.output(code, "python", "-c", "\n".join(lines), limits=limits)


@pytest.fixture
def containers(engine: Engine, deps: Deps) -> Iterator[Containers]:
    made = Containers(engine, deps.image_id)
    yield made
    for view in engine.containers(made.project):
        engine.remove(view.id)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path leaves room for a socket's name."""
    return tmp_path_factory.mktemp("s")


# -- errors


def test_a_version_that_is_new_enough(engine: Engine) -> None:
    """The engine that the tests use says what it is."""
    assert set(engine.version()) == {"version", "api"}


def test_an_engine_that_is_not_there() -> None:
    """Every call says so, with the same error."""
    nowhere = Engine("unix:///nonexistent/docker.sock")
    for call in (
        nowhere.version,
        lambda: nowhere.image("x"),
        lambda: nowhere.containers("x"),
        lambda: nowhere.kill("x"),
    ):
        with pytest.raises(EngineUnreachable):
            call()
    with pytest.raises(EngineUnreachable):
        nowhere.watch("x")


def test_an_engine_that_is_silent(short: Path) -> None:
    """One that takes connections and never says a word is out of reach, after the time it is given."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(short / "s"))
        silent.listen()
        begun = time.monotonic()
        with pytest.raises(EngineUnreachable):
            Engine(f"unix://{short / 's'}", timeout=0.5).version()
        assert time.monotonic() - begun < 5


def test_an_image_that_is_not_there(containers: Containers) -> None:
    """Asked for it is None; to make a container of it is an error of its own."""
    assert containers.engine.image(NO_IMAGE) is None
    with pytest.raises(ImageMissing):
        containers.engine.create(containers.spec(image_id=NO_IMAGE))
    containers.engine.remove_image("test-none/none:none")


def test_a_container_that_is_not_there(engine: Engine) -> None:
    """To use it is an error of its own; to end it is done already."""
    name = f"test-{uuid.uuid4().hex}"
    assert engine.inspect(name) is None
    for use in (engine.start, engine.logs, engine.memory_bytes, lambda gone: engine.wait(gone, timeout=1)):
        with pytest.raises(ContainerGone):
            use(name)
    engine.kill(name)
    engine.stop(name, seconds=1)
    engine.remove(name)


@pytest.mark.fault(18)
def test_a_name_that_is_taken(containers: Containers) -> None:
    """The error tells it apart from every other; the first one stays."""
    spec = containers.spec("sleep", "60")
    first = containers.engine.create(spec)
    with pytest.raises(NameTaken):
        containers.engine.create(spec)
    assert [view.id for view in containers.engine.containers(containers.project)] == [first]


def test_a_command_that_does_not_exist(containers: Containers) -> None:
    """An error with the engine's own word; the container was never started."""
    container = containers.engine.create(containers.spec("/no/such/command"))
    with pytest.raises(EngineError, match="no such file"):
        containers.engine.start(container)
    view = containers.engine.inspect(container)
    assert view is not None
    assert not view.running


# -- the life of a container


def test_exit_codes_and_output(containers: Containers) -> None:
    """Both streams; the last lines alone when so asked."""
    container = containers.run("sh", "-c", "echo one; echo two >&2; echo three; sleep 0.5; exit 7")
    assert containers.engine.wait(container, timeout=30) == 7
    assert sorted(containers.engine.logs(container).split()) == ["one", "three", "two"]
    assert len(containers.engine.logs(container, tail=1).split()) == 1
    view = containers.engine.inspect(container)
    assert view is not None
    assert (view.running, view.exit_code, view.oom_killed, view.pid) == (False, 7, False, 0)
    # The engine takes the two stamps in two places, so they can be compared for a life of some length alone.
    assert time.time() - 60 < view.started_at < view.finished_at <= time.time() + 1


def test_waiting_gives_up_in_time(containers: Containers) -> None:
    """None while it still runs; the container is left alone."""
    container = containers.run("sleep", "60")
    begun = time.monotonic()
    assert containers.engine.wait(container, timeout=0.5) is None
    assert 0.4 < time.monotonic() - begun < 5
    view = containers.engine.inspect(container)
    assert view is not None
    assert view.running
    assert view.finished_at == 0


def test_kill_and_remove_may_be_repeated(containers: Containers) -> None:
    """Of one that runs, one that is dead, one that is gone."""
    container = containers.run("sleep", "60")
    for _ in range(2):
        containers.engine.kill(container)
        assert containers.engine.wait(container, timeout=10) == 137
    for _ in range(2):
        containers.engine.remove(container)
        assert containers.engine.inspect(container) is None


@pytest.mark.parametrize(("trap", "code"), [("exit 3", 3), ("", 137)])
def test_stop_asks_first(containers: Containers, trap: str, code: int) -> None:
    """TERM, and KILL for one that does not listen."""
    container = containers.run("sh", "-c", f"trap '{trap}' TERM; echo ready; while :; do sleep 0.1; done")
    while "ready" not in containers.engine.logs(container):
        time.sleep(0.05)
    containers.engine.stop(container, seconds=1)
    assert containers.engine.wait(container, timeout=5) == code


def test_containers_are_found_by_project_and_role(containers: Containers) -> None:
    """Dead ones too; those of other projects never."""
    living, dead = containers.run("sleep", "60", role="worker"), containers.run("true", role="test")
    containers.engine.wait(dead, timeout=30)
    find = containers.engine.containers
    assert {view.id for view in find(containers.project)} == {living, dead}
    assert [view.id for view in find(containers.project, role="worker")] == [living]
    assert find(f"{containers.project}-other") == []


@pytest.mark.fault(
    17,
    what="it is left out of the list",
    user="nothing",
    within="at once",
)
def test_containers_that_go_between_the_list_and_the_look(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are left out, and the others are found."""
    stays, goes = containers.run("sleep", "60"), containers.run("sleep", "60")
    look = containers.engine.inspect

    def late(container: str) -> ContainerView | None:
        containers.engine.remove(goes)
        return look(container)

    monkeypatch.setattr(containers.engine, "inspect", late)
    assert [view.id for view in containers.engine.containers(containers.project)] == [stays]


# -- limits


def test_out_of_memory(containers: Containers) -> None:
    """The process is killed, and the engine says why."""
    container = containers.run("python", "-c", "x = bytearray(200_000_000)", limits=Limits(memory=64 * MIB))
    assert containers.engine.wait(container, timeout=30) == 137
    view = containers.engine.inspect(container)
    assert view is not None
    assert view.oom_killed


def test_too_many_processes(containers: Containers) -> None:
    """A fork bomb ends at the limit."""
    code = ["import os, time", "try:", "  for n in range(500): os.fork() or time.sleep(60)"]
    code += ["except OSError as error: print(n, error.strerror)"]
    assert containers.python(code, limits=Limits(pids=20)).split()[0] == "19"


def test_files_and_memory_disks_are_small(containers: Containers) -> None:
    """Neither one large file nor /tmp fills anything."""
    code = ["import signal", "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"]
    code += ["for size in (3, 30):", "  try: open('/tmp/x', 'wb').write(bytes(size * 1024 * 1024)); print('written')"]
    code += ["  except OSError as error: print(error.strerror)"]
    assert containers.python(code, limits=Limits(file_size=10 * MIB)).splitlines() == ["written", "File too large"]
    assert containers.python(code, limits=Limits(tmpfs=10 * MIB)).splitlines() == ["written", "No space left on device"]


def test_memory_is_measured(containers: Containers) -> None:
    """What the processes hold, roughly."""
    container = containers.run("python", "-c", "x = bytearray(50_000_000); print('ready'); import time; time.sleep(60)")
    while "ready" not in containers.engine.logs(container):
        time.sleep(0.05)
    assert 50_000_000 < containers.engine.memory_bytes(container) < 100_000_000


# -- networks


def test_a_network_is_made_once(engine: Engine) -> None:
    """To make it again and to remove it twice is fine."""
    project = new_project()
    name = f"{project}-net"
    try:
        for _ in range(2):
            engine.ensure_network(name, project)
    finally:
        for _ in range(2):
            engine.remove_network(name)


def test_containers_of_one_network_do_not_see_each_other(containers: Containers) -> None:
    """A worker cannot reach another one."""
    name = f"{containers.project}-net"
    containers.engine.ensure_network(name, containers.project)
    serve = ["import http.server, socket", "print(socket.gethostbyname(socket.gethostname()), flush=True)"]
    serve += ["http.server.HTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()"]
    try:
        server = containers.engine.run(replace(containers.spec("python", "-c", "\n".join(serve)), network=name))
        while not (address := containers.engine.logs(server).strip()):
            time.sleep(0.05)
        reach = f"import socket; socket.create_connection(('{address}', 8000), timeout=2)"
        client = containers.engine.run(replace(containers.spec("python", "-c", reach), network=name))
        assert containers.engine.wait(client, timeout=30) == 1
        assert "timed out" in containers.engine.logs(client)
    finally:
        for view in containers.engine.containers(containers.project):
            containers.engine.remove(view.id)
        containers.engine.remove_network(name)


# -- the event stream


def test_the_stream_tells_what_happens_to_the_project(containers: Containers, deps: Deps) -> None:
    """Start and end of its containers, with their labels; nothing of another project's."""
    seen: list[tuple[str, str]] = []
    other = Containers(containers.engine, deps.image_id)
    watch = containers.engine.watch(containers.project)
    thread = threading.Thread(target=lambda: seen.extend((e.action, e.name) for e in watch))
    thread.start()
    try:
        foreign = other.run("true")
        spec = containers.spec("true")
        container = containers.engine.run(spec)
        containers.engine.wait(container, timeout=30)
        containers.engine.remove(container)
        deadline = time.monotonic() + 10
        while ("destroy", spec.name) not in seen and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        watch.close()
        thread.join(timeout=10)
        other.engine.remove(foreign)
    assert not thread.is_alive()
    assert [action for action, _ in seen] == ["create", "start", "die", "destroy"]
    assert {name for _, name in seen} == {spec.name}


@pytest.mark.fault(16)
def test_a_stream_that_is_cut_says_so(containers: Containers, short: Path) -> None:
    """It does not end as if nothing more would ever happen; the next one goes on."""
    with EngineProxy(short / "e", DEFAULT_SOCKET.resolve()) as proxy:
        engine = Engine(proxy.url)
        watch = engine.watch(containers.project)
        cut = threading.Timer(0.3, proxy.cut)
        cut.start()
        with pytest.raises(EngineUnreachable):
            list(watch)
        cut.join()  # it closes one connection after the other; the next call is not to get one that is about to go
        assert engine.version()
        engine.watch(containers.project).close()
        watch.close()


def test_an_engine_that_comes_back_is_used_again(containers: Containers, short: Path) -> None:
    """One client outlives the engine's restart: at most the call in between fails."""
    with EngineProxy(short / "e", DEFAULT_SOCKET.resolve()) as proxy:
        engine = Engine(proxy.url)
        container = containers.run("sleep", "60")
        assert engine.inspect(container) is not None
        proxy.cut()
        with suppress(EngineUnreachable):
            engine.inspect(container)
        assert engine.inspect(container) is not None
