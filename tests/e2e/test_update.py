"""The road of a good update, with a whole checkout as a stranger has it: up, submit, approve, roll back, down.

Each fixture is one step further on that road; a test asks for the step that it looks at.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.homelock import held
from tests.support.candidates import CHANGED_TEST
from tests.support.checkouts import CHECKOUT, copy_checkout
from tests.support.installation import Install, Installation, wait_for
from tests.support.watching import within
from worker.models.dummy import OFFLINE_REPLY

GOOD = CHECKOUT / "examples" / "good.patch"
KIB = 1024


@pytest.fixture(scope="module")
def installation(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Up, from an empty home, with all of the worker's tests."""
    made = install(copy_checkout(tmp_path_factory.mktemp("whole") / "checkout", all_tests=True))
    made.up()
    return made


@pytest.fixture(scope="module")
def first(installation: Installation) -> dict[str, object]:
    """The first active worker."""
    return dict(installation.status()["active"])


@pytest.fixture(scope="module")
def staged(installation: Installation, first: dict[str, object]) -> str:
    """The example patch, staged; its tx."""
    answer = installation.run("submit", str(GOOD), "--why", "to see it happen", "--wait", "--json").expect(0).json
    assert (answer["status"], answer["code"]) == ("staged", "")
    return str(answer["tx_id"])


@pytest.fixture(scope="module")
def promoted(installation: Installation, staged: str) -> str:
    """The same, promoted."""
    assert installation.run("approve", staged[:8], "--wait", "--json").expect(0).json["status"] == "promoted"
    return staged


@pytest.fixture(scope="module")
def rolled_back(installation: Installation, promoted: str) -> str:
    """The same, rolled back."""
    assert installation.run("rollback", promoted[:8], "--wait", "--json").expect(0).json["status"] == "rolled_back"
    return promoted


@pytest.fixture(scope="module")
def taken_down(installation: Installation, rolled_back: str) -> str:
    """The same, after `down`."""
    installation.down()
    return rolled_back


def test_up_from_nothing_gives_a_healthy_active_worker(installation: Installation, first: dict[str, object]) -> None:
    """The checkout's worker is the first revision; nobody stands by, nothing waits."""
    status = installation.status()
    (only,) = installation.history()
    assert (status["running"], status["standby"], status["previous"], status["pending"]) == (True, None, None, [])
    assert (first["health"], first["epoch"], first["sha"]) == ("healthy", 1, only["sha"])
    assert (only["status"], only["active"], only["n_minus_1"], only["base_sha"]) == ("promoted", True, False, None)


def test_the_worker_answers(installation: Installation, first: dict[str, object]) -> None:
    """With no key the offline stand-in says what it is."""
    assert installation.say("hello") == OFFLINE_REPLY


@pytest.mark.exhaustive
def test_all_of_its_tests_pass_where_the_model_runs_them(installation: Installation, first: dict[str, object]) -> None:
    """In a working copy in the toolbox; as at the gate, one that failed beside the others gets a second try alone."""
    (toolbox,) = installation.containers("toolbox")
    here = 'Path("/workspace")'
    check_out = (
        "from pathlib import Path; from worker.tools import selfsource; from worker.tools.workplace import Workplace;"
        f'selfsource.checkout(selfsource.CheckoutArguments(1, "{first["sha"]}"), Workplace({here}, ({here},)))'
    )
    assert within(installation.docker, toolbox["Id"], "python", "-c", check_out) == ""
    run_tests = ("sh", "/workspace/self/1/run-tests")
    printed = within(installation.docker, toolbox["Id"], *run_tests)
    counts = printed.splitlines()[-1]
    assert re.search(r"\b\d{3,} passed\b", counts), printed[-2000:]
    assert "error" not in counts
    if failed := re.findall(r"^FAILED (\S+)", printed, re.MULTILINE):
        again = within(installation.docker, toolbox["Id"], *run_tests, *failed)
        assert again.splitlines()[-1].startswith(f"{len(failed)} passed"), again[-2000:]


def test_a_second_up_changes_nothing(installation: Installation, first: dict[str, object]) -> None:
    """The same worker goes on with the same lease."""
    installation.up()
    assert installation.status()["active"] == first


def test_a_staged_update_leaves_the_running_worker_alone(installation: Installation, staged: str) -> None:
    """Until a person approves it, the old reply stays, and the update waits."""
    status = installation.status()
    assert status["active"]["epoch"] == 1
    assert [(update["tx_id"], update["status"]) for update in status["pending"]] == [(staged, "staged")]
    assert installation.say("and now?") == OFFLINE_REPLY


def test_the_card_tells_what_a_person_must_know(installation: Installation, staged: str) -> None:
    """The files, the tests, and the expectation that the patch changed."""
    card = installation.show(staged)["card"]
    assert (card["title"], card["why"]) == ("good", "to see it happen")
    assert card["changed_expectations"] == [CHANGED_TEST]
    assert (card["new_skips"], card["fewer_assertions"], card["tests"]["failed"]) == ([], [], 0)
    assert card["failing_on_base_too"] == []
    assert card["tests"]["passed"] > 50
    assert {file["path"] for file in card["files"]} == {"worker/models/dummy.py", "tests/worker/test_models_dummy.py"}


