"""Settings: one line for each value that cannot be used, and exit code 2."""

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from worker.control.circuit import CircuitPolicy
from worker.control.limits import Limits
from worker.settings import Settings, SettingsError, load
from worker.tools import workplace

PLAIN = {"AUTONOUS_COMMANDER": "dummy"}


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def loaded(**values: str) -> Settings:
    with environment(PLAIN | values):
        return load()


def test_a_user_whom_the_system_does_not_know_has_a_configuration_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as its owner's user id: there is no home to look in."""
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert loaded().autonous_config_dir == Path("/etc/xdg/autonous")


def test_defaults() -> None:
    """What nobody sets has the documented value; an empty variable counts as unset."""
    settings = loaded(TG_TIMEOUT="", OPENAI_API_KEY="")
    assert (settings.tg_timeout, settings.tg_sleep_seconds, settings.tg_history_window) == (30, 1, 12)
    assert (settings.provider, settings.autonous_max_concurrent_chats) == ("dummy", 4)
    assert (settings.retries.max_retries, settings.retries.base_seconds, settings.retries.max_seconds) == (3, 1, 60)
    assert str(settings.autonous_db_path) == "/state/agent.db"
    assert settings.limits == Limits(50, 1800.0, 500_000, None)
    assert settings.circuit == CircuitPolicy(threshold=5, cooldown_seconds=30.0)
    assert settings.autonous_control_no_progress_k == 3


def test_a_key_chooses_openai_unless_told_otherwise() -> None:
    """The provider follows the key."""
    assert loaded(OPENAI_API_KEY="sk-x").provider == "openai"
    assert loaded(OPENAI_API_KEY="sk-x", AUTONOUS_MODEL_PROVIDER="dummy").provider == "dummy"


def test_lists_and_zeroes() -> None:
    """User ids are comma separated; 0 is a value."""
    settings = loaded(AUTONOUS_TELEGRAM_ALLOWED_USERS="7, 42,", TG_TIMEOUT="0", TG_HISTORY_WINDOW="0")
    assert settings.autonous_telegram_allowed_users == {7, 42}
    assert (settings.tg_timeout, settings.tg_history_window) == (0, 0)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("AUTONOUS_COMMANDER", "smoke signals", "'telegram' or 'dummy'"),
        ("AUTONOUS_COMMANDER", "telegram", "TELEGRAM_BOT_TOKEN is not set"),
        ("AUTONOUS_MODEL_PROVIDER", "openai", "OPENAI_API_KEY is not set"),
        ("AUTONOUS_TELEGRAM_ALLOWED_USERS", "7,@me", "valid integer"),
        ("TG_TIMEOUT", "soon", "valid integer"),
        ("TG_SLEEP_SECONDS", "-1", "greater than or equal to 0"),
        ("TG_DROP_PENDING", "perhaps", "valid boolean"),
        ("AUTONOUS_MODEL_CONTEXT_WINDOW", "16383", "greater than or equal to 16384"),
        ("AUTONOUS_MAX_CONCURRENT_CHATS", "0", "greater than or equal to 1"),
        ("AUTONOUS_CONTROL_MAX_TURNS", "0", "greater than or equal to 1"),
        ("AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS", "0", "greater than 0"),
        ("AUTONOUS_BUDGET_TOKENS_PER_DAY", "much", "valid integer"),
        ("TELEGRAM_API_BASE_URL", "localhost", "https?://"),
        ("AUTONOUS_DUMMY_PROVIDER_SCRIPT", "ok,boom", "err:<class>"),
        ("AUTONOUS_DUMMY_COMMANDER_SEND_SCRIPT", "msg:hello", "only ok"),
        ("WORKSPACE_DIR", "here", "absolute paths"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    """The error is one line with the variable's name and the rule."""
    with pytest.raises(SettingsError, match=name) as caught:
        loaded(**{name: value})
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_are_cleaned() -> None:
    """Also of two slashes at their beginning; the root of everything is none that can be allowed."""
    settings = loaded(AUTONOUS_TOOL_ALLOWED_ROOTS="//srv/x,/srv//x/../x/, /data")
    assert settings.autonous_tool_allowed_roots == (Path("/srv/x"), Path("/data"))
    place = workplace.from_environment({"WORKSPACE_DIR": "//srv//w", "AUTONOUS_TOOL_ALLOWED_ROOTS": "//srv/x,/srv/x"})
    assert (str(place.workspace), list(map(str, place.roots))) == ("/srv/w", ["/srv/x"])
    with pytest.raises(SettingsError, match="AUTONOUS_TOOL_ALLOWED_ROOTS"):
        loaded(AUTONOUS_TOOL_ALLOWED_ROOTS="//")


def test_a_bad_secret_is_not_shown() -> None:
    """A malformed token is named, but not quoted."""
    with pytest.raises(SettingsError, match="TELEGRAM_BOT_TOKEN") as caught:
        loaded(TELEGRAM_BOT_TOKEN="very-secret-but-malformed")
    assert "very-secret" not in str(caught.value)
