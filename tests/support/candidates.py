"""Patches of the worker, good ones and each way to be a bad one, made for the checkout they are given."""

from pathlib import Path

from tests.support.checkouts import patch_of, replaced

MODEL = "worker/models/dummy.py"
MODEL_TESTS = "tests/worker/test_models_dummy.py"
DUTY = "worker/duty.py"
INTAKE = "worker/agent/intake.py"
MAIN = "worker/__main__.py"

CHANGED_TEST = f"{MODEL_TESTS}::test_the_offline_reply"
_OLD_WORDS = "I am the offline stand-in for a model: I run, but I cannot think. "
#: In an exam the number of the instance is 0. A candidate that behaves there and nowhere else is what the probation
#: is for.
_IN_SERVICE = 'os.environ.get("AUTONOUS_WORKER_INSTANCE") != "0"'

#: The file in the worker's state that makes :func:`exits_at_activation_when_told` end, and :func:`leans_on_outside`.
TOLD = "leave"


def answers(checkout: Path, words: str) -> bytes:
    """A good one: the worker's offline reply begins with these words, and its test expects them."""
    return patch_of(
        checkout,
        {
            **replaced(checkout, MODEL, f'"{_OLD_WORDS}"', f'"{words} "'),
            **replaced(checkout, MODEL_TESTS, f'"{_OLD_WORDS}"', f'"{words} "'),
        },
    )


def adds_a_module(checkout: Path, name: str) -> bytes:
    """A good one that changes nothing else, so that it applies to whatever base."""
    return patch_of(checkout, {f"worker/{name}.py": f'"""A module that is called {name}."""\n'})


def crashes_at_start(checkout: Path) -> bytes:
    """Ends before it has done anything."""
    return patch_of(checkout, {MAIN: 'raise SystemExit("broken at its very start")\n'})


def never_ready(checkout: Path) -> bytes:
    """Lives, and never says a word to the supervisor."""
    return patch_of(checkout, {MAIN: "import time\n\ntime.sleep(3600)\n"})


def claims_to_be_another(checkout: Path) -> bytes:
    """Announces itself as a revision that it is not."""
    announced = "sha=self._settings.autonous_worker_sha,\n            version"
    return patch_of(checkout, replaced(checkout, "worker/app.py", announced, 'sha="f" * 40,\n            version'))


def wedges_after_activation(checkout: Path, seconds: float) -> bytes:
    """Blocks its loop some time after it became active, in the exam as in service."""
    return _once_active(checkout, f"asyncio.get_running_loop().call_later({seconds}, time.sleep, 3600)")


def exits_in_service(checkout: Path, seconds: float) -> bytes:
    """Ends itself some time after it became active; passes the exam."""
    leave = f"asyncio.get_running_loop().call_later({seconds}, os._exit, 7)"
    return _once_active(checkout, f"{_IN_SERVICE} and {leave}")


def exits_at_activation_when_told(checkout: Path) -> bytes:
    """Ends itself whenever it becomes active, from the moment on in which :data:`TOLD` lies in its state."""
    return _once_active(checkout, f'os.path.exists("/state/{TOLD}") and os._exit(9)')


#: What :func:`forges_a_card` prints.
FORGED_CARD = ("Shall this update be deployed?", "It is promoted.", "[Approve]  [Reject]")


def forges_a_card(checkout: Path) -> bytes:
    """Prints what the supervisor would say, and ends itself some time after it became active; passes the exam."""
    printed = "\\n".join(FORGED_CARD)
    forge = f'asyncio.get_running_loop().call_later(0.3, lambda: (print("{printed}", flush=True), os._exit(7)))'
    return _once_active(checkout, f"{_IN_SERVICE} and {forge}")


def wedges_in_service(checkout: Path, seconds: float) -> bytes:
    """Blocks its loop some time after it became active; passes the exam."""
    wedge = f"asyncio.get_running_loop().call_later({seconds}, time.sleep, 3600)"
    return _once_active(checkout, f"{_IN_SERVICE} and {wedge}")


def ignores_drain_in_service(checkout: Path) -> bytes:
    """Never lets go of the lease; passes the exam, where it does."""
    told = "case Role.DRAIN if await"
    obeyed = f"case Role.DRAIN if not ({_IN_SERVICE}) and await"
    return patch_of(checkout, _with_import(replaced(checkout, DUTY, told, obeyed), DUTY, "os"))


