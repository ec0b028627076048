"""The demo edits the worker's source by its words: these must be there, once, and the result must compile."""

from collections.abc import Sequence

from tests.demo.part import PARTS
from tests.support.checkouts import CHECKOUT
from tests.support.played import Call, Scene, Turn

COPY = "/workspace/self/1"


def test_the_demos_edits_fit_the_source() -> None:
    """In the order in which the model makes them."""
    files: dict[str, str] = {}
    for turns in PARTS.values():
        for turn in turns:
            for call in _calls(turn):
                path = str(call.arguments.get("path", "")).removeprefix(f"{COPY}/")
                if call.name == "write":
                    files[path] = str(call.arguments["content"])
                elif call.name == "edit":
                    text = files.get(path) or (CHECKOUT / path).read_text()
                    old, new = str(call.arguments["old_text"]), str(call.arguments["new_text"])
                    assert text.count(old) == 1, f"{path} says {text.count(old)} times: {old}"
                    files[path] = text.replace(old, new)
    assert set(files) == {"worker/agent/commands.py", "tests/worker/test_dice.py"}
    for path, text in files.items():
        compile(text, path, "exec")


def _calls(turn: Turn) -> Sequence[Call]:
    message = {"role": "system", "content": f"A copy of your own source is in {COPY} ."}
    made = turn(Scene(messages=[message], text="", results=[], turn=0)) if callable(turn) else turn
    return () if isinstance(made, str) else made
