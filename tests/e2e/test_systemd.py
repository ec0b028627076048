"""The service under a real systemd: the system's for root, and the user's own for another; each through its life."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.homelock import died, held, owner
from supervisor.images.builds import Deps
from supervisor.ledger import Ledger
from tests.support import candidates
from tests.support.checkouts import copy_checkout
from tests.support.installation import QUICK, Result, wait_for
from tests.support.leftout import leave_out
from tests.support.systemdmachine import OnMachine, SystemdMachine, why_not

pytestmark = pytest.mark.exhaustive

USER = "ada"
#: A unit waits for five seconds before it starts again what has died.
BACK_SECONDS = 30
CHANGED = {"AUTONOUS_DRAIN_SECONDS": "4"}


@pytest.fixture(scope="module")
def machine(deps: Deps) -> Iterator[SystemdMachine]:
    """Up, with systemd and nothing of ours."""
    if reason := why_not():
        leave_out(reason)
    with SystemdMachine() as made:
        yield made


def with_settings(installation: OnMachine, **more: str) -> None:
    """Written where a service reads them."""
    lines = "".join(f"{name}={value}\n" for name, value in {**QUICK, **more}.items())
    file = installation.checkout / ".env"
    file.write_text(lines)
    file.chmod(0o600)
    installation.machine.run("chown", installation.user, str(file)).expect(0)


def unit_of(installation: OnMachine) -> str:
    return f"autonous-{installation.project}.service"


def is_active(installation: OnMachine) -> bool:
    return installation.systemctl("is-active", "--quiet", unit_of(installation)).code == 0


def said_by_systemd(installation: OnMachine, name: str) -> str:
    return installation.systemctl("show", "--value", f"--property={name}", unit_of(installation)).expect(0).out.strip()


def workers(installation: OnMachine) -> set[str]:
    return {container["Id"] for role in ("worker", "toolbox") for container in installation.containers(role)}


def leases(installation: OnMachine) -> list[str]:
    """The revisions that were given the lease, in this order."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        return [str(event.payload["sha"]) for event in ledger.events(EventType.LEASE_GRANTED)]


def service_found(installation: OnMachine) -> dict[str, str]:
    """What the doctor says of it; nothing else keeps the installation from running."""
    return service_found_by(installation.run("doctor", "--json").expect(0))


def service_found_by(doctor: Result) -> dict[str, str]:
    return next(finding for finding in doctor.json["findings"] if finding["check"] == "service")


def is_kept_by_systemd(installation: OnMachine) -> None:
    """Active, enabled, and of the same process that holds the home; no keeper beside it."""
    assert is_active(installation)
    assert installation.systemctl("is-enabled", unit_of(installation)).out.strip() == "enabled"
    assert said_by_systemd(installation, "MainPID") == owner(installation.paths.lock)
    assert held(installation.paths.lock)
    assert not held(installation.paths.keeper_lock)
    finding = service_found(installation)
    assert finding["level"] == "ok", finding
    assert unit_of(installation) in finding["what"]


def dies_and_is_adopted(installation: OnMachine) -> None:
    """SIGKILL: systemd starts the next one, and every container goes on as it was."""
    before, pid = workers(installation), owner(installation.paths.lock)
    restarts = int(said_by_systemd(installation, "NRestarts"))
    installation.machine.run("kill", "-KILL", pid).expect(0)
    wait_for(lambda: not held(installation.paths.lock), 5, "the end of the supervisor")
    assert installation.say("still there?")
    wait_for(lambda: is_active(installation) and held(installation.paths.lock), BACK_SECONDS, "the next supervisor")
    assert installation.settled()["running"]
    assert workers(installation) == before
    assert owner(installation.paths.lock) != pid
    assert int(said_by_systemd(installation, "NRestarts")) == restarts + 1
    assert installation.say("and now?")


