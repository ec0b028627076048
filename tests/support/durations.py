"""In which order the files of the tests are run: what takes long first, so that two processes end together."""

from pathlib import Path
from typing import Final

_TESTS: Final = Path(__file__).resolve().parents[1]
#: By how long their files take, roughly.
_DIRECTORIES: Final = ("crash", "e2e", "load", "engine", "supervisor", "chaos", "models", "worker")


def rank(path: Path) -> tuple[int, int]:
    """What the tests of a file are sorted by; the order within a file stays."""
    relative = path.relative_to(_TESTS) if path.is_relative_to(_TESTS) else path
    name = str(relative)
    longest = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    directory = _DIRECTORIES.index(relative.parts[0]) if relative.parts[0] in _DIRECTORIES else len(_DIRECTORIES)
    return longest, directory


#: The files that take half a minute and more, the longest first.
LONGEST: Final = (
    # in make crash, where each takes up to an hour
    "crash/test_all_places.py",
    "e2e/test_outages.py",
    "supervisor/test_rollout_model.py",
    "e2e/test_rollout_model.py",
    "crash/test_deep.py",
    "crash/test_again_and_again.py",
    # in make test
    "e2e/test_update.py",
    "e2e/test_upgrade.py",
    "e2e/test_rescue.py",
    "e2e/test_installations.py",
    "e2e/test_dependencies.py",
    "e2e/test_gc.py",
    "e2e/test_engine_restarts.py",
    "e2e/test_probation.py",
    "e2e/test_no_message_lost.py",
    "e2e/test_staying_up.py",
    "e2e/test_toolbox.py",
    "crash/test_every_state.py",
    "e2e/test_json.py",
    "load/test_kills.py",
    "e2e/test_cards.py",
    "e2e/test_migrations.py",
    "e2e/test_bad_updates.py",
    "e2e/test_rebuild.py",
    "supervisor/test_rollout_restart.py",
    "e2e/test_secrets.py",
    "load/test_faults.py",
    "engine/test_testgate.py",
    "e2e/test_restore.py",
    "e2e/test_keys.py",
    "e2e/test_bad_input.py",
    "e2e/test_decisions.py",
    "e2e/test_dead_supervisor.py",
    "e2e/test_full_disk.py",
    "e2e/test_grants.py",
    "e2e/test_hostile_candidates.py",
    "e2e/test_what_is_kept.py",
    "e2e/test_selfpatch.py",
    "e2e/test_own_check.py",
    "e2e/test_doctor.py",
    "supervisor/test_fault_moments.py",
)
