"""What a pull brings is merged with what the agent made of itself, and goes the whole road."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import candidates
from tests.support.checkouts import replaced
from tests.support.installation import Install, Installation, wait_for
from tests.support.packageindex import PackageIndex
from tests.support.watching import within

PROBE = "autonous-probe-of-an-upgrade"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    """An index beside the machine's own, with a package that is nowhere else."""
    with PackageIndex(tmp_path_factory.mktemp("index")) as made:
        made.offer(PROBE, "1.0")
        yield made


@pytest.fixture(scope="module")
def installation(
    install: Install, checkout: Path, tmp_path_factory: pytest.TempPathFactory, index: PackageIndex
) -> Installation:
    """Up, from a checkout of its own; the tests follow each other on it."""
    source = shutil.copytree(checkout, tmp_path_factory.mktemp("upgraded") / "checkout")
    made = install(source, PIP_EXTRA_INDEX_URL=index.url)
    made.up()
    return made


Pull = Callable[[Mapping[str, str]], None]


@pytest.fixture
def pull(installation: Installation) -> Iterator[Pull]:
    """What a pull does to the checkout, for one test."""
    before: dict[Path, str | None] = {}

    def write(changed: Mapping[str, str]) -> None:
        for path, text in changed.items():
            file = installation.checkout / path
            before.setdefault(file, file.read_text() if file.exists() else None)
            file.write_text(text)

    yield write
    for file, text in before.items():
        if text is None:
            file.unlink()
        else:
            file.write_text(text)


def new_words(checkout: Path, words: str) -> dict[str, str]:
    """The offline reply and its test, as upstream writes them."""
    old = '"I am the offline stand-in for a model: I run, but I cannot think. "'
    return {
        **replaced(checkout, candidates.MODEL, old, f'"{words} "'),
        **replaced(checkout, candidates.MODEL_TESTS, old, f'"{words} "'),
    }


def test_nothing_to_upgrade(installation: Installation) -> None:
    """Said, and no failure."""
    assert "has all that the checkout brings" in installation.run("upgrade", "--wait").expect(0).out
    assert installation.run("upgrade", "--json").expect(0).json["status"] == "current"


@pytest.mark.exhaustive
def test_an_upgrade_that_fails_its_gates(installation: Installation, pull: Pull) -> None:
    """Upstream is judged like anybody: the worker that runs is not touched."""
    active = installation.status()["active"]
    pull({candidates.MAIN: 'raise SystemExit("broken upstream")\n'})
    answer = installation.run("upgrade", "--wait", "--json").expect(1).json
    assert answer["status"] in ("test_failed", "self_check_failed")
    assert installation.status()["active"] == active


@pytest.mark.exhaustive
def test_files_that_no_patch_may_touch(installation: Installation, pull: Pull) -> None:
    """The checkout is trusted: what configures the tests comes in by an upgrade, and by nothing else."""
    pull({"tests/worker/conftest.py": '"""From upstream."""\n'})
    answer = installation.run("upgrade", "--wait", "--json").expect(0).json
    assert answer["status"] == "staged"
    assert [change["path"] for change in installation.show(answer["tx_id"])["changes"]] == ["tests/worker/conftest.py"]
    installation.run("cancel", answer["tx_id"]).expect(0)


def imports(installation: Installation, module: str) -> bool:
    """Whether the active worker's container has it."""
    docker = installation.docker
    run = docker.exec_create(installation.active_container()["Id"], ["python", "-c", f"import {module}"])
    docker.exec_start(run["Id"])
    return bool(docker.exec_inspect(run["Id"])["ExitCode"] == 0)


