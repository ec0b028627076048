"""Packages that a patch asks for: off unless allowed, named in capitals, fetched and judged after the approval."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.images.builds import LABEL_LOCK
from supervisor.units import size
from tests.support import candidates
from tests.support.checkouts import patch_of, replaced
from tests.support.installation import Install, Installation, wait_for
from tests.support.packageindex import PackageIndex

REQUIREMENTS = "worker/requirements.in"
PROBE = "autonous-probe-of-a-test"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    """An index beside the machine's own, with one version of a package that is nowhere else."""
    with PackageIndex(tmp_path_factory.mktemp("index")) as made:
        made.offer(PROBE, "1.0")
        yield made


@pytest.fixture(scope="module")
def installation(install: Install, index: PackageIndex) -> Iterator[Installation]:
    """Up, where packages may be asked for; what was built of them goes at the end."""
    made = install(AUTONOUS_ALLOW_DEPENDENCY_UPDATES="1", PIP_EXTRA_INDEX_URL=index.url)
    made.up()
    yield made
    requests = [request for entry in made.history() if (request := made.show(entry["tx_id"])["dependencies"])]
    locks = {request["lock_sha256"] for request in requests}
    made.remove()  # the images of revisions first, which stand on those of packages
    engine = Engine()
    for lock in locks:
        for image in engine.images({LABEL_LOCK: lock}):
            engine.remove_image(image.id)


def asks_for(checkout: Path, line: str, *, using: str = "") -> bytes:
    """A patch that adds a line to the list of packages, and a module that needs ``using`` as the worker starts."""
    files = replaced(checkout, REQUIREMENTS, "httpx\n", f"httpx\n{line}\n")
    if using:
        main = (checkout / "worker/__main__.py").read_text()
        files["worker/__main__.py"] = main.replace("from worker", f"import {using}  # noqa: F401\nfrom worker", 1)
    return patch_of(checkout, files)


def dependency_images(installation: Installation) -> set[str]:
    return {image["Id"] for image in installation.docker.images(filters={"label": LABEL_LOCK})}


def built_packages(installation: Installation, tx: str) -> bool:
    """Whether a dependency image was built for an update. Which images there are is also others' doing."""
    return any("Installing collected packages" in log.read_text() for log in installation.paths.steps(tx).glob("*.log"))


def test_off_it_is_refused_and_says_what_turns_it_on(install: Install, checkout: Path) -> None:
    """Before anything is asked of anybody."""
    made = install()
    made.up()
    answer = made.submit(asks_for(checkout, "humanize"))
    assert (answer["status"], answer["code"]) == ("refused", "path_denied")
    assert "AUTONOUS_ALLOW_DEPENDENCY_UPDATES=1" in answer["reason"]


def test_lines_that_pip_would_obey_are_refused(installation: Installation, checkout: Path) -> None:
    """Options, addresses, files and ranges; each is named."""
    for line in ("--index-url https://example.invalid", "x @ https://example.invalid/x.whl", "./x", "humanize>=1"):
        answer = installation.submit(asks_for(checkout, line))
        assert (answer["status"], answer["code"]) == ("refused", "dependency_denied"), line
        assert line in answer["reason"]


def test_a_package_that_does_not_exist_fails_by_its_own_fault(installation: Installation, checkout: Path) -> None:
    """The index answered, and has none."""
    answer = installation.submit(asks_for(checkout, "autonous-no-such-package-anywhere"))
    assert answer["status"] == "build_failed"
    assert installation.show(answer["tx_id"])["blame"] == "own"


