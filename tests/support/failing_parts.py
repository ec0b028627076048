"""For each part of the exam a worker that fails in it, by what is done to it before it starts as ever."""

from typing import Final

from tests.support.candidates import MAIN

_START: Final = "import os, sys\n{before}\nfrom worker.app import main\ncode = main()\nsys.exit({code})\n"
_ALWAYS: Final = "async def _instead(self, *_):\n    return {gives}\n"


def _without(event: str) -> str:
    """Never writes an event of this type."""
    return (
        "from worker.store.events import Events\n"
        "_append = Events.append\n"
        "def _instead(self, event, *rest, **named):\n"
        f"    return 1 if event == {event!r} else _append(self, event, *rest, **named)\n"
        "Events.append = _instead\n"
    )


def _relays_nothing(method: str, message: str, gives: str) -> str:
    """Answers in the supervisor's place."""
    always = _ALWAYS.format(gives=f"{message}({gives})")
    return (
        f"from supervisor.contract import {message}\nfrom worker.link import Link\n{always}Link.{method} = _instead\n"
    )


_BEFORE: Final[dict[str, str]] = {
    "comes up": "sys.exit('broken at its very start')",
    "keeps its state": "os.environ['AUTONOUS_DB_PATH'] = '/tmp/agent.db'",
    "takes the lease": "from worker.duty import Duty\nDuty._activate = lambda *_: None",
    "polls": "from worker.vitals import Vitals\nVitals.polls_ok = property(lambda _: 0, lambda *_: None)",
    "answers its owner": "os.environ['AUTONOUS_MODEL_PROVIDER'] = 'dummy'",
    "uses a tool": "os.environ['AUTONOUS_TOOLBOX_SOCKET'] = '/nowhere.sock'",
    "submits a patch": _relays_nothing("submit", "Submitted", "tx_id='0', status='refused'"),
    "relays a press": _relays_nothing("press", "Pressed", "text='approved'"),
    "relays a rollback": _relays_nothing("command", "Told", "text='done'"),
    "ignores a stranger": (
        "from worker.agent.owners import Owners\nOwners.ids = property(lambda _: frozenset({1, 999}))"
    ),
    "writes its events": _without("turn.completed"),
    "leaks no secret": "print(os.environ['OPENAI_API_KEY'], flush=True)",
    "lets go of the lease": f"from worker.duty import Duty\n{_ALWAYS.format(gives='False')}Duty._drained = _instead",
    "exits in order": "",
    "loses nothing": (
        "import sqlite3\n"
        "state = sqlite3.connect(os.environ['AUTONOUS_DB_PATH'])\n"
        "state.execute('DELETE FROM history')\n"
        "state.commit()"
    ),
}

#: The files that each of them has otherwise than a checkout.
PARTS: Final[dict[str, dict[str, str]]] = {
    part: {MAIN: _START.format(before=before, code="3" if part == "exits in order" else "code")}
    for part, before in _BEFORE.items()
}