def comes_back(installation: OnMachine, granted: int, sha: str) -> None:
    """By itself: one active worker of the revision that was, which answers, and was given the one lease."""
    wait_for(lambda: is_active(installation) and held(installation.paths.lock), BACK_SECONDS, "the supervisor")
    # The first look may find the row of the worker that the machine's end took along.
    wait_for(lambda: len(leases(installation)) > granted, 60, "a new lease")
    assert installation.settled()["active"]["sha"] == sha
    assert installation.say("are you back?")
    assert leases(installation)[granted:] == [sha]
    is_kept_by_systemd(installation)


# -- root's


@pytest.fixture(scope="module")
def root(machine: SystemdMachine) -> Iterator[OnMachine]:
    """Up as `make up` leaves it, with a keeper."""
    directory = machine.root / "r"
    made = OnMachine(machine, directory, copy_checkout(directory / "checkout"))
    with_settings(made)
    try:
        made.up()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def installed(root: OnMachine) -> str:
    """What was said when the service was installed beside a supervisor that ran."""
    before = workers(root)
    assert held(root.paths.keeper_lock)
    said = root.run("install-service").expect(0).err
    assert workers(root) == before
    return said


@pytest.fixture(scope="module")
def promoted(root: OnMachine, installed: str) -> str:
    """An update that is active; what was before it stands by."""
    return root.promote(candidates.answers(root.checkout, "I am the second."))


def test_a_running_supervisor_goes_on_under_systemd(root: OnMachine, installed: str) -> None:
    """The worker notices nothing, and the keeper is gone."""
    assert "The supervisor runs under systemd now." in installed
    is_kept_by_systemd(root)
    assert root.say("hello")


def test_systemd_finds_nothing_wrong_in_the_unit(root: OnMachine, installed: str) -> None:
    """Not a word."""
    done = root.shell(f"systemd-analyze verify --man=no /etc/systemd/system/{unit_of(root)}").expect(0)
    assert done.out + done.err == ""


def test_one_that_was_killed_comes_back(root: OnMachine, promoted: str) -> None:
    """Blue and green, and their toolboxes, go on; the next supervisor takes them as they are."""
    wait_for(lambda: len(root.containers()) == 2, 20, "a warm N-1")
    dies_and_is_adopted(root)


def test_changed_settings_under_systemd(root: OnMachine, promoted: str) -> None:
    """`up` has the supervisor start anew within its process: systemd sees the same one."""
    pid = said_by_systemd(root, "MainPID")
    with_settings(root, **CHANGED)
    assert "AUTONOUS_DRAIN_SECONDS" in root.run("up").expect(0).err
    assert said_by_systemd(root, "MainPID") == pid
    is_kept_by_systemd(root)


def test_settings_that_cannot_be_used(root: OnMachine, promoted: str) -> None:
    """It fails, and is not tried over and over; the workers go on, and the log says what is wrong."""
    before = workers(root)
    with_settings(root, **CHANGED, AUTONOUS_APPROVAL="perhaps")
    root.systemctl("restart", unit_of(root))
    wait_for(lambda: said_by_systemd(root, "Result") == "exit-code", 10, "the end of the supervisor")
    assert root.systemctl("is-failed", unit_of(root)).out.strip() == "failed"
    assert said_by_systemd(root, "NRestarts") == "0"
    assert "AUTONOUS_APPROVAL" in root.log_tail()
    # Those of a shell hold for its own commands.
    doctor = root.run("doctor", "--json", settings={"AUTONOUS_APPROVAL": "chat"}).expect(1)
    assert service_found_by(doctor)["level"] == "warn"
    with_settings(root, **CHANGED)
    root.up()
    assert workers(root) == before
    is_kept_by_systemd(root)


