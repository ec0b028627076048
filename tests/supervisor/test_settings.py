"""Settings: every name that is documented, where values come from, and the one line about one that cannot be used."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.contract.providers import FALLBACK_FORM, PROVIDER_NAMES
from supervisor.paths import CHECKOUT
from supervisor.settings import SECRET_NAMES, WORKER_NAMES, Settings, SettingsError, env_file_warning, load
from tests.supervisor.localbot_support import short_directory

TOKEN = "1234567890:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
KEY = "sk-canary0123456789abcdef"

#: What the supervisor uses or checks: name, attribute, the default, a value as it is written, and what that means.
OWN: list[tuple[str, str, object, str, object]] = [
    ("TELEGRAM_BOT_TOKEN", "telegram_bot_token", None, TOKEN, TOKEN),
    ("OPENAI_API_KEY", "openai_api_key", None, KEY, KEY),
    ("ANTHROPIC_API_KEY", "anthropic_api_key", None, KEY, KEY),
    ("GEMINI_API_KEY", "gemini_api_key", None, KEY, KEY),
    ("AUTONOUS_EMBEDDINGS_API_KEY", "embeddings_api_key", None, KEY, KEY),
    (
        "AUTONOUS_EMBEDDINGS_BASE_URL",
        "embeddings_base_url",
        None,
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.1:8000/v1",
    ),
    ("OPENAI_BASE_URL", "openai_base_url", None, "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ("TELEGRAM_API_BASE_URL", "telegram_api_base_url", None, "https://bot.example/bot", "https://bot.example/bot"),
    ("AUTONOUS_COMMANDER", "commander", "telegram", "dummy", "dummy"),
    ("ANTHROPIC_BASE_URL", "anthropic_base_url", None, "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("GEMINI_BASE_URL", "gemini_base_url", None, "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("AUTONOUS_MODEL_PROVIDER", "model_provider", None, "dummy", "dummy"),
    ("AUTONOUS_MODEL_FALLBACK", "model_fallback", (), "dummy:a,dummy:b:c", (("dummy", "a"), ("dummy", "b:c"))),
    ("AUTONOUS_EMBEDDINGS_MODEL", "embeddings_model", None, "bge-m3", "bge-m3"),
    ("AUTONOUS_TELEGRAM_ALLOWED_USERS", "allowed_users", (), "42, 43,,44,", (42, 43, 44)),
    ("AUTONOUS_PROJECT", "project", "autonous", "my-agent_2", "my-agent_2"),
    ("AUTONOUS_APPROVAL", "approval", "chat", "terminal", "terminal"),
    ("AUTONOUS_APPROVAL_EXPIRY_SECONDS", "approval_expiry_seconds", 86400, "60", 60),
    ("AUTONOUS_DRAIN_SECONDS", "drain_seconds", 20, "2.5", 2.5),
    ("AUTONOUS_UPDATE_PIPELINE_TIMEOUT_SECONDS", "pipeline_timeout_seconds", 1800, "60", 60),
    ("AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS", "stable_window_seconds", 30, "0", 0),
    ("AUTONOUS_UPDATE_SELF_CHECK_CMD", "self_check_command", "", "true && true", "true && true"),
    ("AUTONOUS_MIN_FREE_BYTES", "min_free_bytes", 1024**3, "0", 0),
    ("SUPERVISOR_CRASH_THRESHOLD", "crash_threshold", 3, "1", 1),
    ("SUPERVISOR_CRASH_WINDOW_SECONDS", "crash_window_seconds", 300, "10", 10),
    ("SUPERVISOR_RESTART_DELAY_SECONDS", "restart_delay_seconds", 1, "0", 0),
    ("TG_TIMEOUT", "tg_timeout", 30, "0", 0),
    ("TG_SLEEP_SECONDS", "tg_sleep_seconds", 1, "0.5", 0.5),
    ("AUTONOUS_ALLOW_DEPENDENCY_UPDATES", "allow_dependency_updates", False, "1", True),
    ("TG_DROP_PENDING", "tg_drop_pending", False, "true", True),
    ("TG_HISTORY_WINDOW", "tg_history_window", 12, "0", 0),
    ("AUTONOUS_MAX_CONCURRENT_CHATS", "max_concurrent_chats", 4, "8", 8),
    ("AUTONOUS_CONTROL_MAX_RETRIES", "max_retries", 3, "0", 0),
    ("AUTONOUS_CONTROL_RETRY_BASE_SECONDS", "retry_base_seconds", 1, "0.1", 0.1),
    ("AUTONOUS_CONTROL_RETRY_MAX_SECONDS", "retry_max_seconds", 60, "9", 9),
    ("AUTONOUS_CONTROL_MAX_TURNS", "max_turns", 50, "1", 1),
    ("AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS", "max_wall_time_seconds", 1800, "0.5", 0.5),
    ("AUTONOUS_CONTROL_MAX_TOKENS", "max_tokens", 500_000, "1000", 1000),
    ("AUTONOUS_CONTROL_CIRCUIT_THRESHOLD", "circuit_threshold", 5, "1", 1),
    ("AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS", "circuit_cooldown_seconds", 30, "0", 0),
    ("AUTONOUS_CONTROL_NO_PROGRESS_K", "no_progress_k", 3, "2", 2),
    ("AUTONOUS_UPDATE_MAX_REPAIRS", "max_repairs", 2, "0", 0),
    ("AUTONOUS_CONTROL_DEAD_REPLAY_SECONDS", "dead_replay_seconds", None, "60", 60),
    ("AUTONOUS_BUDGET_TOKENS_PER_DAY", "budget_tokens_per_day", None, "100000", 100_000),
    ("AUTONOUS_MODEL_CONTEXT_WINDOW", "context_window", None, "65536", 65_536),
    ("AUTONOUS_GRANTABLE_ROOTS", "grantable_roots", (), "/srv/, /data/x/../y,/srv", (Path("/srv"), Path("/data/y"))),
    ("AUTONOUS_TOOL_ALLOWED_ROOTS", "tool_allowed_roots", (), "/workspace", (Path("/workspace"),)),
    ("AUTONOUS_TOOL_POLICY", "tool_policy", "", "read=allow,network=deny", "read=allow,network=deny"),
    ("AUTONOUS_TOOL_TIMEOUT_SECONDS", "tool_timeout_seconds", 30, "1.5", 1.5),
    ("AUTONOUS_TOOL_MAX_OUTPUT_LINES", "tool_max_output_lines", 2000, "10", 10),
    ("AUTONOUS_TOOL_MAX_OUTPUT_BYTES", "tool_max_output_bytes", 51200, "4096", 4096),
]

#: What goes to the worker as it is written; the worker checks these itself.
PASSED_ON = (
    "OPENAI_MODEL",
    "ANTHROPIC_MODEL",
    "GEMINI_MODEL",
    "AUTONOUS_TELEGRAM_UDS",
    "AUTONOUS_OPENAI_UDS",
    "WORKER_SYSTEM_PROMPT",
    "AUTONOUS_DUMMY_PROVIDER_SCRIPT",
    "AUTONOUS_DUMMY_COMMANDER_SCRIPT",
    "AUTONOUS_DUMMY_COMMANDER_SEND_SCRIPT",
    "AUTONOUS_TOOL_BASH_DENYLIST",
)
_POLICY = "tier=decision pairs, comma separated: read, write, exec and network; allow, ask and deny"

#: A value that cannot be used, and what the line says is allowed.
BAD: list[tuple[str, str, str]] = [
    ("OPENAI_BASE_URL", "localhost:8000", "an http:// or https:// URL"),
    ("AUTONOUS_EMBEDDINGS_BASE_URL", "localhost:8000", "an http:// or https:// URL"),
    ("OPENAI_BASE_URL", "ftp://example", "an http:// or https:// URL"),
    ("TELEGRAM_API_BASE_URL", "https://with space", "an http:// or https:// URL"),
    ("TELEGRAM_API_BASE_URL", "http://a:b", "an http:// or https:// URL"),
    ("OPENAI_BASE_URL", "https://:443", "an http:// or https:// URL"),
    ("AUTONOUS_COMMANDER", "irc", "telegram or dummy"),
    ("AUTONOUS_COMMANDER", "Telegram", "telegram or dummy"),
    ("ANTHROPIC_BASE_URL", "localhost", "an http:// or https:// URL"),
    ("GEMINI_BASE_URL", "localhost", "an http:// or https:// URL"),
    ("AUTONOUS_MODEL_PROVIDER", "other", PROVIDER_NAMES),
    ("AUTONOUS_MODEL_FALLBACK", "openai", FALLBACK_FORM),
    ("AUTONOUS_MODEL_FALLBACK", "other:model", FALLBACK_FORM),
    ("AUTONOUS_TELEGRAM_ALLOWED_USERS", "@owner", "numeric Telegram user ids, comma separated"),
    ("AUTONOUS_TELEGRAM_ALLOWED_USERS", "1;2", "numeric Telegram user ids, comma separated"),
    ("AUTONOUS_HOME", "relative/path", "an absolute path"),
    ("AUTONOUS_PROJECT", "Capital", "up to 40 lower-case letters, digits, - and _, a letter or digit first"),
    ("AUTONOUS_PROJECT", "-first", "up to 40 lower-case letters, digits, - and _, a letter or digit first"),
    ("AUTONOUS_PROJECT", "x" * 41, "up to 40 lower-case letters, digits, - and _, a letter or digit first"),
    ("AUTONOUS_APPROVAL", "both", "chat or terminal"),
    ("AUTONOUS_APPROVAL_EXPIRY_SECONDS", "0", "a number of seconds above 0"),
    ("AUTONOUS_DRAIN_SECONDS", "soon", "a number of seconds, 0 or more"),
    ("AUTONOUS_DRAIN_SECONDS", "-1", "a number of seconds, 0 or more"),
    ("AUTONOUS_DRAIN_SECONDS", "inf", "a number of seconds, 0 or more"),
    ("AUTONOUS_DRAIN_SECONDS", "nan", "a number of seconds, 0 or more"),
    ("AUTONOUS_UPDATE_PIPELINE_TIMEOUT_SECONDS", "1h", "a number of seconds, 0 or more"),
    ("AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS", "-0.1", "a number of seconds, 0 or more"),
    ("AUTONOUS_MIN_FREE_BYTES", "1GiB", "a whole number, 0 or more"),
    ("SUPERVISOR_CRASH_THRESHOLD", "0", "a whole number, 1 or more"),
    ("SUPERVISOR_CRASH_WINDOW_SECONDS", "x", "a number of seconds, 0 or more"),
    ("SUPERVISOR_RESTART_DELAY_SECONDS", "x", "a number of seconds, 0 or more"),
    ("AUTONOUS_TELEGRAM_ALLOWED_USERS", "1 2", "numeric Telegram user ids, comma separated"),
    ("TG_TIMEOUT", "-1", "a whole number of seconds, 0 to 50"),
    ("TG_TIMEOUT", "51", "a whole number of seconds, 0 to 50"),
    ("TG_TIMEOUT", "1.5", "a whole number of seconds, 0 to 50"),
    ("AUTONOUS_CONTROL_MAX_TURNS", "0", "a whole number, 1 or more"),
    ("AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS", "0", "a number of seconds above 0"),
    ("AUTONOUS_CONTROL_MAX_TOKENS", "many", "a whole number, 1 or more"),
    ("AUTONOUS_CONTROL_CIRCUIT_THRESHOLD", "0", "a whole number, 1 or more"),
    ("AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS", "-1", "a number of seconds, 0 or more"),
    ("AUTONOUS_CONTROL_NO_PROGRESS_K", "0", "a whole number, 1 or more"),
    ("AUTONOUS_CONTROL_DEAD_REPLAY_SECONDS", "0", "a number of seconds above 0"),
    ("AUTONOUS_BUDGET_TOKENS_PER_DAY", "1e6", "a whole number, 1 or more"),
    ("AUTONOUS_MODEL_CONTEXT_WINDOW", "16383", "a whole number of tokens, 16384 or more"),
    ("TG_SLEEP_SECONDS", "x", "a number of seconds, 0 or more"),
    ("TG_DROP_PENDING", "perhaps", "true or false"),
    ("AUTONOUS_ALLOW_DEPENDENCY_UPDATES", "perhaps", "1 or 0"),
    ("TG_HISTORY_WINDOW", "1.5", "a whole number, 0 or more"),
    ("AUTONOUS_MAX_CONCURRENT_CHATS", "0", "a whole number, 1 or more"),
    ("AUTONOUS_CONTROL_MAX_RETRIES", "-1", "a whole number, 0 or more"),
    ("AUTONOUS_UPDATE_MAX_REPAIRS", "-1", "a whole number, 0 or more"),
    ("AUTONOUS_CONTROL_RETRY_BASE_SECONDS", "x", "a number of seconds, 0 or more"),
    ("AUTONOUS_CONTROL_RETRY_MAX_SECONDS", "x", "a number of seconds, 0 or more"),
    ("AUTONOUS_GRANTABLE_ROOTS", "srv", "absolute paths other than /, comma separated"),
    ("AUTONOUS_GRANTABLE_ROOTS", "/srv,/", "absolute paths other than /, comma separated"),
    ("AUTONOUS_GRANTABLE_ROOTS", "/srv/..", "absolute paths other than /, comma separated"),
    ("AUTONOUS_TOOL_ALLOWED_ROOTS", "workspace", "absolute paths other than /, comma separated"),
    ("AUTONOUS_TOOL_POLICY", "read", _POLICY),
    ("AUTONOUS_TOOL_POLICY", "read=yes", _POLICY),
    ("AUTONOUS_TOOL_POLICY", "root=allow", _POLICY),
    ("AUTONOUS_TOOL_POLICY", ",", _POLICY),
    ("AUTONOUS_TOOL_TIMEOUT_SECONDS", "0", "a number of seconds, 1 or more"),
    ("AUTONOUS_TOOL_MAX_OUTPUT_LINES", "0", "a whole number, 1 or more"),
    ("AUTONOUS_TOOL_MAX_OUTPUT_BYTES", "10", "a whole number, 1024 or more"),
]


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def failure(environ: dict[str, str], env_file: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, env_file)
    text = str(caught.value)
    assert "\n" not in text
    return text


# -- names and defaults


@pytest.mark.parametrize(("name", "attribute", "default", "written", "meant"), OWN)
def test_each_name_is_read(
    env_file: Path, name: str, attribute: str, default: object, written: str, meant: object
) -> None:
    """Unset and empty are the default; set, it is what was meant."""
    assert getattr(load({}, env_file), attribute) == default
    assert getattr(load({name: ""}, env_file), attribute) == default
    assert getattr(load({name: written}, env_file), attribute) == meant


def test_no_name_is_forgotten_here() -> None:
    """Whatever the settings know is in the tables above."""
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    assert known == {name for name, *_ in OWN} | {"AUTONOUS_HOME"}
    assert set(WORKER_NAMES) <= known | set(PASSED_ON)
    assert set(PASSED_ON) <= set(WORKER_NAMES)


def test_the_example_names_nothing_that_is_not_known() -> None:
    """Each line of .env.example can be filled in and has an effect."""
    names = re.findall(r"^#?([A-Z_]{3,})=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE)
    assert names
    assert set(names) <= {field.alias for field in Settings.model_fields.values()} | set(WORKER_NAMES)


def test_the_home_is_in_the_state_directory(env_file: Path, tmp_path: Path) -> None:
    """By default; or wherever it is said to be."""
    assert load({}, env_file).home.name == "autonous"
    assert load({}, env_file).home.is_absolute()
    assert load({"AUTONOUS_HOME": str(tmp_path)}, env_file).paths.home == tmp_path


def test_the_worker_is_given_what_is_set_and_nothing_else(env_file: Path) -> None:
    """As it was written, by name; nothing of the host's environment gets in."""
    host = {"PATH": "/bin", "HOME": "/root", "AWS_SECRET_ACCESS_KEY": "x", "OPENAI_ORGANIZATION": "x"}
    given = dict.fromkeys(PASSED_ON, "1, 2") | {"TG_TIMEOUT": "5", "OPENAI_API_KEY": KEY}
    settings = load({**host, **given, "WORKER_SYSTEM_PROMPT": "", "AUTONOUS_HOME": "/x"}, env_file)
    assert settings.worker_values == {name: value for name, value in given.items() if name != "WORKER_SYSTEM_PROMPT"}


