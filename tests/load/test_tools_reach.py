"""Whatever links there are: a path leads where the kernel would go, or is refused when that is outside."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.tools.calling import call, workplace

NAMES = ["a", "b", "c", "f"]
STEP = st.sampled_from([*NAMES, "..", "."])
PATHS = st.lists(STEP, min_size=1, max_size=5).map("/".join)
#: Where links lead: relative, absolute inside the root or the other directory beside it, or out of both.
TARGETS = st.tuples(st.sampled_from(["", "{top}/in/", "{top}/out/", "/"]), PATHS).map("".join)


def build(top: Path, links: dict[tuple[str, str], str]) -> None:
    for side in ("in", "out"):
        for directory in ("a", "a/b", "b", "c"):
            (top / side / directory).mkdir(parents=True, exist_ok=True)
            (top / side / directory / "f").write_text(side)
    for (directory, name), target in links.items():
        link = top / "in" / directory / name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(target.format(top=top))


@given(
    links=st.dictionaries(
        st.tuples(st.sampled_from(["", "a", "a/b", "b"]), st.sampled_from("xyz")), TARGETS, max_size=6
    ),
    asked=st.lists(st.sampled_from([*NAMES, *"xyz", "..", "."]), min_size=1, max_size=6).map("/".join),
)
@settings(max_examples=600, deadline=None)
def test_a_path_leads_where_it_should_or_nowhere(links: dict[tuple[str, str], str], asked: str) -> None:
    """What is read is what the path stands for, and is inside; what stands for something outside is refused."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(os.path.realpath(directory))
        build(top, links)
        root = top / "in"
        result = call("read", workplace(root), path=asked)
        real = Path(os.path.realpath(root / asked))
        inside = real.is_relative_to(root)
        if result.ok:
            assert inside
            assert (result.stdout, str(real)) == ("in", result.meta["path"])
        elif inside and (root / asked).is_file():
            # It goes out on its way and comes back in, which is refused as well.
            assert result.meta["code"] == "outside_root", result
        else:
            assert result.meta["code"] in {"outside_root", "not_found", "is_a_directory", "not_a_directory", "eloop"}
        assert "out" not in result.stdout
