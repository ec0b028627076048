"""Side by side on one engine, by a user who is not root, and by a version that is too old for its home."""

import grp
import hashlib
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.engine import engine_url
from supervisor.images.builds import Deps
from supervisor.specs import LABEL_PROJECT
from tests.support import candidates
from tests.support.checkouts import CHECKOUT, copy_checkout
from tests.support.installation import COMMAND_SECONDS, QUICK, Install, Installation, Result, wait_for
from tests.support.leftout import leave_out

USER = "autonous-test"
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
FIRST_UP_SECONDS = 600  # every package is fetched


# -- side by side


def of_project(installation: Installation) -> dict[str, set[str]]:
    """The ids of all that the engine has of a project."""
    label = {"label": f"{LABEL_PROJECT}={installation.project}"}
    docker = installation.docker
    return {
        "workers": {c["Id"] for role in ("worker", "toolbox") for c in installation.containers(role)},
        "networks": {network["Id"] for network in docker.networks(filters=label)},
        "images": {image["Id"] for image in docker.images(filters=label)},
    }


def test_two_installations_update_at_once(install: Install, checkout: Path) -> None:
    """Each gets its own update, and neither has, uses or loses anything of the other's."""
    one, two = both = [install(), install()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Installation.up, both))
        words = {one.project: "I am the first.", two.project: "I am the second."}
        patches = [candidates.answers(checkout, words[installation.project]) for installation in both]
        txs = list(pool.map(Installation.promote, both, patches))
        for installation in both:
            wait_for(lambda i=installation: len(i.containers()) == 2, 20, "a warm N-1")  # type: ignore[misc]
        replies = list(pool.map(lambda installation: installation.say("who are you?"), both))
    for installation, tx, reply in zip(both, txs, replies, strict=True):
        assert reply.startswith(words[installation.project])
        assert [entry["tx_id"] for entry in installation.history() if entry["active"]] == [tx]
        for container in installation.containers():
            mounted = {Path(mount["Source"]) for mount in container["Mounts"]}
            assert all(path.is_relative_to(installation.home) or path.is_relative_to(installation.paths.run)
                       for path in mounted)  # fmt: skip
            assert list(container["NetworkSettings"]["Networks"]) == [f"{installation.project}-net"]
    mine, theirs = of_project(one), of_project(two)
    for kind, ids in mine.items():
        assert ids
        assert not ids & theirs[kind]
    one.run("rollback", txs[0], "--wait").expect(0)
    one.run("gc", "--keep", "1").expect(0)
    one.down()
    assert of_project(two) == theirs
    assert two.say("and now?").startswith("I am the second.")


def test_a_second_home_with_the_name_of_the_first(install: Install) -> None:
    """The same project in another home is refused by a line that says what to do; the first goes on."""
    first = install()
    first.up()
    before = first.status()["active"]
    second = install()
    second.project = first.project
    assert "AUTONOUS_PROJECT" in second.run("up").expect(1).err
    assert first.status()["active"] == before


# -- not root


@dataclass
class AsUser(Installation):
    """An installation whose commands are run by another user with an interpreter that this user can read."""

    user: str = USER
    python: str = sys.executable

    def run(self, *arguments: str, given: bytes = b"", settings: Mapping[str, str] | None = None) -> Result:
        """The same by another user."""
        return self.run_module("supervisor", *arguments, given=given, settings=settings)

    def run_module(
        self, module: str, *arguments: str, given: bytes = b"", settings: Mapping[str, str] | None = None
    ) -> Result:
        """Any program of the checkout by that user."""
        variables = {**self.environment, **(settings or {}), "HOME": str(self.home.parent)}
        process = subprocess.run(
            ["runuser", "-u", self.user, "--", self.python, "-m", module, *arguments],
            input=given,
            capture_output=True,
            check=False,
            timeout=COMMAND_SECONDS,
            cwd=self.checkout,
            env=variables,
        )
        return Result(" ".join(arguments), process.returncode, process.stdout.decode(), process.stderr.decode())