def test_going_back_with_a_dead_supervisor(root: OnMachine, promoted: str) -> None:
    """`rollback` does it alone, whether or not systemd tries to start another meanwhile; then systemd has it."""
    tx = root.promote(candidates.adds_a_module(root.checkout, "to_be_undone"))
    before = next(entry["sha"] for entry in root.history() if entry["tx_id"] == promoted)
    root.machine.run("kill", "-KILL", owner(root.paths.lock)).expect(0)
    wait_for(lambda: not held(root.paths.lock), 5, "the end of the supervisor")
    root.run("rollback", tx, "--wait").expect(0)
    assert root.settled()["active"]["sha"] == before
    wait_for(lambda: is_active(root), BACK_SECONDS, "the service")
    is_kept_by_systemd(root)


@pytest.mark.parametrize("way", ["cut_power", "shut_down"])
def test_after_a_restart_of_the_machine_all_is_back(root: OnMachine, promoted: str, way: str) -> None:
    """Nobody types anything: one active worker, of the revision that was, and no second one beside it."""
    sha, granted = root.settled()["active"]["sha"], len(leases(root))
    getattr(root.machine, way)()
    root.end_workers()
    assert died(root.paths.lock) is (way == "cut_power")
    root.machine.power_on()
    comes_back(root, granted, sha)
    assert root.say("who are you?").startswith("I am the second.")


def test_down_and_up(root: OnMachine, promoted: str) -> None:
    """What was told to end stays away until `up`, or until the machine starts: systemd has it again then."""
    root.down()
    assert not is_active(root)
    assert workers(root) == set()
    assert not held(root.localbot_lock)
    assert root.systemctl("is-failed", unit_of(root)).out.strip() == "inactive"
    said = root.run("up", settings={"OPENAI_MODEL": "of-this-shell"}).expect(0).err
    assert "warning: OPENAI_MODEL is set in this shell and not in" in said
    is_kept_by_systemd(root)
    root.down()
    granted = len(leases(root))
    root.machine.shut_down()
    root.machine.power_on()
    sha = next(entry["sha"] for entry in root.history() if entry["active"])
    comes_back(root, granted, sha)


def test_a_service_that_somebody_has_put_out_of_order(root: OnMachine, promoted: str) -> None:
    """Not enabled, or beside a supervisor that runs without it: the remedy that the doctor names puts it right."""
    before = workers(root)
    root.systemctl("disable", unit_of(root)).expect(0)
    finding = service_found(root)
    assert (finding["level"], finding["remedy"]) == ("warn", "`supervisor install-service`")
    assert "not enabled" in finding["what"]
    root.run("install-service").expect(0)
    is_kept_by_systemd(root)

    root.systemctl("stop", unit_of(root)).expect(0)
    assert service_found_by(root.run("doctor", "--json").expect(1))["remedy"] == "`make up`"
    root.shell(f"setsid {root.python} -m supervisor run >/dev/null 2>&1 </dev/null &").expect(0)
    wait_for(lambda: held(root.paths.lock), BACK_SECONDS, "a supervisor of somebody's own")
    root.settled()
    finding = service_found(root)
    assert (finding["level"], finding["remedy"]) == ("warn", "`supervisor install-service`")
    root.run("install-service").expect(0)
    is_kept_by_systemd(root)
    assert workers(root) == before


def test_taking_the_service_away(root: OnMachine, promoted: str, installed: str) -> None:
    """The line that the installation has named: the workers go on, and `up` starts a keeper again."""
    before = workers(root)
    found = re.search(r"To remove it: `(.+)`, then `make up`", installed)
    assert found is not None
    root.shell(found[1]).expect(0)
    assert not held(root.paths.lock)
    root.up()
    assert workers(root) == before
    assert held(root.paths.keeper_lock)
    assert root.systemctl("list-unit-files", unit_of(root)).code != 0
    assert service_found(root)["remedy"] == "`supervisor install-service`"