# -- values that cannot be used


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_a_value_that_cannot_be_used_is_one_line(env_file: Path, name: str, value: str, allowed: str) -> None:
    """It names the variable and the value, and says what is allowed."""
    assert failure({name: value}, env_file) == f"{name}={value!r} cannot be used: it must be {allowed}"


def test_every_checked_name_has_a_bad_value_here() -> None:
    """But those that take any text."""
    assert {name for name, *_ in OWN} - {name for name, *_ in BAD} == {
        *SECRET_NAMES,
        "AUTONOUS_UPDATE_SELF_CHECK_CMD",
        "AUTONOUS_EMBEDDINGS_MODEL",
    }


@pytest.mark.parametrize("value", ["1\n2", "\x1b[2J", "\ud800"])
def test_a_value_cannot_break_the_line(env_file: Path, value: str) -> None:
    """Whatever it is made of."""
    assert failure({"AUTONOUS_DRAIN_SECONDS": value}, env_file).isprintable()


def test_the_openai_provider_wants_a_key(env_file: Path) -> None:
    """Asked for by name and without one it stops the start."""
    text = failure({"AUTONOUS_MODEL_PROVIDER": "openai"}, env_file)
    assert text == "AUTONOUS_MODEL_PROVIDER=openai needs OPENAI_API_KEY; set it in .env, or use dummy"
    assert load({"AUTONOUS_MODEL_PROVIDER": "openai", "OPENAI_API_KEY": KEY}, env_file).model_provider == "openai"