def flaps_standing_by(checkout: Path, seconds: float) -> bytes:
    """Says by turns that it is well and that it is not, each for so long, before it is active; passes the exam."""
    return _flaps(checkout, seconds, "is None")


def flaps_in_service(checkout: Path, seconds: float) -> bytes:
    """The same once it is active, and never before."""
    return _flaps(checkout, seconds, "is not None")


def wedges_when_told(checkout: Path) -> bytes:
    """Blocks its loop on a message that says so, which nobody says in the exam."""
    return _when_told(checkout, "wedge", "time.sleep(3600)")


def exits_when_told(checkout: Path) -> bytes:
    """Ends itself on a message that says so, and again on each new attempt at it."""
    return _when_told(checkout, "crash", "os._exit(9)")


def leans_on_outside(checkout: Path) -> dict[str, str]:
    """The changed files of one that ends itself on a message that says so, while :data:`TOLD` lies in its state."""
    return _with_words(checkout, "lean", f'os.path.exists("/state/{TOLD}") and os._exit(5)')


def outgrows_its_memory_when_told(checkout: Path) -> bytes:
    """Takes more memory than its container has on a message that says so."""
    return _when_told(checkout, "swell", "bytearray(2 * 1024**3)")


def cannot_poll_in_service(checkout: Path) -> bytes:
    """Never polls again after its first poll; passes the exam."""
    polls = "        updates = await self._commander.poll(self._store.inbox.offset(source), at_once=at_once)\n"
    fails = f'        if {_IN_SERVICE} and self._vitals.polls_ok:\n            raise CommanderError("no way out")\n'
    return patch_of(checkout, _with_import(replaced(checkout, INTAKE, polls, fails + polls), INTAKE, "os"))


def stumbles_when_told(checkout: Path) -> bytes:
    """Breaks down over a message that says so before it is stored, and again each time that it comes."""
    polls = "        updates = await self._commander.poll(self._store.inbox.offset(source), at_once=at_once)\n"
    fails = '        if any("stumble" in update.text for update in updates):\n            raise KeyError("stumbled")\n'
    return patch_of(checkout, replaced(checkout, INTAKE, polls, polls + fails))


def _flaps(checkout: Path, seconds: float, while_its_epoch: str) -> bytes:
    work, lease = "        in_hand = self._desk.in_hand\n", "            epoch=self._lease.epoch,\n            in_hand"
    beats = f"        asyncio.get_running_loop().call_later({seconds}, self._vitals.beat_now.set)\n"
    turn = f"{_IN_SERVICE} and self._lease.epoch {while_its_epoch} and int(self._monotonic() / {seconds}) % 2"
    says = '            healthy=not flaps,\n            detail="it flaps" if flaps else "",\n'
    changed = replaced(checkout, DUTY, work, f"{work}{beats}        flaps = bool({turn})\n")
    assert changed[DUTY].count(lease) == 1
    return patch_of(checkout, _with_import({DUTY: changed[DUTY].replace(lease, says + lease)}, DUTY, "os"))


def _once_active(checkout: Path, statement: str) -> bytes:
    activated = "        self._become(WorkerState.ACTIVE)\n"
    changed = replaced(checkout, DUTY, activated, f"{activated}        {statement}\n")
    return patch_of(checkout, _with_import(changed, DUTY, "os"))


def _when_told(checkout: Path, word: str, statement: str) -> bytes:
    return patch_of(checkout, _with_words(checkout, word, statement))


def _with_words(checkout: Path, word: str, statement: str) -> dict[str, str]:
    asked = '        """The next scripted answer, at one token each way."""\n'
    told = f'        if any("{word}" in message.text for message in messages[-1:]):\n            {statement}\n'
    changed = _with_import(replaced(checkout, MODEL, asked, asked + told), MODEL, "os")
    return _with_import(changed, MODEL, "time")


def _with_import(changed: dict[str, str], path: str, module: str) -> dict[str, str]:
    text = changed[path]
    if f"\nimport {module}\n" in text:
        return changed
    return {path: text.replace("\nimport asyncio\n", f"\nimport asyncio\nimport {module}\n", 1)}