@pytest.fixture
def user() -> Iterator[str]:
    """A second user of this machine, in the group that may use the engine's socket."""
    if os.getuid() != 0:
        leave_out("only root can make a second user; whoever runs this is none already")
    socket = Path(engine_url().removeprefix("unix://"))
    group = grp.getgrgid(socket.stat().st_gid).gr_name
    name = f"{USER}-{uuid.uuid4().hex[:6]}"
    subprocess.run(["useradd", "--no-create-home", "--groups", group, name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["userdel", name], check=True)


def python_for(user: str, directory: Path, checkout: Path) -> str:
    """An interpreter of this version that the user can run, with the packages of this one and the checkout."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{version}"):
        trial = ["runuser", "-u", user, "--", candidate, "-c", "import venv"]
        if subprocess.run(trial, check=False, capture_output=True, cwd="/").returncode == 0:
            break
    else:
        leave_out(f"no {version} that another user may run")
    subprocess.run([candidate, "-m", "venv", "--without-pip", str(directory)], check=True)
    packages = Path(pytest.__file__).parent.parent
    readable = subprocess.run(["runuser", "-u", user, "--", "test", "-r", packages], check=False).returncode == 0
    if not readable:
        packages = shutil.copytree(packages, directory / "packages")
    site = directory / "lib" / version / "site-packages"
    (site / "test.pth").write_text(f"{checkout}\n{packages}\n")
    return str(directory / "bin" / "python")


@pytest.fixture
def another(user: str) -> Iterator[AsUser]:
    """An installation of the second user's, in a directory of theirs."""
    directory = Path(tempfile.mkdtemp(prefix="autonous-"))
    uid = pwd.getpwnam(user).pw_uid
    os.chown(directory, uid, -1)
    checkout = copy_checkout(directory / "checkout")
    python = python_for(user, directory / "venv", checkout)
    for path in (directory, *directory.rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o044), follow_symlinks=True)
    made = AsUser(directory / "home", checkout, user=user, python=python)
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)


def test_a_user_who_is_not_root(another: AsUser, user: str) -> None:
    """From ``up`` to ``purge``, a crash among it; all processes and all files are this user's, and nothing stays."""
    uid = pwd.getpwnam(user).pw_uid
    another.up()
    assert another.say("hello")
    tx = another.promote(candidates.answers(another.checkout, "I belong to a user."))
    assert another.show(tx)["test_summary"]["failing_on_base_too"] == []
    assert another.say("whose are you?").startswith("I belong to a user.")
    assert {container["Config"]["User"] for container in another.containers()} == {f"{uid}:{uid}"}
    assert {container["Config"]["User"] for container in another.containers("toolbox")} == {f"{uid}:{uid}"}
    assert Path(f"/proc/{another.supervisor_pid()}").stat().st_uid == uid
    another.run("doctor").expect(0)
    assert "I belong to a user." in another.run("diff", tx).expect(0).out
    another.run("source", str(another.home.parent / "source")).expect(0)
    assert "whose are you?" in another.run("export", "--chat", "1").expect(0).out
    another.run("rollback", tx, "--wait").expect(0)
    another.kill_supervisor()
    status = another.status()
    assert (status["running"], status["active"]["health"]) == (False, "healthy")
    another.up()
    assert another.run("upgrade").expect(0).out
    another.run("gc", "--keep", "1").expect(0)
    another.down()
    files = [another.home, *another.home.rglob("*")]
    assert len(files) > 50
    assert [str(path) for path in files if path.lstat().st_uid != uid] == []
    assert another.run_module("supervisor.purge").expect(0).out.endswith("Removed.\n")
    assert not another.home.exists()


# -- not root, from a fresh clone


class FreshClone(AsUser):
    """What a user has after `git clone`: nothing is set up, and the home is where it is when nobody says."""

    @property
    def environment(self) -> dict[str, str]:
        """Of the user's own shell, with the one name that keeps this apart from others on the machine."""
        passed_on = {name: os.environ[name] for name in (*CERTIFICATES, "DOCKER_HOST") if name in os.environ}
        return {**passed_on, "PATH": "/usr/local/bin:/usr/bin:/bin", "AUTONOUS_PROJECT": self.project}

    def run(self, *arguments: str, given: bytes = b"", settings: Mapping[str, str] | None = None) -> Result:
        """The command where `make up` has left it."""
        return self.type(str(self.checkout / ".venv/bin/supervisor"), *arguments, given=given)

    def type(self, *command: str, given: bytes = b"") -> Result:
        """Any command, in the clone."""
        process = subprocess.run(
            [shutil.which("runuser") or "runuser", "-u", self.user, "--", *command],
            input=given,
            capture_output=True,
            check=False,
            timeout=FIRST_UP_SECONDS,
            cwd=self.checkout,
            env=self.environment,
        )
        return Result(" ".join(command), process.returncode, process.stdout.decode(), process.stderr.decode())


