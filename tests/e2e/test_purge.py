"""``make purge``: one installation goes, with all that it left on the machine, and nothing else does."""

from pathlib import Path

from tests.support import candidates
from tests.support.installation import Install, wait_for
from tests.support.purging import of_engine, purge


def lives(process: int) -> bool:
    """Whether it runs; one that ended may be listed until somebody asks how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def files(home: Path) -> set[Path]:
    return set(home.rglob("*"))


def test_all_of_one_installation_goes_and_all_else_stays(install: Install, checkout: Path) -> None:
    """Everything is named first; a file that is not ours and the installation beside it stay; again it is nothing."""
    mine, theirs = install(), install()
    for installation in (mine, theirs):
        installation.up()
    mine.promote(candidates.adds_a_module(checkout, "to_be_purged"))
    stranger = mine.home / "notes.txt"
    stranger.write_text("not the supervisor's")
    supervisor, bystander = mine.supervisor_pid(), of_engine(theirs)
    engine, top = of_engine(mine), {path for path in mine.home.iterdir() if path != stranger}
    assert all(engine.values())
    state = theirs.settled()["active"]

    told = purge(mine).expect(0).out.splitlines()

    assert told[0].startswith(f"This removes {mine.project} for good")
    named = {(line.split()[0], line.split(maxsplit=1)[1]) for line in told[1:-1]}
    assert {(kind, name) for kind, names in engine.items() for name in names} <= named
    assert {("state", str(path)) for path in top} <= named
    assert told[-1] == "Removed."
    assert not any(of_engine(mine).values())
    assert files(mine.home) == {stranger}
    assert not mine.paths.run.exists()
    wait_for(lambda: not lives(supervisor), 5, "the end of the supervisor")
    assert purge(mine).expect(0).out == f"Nothing of {mine.project} is here.\n"
    assert files(mine.home) == {stranger}
    assert of_engine(theirs) == bystander
    assert theirs.settled()["active"] == state
    assert theirs.say("are you still there?")
