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

    #: From @BotFather. Without one a local bot takes Telegram's place.
    telegram_bot_token: Secret = Field(
        None,
        alias="TELEGRAM_BOT_TOKEN",
        pattern=r"^\d+:[A-Za-z0-9_-]+$",
        description="a bot token as BotFather gives it, 123456:ABC...",
    )
    #: With one the provider is openai unless another is named; without any, an offline stand-in answers.
    openai_api_key: Secret = Field(None, alias="OPENAI_API_KEY", description="a key of the model's provider")
    #: For the provider anthropic.
    anthropic_api_key: Secret = Field(None, alias="ANTHROPIC_API_KEY", description="a key of Anthropic")
    #: For the provider gemini.
    gemini_api_key: Secret = Field(None, alias="GEMINI_API_KEY", description="a key of Gemini")
    #: Without one, and without a server of its own, `OPENAI_API_KEY` is used.
    embeddings_api_key: Secret = Field(
        None, alias="AUTONOUS_EMBEDDINGS_API_KEY", description="a key of the embeddings' server"
    )
    #: Another server that speaks OpenAI's API.
    openai_base_url: Url = Field(None, alias="OPENAI_BASE_URL")
    #: The embeddings' server, when it is not that of the model.
    embeddings_base_url: Url = Field(None, alias="AUTONOUS_EMBEDDINGS_BASE_URL")
    #: Another Bot API server, up to the token: `https://bot.example/bot`.
    telegram_api_base_url: Url = Field(None, alias="TELEGRAM_API_BASE_URL")
    #: Where messages come from; dummy plays `AUTONOUS_DUMMY_COMMANDER_SCRIPT`.
    commander: Literal["telegram", "dummy"] = Field(
        "telegram", alias="AUTONOUS_COMMANDER", description="telegram or dummy"
    )
    #: Another server that speaks Anthropic's API.
    anthropic_base_url: Url = Field(None, alias="ANTHROPIC_BASE_URL")
    #: Another server that speaks Gemini's API.
    gemini_base_url: Url = Field(None, alias="GEMINI_BASE_URL")
    #: Which provider is asked first; unset, openai when it has a key, else dummy.
    model_provider: Provider | None = Field(None, alias="AUTONOUS_MODEL_PROVIDER", description=PROVIDER_NAMES)
    #: Which models are asked, in this order, while the first one fails.
    model_fallback: Fallback = Field((), alias="AUTONOUS_MODEL_FALLBACK")
    #: With one, earlier messages are also found by what they mean.
    embeddings_model: str | None = Field(None, alias="AUTONOUS_EMBEDDINGS_MODEL", description="a model's name")
    #: The owners, instead of whoever claims the bot by its code.
    allowed_users: UserIds = Field((), alias="AUTONOUS_TELEGRAM_ALLOWED_USERS")
    #: Where all state is.
    home: Path = Field(
        default_factory=lambda: user_state_path("autonous"),
        alias="AUTONOUS_HOME",
        description="an absolute path",
    )
    #: Keeps several installations on one engine apart: the beginning of its containers' names.
    project: str = Field(
        "autonous",
        alias="AUTONOUS_PROJECT",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        description="up to 40 lower-case letters, digits, - and _, a letter or digit first",
    )
    #: Where updates are approved: by a button in the chat, or by `supervisor approve` only.
    approval: Literal["chat", "terminal"] = Field("chat", alias="AUTONOUS_APPROVAL", description="chat or terminal")
    #: Whether a patch may ask for packages.
    allow_dependency_updates: bool = Field(False, alias="AUTONOUS_ALLOW_DEPENDENCY_UPDATES", description="1 or 0")
    #: How long an update waits for its approval.
    approval_expiry_seconds: Period = Field(24 * 3600, alias="AUTONOUS_APPROVAL_EXPIRY_SECONDS")
    #: How long a worker that is to let go may go on with what it has in hand.
    drain_seconds: Seconds = Field(20, alias="AUTONOUS_DRAIN_SECONDS")
    #: How long build, tests and exam of an update may take together.
    pipeline_timeout_seconds: Seconds = Field(1800, alias="AUTONOUS_UPDATE_PIPELINE_TIMEOUT_SECONDS")
    #: How long an update is on probation before it is promoted.
    stable_window_seconds: Seconds = Field(30, alias="AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS")
    #: One more part of the exam, run in the candidate.
    self_check_command: str = Field("", alias="AUTONOUS_UPDATE_SELF_CHECK_CMD", description="a shell command")
    #: Below this much free space tools and builds pause.
    min_free_bytes: Whole = Field(1024**3, alias="AUTONOUS_MIN_FREE_BYTES")
    #: After so many ends of the good revision within the window N-1 takes over, or it is started ever more slowly.
    crash_threshold: Count = Field(3, alias="SUPERVISOR_CRASH_THRESHOLD")
    #: How far back its ends count.
    crash_window_seconds: Seconds = Field(300, alias="SUPERVISOR_CRASH_WINDOW_SECONDS")
    #: The pause before a worker that ended is started again.
    restart_delay_seconds: Seconds = Field(1, alias="SUPERVISOR_RESTART_DELAY_SECONDS")
    #: Which directories of this machine `/grant` may open to the tools for a time.
    grantable_roots: Roots = Field((), alias="AUTONOUS_GRANTABLE_ROOTS")
    # Checked here so that a typing error is told by `up`; used by the worker alone.
    #: How long a poll waits for a message.
    tg_timeout: int = Field(30, alias="TG_TIMEOUT", ge=0, le=50, description="a whole number of seconds, 0 to 50")
    #: The pause after a poll that failed.
    tg_sleep_seconds: Seconds = Field(1, alias="TG_SLEEP_SECONDS")
    #: Whether a bot from which nothing ever came loses, at its first poll, what waited for it.
    tg_drop_pending: bool = Field(False, alias="TG_DROP_PENDING", description="true or false")
    #: How many of a chat's latest messages the model is shown as they are, at most.
    tg_history_window: Whole = Field(12, alias="TG_HISTORY_WINDOW")
    #: How many chats are worked on at a time.
    max_concurrent_chats: Count = Field(4, alias="AUTONOUS_MAX_CONCURRENT_CHATS")
    #: How often a message that failed is tried again before it is given up.
    max_retries: Whole = Field(3, alias="AUTONOUS_CONTROL_MAX_RETRIES")
    #: The wait before the first retry; each further one is twice as long.
    retry_base_seconds: Seconds = Field(1, alias="AUTONOUS_CONTROL_RETRY_BASE_SECONDS")
    #: The longest wait before a retry.
    retry_max_seconds: Seconds = Field(60, alias="AUTONOUS_CONTROL_RETRY_MAX_SECONDS")
    #: How many model calls one message may cost.
    max_turns: Count = Field(50, alias="AUTONOUS_CONTROL_MAX_TURNS")
    #: How long one message may be worked on.
    max_wall_time_seconds: Period = Field(1800, alias="AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS")
    #: How many tokens one message may cost.
    max_tokens: Count = Field(500_000, alias="AUTONOUS_CONTROL_MAX_TOKENS")
    #: After so many failures of one kind in a row no more work is begun for a while.
    circuit_threshold: Count = Field(5, alias="AUTONOUS_CONTROL_CIRCUIT_THRESHOLD")
    #: How long that while is; then one attempt decides.
    circuit_cooldown_seconds: Seconds = Field(30, alias="AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS")
    #: After so many attempts in a row that end alike, or turns with the same calls, a message is given up.
    no_progress_k: Count = Field(3, alias="AUTONOUS_CONTROL_NO_PROGRESS_K")
    #: How often the model may try again when the gates turn its change down.
    max_repairs: Whole = Field(2, alias="AUTONOUS_UPDATE_MAX_REPAIRS")
    #: The age at which a message that was given up is tried again by itself; unset, never.
    dead_replay_seconds: Period | None = Field(
        None, alias="AUTONOUS_CONTROL_DEAD_REPLAY_SECONDS", description="a number of seconds above 0"
    )
    #: How much the model reads at once, where that is not known (`worker/models/catalog.json`).
    context_window: int | None = Field(
        None, alias="AUTONOUS_MODEL_CONTEXT_WINDOW", ge=16384, description="a whole number of tokens, 16384 or more"
    )
    #: How many tokens a day may cost, of all chats; unset, any number.
    budget_tokens_per_day: Count | None = Field(
        None, alias="AUTONOUS_BUDGET_TOKENS_PER_DAY", description="a whole number, 1 or more"
    )
    #: Where the tools that take paths may go; unset, the workspace.
    tool_allowed_roots: Roots = Field((), alias="AUTONOUS_TOOL_ALLOWED_ROOTS")
    #: What tools of a tier may do without asking.
    tool_policy: Annotated[str, BeforeValidator(_policy)] = Field(
        "",
        alias="AUTONOUS_TOOL_POLICY",
        description="tier=decision pairs, comma separated: read, write, exec and network; allow, ask and deny",
    )
    #: How long a call of a tool may take that names no time of its own.
    tool_timeout_seconds: float = Field(
        30,
        alias="AUTONOUS_TOOL_TIMEOUT_SECONDS",
        ge=1,
        allow_inf_nan=False,
        description="a number of seconds, 1 or more",
    )
    #: Where a tool's output is cut, by lines.
    tool_max_output_lines: Count = Field(2000, alias="AUTONOUS_TOOL_MAX_OUTPUT_LINES")
    #: And by bytes.
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
