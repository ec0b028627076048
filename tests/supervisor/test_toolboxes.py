"""Toolboxes beside living workers, without an engine: mended, replaced, opened to a network, cut."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.contract import (
    EventType,
    Grant,
    GrantOrder,
    Problem,
    Revocation,
    ToolboxOpened,
    ToolboxOrder,
    ToolboxTrouble,
)
from supervisor.engine import ContainerGone
from supervisor.ledger import WorkerRow
from supervisor.specs import NETWORK_TOOLBOX, OFFLINE
from supervisor.toolbox.handlers import ToolDesk
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import PROJECT, Supervisor

OWNER = 42


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "ground"
    for name in ("a", "b"):
        (made / name).mkdir(parents=True)
    return made


@pytest.fixture
def installation(tmp_path: Path, ground: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        made.change(grantable_roots=(ground,))
        yield made


class Scene:
    """A supervisor at work with its active worker."""

    def __init__(self, installation: Installation, supervisor: Supervisor) -> None:
        self.installation = installation
        self.supervisor = supervisor
        self.engine = installation.engine
        installation.becomes_active(installation.genesis)
        row = installation.active()
        assert row is not None
        self.row: WorkerRow = row
        self.toolbox = f"{row.worker_id}-toolbox"
        self.desk = ToolDesk(
            ledger=installation.ledger,
            toolboxes=supervisor.toolboxes,
            grants=supervisor.grants,
            signal=supervisor.signal,
            owners=lambda: (OWNER,),
        )

    def id(self) -> str:
        view = self.engine.inspect(self.toolbox)
        return view.id if view is not None and view.running else ""

    def serves(self) -> None:
        """The toolbox listens now."""
        (self.installation.settings.paths.toolbox(self.row.worker_id) / OFFLINE / "toolbox.sock").touch()

    def replaced(self, before: str) -> None:
        self.installation.until(lambda: self.id() not in ("", before), 5, "another toolbox")

    def mounts(self) -> dict[str, bool]:
        """By target, whether it is read-only; none while one toolbox takes the other's place."""
        with suppress(ContainerGone):
            return {mount.target: mount.read_only for mount in self.engine.spec(self.toolbox).mounts}
        return {}

    def told(self, event: EventType, number: int) -> list[str]:
        """The reasons in so many events of a type."""
        self.installation.until(lambda: len(self.installation.told(event)) >= number, 5, f"{event}")
        return [str(payload["reason"]) for payload in self.installation.told(event)]

    def grant(self, path: Path, mode: str = "ro", hours: float = 1.0, user: int = OWNER) -> Grant | Problem:
        order = GrantOrder(path=str(path), mode=mode, hours=hours, user_id=user, chat_id=user)
        return self.desk.grant(self.row.worker_id, order)

    def open(self) -> ToolboxOpened | Problem:
        return self.desk.open(self.row.worker_id, ToolboxOrder(call_sha256="a" * 64, chat_id=1, timeout_seconds=1))

    def networked(self) -> list[str]:
        return [v.name for v in self.engine.containers(PROJECT, role=NETWORK_TOOLBOX)]


@pytest.fixture
def scene(installation: Installation) -> Iterator[Scene]:
    with installation.supervised() as supervisor:
        yield Scene(installation, supervisor)


def test_one_that_keeps_dying_is_started_less_often(scene: Scene) -> None:
    """At once twice, then after a while; each time it is an event with the reason."""
    before = len(scene.installation.told(EventType.TOOLBOX_RESTARTED))
    for number in (1, 2):
        last = scene.id()
        scene.engine.crash(scene.toolbox, code=137, oom=True)
        scene.replaced(last)
        events = scene.installation.told(EventType.TOOLBOX_RESTARTED)[before:]
        assert (len(events), events[-1]["reason"], events[-1]["exit_code"]) == (number, "out of memory", 137)
    last = scene.id()
    begun = time.monotonic()
    scene.engine.crash(scene.toolbox, code=1)
    scene.replaced(last)
    assert time.monotonic() - begun > 0.5


def test_one_that_does_not_answer_is_replaced(scene: Scene) -> None:
    """As its worker says."""
    before = scene.id()
    scene.desk.trouble(scene.row.worker_id, ToolboxTrouble(reason="it does not answer"))
    scene.replaced(before)
    assert scene.installation.told(EventType.TOOLBOX_RESTARTED)[-1]["reason"] == "it does not answer"


def test_a_grant_is_a_mount(scene: Scene, ground: Path) -> None:
    """The toolbox is made anew with it, drained first, and anew without it once it is revoked."""
    before = scene.id()
    scene.serves()
    granted = scene.grant(ground / "a", "rw")
    assert isinstance(granted, Grant)
    assert granted.in_force
    assert scene.mounts()[str(ground / "a")] is False
    assert ("stop", scene.toolbox) in scene.engine.calls
    assert scene.id() != before
    roots = scene.engine.spec(scene.toolbox).environment["AUTONOUS_TOOL_ALLOWED_ROOTS"]
    assert roots == f"/workspace,{ground / 'a'}"
    revoked = scene.desk.revoke(scene.row.worker_id, granted.number, Revocation(user_id=OWNER, chat_id=OWNER))
    assert isinstance(revoked, Grant)
    assert str(ground / "a") not in scene.mounts()
    assert scene.desk.grants(scene.row.worker_id).grants == []
    again = scene.desk.revoke(scene.row.worker_id, granted.number, Revocation(user_id=OWNER, chat_id=OWNER))
    assert isinstance(again, Problem)
    assert again.code == "unknown_grant"