def test_a_request_that_is_cancelled_builds_nothing(
    installation: Installation, index: PackageIndex, checkout: Path
) -> None:
    """The card names the package in capitals with version, size and hash; no image was made for it."""
    tx = installation.stage(asks_for(checkout, PROBE))
    shown = installation.show(tx)
    (package,) = shown["dependencies"]["packages"]
    wheel = index.wheel(PROBE, "1.0").read_bytes()
    assert (package["name"], package["version"], package["size_bytes"]) == (PROBE, "1.0", len(wheel))
    assert package["sha256"] == hashlib.sha256(wheel).hexdigest()
    line = shown["card"]["packages"][0]
    assert line == f"{PROBE.upper()} 1.0, {size(len(wheel))}, sha256:{hashlib.sha256(wheel).hexdigest()}"
    with installation.bot() as bot:
        wait_for(lambda: any(tx[:8] in m.text and line in m.text for m in bot.messages()), 20, "the line on its card")
    assert line in installation.run("show", tx).expect(0).out
    installation.run("cancel", tx).expect(0)
    assert (shown["image_id"], shown["test_summary"]) == (None, None)
    assert not built_packages(installation, tx)


def test_what_changed_since_the_card_is_not_built(
    installation: Installation, index: PackageIndex, checkout: Path
) -> None:
    """A newer version came out between card and approval: the update ends, and the running worker is not touched."""
    active = installation.settled()["active"]
    tx = installation.stage(asks_for(checkout, PROBE), "--force")
    index.offer(PROBE, "2.0")
    installation.run("approve", tx, "--wait").expect(1)
    shown = installation.show(tx)
    assert (shown["status"], shown["code"], shown["blame"]) == ("deploy_failed", "digest_mismatch", "external")
    assert f"{PROBE.upper()} 2.0" in shown["last_error"]
    assert not built_packages(installation, tx)
    assert installation.status()["active"] == active


@pytest.mark.exhaustive
def test_gates_that_fail_on_the_packages_end_it_before_the_switch(installation: Installation, checkout: Path) -> None:
    """Approved, fetched, and then a module that is not in the package: nothing of it ever runs in service."""
    active = installation.settled()["active"]
    tx = installation.stage(asks_for(checkout, "humanize", using="humanize.no_such_module"))
    installation.run("approve", tx, "--wait").expect(1)
    shown = installation.show(tx)
    assert (shown["status"], shown["blame"]) == ("deploy_failed", "own")
    assert "no_such_module" in shown["last_error"]
    assert installation.status()["active"] == active


def test_an_approved_package_is_there_for_the_worker(installation: Installation, checkout: Path) -> None:
    """Fetched by hash, gated (anew after a kill), switched to, kept by gc, gone back from; a later one stands on it."""
    active = installation.settled()["active"]
    tx = installation.stage(asks_for(checkout, "humanize", using="humanize"))
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.show(tx)["image_id"], 120, "its image")
    assert built_packages(installation, tx)
    installation.kill_supervisor()
    assert installation.show(tx)["deploy_started_at"] is None, "it was deployed before its gates were passed"
    installation.up()
    wait_for(lambda: installation.status_of(tx) == "promoted", 120, "its promotion, after the gates were run again")
    shown = installation.show(tx)
    assert shown["test_summary"]["passed"] > 0
    assert all(part["passed"] for part in shown["self_check_summary"]["candidate"])
    worker = installation.active_container()
    assert worker["Image"] == shown["image_id"]
    program = ["python", "-c", "import humanize; print(humanize.intcomma(12345))"]
    asked = installation.docker.exec_create(worker["Id"], program)
    assert installation.docker.exec_start(asked["Id"]).decode().strip() == "12,345"
    events = installation.run("events", "--tx", tx, "--no-payload").expect(0).out
    judged = events.rindex("update.test.completed")
    assert events.index("update.approved") < judged < events.index("update.deploy.started")

    later = installation.promote(candidates.adds_a_module(checkout, "later"))
    assert installation.show(later)["deps_image_id"] == shown["deps_image_id"]
    installation.run("gc", "--keep", "1").expect(0)
    assert shown["deps_image_id"] in dependency_images(installation)
    for back in (later, tx):
        installation.run("rollback", back, "--wait").expect(0)
    assert installation.settled()["active"]["sha"] == active["sha"]
