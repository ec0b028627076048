"""Settings of the supervisor, and the list of names that a worker's container is given.

Values come from the environment, then from ``.env`` at the repository root. A value that cannot be used stops
the start with one line that names it and what is allowed.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from platformdirs import user_state_path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from supervisor.contract import Redactor
from supervisor.contract.providers import (
    FALLBACK_FORM,
    PROVIDER_NAMES,
    Extra,
    Provider,
    extras,
    missing_key,
    parse_fallback,
)
from supervisor.paths import CHECKOUT, Paths
from supervisor.specs import WORKER_UID

ENV_FILE: Final = CHECKOUT / ".env"

#: Their values are secrets: shown nowhere, masked everywhere.
SECRET_NAMES: Final = (
    "TELEGRAM_BOT_TOKEN",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "AUTONOUS_EMBEDDINGS_API_KEY",
)

#: What a toolbox is given when it is set; its worker, which checks calls before it sends them, has the same.
TOOLBOX_NAMES: Final = (
    "AUTONOUS_MIN_FREE_BYTES",
    "AUTONOUS_TOOL_ALLOWED_ROOTS",
    "AUTONOUS_TOOL_BASH_DENYLIST",
    "AUTONOUS_TOOL_MAX_OUTPUT_BYTES",
    "AUTONOUS_TOOL_MAX_OUTPUT_LINES",
    "AUTONOUS_TOOL_TIMEOUT_SECONDS",
)

#: What a worker's container is given when it is set; nothing else of the host's environment gets in.
WORKER_NAMES: Final = (
    *SECRET_NAMES,
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "TELEGRAM_API_BASE_URL",
    "AUTONOUS_TELEGRAM_UDS",
    "AUTONOUS_OPENAI_UDS",
    "AUTONOUS_COMMANDER",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "GEMINI_BASE_URL",
    "GEMINI_MODEL",
    "AUTONOUS_MODEL_PROVIDER",
    "AUTONOUS_MODEL_FALLBACK",
    "AUTONOUS_MODEL_CONTEXT_WINDOW",
    "AUTONOUS_EMBEDDINGS_MODEL",
    "AUTONOUS_EMBEDDINGS_BASE_URL",
    "AUTONOUS_TELEGRAM_ALLOWED_USERS",
    "WORKER_SYSTEM_PROMPT",
    "TG_TIMEOUT",
    "TG_SLEEP_SECONDS",
    "TG_DROP_PENDING",
    "TG_HISTORY_WINDOW",
    "AUTONOUS_MAX_CONCURRENT_CHATS",
    "AUTONOUS_BUDGET_TOKENS_PER_DAY",
    "AUTONOUS_CONTROL_MAX_TURNS",
    "AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS",
    "AUTONOUS_CONTROL_MAX_TOKENS",
    "AUTONOUS_CONTROL_MAX_RETRIES",
    "AUTONOUS_CONTROL_RETRY_BASE_SECONDS",
    "AUTONOUS_CONTROL_RETRY_MAX_SECONDS",
    "AUTONOUS_CONTROL_CIRCUIT_THRESHOLD",
    "AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS",
    "AUTONOUS_CONTROL_NO_PROGRESS_K",
    "AUTONOUS_CONTROL_DEAD_REPLAY_SECONDS",
    "AUTONOUS_UPDATE_MAX_REPAIRS",
    "AUTONOUS_DRAIN_SECONDS",
    "AUTONOUS_DUMMY_PROVIDER_SCRIPT",
    "AUTONOUS_DUMMY_COMMANDER_SCRIPT",
    "AUTONOUS_DUMMY_COMMANDER_SEND_SCRIPT",
    "AUTONOUS_TOOL_POLICY",
    *TOOLBOX_NAMES,
)


_TIERS: Final = ("read", "write", "exec", "network")
_DECISIONS: Final = ("allow", "ask", "deny")


class SettingsError(Exception):
    """A value that cannot be used; the message is one line that names it and what is allowed."""


def _blank_is_unset(value: object) -> object:
    return None if value == "" else value


def _user_ids(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(int(part) for part in value.split(",") if part.strip())


def _roots(value: object) -> object:
    """Comma separated absolute paths: cleaned, without duplicates."""
    if not isinstance(value, str):
        return value
    roots = [os.path.normpath(part.strip()) for part in value.split(",") if part.strip()]
    if not all(root.startswith("/") and root.strip("/") for root in roots):
        raise ValueError("not absolute, or the root of everything")
    return tuple(dict.fromkeys(Path(root) for root in roots))


def _policy(value: object) -> object:
    """``tier=decision`` pairs, comma separated. What the worker makes of them is its own affair."""
    if isinstance(value, str):
        pairs = [tuple(map(str.strip, part.partition("=")[::2])) for part in value.split(",") if part.strip()]
        if not pairs or not all(tier in _TIERS and decision in _DECISIONS for tier, decision in pairs):
            raise ValueError("not a tool policy")
    return value


def _url(value: str | None) -> str | None:
    if value is not None:
        parts = urlsplit(value)
        if not parts.hostname or parts.port == 0:  # a port that is no number raises a ValueError by itself
            raise ValueError("no host, or no port")
    return value


def _fallback(value: object) -> object:
    return parse_fallback(value) if isinstance(value, str) else value


Fallback = Annotated[tuple[tuple[Provider, str], ...], BeforeValidator(_fallback), Field(description=FALLBACK_FORM)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number of seconds, 0 or more")]
Count = Annotated[int, Field(ge=1, description="a whole number, 1 or more")]
Whole = Annotated[int, Field(ge=0, description="a whole number, 0 or more")]
Period = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number of seconds above 0")]
UserIds = Annotated[
    tuple[int, ...],
    BeforeValidator(_user_ids),
    Field(description="numeric Telegram user ids, comma separated"),
]
Url = Annotated[
    str | None,
    BeforeValidator(_blank_is_unset),
    Field(pattern=r"^https?://\S+$", description="an http:// or https:// URL"),
    AfterValidator(_url),
]
Roots = Annotated[
    tuple[Path, ...],
    BeforeValidator(_roots),
    Field(description="absolute paths other than /, comma separated"),
]
Secret = Annotated[str | None, BeforeValidator(_blank_is_unset), Field(repr=False)]


class Settings(BaseModel):
    """Every value that the supervisor itself uses or checks on a worker's behalf. Times are in seconds."""

    model_config = ConfigDict(frozen=True)

    telegram_bot_token: Secret = Field(
        None,
        alias="TELEGRAM_BOT_TOKEN",
        pattern=r"^\d+:[A-Za-z0-9_-]+$",
        description="a bot token as BotFather gives it, 123456:ABC...",
    )
    openai_api_key: Secret = Field(None, alias="OPENAI_API_KEY", description="a key of the model's provider")
    anthropic_api_key: Secret = Field(None, alias="ANTHROPIC_API_KEY", description="a key of Anthropic")
    gemini_api_key: Secret = Field(None, alias="GEMINI_API_KEY", description="a key of Gemini")
    embeddings_api_key: Secret = Field(
        None, alias="AUTONOUS_EMBEDDINGS_API_KEY", description="a key of the embeddings' server"
    )
    openai_base_url: Url = Field(None, alias="OPENAI_BASE_URL")
    embeddings_base_url: Url = Field(None, alias="AUTONOUS_EMBEDDINGS_BASE_URL")
    telegram_api_base_url: Url = Field(None, alias="TELEGRAM_API_BASE_URL")
    commander: Literal["telegram", "dummy"] = Field(
        "telegram", alias="AUTONOUS_COMMANDER", description="telegram or dummy"
    )
    anthropic_base_url: Url = Field(None, alias="ANTHROPIC_BASE_URL")
    gemini_base_url: Url = Field(None, alias="GEMINI_BASE_URL")
    model_provider: Provider | None = Field(None, alias="AUTONOUS_MODEL_PROVIDER", description=PROVIDER_NAMES)
    model_fallback: Fallback = Field((), alias="AUTONOUS_MODEL_FALLBACK")
    embeddings_model: str | None = Field(None, alias="AUTONOUS_EMBEDDINGS_MODEL", description="a model's name")
    allowed_users: UserIds = Field((), alias="AUTONOUS_TELEGRAM_ALLOWED_USERS")
    home: Path = Field(
        default_factory=lambda: user_state_path("autonous"),
        alias="AUTONOUS_HOME",
        description="an absolute path",
    )
    project: str = Field(
        "autonous",
        alias="AUTONOUS_PROJECT",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        description="up to 40 lower-case letters, digits, - and _, a letter or digit first",
    )
    approval: Literal["chat", "terminal"] = Field("chat", alias="AUTONOUS_APPROVAL", description="chat or terminal")
    allow_dependency_updates: bool = Field(False, alias="AUTONOUS_ALLOW_DEPENDENCY_UPDATES", description="1 or 0")
    approval_expiry_seconds: Period = Field(24 * 3600, alias="AUTONOUS_APPROVAL_EXPIRY_SECONDS")
    drain_seconds: Seconds = Field(20, alias="AUTONOUS_DRAIN_SECONDS")
    pipeline_timeout_seconds: Seconds = Field(1800, alias="AUTONOUS_UPDATE_PIPELINE_TIMEOUT_SECONDS")
    stable_window_seconds: Seconds = Field(30, alias="AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS")
    self_check_command: str = Field("", alias="AUTONOUS_UPDATE_SELF_CHECK_CMD", description="a shell command")
    min_free_bytes: Whole = Field(1024**3, alias="AUTONOUS_MIN_FREE_BYTES")
    crash_threshold: Count = Field(3, alias="SUPERVISOR_CRASH_THRESHOLD")
    crash_window_seconds: Seconds = Field(300, alias="SUPERVISOR_CRASH_WINDOW_SECONDS")
    restart_delay_seconds: Seconds = Field(1, alias="SUPERVISOR_RESTART_DELAY_SECONDS")
    grantable_roots: Roots = Field((), alias="AUTONOUS_GRANTABLE_ROOTS")
    # Checked here so that a typing error is told by `up`; used by the worker alone.
    tg_timeout: int = Field(30, alias="TG_TIMEOUT", ge=0, le=50, description="a whole number of seconds, 0 to 50")
    tg_sleep_seconds: Seconds = Field(1, alias="TG_SLEEP_SECONDS")
    tg_drop_pending: bool = Field(False, alias="TG_DROP_PENDING", description="true or false")
    tg_history_window: Whole = Field(12, alias="TG_HISTORY_WINDOW")
    max_concurrent_chats: Count = Field(4, alias="AUTONOUS_MAX_CONCURRENT_CHATS")
    max_retries: Whole = Field(3, alias="AUTONOUS_CONTROL_MAX_RETRIES")
    retry_base_seconds: Seconds = Field(1, alias="AUTONOUS_CONTROL_RETRY_BASE_SECONDS")
    retry_max_seconds: Seconds = Field(60, alias="AUTONOUS_CONTROL_RETRY_MAX_SECONDS")
    max_turns: Count = Field(50, alias="AUTONOUS_CONTROL_MAX_TURNS")
    max_wall_time_seconds: Period = Field(1800, alias="AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS")
    max_tokens: Count = Field(500_000, alias="AUTONOUS_CONTROL_MAX_TOKENS")
    circuit_threshold: Count = Field(5, alias="AUTONOUS_CONTROL_CIRCUIT_THRESHOLD")
    circuit_cooldown_seconds: Seconds = Field(30, alias="AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS")
    no_progress_k: Count = Field(3, alias="AUTONOUS_CONTROL_NO_PROGRESS_K")
    max_repairs: Whole = Field(2, alias="AUTONOUS_UPDATE_MAX_REPAIRS")
    dead_replay_seconds: Period | None = Field(
        None, alias="AUTONOUS_CONTROL_DEAD_REPLAY_SECONDS", description="a number of seconds above 0"
    )
    context_window: int | None = Field(
        None, alias="AUTONOUS_MODEL_CONTEXT_WINDOW", ge=16384, description="a whole number of tokens, 16384 or more"
    )
    budget_tokens_per_day: Count | None = Field(
        None, alias="AUTONOUS_BUDGET_TOKENS_PER_DAY", description="a whole number, 1 or more"
    )
    tool_allowed_roots: Roots = Field((), alias="AUTONOUS_TOOL_ALLOWED_ROOTS")
    tool_policy: Annotated[str, BeforeValidator(_policy)] = Field(
        "",
        alias="AUTONOUS_TOOL_POLICY",
        description="tier=decision pairs, comma separated: read, write, exec and network; allow, ask and deny",
    )
    tool_timeout_seconds: float = Field(
        30,
        alias="AUTONOUS_TOOL_TIMEOUT_SECONDS",
        ge=1,
        allow_inf_nan=False,
        description="a number of seconds, 1 or more",
    )
    tool_max_output_lines: Count = Field(2000, alias="AUTONOUS_TOOL_MAX_OUTPUT_LINES")
    tool_max_output_bytes: int = Field(
        51200, alias="AUTONOUS_TOOL_MAX_OUTPUT_BYTES", ge=1024, description="a whole number, 1024 or more"
    )

    #: What of WORKER_NAMES is set, as it was written.
    worker_values: dict[str, str] = Field(default_factory=dict, repr=False)

    @property
    def paths(self) -> Paths:
        """Where this installation keeps its things."""
        return Paths(self.home)

    @property
    def uses_local_bot(self) -> bool:
        """Without a token the local bot takes Telegram's place."""
        return self.telegram_bot_token is None and self.commander == "telegram"

    @property
    def toolbox_values(self) -> dict[str, str]:
        """What a toolbox's environment is, as it was written."""
        return {name: self.worker_values[name] for name in TOOLBOX_NAMES if name in self.worker_values}

    @property
    def worker_uid(self) -> int:
        """The user inside containers: a fixed one, or the supervisor's own, who then owns all of the home."""
        return os.getuid() or WORKER_UID

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The model providers that a worker may turn to, the first one first."""
        first = self.model_provider or (Provider.OPENAI if self.openai_api_key else Provider.DUMMY)
        return (first, *(provider for provider, _ in self.model_fallback))

    @property
    def offline(self) -> bool:
        """Whether an offline stand-in takes the model's place."""
        return self.providers[0] is Provider.DUMMY

    @property
    def extras(self) -> tuple[Extra, ...]:
        """What a worker's image must have beside the packages that all have."""
        return extras(self.providers, embeddings=self.embeddings_model is not None)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no log, event or reply may show."""
        fields = type(self).model_fields.items()
        values = (getattr(self, name) for name, field in fields if field.alias in SECRET_NAMES)
        return tuple(value for value in values if value)


def load(environ: Mapping[str, str] = os.environ, env_file: Path = ENV_FILE) -> Settings:
    """Settings from the environment and ``env_file``, the environment winning.

    Raises SettingsError.
    """
    values = {**_read(env_file), **environ}
    worker_values = {name: values[name] for name in WORKER_NAMES if values.get(name)}
    fields = {f.alias: values[f.alias] for f in Settings.model_fields.values() if f.alias and values.get(f.alias)}
    try:
        settings = Settings.model_validate({**fields, "worker_values": worker_values})
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    if not settings.home.is_absolute():
        raise SettingsError(f"AUTONOUS_HOME={str(settings.home)!r} cannot be used: it must be an absolute path")
    if (missing := missing_key(settings.providers, settings.worker_values)) is not None:
        provider, name = missing
        raise SettingsError(f"AUTONOUS_MODEL_PROVIDER={provider} needs {name}; set it in .env, or use dummy")
    return settings


def env_file_warning(env_file: Path = ENV_FILE) -> str | None:
    """A line for the user when others can read the file that holds the keys."""
    try:
        mode = env_file.stat().st_mode
    except OSError:
        return None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{env_file} can be read by other users; `chmod 600 {env_file}` keeps your keys yours"
    return None


def _read(env_file: Path) -> dict[str, str]:
    try:
        text = env_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"{env_file} cannot be read: {reason}; it must be a text file of NAME=value lines"
        ) from None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and not re.match(r"(export\s+)?\w+\s*=", stripped):
            # The line itself may be half a secret, so it is not repeated.
            raise SettingsError(f"{env_file} line {number} cannot be used: it must be NAME=value")
    return {name: value for name, value in dotenv_values(env_file).items() if value is not None}


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    alias = str(first["loc"][0])
    field = next(f for f in Settings.model_fields.values() if f.alias == alias)
    allowed = field.description or "another value"
    shown = alias if alias in SECRET_NAMES else f"{alias}={first['input']!r}"
    # A key that was pasted into the wrong line is known by its shape.
    return Redactor()(f"{shown} cannot be used: it must be {allowed}")