def test_one_that_does_not_serve_yet_is_not_drained(scene: Scene, ground: Path) -> None:
    """It has nothing in hand, and would not hear the order: a grant right after another's end is in force at once."""
    granted = scene.grant(ground / "a")
    assert isinstance(granted, Grant)
    assert granted.in_force
    assert ("stop", scene.toolbox) not in scene.engine.calls


def test_a_grant_ends_by_itself(scene: Scene, ground: Path) -> None:
    """With its time, and when its directory is replaced by something else."""
    assert isinstance(scene.grant(ground / "a", hours=0.5 / 3600), Grant)
    scene.installation.until(lambda: str(ground / "a") not in scene.mounts(), 5, "the end of the grant")
    assert scene.told(EventType.GRANT_EXPIRED, 1) == ["its time is over"]
    assert isinstance(scene.grant(ground / "b"), Grant)
    (ground / "b").rmdir()
    (ground / "b").symlink_to("/etc")
    scene.installation.until(lambda: str(ground / "b") not in scene.mounts(), 5, "the end of the grant")
    assert "replaced" in scene.told(EventType.GRANT_EXPIRED, 2)[1]


def test_who_may_grant(scene: Scene, ground: Path) -> None:
    """An owner, through the active worker; and nothing inside of what is granted already."""
    refused = scene.grant(ground / "a", user=666)
    assert isinstance(refused, Problem)
    assert refused.code == "not_owner"
    order = GrantOrder(path=str(ground / "a"), mode="ro", hours=1, user_id=OWNER, chat_id=OWNER)
    other = scene.desk.grant("another-worker", order)
    assert isinstance(other, Problem)
    assert other.code == "not_active"
    (ground / "a" / "deep").mkdir()
    assert isinstance(scene.grant(ground / "a"), Grant)
    inside = scene.grant(ground / "a" / "deep")
    assert isinstance(inside, Problem)
    assert inside.code == "overlaps"


def test_a_toolbox_with_a_network_is_for_one_call(scene: Scene) -> None:
    """Two at a time; each goes when its call has ended, with its time, or with its worker."""
    first, second, third = scene.open(), scene.open(), scene.open()
    assert isinstance(first, ToolboxOpened)
    assert isinstance(second, ToolboxOpened)
    assert isinstance(third, Problem)
    assert third.code == "too_many"
    assert len(scene.networked()) == 2
    scene.desk.close("another-worker", first.toolbox_id)
    assert len(scene.networked()) == 2
    scene.desk.close(scene.row.worker_id, first.toolbox_id)
    scene.desk.close(scene.row.worker_id, first.toolbox_id)  # again: nothing happens
    assert scene.networked() == [f"{scene.row.worker_id}-{second.toolbox_id}"]
    spec = scene.engine.spec(scene.networked()[0])
    assert (spec.network, dict(spec.environment).keys() & {"OPENAI_API_KEY", "TELEGRAM_BOT_TOKEN"}) == (
        f"{PROJECT}-tools-net",
        set(),
    )
    scene.supervisor.toolboxes.end(scene.row.worker_id)
    assert scene.networked() == []
    reasons = [event["reason"] for event in scene.installation.told(EventType.TOOLBOX_CLOSED)]
    assert reasons == ["the call ended", "its worker ended"]


def test_a_toolbox_with_a_network_ends_with_its_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nobody says that its call has ended."""
    assert isinstance(scene.open(), ToolboxOpened)
    monkeypatch.setattr(scene.supervisor.toolboxes, "_monotonic", lambda: time.monotonic() + 60)
    assert scene.told(EventType.TOOLBOX_CLOSED, 1) == ["its time was over"]
    assert scene.networked() == []


def test_what_a_dead_supervisor_left_open_is_removed(installation: Installation, ground: Path) -> None:
    """The next one keeps the toolbox as it was made, and closes the network."""
    with installation.supervised() as supervisor:
        scene = Scene(installation, supervisor)
        assert isinstance(scene.grant(ground / "a"), Grant)
        assert isinstance(scene.open(), ToolboxOpened)
        before = scene.id()
    with installation.supervised() as supervisor:
        supervisor.toolboxes.tidy()
        scene = Scene(installation, supervisor)
        assert scene.networked() == []
        assert supervisor.toolboxes.in_force(scene.row.worker_id) == (1,)
        time.sleep(0.1)
        assert scene.id() == before


def test_a_worker_that_ended_gets_no_toolbox(scene: Scene) -> None:
    """Also when its toolbox died a moment before."""
    scene.supervisor.toolboxes.end(scene.row.worker_id)
    scene.supervisor.toolboxes.noticed(scene.toolbox)
    scene.supervisor.toolboxes.mend()
    assert scene.engine.inspect(scene.toolbox) is None
