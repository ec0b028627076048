"""What was approved is what runs: one digest over everything that makes an update what it is."""

import hashlib
import json
from typing import Protocol

from supervisor.engine import ContainerView, ImageView
from supervisor.images.builds import LABEL_BASE_DIGEST, LABEL_LOCK
from supervisor.ledger import Update
from supervisor.specs import LABEL_SHA, LABEL_TX


class BindingBroken(Exception):
    """Something that belongs to an approved update is not what was approved; the message says which."""

    code = "digest_mismatch"


class Engine(Protocol):
    """The part of the engine that is asked."""

    def image(self, reference: str) -> ImageView | None:
        """The image of that id."""

    def inspect(self, container_id: str) -> ContainerView | None:
        """The container of that id."""


def digest(update: Update) -> str:
    """SHA-256 over what is approved: the update, its base, commit, tree, patch and image, its tests and its card.

    One that asks for packages is approved before it has an image and tests: the packages, by hash, stand for them.
    """
    bound: dict[str, object] = {
        "tx_id": update.tx_id,
        "base_sha": update.base_sha,
        "sha": update.sha,
        "tree": update.tree,
        "patch_id": update.patch_id,
        "card": update.card,
    }
    if update.dependencies is None:
        bound |= {"image_id": update.revision.image_id, "tests": update.test_summary}
    else:
        bound |= {"dependencies": update.dependencies}
    return hashlib.sha256(json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_binding(update: Update, engine: Engine, *, container: str | None = None) -> None:
    """See that the approval, the ledger's row, the image and, if given, the container still belong together.

    Raises BindingBroken.
    """
    revision = update.revision
    now = digest(update)
    if update.digest != now or update.approval_digest != now:
        raise BindingBroken("the update is not the one that was approved")
    if update.gates_pending:
        raise BindingBroken("the update has not passed its gates on the packages that were approved")
    _check_packages(update, engine)
    image = engine.image(revision.image_id)
    if image is None:
        raise BindingBroken(f"the approved image {revision.image_id[:19]} is gone")
    if (image.labels.get(LABEL_SHA), image.labels.get(LABEL_TX)) != (revision.sha, revision.tx_id):
        raise BindingBroken("the image's labels name another revision")
    tagged = engine.image(revision.image_tag)
    if tagged is not None and tagged.id != revision.image_id:
        raise BindingBroken(f"{revision.image_tag} was moved to another image")
    if container is not None:
        view = engine.inspect(container)
        if view is None or view.image_id != revision.image_id:
            raise BindingBroken("the container was not made from the approved image")


def _check_packages(update: Update, engine: Engine) -> None:
    """An image that is built for packages stands on those that were approved."""
    if update.dependencies is None:
        return
    revision = update.revision
    image, below = engine.image(revision.image_id), engine.image(revision.deps_image_id)
    if below is None or below.labels.get(LABEL_LOCK) != update.dependencies["lock_sha256"]:
        raise BindingBroken("the dependency image is not that of the approved packages")
    if image is not None and image.labels.get(LABEL_BASE_DIGEST) != below.id:
        raise BindingBroken("the image does not stand on the approved packages")
