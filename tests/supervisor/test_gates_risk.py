"""What a patch makes the worker able to do, as it stands in the source."""

import pytest

from supervisor.gates.risk import assess

PATH = "worker/agent/greeting.py"


def found(after: str, before: str = "", path: str = PATH) -> list[tuple[str, str]]:
    risk = assess({path: before.encode()} if before else {}, {path: after.encode()})
    return [(use.kind, str(use).removeprefix(f"{path}:")) for use in risk.uses if use.kind != "import"]


@pytest.mark.parametrize(
    ("source", "kind", "what"),
    [
        ("import subprocess\nsubprocess.run(['ls'])", "subprocess", "2 subprocess.run"),
        ("import subprocess as s\ns.Popen('x')", "subprocess", "2 subprocess.Popen"),
        ("import os\nos.system('x')", "subprocess", "2 os.system"),
        ("import os\nos.execvp('x', [])", "subprocess", "2 os.execvp"),
        ("from os import system\n", "subprocess", "1 os.system"),
        ("import asyncio\nasyncio.create_subprocess_shell('x')", "subprocess", "2 asyncio.create_subprocess_shell"),
        ("import socket\nsocket.socket()", "network", "2 socket.socket"),
        ("import httpx\nhttpx.get('http://x')", "network", "2 httpx.get"),
        ("import urllib.request\nurllib.request.urlopen('x')", "network", "2 urllib.request.urlopen"),
        ("import os\nprint(os.environ['OPENAI_API_KEY'])", "environment", "2 os.environ"),
        ("from os import getenv as g\n", "environment", "1 os.getenv"),
        ("eval('1')", "code made at run time", "1 eval"),
        ("__import__('o' + 's')", "code made at run time", "1 __import__"),
        ("import importlib\nimportlib.import_module('x')", "code made at run time", "2 importlib.import_module"),
        ("import os\ngetattr(os, 'sys' + 'tem')('x')", "code made at run time", "2 getattr(os, ...)"),
    ],
)
def test_a_use_is_named_with_its_place(source: str, kind: str, what: str) -> None:
    """Through aliases as well."""
    assert (kind, what) in found(source)


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile('x')",
        "def compile(x): ...",
        "import os\nos.path.join('a', 'b')",
        "import asyncio\nasyncio.sleep(1)",
    ],
)
def test_the_harmless_is_not_named(source: str) -> None:
    """A name that only looks like one of them."""
    assert found(source) == []


def test_what_base_does_already_is_not_new() -> None:
    """Wherever it has moved to in the file; once more of the same is."""
    before = "import os\nos.getenv('A')\n"
    assert found(f"# moved\n\n{before}", before) == []
    assert found(f"{before}os.getenv('B')\n", before) == [("environment", "3 os.getenv")]


def test_a_dotted_name_is_named_once() -> None:
    """As a whole."""
    assert found("import os\nos.environ.get('A')\n") == [("environment", "2 os.environ.get")]


def test_new_imports_are_named() -> None:
    """Those of the worker itself are not."""
    risk = assess({PATH: b"import json\n"}, {PATH: b"import json\nimport smtplib\nfrom worker.agent import loop\n"})
    assert risk.summary()["imports"] == [f"{PATH}:2 smtplib"]


def test_parts_that_matter_are_named_when_they_change() -> None:
    """Also when a file is taken away."""
    risk = assess({"worker/agent/owners.py": b"x = 1\n"}, {"worker/commander/base.py": b"x = 2\n"})
    assert risk.summary()["touched"] == ["who may use the bot", "what comes from the chat, and who it is from"]


def test_tests_and_other_files_are_not_looked_at() -> None:
    """They do not run in service."""
    assert assess({}, {"tests/worker/test_a.py": b"import socket\n", "worker/notes.txt": b"import socket\n"}).uses == ()


@pytest.mark.parametrize("source", [b"def (", b"\x00", b"(" * 5000])
def test_what_cannot_be_parsed_is_told(source: bytes) -> None:
    """It is named, and nothing breaks."""
    assert assess({}, {PATH: source}).summary()["unreadable"] == [PATH]
