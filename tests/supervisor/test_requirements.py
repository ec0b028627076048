"""What a patch may write into the list of packages, by hand and by every line of a kind."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.revisions.policy import Entry, RefusalCode, Refused, check_tree
from supervisor.revisions.requirements import requested

BEFORE = b"# what is needed\nhttpx\npeewee==3.1\n"


def refusal(after: bytes | None) -> str:
    with pytest.raises(Refused) as refused:
        requested(BEFORE, after)
    assert refused.value.code is RefusalCode.DEPENDENCY_DENIED
    return refused.value.reason


def test_names_and_versions_are_taken() -> None:
    """New ones and changed ones, sorted; what stands there already is not asked for again."""
    after = b"# what is needed\nzope.interface\nhttpx==0.28\npeewee==3.1\nhumanize\n"
    assert requested(BEFORE, after) == ("httpx==0.28", "humanize", "zope.interface")


@pytest.mark.parametrize(
    "line",
    [
        *("-e .", "-r other.txt", "--index-url https://x.invalid", "-c pins", "--hash=sha256:00"),
        *("x @ https://x.invalid/x.whl", "https://x.invalid/x.whl", "git+https://x.invalid/x", "./x", "x.whl/", "/x"),
        *("x>=1", "x==1.*", "x===1", "x==1,<2", "x[extra]", "x; python_version<'4'", "x ==1", " x", "x\\", "# new", ""),
        *("x==", "==1", "x==1==2", "-x", "x-", "$HOME", "x==$V", "${X}", "\u0445"),
    ],
)
def test_all_else_is_refused_and_named(line: str) -> None:
    """Options, addresses, paths, ranges, extras, markers, comments."""
    assert line in refusal(BEFORE + f"{line}\n".encode()).encode().decode("unicode_escape") or not line.isascii()


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_.=<>!~[];@:/\\ #$%'\"", min_size=1, max_size=30))
def test_no_line_that_is_taken_holds_anything_but_a_name_and_a_version(line: str) -> None:
    """Whatever is written."""
    try:
        taken = requested(BEFORE, BEFORE + f"{line}\n".encode())
    except Refused:
        return
    for one in taken:
        name, _, version = one.partition("==")
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        assert "=" not in version
        assert not set(one) & set("<>~[];@:/\\ #$%'\"")
        assert one[0] not in "-."


def test_a_package_stays_and_stands_there_once() -> None:
    """Removing one, naming one twice in two spellings, removing the file, changing nothing."""
    assert "peewee would go" in refusal(b"# what is needed\nhttpx\nhumanize\n")
    assert "named twice" in refusal(BEFORE + b"Zope.Interface\nzope-interface\n")
    assert "stays" in refusal(None)
    assert "no package" in refusal(b"httpx\npeewee==3.1\n")
    assert "at most 10" in refusal(BEFORE + b"".join(f"p{n}\n".encode() for n in range(11)))


def test_the_path_is_open_only_where_it_is_allowed() -> None:
    """And only that one path, whatever the setting."""
    old, new = Entry("100644", "a"), Entry("100644", "b")
    path = "worker/requirements.in"
    assert check_tree({path: old}, {path: new}, dependencies=True) == (path,)
    with pytest.raises(Refused, match="AUTONOUS_ALLOW_DEPENDENCY_UPDATES=1"):
        check_tree({path: old}, {path: new})
    for other in ("worker/requirements.txt", "worker/agent/requirements.in", "worker/Requirements.in"):
        with pytest.raises(Refused):
            check_tree({path: old}, {path: old, other: new}, dependencies=True)
