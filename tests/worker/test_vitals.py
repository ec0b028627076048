"""What a beat tells of how the worker is doing."""

from pathlib import Path

import pytest
from peewee import OperationalError

from tests.worker.fakes import OWNER
from tests.worker.support import open_store
from worker.vitals import REMEMBERED_SECONDS, Vitals


def test_internal_errors_are_forgotten_after_a_while() -> None:
    """A worker that had some a while ago is a sound one."""
    now = 1000.0
    vitals = Vitals(lambda: now)
    vitals.internal_error(RuntimeError("one"))
    now += REMEMBERED_SECONDS / 2
    vitals.internal_error(RuntimeError("two"))
    assert vitals.internal_errors == 2
    now += REMEMBERED_SECONDS / 2 + 1
    assert vitals.internal_errors == 1
    assert vitals.beat_now.is_set()


def test_a_full_disk_is_no_error_of_the_worker(tmp_path: Path) -> None:
    """Another revision would fare no better; a statement that is wrong is the worker's own error."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    vitals = Vitals()
    pages = store.database.first("PRAGMA page_count")
    assert pages is not None
    store.database.execute(f"PRAGMA max_page_count = {pages[0]}")
    with pytest.raises(OperationalError) as full:
        store.outbox.add(OWNER, "x" * 100_000)
    with pytest.raises(OperationalError) as wrong:
        store.database.execute("SELECT nothing FROM nowhere")
    vitals.internal_error(full.value)
    assert vitals.internal_errors == 0
    vitals.internal_error(wrong.value)
    assert vitals.internal_errors == 1
    store.close()