@pytest.mark.parametrize(("name", "written"), [(name, written) for name, _, _, written, _ in OWN])
def test_what_is_taken_here_is_taken_by_the_worker(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, written: str
) -> None:
    """Or it would be told by workers that do not come up; the other way round it is told by `up` for nothing."""
    from worker import settings as of_worker

    for other in {*WORKER_NAMES, name}:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv(name, written)
    load({name: written}, env_file)
    of_worker.load()


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, v, _ in BAD if n in WORKER_NAMES and v not in ("inf", "nan")]
)
def test_what_the_worker_does_not_take_is_not_taken_here(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The worker refuses each bad value, too, and names it; only it can check its scripts."""
    from worker import settings as of_worker

    for other in {*WORKER_NAMES, name}:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv(name, value)
    with pytest.raises(of_worker.SettingsError, match=name):
        of_worker.load()


# -- secrets


@pytest.mark.parametrize("token", ["not a token", "123", "123:", ":abc", f"{TOKEN} {KEY}", f"bot{TOKEN}"])
def test_a_bad_token_is_not_repeated(env_file: Path, token: str) -> None:
    """The line says which one it is, and how it should look."""
    text = failure({"TELEGRAM_BOT_TOKEN": token}, env_file)
    assert text == "TELEGRAM_BOT_TOKEN cannot be used: it must be a bot token as BotFather gives it, 123456:ABC..."


@pytest.mark.parametrize("secret", [TOKEN, KEY])
@pytest.mark.parametrize("name", ["AUTONOUS_TELEGRAM_ALLOWED_USERS", "OPENAI_BASE_URL", "AUTONOUS_APPROVAL"])
def test_a_secret_under_the_wrong_name_is_not_repeated(env_file: Path, name: str, secret: str) -> None:
    """Pasted into the wrong line it is recognized by its shape."""
    text = failure({name: secret}, env_file)
    assert text.startswith(name)
    assert secret not in text


def test_secrets_are_in_no_representation(env_file: Path) -> None:
    """Not in repr, str or an error of the settings."""
    settings = load({"TELEGRAM_BOT_TOKEN": TOKEN, "OPENAI_API_KEY": KEY, "WORKER_SYSTEM_PROMPT": KEY}, env_file)
    assert settings.secrets == (TOKEN, KEY)
    for shown in (repr(settings), str(settings)):
        assert TOKEN not in shown
        assert KEY not in shown


def test_without_a_token_the_local_bot_takes_its_place(env_file: Path) -> None:
    """But not for the dummy commander, which talks to nobody."""
    assert load({}, env_file).uses_local_bot
    assert not load({"TELEGRAM_BOT_TOKEN": TOKEN}, env_file).uses_local_bot
    assert not load({"AUTONOUS_COMMANDER": "dummy"}, env_file).uses_local_bot


# -- the file


def test_the_file_is_read_as_people_write_it(env_file: Path) -> None:
    """Comments, blank lines, quotes, export, spaces around."""
    env_file.write_text(
        f"# a comment\n\nexport OPENAI_API_KEY={KEY}\n AUTONOUS_PROJECT = mine\nOPENAI_MODEL='gpt x' # why\n"
        'WORKER_SYSTEM_PROMPT="two\\nlines"\nOPENAI_BASE_URL=\n'
    )
    settings = load({}, env_file)
    assert (settings.openai_api_key, settings.project, settings.openai_base_url) == (KEY, "mine", None)
    assert settings.worker_values["OPENAI_MODEL"] == "gpt x"
    assert settings.worker_values["WORKER_SYSTEM_PROMPT"] == "two\nlines"


def test_the_environment_wins_over_the_file(env_file: Path) -> None:
    """An empty value in the environment, too: that is how one is unset for once."""
    env_file.write_text("AUTONOUS_PROJECT=from-file\nAUTONOUS_APPROVAL=terminal\nTG_TIMEOUT=5\n")
    settings = load({"AUTONOUS_PROJECT": "from-environment", "TG_TIMEOUT": ""}, env_file)
    assert (settings.project, settings.approval, settings.tg_timeout) == ("from-environment", "terminal", 30)


def test_no_file_is_no_error(env_file: Path) -> None:
    """Everything has a default."""
    assert load({}, env_file) == load({}, env_file.with_name("other"))


def test_a_file_that_may_not_be_read_is_one_line() -> None:
    """With the file's name and the reason; asked as a user who is not root, whom nothing is closed to."""
    script = (
        "import os, sys; from pathlib import Path; from supervisor.settings import SettingsError, load\n"
        "os.getuid() or os.setuid(12345)\n"
        "try: load({}, Path(sys.argv[1]))\n"
        "except SettingsError as error: print(error)"
    )
    with short_directory() as directory:
        directory.chmod(0o755)
        env_file = directory / ".env"
        env_file.write_text("AUTONOUS_PROJECT=x\n")
        env_file.chmod(0)
        printed = subprocess.run(
            [sys.executable, "-c", script, str(env_file)], cwd=CHECKOUT, capture_output=True, text=True, check=True
        ).stdout
    assert printed == f"{env_file} cannot be read: Permission denied; it must be a text file of NAME=value lines\n"


def test_a_directory_in_its_place_is_one_line(env_file: Path) -> None:
    """Whatever the system calls it."""
    env_file.mkdir()
    text = failure({}, env_file)
    assert text == f"{env_file} cannot be read: Is a directory; it must be a text file of NAME=value lines"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80abc=1\n"])
def test_a_file_that_is_no_text_is_one_line(env_file: Path, content: bytes) -> None:
    """And nothing of it is repeated."""
    env_file.write_bytes(content)
    assert "it is not UTF-8 text" in failure({}, env_file)


@pytest.mark.parametrize("line", [KEY, f"OPENAI_API_KEY {KEY}", f": {KEY}", "<<<<<<< HEAD"])
def test_a_line_that_is_no_assignment_is_named_by_its_number(env_file: Path, line: str) -> None:
    """It may be half a secret, so it is not repeated."""
    env_file.write_text(f"# comment\n\n{line}\n")
    assert failure({}, env_file) == f"{env_file} line 3 cannot be used: it must be NAME=value"


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o660, True)]
)
def test_a_file_that_others_can_read_is_warned_of(env_file: Path, mode: int, warned: bool) -> None:
    """With the command that mends it."""
    env_file.touch()
    env_file.chmod(mode)
    warning = env_file_warning(env_file)
    assert bool(warning) is warned
    if warning:
        assert f"chmod 600 {env_file}" in warning


