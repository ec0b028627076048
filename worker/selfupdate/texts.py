"""What the model and the chat are told of updates. Pure text."""

from collections.abc import Sequence
from typing import Final

from supervisor.contract import Progress
from worker.selfupdate.workspace import Copy
from worker.store.developments import Development

#: How an update that needs another attempt ended.
FAILED: Final = frozenset({"refused", "build_failed", "test_failed", "self_check_failed"})
#: What is shown of one step, in characters.
LONGEST_STEP: Final = 300
_AT_WORK: Final = {
    "created": "applying",
    "building": "building",
    "testing": "running the tests",
    "self_checking": "taking the exam",
}
_COPY: Final = {
    "fresh": "It is a fresh copy.",
    "kept": "It is a copy that nothing was changed in yet.",
    "replaced": "It is a fresh copy; what was done in the one before is in the folder {path}.old.",
}
_CARRIED: Final = "You run at another revision than when it was made: your changes were carried over to a fresh copy."
_WORK_KEPT: Final = (
    "It holds changes of before, which have not become an update: `diff -ru -x __pycache__ /app {path}` shows them, "
    "and own_source with fresh=true puts them aside."
)


def brief(sha: str, copy: Copy, failures: str, *, max_repairs: int) -> str:
    """What the model must know to change itself."""
    state = (_WORK_KEPT if copy.changed else _COPY[copy.state]).format(path=copy.path)
    if copy.state == "carried":
        state = f"{_CARRIED} {state}"
    last = f"\n\nWhat came to nothing lately, for you to learn from:\n{failures}" if failures else ""
    return f"""\
You change yourself now. You are the worker of autonous, a Python program at revision {sha[:12]}. A copy of your own \
source is in {copy.path} : worker/ is you, tests/worker/ are your tests. {state} Read before you change: \
worker/app.py puts the parts together, worker/agent/commands.py has the direct commands, worker/tools/ the tools.

What a patch may do: add, change or delete text files (UTF-8) below worker/ and tests/worker/, nothing else. At most \
30 files, 2,000 added lines, 256 KiB. No conftest.py, *.pth or .git* files, no links, no programs, no control or \
direction characters, no new packages. supervisor/contract is there to be read and is not yours to change. The \
revision before this one must live with the database: migrations only add.

How to test: with bash, `sh {copy.path}/run-tests` (allow it 120 seconds); arguments are pytest's. Add a test of what \
you add. Leave other tests as they are: the owner is shown each one that is changed, skipped or deleted.

How it ends: call propose_update(title, why). The supervisor builds what the copy has become, runs your tests and \
those of the revision before, examines the result, and asks the owner, who alone decides, with a button: nothing that \
you write or run can approve it. If a gate fails you are told why, and may try again {max_repairs} times. When it is \
proposed say in a sentence or two what you did, and that the owner will be asked.{last}"""


def repair_request(development: Development, *, attempt: int, attempts: int) -> str:
    """What the model is asked when the gates did not let its update through."""
    return (
        f'Your update {development.tx_id[:8]} ("{development.title}") did not pass: {development.status}.\n\n'
        f"{development.evidence}\n\n"
        "Your working copy is as you left it. Find the cause, repair it, run the tests, and call propose_update again. "
        f"This is attempt {attempt} of {attempts}."
    )


def exhausted(development: Development) -> str:
    """What the chat is told when no attempt is left."""
    tries = "It was one attempt" if development.attempt == 0 else f"They were {development.attempt + 1} attempts"
    return (
        f"Update {development.tx_id[:8]} did not pass: {development.status}. {tries}, and I leave it at that. "
        "/patch begins anew, and knows what failed."
    )


def shown(development: Development, steps: Sequence[Progress]) -> str:
    """How far an update is, for the message that is edited along."""
    lines = [f"Update {development.tx_id[:8]}: {development.title}"]
    for step in steps:
        if step.text:
            sign = "✗" if step.status in FAILED else "…" if step.status == "staged" and step.final else "✓"
            lines.append(f"{sign} {step.text[:LONGEST_STEP]}")
    status = steps[-1].status if steps else "created"
    if status in _AT_WORK:
        lines.append(f"… {_AT_WORK[status]}")
    return "\n".join(lines)