def test_a_new_lock_and_a_new_contract(installation: Installation, index: PackageIndex, pull: Pull) -> None:
    """A package by its hash, in a dependency image of the candidate's own; N-1 keeps its former one, and has it not."""
    before = installation.settled()["active"]
    lock, contract = "images/deps/requirements.lock", "supervisor/contract/ids.py"
    old = {path: (installation.checkout / path).read_text() for path in (lock, contract)}
    digest = hashlib.sha256(index.wheel(PROBE, "1.0").read_bytes()).hexdigest()
    module = PROBE.replace("-", "_")
    assert not imports(installation, module)
    pull(
        {
            lock: f"{old[lock]}{PROBE}==1.0 \\\n    --hash=sha256:{digest}\n",
            contract: f"{old[contract]}\n# one more line\n",
        }
    )
    said = installation.run("up").expect(0).err
    assert "own code has changed" in said
    assert "(dependencies, the contract with the supervisor)" in said
    answer = installation.run("upgrade", "--wait", "--json").expect(0).json
    assert answer["status"] == "staged"
    shown, genesis = installation.show(answer["tx_id"]), installation.show(before["tx_id"])
    assert shown["deps_image_id"] != genesis["deps_image_id"]
    assert (shown["tree"], shown["changes"]) == (genesis["tree"], [])
    installation.run("approve", answer["tx_id"], "--wait").expect(0)
    assert installation.active_container()["Image"] == shown["image_id"]
    assert imports(installation, module)
    assert "has all" in installation.run("upgrade").expect(0).out
    wait_for(lambda: len(installation.containers()) == 2, 20, "N-1 on its own dependencies")
    installation.run("rollback", answer["tx_id"], "--wait").expect(0)
    assert installation.active_container()["Image"] == genesis["image_id"]
    assert not imports(installation, module)
    wait_for(
        lambda: shown["image_id"] not in {container["Image"] for container in installation.containers()}, 20, "its end"
    )
    installation.docker.remove_image(shown["image_id"], force=True)
    installation.docker.remove_image(shown["deps_image_id"], force=True)


def test_an_upgrade_keeps_what_the_agent_made_of_itself(installation: Installation, pull: Pull) -> None:
    """Both changes are in the promoted revision; the next upgrade grows from the imported one; roll-back undoes it."""
    installation.promote(candidates.adds_a_module(installation.checkout, "of_its_own"))
    before = installation.active_sha()
    pull(new_words(installation.checkout, "I was upgraded."))
    assert "checkout is newer than the worker (2 files); `supervisor upgrade`" in installation.run("up").expect(0).err
    answer = installation.run("upgrade", "--wait", "--json").expect(0).json
    assert answer["status"] == "staged"
    assert "newer" not in installation.run("up").expect(0).err  # it waits to be approved
    assert installation.run("upgrade", "--json").expect(0).json["tx_id"] == answer["tx_id"]
    shown = installation.show(answer["tx_id"])
    assert (shown["origin"], shown["base_sha"]) == ("upstream", before)
    assert {change["path"] for change in shown["changes"]} == {candidates.MODEL, candidates.MODEL_TESTS}
    installation.run("approve", answer["tx_id"], "--wait").expect(0)
    assert installation.say("who are you?").startswith("I was upgraded.")
    source = installation.home / "source"
    installation.run("source", str(source)).expect(0)
    assert (source / "worker" / "of_its_own.py").exists()
    assert "has all" in installation.run("upgrade").expect(0).out

    # The next one: its base is the import, so nothing of the first is undone or taken for the agent's own.
    pull({"worker/upstream.py": '"""Upstream\'s second."""\n'})
    second = installation.run("upgrade", "--wait", "--json").expect(0).json
    assert [change["path"] for change in installation.show(second["tx_id"])["changes"]] == ["worker/upstream.py"]
    installation.run("approve", second["tx_id"], "--wait").expect(0)
    assert installation.show(second["tx_id"])["unique_bytes"] < 4 * 1024 * 1024
    bytecode = "/app/worker/__pycache__/upstream.cpython-311.pyc"
    assert within(installation.docker, installation.active_container()["Id"], "ls", bytecode).strip() == bytecode

    # Back before both, and the same upgrade again: it brings both once more.
    for tx in (second["tx_id"], answer["tx_id"]):
        installation.run("rollback", tx, "--wait").expect(0)
    assert installation.active_sha() == before
    assert "3 files" in installation.run("up").expect(0).err


def test_an_upgrade_that_conflicts(installation: Installation, pull: Pull) -> None:
    """Told by file; nothing is created, nothing is touched, and the exit code says so."""
    installation.promote(candidates.answers(installation.checkout, "I changed myself."))
    active, history = installation.settled()["active"], installation.history()
    pull(new_words(installation.checkout, "I was upgraded."))
    result = installation.run("upgrade", "--wait").expect(1)
    assert f"{candidates.MODEL}: both changed the same lines" in result.err
    assert "nothing was created" in result.err
    told = installation.run("upgrade", "--json").expect(1).json
    assert (told["status"], told["tx_id"]) == ("conflict", None)
    assert {conflict["path"] for conflict in told["conflicts"]} == {candidates.MODEL, candidates.MODEL_TESTS}
    assert installation.history() == history
    assert installation.status()["active"] == active
