"""The documents say what the code says."""

import re
import subprocess
import sys
from pathlib import Path

from supervisor.settings import WORKER_NAMES, Settings
from supervisor.states import TRANSITIONS, Status
from tests.support.settingspage import PAGE, page, settings

ROOT = Path(__file__).resolve().parents[2]


def test_the_picture_of_the_states_is_that_of_the_table() -> None:
    """Running the script changes nothing, and the page holds every move."""
    page = ROOT / "docs" / "update.md"
    before = page.read_text()
    subprocess.run([sys.executable, ROOT / "scripts" / "states"], check=True)
    assert page.read_text() == before
    arrows = set(re.findall(r"^    (\w+) --> (\w+)$", before, re.MULTILINE))
    assert {(str(source), str(target)) for source, target in TRANSITIONS} <= arrows


def test_every_state_is_explained() -> None:
    """Each state is named in the page about updates."""
    text = (ROOT / "docs" / "update.md").read_text()
    assert [s for s in Status if f"`{s}`" not in text and not s.endswith("_failed")] == []


def test_the_example_of_the_environment_names_only_what_exists() -> None:
    """Every name in .env.example is one that the supervisor reads or hands on."""
    names = re.findall(r"^#?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    known = {field.alias for field in Settings.model_fields.values()}
    known |= set(WORKER_NAMES)
    assert names
    assert set(names) <= known


def test_the_page_about_the_settings_is_that_of_the_models() -> None:
    """As `scripts/settings` writes it: every name, and what it means."""
    assert page() == PAGE.read_text()
    found = settings()
    assert set(WORKER_NAMES) <= set(found)
    assert [name for name, one in found.items() if not one.allowed or not one.meaning] == []
    assert [name for name in found if page().count(f"| `{name}` |") != 1] == []
