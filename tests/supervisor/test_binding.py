"""What was approved is what runs: one digest over all of it, checked against ledger and engine."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.ledger import Revision, Update
from supervisor.specs import LABEL_SHA, LABEL_TX, gate_spec
from supervisor.updates.binding import BindingBroken, check_binding, digest
from tests.supervisor.fakes.installation import Installation

UPDATE = Update(
    **dict.fromkeys(field.name for field in fields(Update)),  # type: ignore[arg-type]
)
UPDATE = replace(
    UPDATE,
    tx_id="0f8fad5b-d9cb-469f-a165-70867728950e",
    base_sha="b" * 40,
    sha="c" * 40,
    tree="d" * 40,
    patch_id="e" * 40,
    deps_image_id="sha256:deps",
    image_id="sha256:image",
    image_tag="p/worker:cccccccccccc",
    test_summary={"passed": 3, "failed": 0},
    card={"title": "greet", "exam": ["comes up"]},
    event_id=7,
)


def other(**fields: Any) -> Update:
    return replace(UPDATE, **fields)


TEXTS = ("tx_id", "base_sha", "sha", "tree", "patch_id", "image_id")
BOUND = (*TEXTS, "test_summary", "card")


@pytest.mark.parametrize("field", BOUND)
def test_the_digest_changes_with_every_field_that_is_bound(field: str) -> None:
    """The update, its base, commit, tree, patch and image, and what a person was shown of its tests and its risk."""
    assert digest(other(**{field: "other"})) != digest(UPDATE)


@pytest.mark.parametrize("field", ["base_sha", "patch_id"])
def test_nothing_is_another_value_than_any_text(field: str) -> None:
    """A base that is missing is not one that is called so."""
    missing = digest(other(**{field: None}))
    assert len({missing, *(digest(other(**{field: text})) for text in ("", "None", "null"))}) == 4


def test_what_is_not_bound_is_known() -> None:
    """The tag is a name, and may be moved; the event is the ledger's; the dependencies are in the image."""
    assert {field.name for field in fields(Revision)} - set(BOUND) == {"deps_image_id", "image_tag", "event_id"}
    assert digest(other(image_tag="other", event_id=8, deps_image_id="other")) == digest(UPDATE)


@given(st.lists(st.text(min_size=1), min_size=6, max_size=6), st.lists(st.text(min_size=1), min_size=6, max_size=6))
def test_different_revisions_have_different_digests(one: list[str], two: list[str]) -> None:
    """No text moves from one field into the next."""
    first = other(**dict(zip(TEXTS, one, strict=True)))
    second = other(**dict(zip(TEXTS, two, strict=True)))
    assert (digest(first) == digest(second)) == (one == two)


def test_the_digest_is_the_same_in_every_version() -> None:
    """An approval outlives an upgrade of the supervisor."""
    assert digest(UPDATE) == "ac438837cd3990de5d0c113e5952d42ec04292ca0a93949bd39c4d9baf8abbcc"


# -- checked


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


@pytest.fixture
def approved(installation: Installation) -> Update:
    return installation.approved()


def labels(update: Update) -> dict[str, str]:
    return {LABEL_SHA: str(update.sha), LABEL_TX: update.tx_id}


def test_an_approved_update_as_it_was_staged_is_bound(installation: Installation, approved: Update) -> None:
    """Ledger, image, tag and container belong together."""
    image = str(approved.image_id)
    container = installation.engine.run(gate_spec(project="fake", name="x", image_id=image, uid=1, role="exam"))
    check_binding(approved, installation.engine)
    check_binding(approved, installation.engine, container=container)


def test_an_update_that_nobody_approved_is_not_bound(installation: Installation) -> None:
    """It has a digest of its own, and no approval of it."""
    with pytest.raises(BindingBroken, match="not the one that was approved"):
        check_binding(installation.staged(), installation.engine)


@pytest.mark.parametrize("column", ["sha", "tree", "patch_id", "image_id", "base_sha", "digest", "approval_digest"])
def test_a_row_that_was_changed_after_the_approval_is_not_bound(
    installation: Installation, approved: Update, column: str
) -> None:
    """Any of what the approval was for."""
    changed = installation.ledger.amend(approved.tx_id, {column: "f" * 40})
    with pytest.raises(BindingBroken):
        check_binding(changed, installation.engine)


@pytest.mark.parametrize("column", ["test_summary", "card"])
def test_evidence_that_was_changed_after_the_approval_is_not_bound(
    installation: Installation, approved: Update, column: str
) -> None:
    """What the person was shown is part of what they approved."""
    changed = installation.ledger.amend(approved.tx_id, {column: {"passed": 1000}})
    with pytest.raises(BindingBroken):
        check_binding(changed, installation.engine)


def test_a_digest_that_is_changed_along_is_still_not_approved(installation: Installation, approved: Update) -> None:
    """The approval names the digest that was shown."""
    changed = installation.ledger.amend(approved.tx_id, {"tree": "f" * 40})
    changed = installation.ledger.amend(approved.tx_id, {"digest": digest(changed)})
    with pytest.raises(BindingBroken, match="not the one that was approved"):
        check_binding(changed, installation.engine)


def test_an_image_that_is_gone_is_not_bound(installation: Installation, approved: Update) -> None:
    """Nothing is built or pulled in its place."""
    installation.engine.remove_image(str(approved.image_id))
    with pytest.raises(BindingBroken, match="is gone"):
        check_binding(approved, installation.engine)


@pytest.mark.parametrize("label", [LABEL_SHA, LABEL_TX])
def test_an_image_of_another_revision_is_not_bound(installation: Installation, approved: Update, label: str) -> None:
    """By its labels, though the id is the right one."""
    engine = installation.engine
    engine.add_image(str(approved.image_id), str(approved.image_tag), {**labels(approved), label: "other"})
    with pytest.raises(BindingBroken, match="labels name another revision"):
        check_binding(approved, engine)


def test_a_tag_that_was_moved_is_told(installation: Installation, approved: Update) -> None:
    """The container would be made by id; that somebody moved the tag is reason enough to stop."""
    installation.engine.add_image(str(approved.image_id), "another/tag:1", labels(approved))
    installation.engine.add_image("sha256:evil", str(approved.image_tag), labels(approved))
    with pytest.raises(BindingBroken, match="was moved to another image"):
        check_binding(approved, installation.engine)


def test_a_tag_that_is_gone_does_not_matter(installation: Installation, approved: Update) -> None:
    """Names are for people."""
    installation.engine.add_image(str(approved.image_id), "another/tag:1", labels(approved))
    check_binding(approved, installation.engine)


def test_a_container_of_another_image_is_not_bound(installation: Installation, approved: Update) -> None:
    """Nor is one that does not exist."""
    engine = installation.engine
    image = str(installation.genesis.image_id)
    wrong = engine.run(gate_spec(project="fake", name="x", image_id=image, uid=1, role="exam"))
    for container in (wrong, "nobody"):
        with pytest.raises(BindingBroken, match="not made from the approved image"):
            check_binding(approved, engine, container=container)


def test_a_broken_binding_has_a_code(installation: Installation) -> None:
    """For programs that read what became of the update."""
    assert BindingBroken.code == "digest_mismatch"
