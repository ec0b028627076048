"""What may become of an update, as an owner brings it about: the courses on which the supervisor is killed."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from supervisor.states import Status
from tests.crash.elsewhere import deaths
from tests.support import candidates
from tests.support.checkouts import CHECKOUT, patch_of

S = Status
_GATES: Final = (S.CREATED, S.BUILDING, S.TESTING, S.SELF_CHECKING)
_SWITCH: Final = (*_GATES, S.STAGED, S.APPROVED, S.DEPLOYING)


@dataclass(frozen=True)
class Course:
    """A kind of update: each status that it comes to, in order, what its patch has besides a module of its own.

    ``ends_a_worker`` when its green ends in the midst of its work.
    """

    name: str
    chain: tuple[Status, ...]
    fails: Callable[[], bytes] = bytes
    ends_a_worker: bool = False

    def patch(self, module: str) -> bytes:
        """One that has never been seen, for whatever base."""
        return candidates.adds_a_module(CHECKOUT, module) + self.fails()

    @property
    def moves(self) -> list[tuple[Status, Status]]:
        """From each status to the next."""
        return list(pairwise(self.chain))

    @property
    def places(self) -> list[str]:
        """Before and after each move's commit, in the order in which it comes by."""
        return [death for a, b in self.moves for death in deaths(f"ledger.{a}.{b}")]

    def passes(self, status: Status) -> bool:
        """Whether it comes to this status."""
        return status in self.chain


def _fails_its_tests() -> bytes:
    return patch_of(CHECKOUT, {"tests/worker/test_that_fails.py": "def test_it():\n    assert False\n"})


def _never_up_in_service() -> bytes:
    return patch_of(
        CHECKOUT,
        {
            candidates.MAIN: "import os\nimport sys\n\nfrom worker.app import main\n\n"
            'if os.environ.get("AUTONOUS_WORKER_INSTANCE", "0") != "0":\n    os._exit(7)\nsys.exit(main())\n'
        },
    )


THERE_AND_BACK: Final = Course(
    "there and back", (*_SWITCH, S.DEPLOYED_UNSTABLE, S.PROMOTED, S.ROLLBACK_PENDING, S.ROLLED_BACK)
)
#: Green takes the lease and is silent from then on, so that it has to be killed.
WEDGES: Final = Course(
    "wedges as it takes over", (*_SWITCH, S.DEPLOY_FAILED), lambda: candidates.wedges_in_service(CHECKOUT, 0)
)
COURSES: Final = (
    THERE_AND_BACK,
    Course("refused", (S.CREATED, S.REFUSED), lambda: patch_of(CHECKOUT, {"README.of.theirs": "not allowed\n"})),
    Course("its tests fail", (*_GATES[:3], S.TEST_FAILED), _fails_its_tests),
    Course("its exam fails", (*_GATES, S.SELF_CHECK_FAILED), lambda: candidates.crashes_at_start(CHECKOUT)),
    Course("cancelled", (*_GATES, S.STAGED, S.CANCELLED)),
    WEDGES,
    Course("never up", (*_SWITCH, S.DEPLOY_FAILED), _never_up_in_service),
    Course(
        "exits in its probation",
        (*_SWITCH, S.DEPLOYED_UNSTABLE, S.ROLLBACK_PENDING, S.ROLLED_BACK),
        lambda: candidates.exits_in_service(CHECKOUT, 1.0),
        ends_a_worker=True,
    ),
)