def test_purge_takes_the_service_along(root: OnMachine, promoted: str) -> None:
    """Installed again, and named among what goes."""
    root.run("install-service").expect(0)
    unit = f"/etc/systemd/system/{unit_of(root)}"
    out = root.purge().expect(0).out
    assert unit in out
    assert root.machine.run("test", "-e", unit).code != 0
    assert not root.home.exists()
    assert root.systemctl("list-units", "--all", "--plain", "--no-legend", unit_of(root)).out == ""


# -- another user's


@pytest.fixture(scope="module")
def users(machine: SystemdMachine) -> Iterator[OnMachine]:
    """Up, of a user who may use the engine and no more, whose service will know the engine under a name of its own."""
    directory = machine.root / "u"
    checkout = copy_checkout(directory / "checkout")
    machine.run("groupadd", "--gid", str(machine.engine_group), "engine").expect(0)
    machine.run("useradd", "--home-dir", str(directory), "--groups", "engine", "--shell", "/bin/sh", USER).expect(0)
    machine.run("chown", USER, str(directory)).expect(0)
    machine.run("ln", "-s", "/run/docker.sock", str(engine_link(directory))).expect(0)
    made = OnMachine(machine, directory, checkout, user=USER, docker_host=f"unix://{engine_link(directory)}")
    with_settings(made)
    try:
        made.up()
        yield made
    finally:
        made.remove()


def engine_link(directory: Path) -> Path:
    return directory / "engine.sock"


def test_without_a_systemd_of_the_users_own(users: OnMachine) -> None:
    """Who has no session and may not linger is told so; nothing is left that `up` would stumble over."""
    line = users.run("install-service").expect(1).err.splitlines()[-1]
    assert "loginctl enable-linger ada" in line
    assert not (users.user_home / ".config/systemd/user" / unit_of(users)).exists()
    users.up()
    assert held(users.paths.keeper_lock)
    assert users.say("hello")


@pytest.fixture(scope="module")
def lingering(users: OnMachine) -> str:
    """The service, after root has done as the line says; what was said."""
    users.machine.run("loginctl", "enable-linger", USER).expect(0)
    wait_for(lambda: users.systemctl("is-system-running").out.strip() == "running", 20, "the user's own systemd")
    before = workers(users)
    said = users.run("install-service").expect(0).err
    assert workers(users) == before
    return said


def test_the_service_of_a_user(users: OnMachine, lingering: str) -> None:
    """Runs by the user's own systemd, which finds nothing wrong in the unit; nothing has to be done any more."""
    assert "warning" not in lingering
    is_kept_by_systemd(users)
    unit = users.user_home / ".config/systemd/user" / unit_of(users)
    done = users.shell(f"systemd-analyze --user verify --man=no {unit}").expect(0)
    assert done.out + done.err == ""
    assert users.say("hello")


def test_the_users_supervisor_that_was_killed_comes_back(users: OnMachine, lingering: str) -> None:
    """As root's does."""
    dies_and_is_adopted(users)


def test_the_users_service_after_a_restart_of_the_machine(users: OnMachine, lingering: str) -> None:
    """Without a login, and though the engine comes later than the user's systemd, which cannot wait for it."""
    sha, granted = users.settled()["active"]["sha"], len(leases(users))
    users.machine.cut_power()
    users.end_workers()
    link = engine_link(users.user_home)
    link.unlink()
    users.machine.power_on()
    wait_for(lambda: said_by_systemd(users, "NRestarts") not in ("", "0"), BACK_SECONDS, "a second try")
    link.symlink_to("/run/docker.sock")
    comes_back(users, granted, sha)


def test_the_users_service_goes(users: OnMachine, lingering: str) -> None:
    """With `purge`, and all is the user's until then."""
    uid = int(users.machine.run("id", "-u", USER).out)
    users.down()
    assert not is_active(users)
    files = [users.home, *users.home.rglob("*")]
    assert [str(path) for path in files if path.lstat().st_uid != uid] == []
    users.purge().expect(0)
    assert not (users.user_home / ".config/systemd/user" / unit_of(users)).exists()
    assert not users.home.exists()
