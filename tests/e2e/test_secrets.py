"""A key of the owner's is in the environment of running workers, and nowhere else."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from supervisor.homelock import owner
from tests.support import candidates
from tests.support.installation import Install, Installation
from tests.support.watching import ContainerWatch, within

#: With characters that other writings of it would change.
CANARY = "sk-canary/7f3a+9c41=e8b2/do-not-leak"
#: One for each key that a model's or embeddings' provider may have.
KEYS = {
    "OPENAI_API_KEY": CANARY,
    "ANTHROPIC_API_KEY": CANARY.replace("7f3a", "a6d1"),
    "GEMINI_API_KEY": CANARY.replace("7f3a", "b7e2"),
    "AUTONOUS_EMBEDDINGS_API_KEY": CANARY.replace("7f3a", "c8f3"),
}
ROLES_WITHOUT = ("toolbox", "test", "exam")


def writings(secret: str) -> list[bytes]:
    """A secret as it may stand somewhere: as it is, in URLs, in JSON, in base64 wherever it begins in a longer text."""
    found = {secret.encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode())
        # The first and the last group depend on what is around it.
        whole = encoded[4 if before else 0 : -4]
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    return sorted(found)


def leaks(content: bytes, secrets: list[str]) -> bool:
    return any(writing in content for secret in secrets for writing in writings(secret))


@pytest.fixture(scope="module")
def watch(installation: Installation, checkout: Path) -> Iterator[ContainerWatch]:
    """All containers of an update that was promoted, one that failed, and a roll-back, with talk in between."""
    with ContainerWatch(installation.project) as watching:
        tx = installation.promote(candidates.answers(checkout, "I keep a secret."))
        assert installation.say("do you keep it?").startswith("I keep a secret.")
        installation.submit(candidates.crashes_at_start(checkout))
        installation.run("rollback", tx, "--wait").expect(0)
        assert installation.say("still?")
        yield watching


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, with keys that nobody uses, as the model is the offline one."""
    made = install(**KEYS, AUTONOUS_MODEL_PROVIDER="dummy")
    made.up()
    return made


@pytest.fixture
def secrets(installation: Installation) -> list[str]:
    """The keys, and the token of the local bot's that every worker has."""
    return [*KEYS.values(), (installation.paths.home / "localbot.token").read_text().strip()]


def test_what_is_looked_for_would_be_found() -> None:
    """In each of its writings, whatever stands around it."""
    assert leaks(f"key={CANARY};".encode(), [CANARY])
    for before in range(6):
        assert leaks(base64.b64encode(b"x" * before + CANARY.encode() + b"tail"), [CANARY])
    assert leaks(f"https://host/?key={quote(CANARY, safe='')}".encode(), [CANARY])
    assert not leaks(b"sk-canary/another", [CANARY])


def test_running_workers_have_it(watch: ContainerWatch, secrets: list[str]) -> None:
    """In the environment of their first process."""
    workers = watch.of("worker")
    assert workers
    for worker in workers:
        for secret in secrets:
            assert secret.encode() in worker.environ


@pytest.mark.parametrize("role", ROLES_WITHOUT)
def test_other_containers_do_not(watch: ContainerWatch, secrets: list[str], role: str) -> None:
    """Neither in what the engine knows of them nor in the environment of their first process."""
    seen = watch.of(role)
    assert seen
    assert any(b"PATH=" in one.environ for one in seen)
    for one in seen:
        assert not leaks(json.dumps(one.inspected).encode(), secrets)
        assert not leaks(one.environ, secrets)


def test_it_is_in_no_command_line_or_label(watch: ContainerWatch, secrets: list[str]) -> None:
    """Of any container, workers too."""
    for one in watch.seen.values():
        config = {**one.inspected["Config"], "Env": []}
        assert not leaks(json.dumps({**one.inspected, "Config": config}).encode(), secrets)


def test_it_is_in_no_image(installation: Installation, watch: ContainerWatch, secrets: list[str]) -> None:
    """Not in the configuration, the labels, the history, or any byte of the layers."""
    tags = [entry["image_tag"] for entry in installation.history() if entry["image_tag"]]
    assert len(tags) == 3
    for tag in tags:
        assert not leaks(json.dumps(installation.docker.inspect_image(tag)).encode(), secrets)
        assert not leaks(json.dumps(installation.docker.history(tag)).encode(), secrets)
    before = b""
    for chunk in installation.docker.get_image(tags[0]):
        assert not leaks(before + chunk, secrets)
        before = chunk[-200:]


def test_it_is_in_no_file_of_the_home(installation: Installation, watch: ContainerWatch, secrets: list[str]) -> None:
    """Both databases with their journals, all logs, snapshots, the repository, the workspace."""
    searched = []
    for directory in {installation.paths.home, installation.paths.run}:
        for file in directory.rglob("*"):
            if file.is_file() and file.name != "localbot.token":
                assert not leaks(file.read_bytes(), secrets), file
                searched.append(file.name)
    assert {"supervisor.db", "agent.db", "supervisor.log", "localbot.db"} <= set(searched)
    assert (installation.paths.home / "localbot.token").stat().st_mode & 0o077 == 0


def test_it_is_in_no_output(installation: Installation, watch: ContainerWatch, secrets: list[str]) -> None:
    """Of any command, or of the workers themselves."""
    for command in (["status"], ["history"], ["events"], ["events", "--json"], ["logs"], ["history", "--json"]):
        result = installation.run(*command).expect(0)
        assert not leaks((result.out + result.err).encode(), secrets)
    for entry in installation.history():
        assert not leaks(installation.run("show", entry["tx_id"], "--json").out.encode(), secrets)
        assert not leaks(installation.run("logs", entry["tx_id"]).out.encode(), secrets)
    for worker in installation.containers():
        assert not leaks(installation.docker.logs(worker["Id"]), secrets)


def test_it_is_in_no_other_process(installation: Installation, watch: ContainerWatch) -> None:
    """The local bot is given no key; no command line has one, inside the worker or outside."""
    bot = owner(installation.paths.home / "localbot.db.pid")
    assert not leaks(Path(f"/proc/{bot}/environ").read_bytes(), [CANARY])
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                assert not leaks((process / "cmdline").read_bytes(), [CANARY])
            except OSError:
                continue  # it ended meanwhile
    worker = installation.status()["active"]["container"]
    assert not leaks(within(installation.docker, worker, "cat", "/proc/1/cmdline").encode(), [CANARY])
