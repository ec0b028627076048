"""A repository of revisions to test on, and patches written by hand."""

from pathlib import Path

from supervisor.revisions import Applied, Revisions

WHEN = 1_700_000_000.0
TX = "0f8fad5b-d9cb-469f-a165-70867728950e"

FILES = {
    "worker/__init__.py": b"",
    "worker/agent.py": b"def answer(text):\n    return 'ok'\n",
    "worker/windows.py": b"a = 1\r\nb = 2\r\n",
    "tests/worker/conftest.py": b"",
    "tests/worker/test_agent.py": b"from worker.agent import answer\n\n\ndef test_ok():\n    assert answer('')\n",
}

GOOD = b"""\
diff --git a/worker/agent.py b/worker/agent.py
--- a/worker/agent.py
+++ b/worker/agent.py
@@ -1,2 +1,2 @@
 def answer(text):
-    return 'ok'
+    return 'fine'
"""


def repository(path: Path) -> tuple[Revisions, str]:
    """A new repository with one revision, active; and that revision's sha."""
    revisions = Revisions(path)
    revisions.create()
    genesis = revisions.commit_files(FILES, message="Genesis", when=WHEN)
    revisions.set_active(genesis.sha)
    return revisions, genesis.sha


def apply(revisions: Revisions, base: str, patch: bytes, *, tx_id: str = TX) -> Applied:
    """Apply with a title, a reason and a time that do not matter."""
    return revisions.apply(base, patch, tx_id=tx_id, title="A title", why="A reason", when=WHEN)


def new_file(path: str, content: str = "x = 1\n", mode: str = "100644") -> bytes:
    """A patch that adds one file."""
    lines = content.splitlines(keepends=True)
    added = "".join(f"+{line}" if line.endswith("\n") else f"+{line}\n\\ No newline at end of file\n" for line in lines)
    header = f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
    return f"{header}@@ -0,0 +1,{len(lines)} @@\n{added}".encode("utf-8", "surrogateescape")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