@pytest.fixture
def clone(deps: Deps, user: str) -> Iterator[FreshClone]:
    """Of this checkout, with few tests of the worker's, in the second user's own directory."""
    directory = Path(tempfile.mkdtemp(prefix="autonous-"))
    checkout = copy_checkout(directory / "clone")
    for name in ("Makefile", "scripts", "requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        source = CHECKOUT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, checkout / name)
    # What a user has no reason to set, and a test that has no time does.
    (checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in QUICK.items()))
    (checkout / ".env").chmod(0o600)
    subprocess.run(["chown", "--recursive", f"{user}:", str(directory)], check=True)
    subprocess.run(["usermod", "--home", str(directory), user], check=True)
    made = FreshClone(directory / ".local/state/autonous", checkout, user=user)
    try:
        if made.type("python3", "-c", "import sys; assert sys.version_info >= (3, 11); import ensurepip, venv").code:
            leave_out("no Python 3.11 or later, with its venv module, that another user may run")
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.exhaustive
def test_a_second_user_from_a_fresh_clone_to_its_end(clone: FreshClone, user: str) -> None:
    """`make up`, a life, `make down`, `make purge`: root is asked for nothing, and nothing is root's afterwards."""
    uid = pwd.getpwnam(user).pw_uid
    assert "healthy" in clone.type("make", "up").expect(0).out
    assert clone.say("remember the plum")
    tx = clone.promote(candidates.answers(clone.checkout, "I belong to a user."))
    assert clone.say("whose are you?").startswith("I belong to a user.")

    assert "0 events" in clone.run("prune", "--older-than", "1", "--dry-run").expect(0).out
    clone.run("prune", "--older-than", "1", "--yes").expect(0)
    assert clone.run("cost", "--by", "day", "--json").expect(0).json
    assert "worker started" in clone.run("logs").expect(0).out
    assert "promoted" in clone.type("make", "logs").expect(0).out
    assert clone.run("logs", tx).expect(0).out
    assert "promoted" in clone.run("events", "--tx", tx).expect(0).out

    assert "The state is as it was" in clone.run("restore", tx).expect(0).out
    assert clone.say("and now?").startswith("I belong to a user.")
    exported = clone.checkout.parent / "chat.jsonl"
    clone.run("export", "--chat", "1", str(exported)).expect(0)
    assert "remember the plum" in exported.read_text()
    clone.run("forget", "--chat", "1", "--yes").expect(0)
    assert "remember the plum" not in clone.run("export", "--chat", "1").out
    assert clone.say("who is there?").startswith("I belong to a user.")

    clone.type("make", "down").expect(0)
    assert clone.containers() == []
    # The whole of what the user has: home, clone, virtual environment, what was exported.
    files = list(clone.checkout.parent.rglob("*"))
    assert {clone.paths.ledger, clone.paths.agent_db, exported, clone.checkout / ".venv/bin/supervisor"} <= {*files}
    assert [str(path) for path in files if path.lstat().st_uid != uid] == []
    clone.type("make", "up").expect(0)
    assert clone.say("still you?").startswith("I belong to a user.")
    assert clone.type("make", "purge").expect(0).out.endswith("Removed.\n")
    assert not clone.home.exists()
    assert not any(of_project(clone).values())


# -- a version that is too old


@pytest.mark.fault(11)
def test_an_older_version_touches_nothing(install: Install) -> None:
    """It says that a newer one wrote the ledger; the file and the workers stay as they are."""
    installation = install()
    installation.up()
    installation.kill_supervisor()
    with closing(sqlite3.connect(installation.paths.ledger)) as ledger, ledger:
        ledger.execute("INSERT INTO schema_migrations (number, name, applied_at) VALUES (9999, 'of tomorrow', 0)")
    workers = {container["Id"] for container in installation.containers()}

    def content() -> str:
        with closing(sqlite3.connect(f"file:{installation.paths.ledger}?mode=ro", uri=True)) as ledger:
            return hashlib.sha256("\n".join(ledger.iterdump()).encode()).hexdigest()

    before = content()
    for command in (["up"], ["status"], ["history"], ["gc"], ["images"], ["run"], ["rollback", "a"]):
        line = installation.run(*command).expect(1).err.splitlines()[-1]
        assert "a newer version wrote it" in line, command
    assert content() == before
    assert {container["Id"] for container in installation.containers()} == workers


@pytest.mark.fault(41)
def test_a_supervisor_upgraded_in_mid_update(install: Install, tmp_path: Path) -> None:
    """The newer one brings the ledger up and goes on with the probation; the older one says why it does not."""
    older = copy_checkout(tmp_path / "older")
    installation = install(older, AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS="8")
    installation.up()
    tx = installation.stage(candidates.adds_a_module(older, "in_hand"))
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    green = installation.status()["active"]["container"]
    installation.kill_supervisor()
    installation.checkout = Path(shutil.copytree(older, tmp_path / "newer"))
    steps = installation.checkout / "supervisor" / "ledger" / "migrations.py"
    one_more = 'Migration(MIGRATIONS[-1].number + 1, "newer", ("ALTER TABLE artifacts ADD COLUMN tomorrow TEXT",))'
    last = "\nLATEST: Final"
    steps.write_text(steps.read_text().replace(last, f"\nMIGRATIONS = (*MIGRATIONS, {one_more})\n{last}"))
    installation.up()
    wait_for(lambda: installation.status_of(tx) == "promoted", 30, "the end of the probation")
    assert installation.status()["active"]["container"] == green
    installation.kill_supervisor()
    installation.checkout = older
    assert "a newer version wrote it" in installation.run("up").expect(1).err
    assert green in [container["Name"].removeprefix("/") for container in installation.containers()]