def test_candidate_and_base_took_the_whole_exam(installation: Installation, staged: str) -> None:
    """The base image on the state that the candidate migrated, too: the way back is proven."""
    exam = installation.show(staged)["self_check_summary"]
    assert set(exam) == {"candidate", "base_after"}
    for parts in exam.values():
        assert all(part["passed"] for part in parts)
        assert {"comes up", "takes the lease", "polls", "answers its owner", "exits in order"} <= {
            part["name"] for part in parts
        }


def test_every_step_has_its_log(installation: Installation, staged: str) -> None:
    """`logs TX` shows them in order."""
    out = installation.run("logs", staged).expect(0).out
    steps = [line for line in out.splitlines() if line.startswith("--- ")]
    assert steps == ["--- 1-apply", "--- 2-build", "--- 3-test", "--- 4-exam"]


def test_the_promoted_revision_answers(installation: Installation, promoted: str) -> None:
    """The new reply is live; the worker before it stands by, warm."""
    status = installation.status()
    assert installation.say("hello again") != OFFLINE_REPLY
    assert (status["active"]["tx_id"], status["active"]["epoch"]) == (promoted, 2)
    assert status["previous"]["sha"] == status["standby"]["sha"] != status["active"]["sha"]
    assert status["standby"]["health"] == "healthy"


def test_history_has_both_images(installation: Installation, engine: Engine, promoted: str, tmp_path: Path) -> None:
    """The new one adds at most 64 KiB and the changed files to what the engine stores."""
    new, old = installation.history()
    assert (new["tx_id"], new["active"], new["n_minus_1"]) == (promoted, True, False)
    assert (old["tx_id"] != promoted, old["active"], old["n_minus_1"]) == (True, False, True)
    assert (new["base_sha"], new["approved_by"]) == (old["sha"], "terminal")
    assert new["tests"]["passed"] > 50
    assert new["build_seconds"] > 0
    assert new["test_seconds"] > 0
    assert new["created_at"] < new["deployed_at"] < new["promoted_at"]
    images = [engine.image(entry["image_id"]) for entry in (new, old)]
    assert images[0] is not None
    assert images[1] is not None
    installation.run("source", str(tmp_path / "source")).expect(0)
    changed = sum(
        (tmp_path / "source" / file["path"]).stat().st_size for file in installation.show(promoted)["card"]["files"]
    )
    assert new["unique_bytes"] <= 64 * KIB + changed
    assert images[0].size_bytes - images[1].size_bytes <= 64 * KIB + changed
    assert images[0].layers[:-1] == images[1].layers


def test_the_diff_is_a_patch_again(installation: Installation, promoted: str) -> None:
    """`git apply` takes it on the checkout that the first revision came from."""
    patch = installation.run("diff", promoted).expect(0).out
    subprocess.run(["git", "apply", "--check", "-"], input=patch.encode(), cwd=installation.checkout, check=True)
    assert "worker/models/dummy.py" in patch


def test_events_tell_the_whole_story(installation: Installation, promoted: str) -> None:
    """Every step of the update, in order, under its creation."""
    tree = installation.run("events", "--tx", promoted, "--json").expect(0).json
    text = json.dumps(tree)
    order = ["created", "build.started", "test.started", "self_check.started", "artifact.staged", "approved"]
    order += ["deploy.started", "deploy.completed", "promoted"]
    places = [text.find(f'update.{"txn." if name == "created" else ""}{name}"') for name in order]
    assert -1 not in places
    assert places == sorted(places)


def test_rollback_brings_the_old_reply_back(installation: Installation, rolled_back: str) -> None:
    """The first revision is active again; the update says that it was rolled back."""
    status = installation.status()
    assert installation.say("who are you?") == OFFLINE_REPLY
    assert status["active"]["epoch"] == 3
    assert status["active"]["sha"] == installation.show(rolled_back)["base_sha"]
    assert installation.status_of(rolled_back) == "rolled_back"


def test_a_second_rollback_is_done_already(installation: Installation, rolled_back: str) -> None:
    """It says so, exits with 0, and changes nothing."""
    before = installation.status()["active"]
    answer = installation.run("rollback", rolled_back).expect(0)
    assert "already" in answer.out
    assert installation.status()["active"] == before


def test_down_ends_every_process(installation: Installation, taken_down: str) -> None:
    """No container, no supervisor, no local bot is left."""
    assert installation.docker.containers(all=True, filters={"label": f"autonous.project={installation.project}"}) == []
    assert not held(installation.paths.lock)
    wait_for(lambda: not held(installation.paths.home / "localbot.db.pid"), 5, "the end of the local bot")


def test_what_reads_works_when_all_is_down(installation: Installation, taken_down: str) -> None:
    """Status, history and show come from the ledger."""
    assert installation.status()["running"] is False
    assert len(installation.history()) == 2
    assert installation.status_of(taken_down) == "rolled_back"
    assert "not running" in installation.run("submit", str(GOOD)).refusal()


def test_up_again_goes_on_where_it_stopped(installation: Installation, taken_down: str) -> None:
    """The same revision with the next epoch, the same history."""
    installation.up()
    status = installation.status()
    assert status["active"]["epoch"] == 4
    assert status["active"]["sha"] == installation.show(taken_down)["base_sha"]
    assert installation.say("back again") == OFFLINE_REPLY
