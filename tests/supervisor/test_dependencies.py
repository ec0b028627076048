"""Locks that grow by approved packages, and what binds an approval to them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.cards.content import packages
from supervisor.images.builds import LABEL_BASE_DIGEST, LABEL_LOCK
from supervisor.images.contexts import recipe
from supervisor.images.resolution import Package
from supervisor.ledger import Ledger, Update
from supervisor.pipeline import dependencies
from supervisor.specs import LABEL_SHA, LABEL_TX
from supervisor.states import Status
from supervisor.updates.binding import BindingBroken, check_binding, digest
from tests.supervisor.fakes.updates import genesis, update_in

LOCK = recipe("deps/requirements.lock").decode()
NEW = Package("humanize", "4.17.0", "ab" * 32, 132_000)
REQUEST = {"lock_sha256": "c" * 64, "packages": [NEW.plain()]}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db") as opened:
        yield opened


@pytest.fixture
def approved(ledger: Ledger) -> Update:
    """An update that asked for a package, was approved, and has passed its gates since."""
    made = update_in(ledger, Status.STAGED, base=genesis(ledger))
    request = ledger.amend(made.tx_id, {"dependencies": REQUEST})
    bound = digest(request)
    changes = {"digest": bound, "approval_digest": bound, "self_check_finished_at": 1.0}
    return ledger.move(made.tx_id, Status.STAGED, Status.APPROVED, changes=changes)


def test_a_lock_grows_by_what_is_new_and_keeps_the_rest() -> None:
    """Each package in its place, every other line as it was, and the same again for the same packages."""
    grown = dependencies.extended(LOCK, [NEW])
    assert set(grown.splitlines()) - set(LOCK.splitlines()) == set(NEW.locked.splitlines())
    assert {line for line in LOCK.splitlines() if not line.startswith("#")} <= set(grown.splitlines())
    assert dependencies.pins(grown) == dependencies.pins(LOCK) | {"humanize": "4.17.0"}
    assert dependencies.extended(grown, [NEW]) == grown


def test_another_version_takes_the_place_of_the_locked_one() -> None:
    """With its hash, and without any of the old ones."""
    name, version = next(iter(dependencies.pins(LOCK).items()))
    grown = dependencies.extended(LOCK, [Package(name, "999", "cd" * 32)])
    assert dependencies.pins(grown)[name] == "999"
    assert f"{name}=={version}" not in grown
    block = grown[grown.index(f"{name}==999") :].split("==")[1]
    assert block.count("--hash") == 1


def test_a_person_reads_capitals_version_size_and_hash() -> None:
    """Also where the index tells no size."""
    unknown = {"packages": [NEW.plain(), replace(NEW, size_bytes=None).plain()]}
    first = f"HUMANIZE 4.17.0, 128.9 KiB, sha256:{NEW.sha256}"
    assert packages(unknown) == [first, f"HUMANIZE 4.17.0, -, sha256:{NEW.sha256}"]


def test_an_approval_is_for_these_packages_and_no_others(ledger: Ledger, approved: Update) -> None:
    """Another version, hash or size makes another digest; the image, which comes later, does not."""
    for changed in (replace(NEW, version="5"), replace(NEW, sha256="0" * 64), replace(NEW, size_bytes=1)):
        other = ledger.amend(approved.tx_id, {"dependencies": {**REQUEST, "packages": [changed.plain()]}})
        assert digest(other) != approved.digest
    again = ledger.amend(approved.tx_id, {"dependencies": REQUEST, "image_id": "sha256:later"})
    assert digest(again) == approved.digest


class Images:
    """An engine that has a revision's image and the one below it; the ``bare`` one of them has lost its labels."""

    def __init__(self, update: Update, bare: str = "") -> None:
        self._revision = update.revision
        own = {LABEL_SHA: update.revision.sha, LABEL_TX: update.tx_id, LABEL_BASE_DIGEST: update.revision.deps_image_id}
        below = {LABEL_LOCK: str(REQUEST["lock_sha256"])}
        self._labels = {"own": own, "below": below} | ({bare: {}} if bare else {})

    def image(self, reference: str) -> "Found":
        below = reference == self._revision.deps_image_id
        image_id = self._revision.deps_image_id if below else self._revision.image_id
        return Found(image_id, self._labels["below" if below else "own"])

    def inspect(self, _: str) -> None:
        return None


class Found:
    """One image."""

    def __init__(self, image_id: str, labels: dict[str, str]) -> None:
        self.id = image_id
        self.labels = labels


def test_what_is_switched_to_stands_on_what_was_approved(ledger: Ledger, approved: Update) -> None:
    """The dependency image is that of the lock, the revision's image stands on it, and the gates were passed."""
    check_binding(approved, Images(approved))  # type: ignore[arg-type]
    for wrong in ("below", "own"):
        with pytest.raises(BindingBroken):
            check_binding(approved, Images(approved, wrong))  # type: ignore[arg-type]
    ungated = ledger.amend(approved.tx_id, {"self_check_finished_at": None})
    assert ungated.gates_pending
    with pytest.raises(BindingBroken, match="gates"):
        check_binding(ungated, Images(ungated))  # type: ignore[arg-type]


def test_a_later_revision_stands_on_the_lock_below_it(ledger: Ledger) -> None:
    """Whatever number of updates lies between; the first revision stands on the checkout's."""
    first = genesis(ledger)
    asked = update_in(ledger, Status.PROMOTED, base=first)
    ledger.amend(asked.tx_id, {"dependencies": REQUEST, "lock": "the lock"})
    later = update_in(ledger, Status.PROMOTED, base=update_in(ledger, Status.PROMOTED, base=asked))
    assert dependencies.lock_of(ledger, later.revision) == "the lock"
    assert dependencies.lock_of(ledger, first.revision) is None