def test_a_file_that_is_not_there_needs_no_warning(env_file: Path) -> None:
    """Nothing is to be read."""
    assert env_file_warning(env_file) is None


def test_the_user_in_containers_is_never_root(env_file: Path) -> None:
    """A fixed one where the supervisor is root, else the supervisor's own."""
    uid = load({}, env_file).worker_uid
    assert uid == (os.getuid() or 10001)
    assert uid != 0


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"AUTONOUS_MODEL_PROVIDER": "anthropic"}, "AUTONOUS_MODEL_PROVIDER=anthropic needs ANTHROPIC_API_KEY"),
        ({"AUTONOUS_MODEL_PROVIDER": "openai-responses"}, "needs OPENAI_API_KEY"),
        ({"AUTONOUS_MODEL_FALLBACK": "gemini:gemini-3.8-flash"}, "needs GEMINI_API_KEY"),
    ],
)
def test_every_provider_wants_its_key(env_file: Path, given: dict[str, str], needed: str) -> None:
    """The first one, and those that are turned to when it fails."""
    assert needed in failure(given, env_file)


def test_the_image_has_what_the_settings_need_and_no_more(env_file: Path) -> None:
    """An extra for each provider with an SDK of its own, and one for vectors."""
    keys = {"ANTHROPIC_API_KEY": KEY, "GEMINI_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    assert load(keys, env_file).extras == ()
    assert load({**keys, "AUTONOUS_MODEL_PROVIDER": "openai-responses"}, env_file).extras == ()
    assert load({**keys, "AUTONOUS_MODEL_FALLBACK": "gemini:x, anthropic:y"}, env_file).extras == (
        "anthropic",
        "gemini",
    )
    assert load({"AUTONOUS_EMBEDDINGS_MODEL": "bge-m3"}, env_file).extras == ("embeddings",)
