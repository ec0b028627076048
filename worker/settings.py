"""The worker's settings: environment variables in, one checked value object out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from supervisor.contract.providers import KEY_NAMES, Provider, missing_key, parse_fallback
from worker import scripts
from worker.control import tiers
from worker.control.circuit import CircuitPolicy
from worker.control.limits import Limits
from worker.control.retry import RetryPolicy
from worker.scripts import Action, Step
from worker.tools import workplace
from worker.tools.workplace import WorkplaceError

#: Half of it is for messages, prompt and tools, and those of the worker have some 3,000 tokens.
SMALLEST_WINDOW: Final = 16_384
#: Environment variables whose values must never be seen.
SECRETS: Final = (
    "TELEGRAM_BOT_TOKEN",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "AUTONOUS_EMBEDDINGS_API_KEY",
    "AUTONOUS_WORKER_CREDENTIAL",
)


def _reachable(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # a port that is no number raises a ValueError by itself
        raise ValueError("a URL must name a host, and a port from 1 to 65535 or none")
    return url


Url = Annotated[str, Field(pattern=r"^https?://\S+$"), AfterValidator(_reachable)]
Script = Annotated[tuple[Step, ...], NoDecode]


class SettingsError(Exception):
    """A value cannot be used; the message is one line that names it and what is allowed."""


def _config_home() -> Path:
    """Where XDG has configuration: the user's, or, for a user that the system does not know, everybody's."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - pathlib's raises
    return Path(home if home.startswith("/") else "/etc/xdg")


class Settings(BaseSettings):
    """Every setting of the worker. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    telegram_bot_token: str | None = Field(default=None, pattern=r"^[0-9]+:\S+$")
    telegram_api_base_url: Url | None = None
    #: A Unix socket at which the Bot API is reached, instead of the network.
    autonous_telegram_uds: str | None = None
    autonous_telegram_allowed_users: Annotated[frozenset[int], NoDecode] = frozenset()
    autonous_commander: Literal["telegram", "dummy"] = "telegram"
    tg_timeout: int = Field(default=30, ge=0, le=50)
    tg_sleep_seconds: float = Field(default=1.0, ge=0)
    tg_drop_pending: bool = False
    tg_history_window: int = Field(default=12, ge=0)

    openai_api_key: str | None = None
    openai_base_url: Url | None = None
    #: The model of the provider openai; unset, the one that its adapter in `worker/models/` names.
    openai_model: str | None = None
    #: A Unix socket at which the model's server is reached, instead of the network.
    autonous_openai_uds: str | None = None
    anthropic_api_key: str | None = None
    anthropic_base_url: Url | None = None
    #: The model of the provider anthropic; unset, the one that its adapter in `worker/models/` names.
    anthropic_model: str | None = None
    gemini_api_key: str | None = None
    gemini_base_url: Url | None = None
    #: The model of the provider gemini; unset, the one that its adapter in `worker/models/` names.
    gemini_model: str | None = None
    autonous_model_provider: Provider | None = None
    autonous_model_fallback: Annotated[tuple[tuple[Provider, str], ...], NoDecode] = ()
    autonous_embeddings_model: str | None = None
    autonous_embeddings_base_url: Url | None = None
    autonous_embeddings_api_key: str | None = None
    autonous_model_context_window: int | None = Field(default=None, ge=SMALLEST_WINDOW)
    #: The system prompt, where no `AUTONOUS.md` is.
    worker_system_prompt: str | None = None

    #: The worker's database.
    autonous_db_path: Path = Path("/state/agent.db")
    #: Where `AUTONOUS.md` is.
    autonous_config_dir: Path = Field(default_factory=lambda: _config_home() / "autonous")
    autonous_max_concurrent_chats: int = Field(default=4, ge=1)
    autonous_control_max_retries: int = Field(default=3, ge=0)
    autonous_control_retry_base_seconds: float = Field(default=1.0, ge=0)
    autonous_control_retry_max_seconds: float = Field(default=60.0, ge=0)
    autonous_control_max_turns: int = Field(default=50, ge=1)
    autonous_control_max_wall_time_seconds: float = Field(default=1800.0, gt=0)
    autonous_control_max_tokens: int = Field(default=500_000, ge=1)
    autonous_control_circuit_threshold: int = Field(default=5, ge=1)
    autonous_control_circuit_cooldown_seconds: float = Field(default=30.0, ge=0)
    autonous_control_no_progress_k: int = Field(default=3, ge=1)
    autonous_control_dead_replay_seconds: float | None = Field(default=None, gt=0)
    autonous_budget_tokens_per_day: int | None = Field(default=None, ge=1)
    autonous_update_max_repairs: int = Field(default=2, ge=0)
    autonous_drain_seconds: float = Field(default=20.0, ge=0)

    autonous_tool_policy: Annotated[tiers.TierPolicy, NoDecode] = tiers.DEFAULT
    autonous_tool_allowed_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    autonous_tool_timeout_seconds: float = Field(default=30.0, ge=1)
    autonous_tool_max_output_lines: int = Field(default=2000, ge=1)
    autonous_tool_max_output_bytes: int = Field(default=51200, ge=1024)
    autonous_min_free_bytes: int = Field(default=1024**3, ge=0)

    #: What the offline stand-in for a model answers.
    autonous_dummy_provider_script: Script | None = None
    #: What the dummy commander's polls bring.
    autonous_dummy_commander_script: Script = (Step(Action.OK),)
    #: What becomes of what it sends: without `msg`.
    autonous_dummy_commander_send_script: Script = (Step(Action.OK),)

    #: Where the supervisor listens; unset, the worker runs alone.
    autonous_supervisor_socket: str | None = None
    #: Where the toolbox listens; unset and alone, tools run in a process beside the worker.
    autonous_toolbox_socket: str | None = None
    #: What it shows the supervisor.
    autonous_worker_credential: str = ""
    #: Which revision it is.
    autonous_worker_sha: str = ""
    #: Which of its starts this is.
    autonous_worker_instance: int = 0
    #: The supervisor's event that its own hang under.
    autonous_parent_event_id: int | None = None

    @field_validator("autonous_telegram_allowed_users", mode="before")
    @classmethod
    def _user_ids(cls, value: object) -> object:
        return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("autonous_model_fallback", mode="before")
    @classmethod
    def _fallback(cls, value: object) -> object:
        return parse_fallback(value) if isinstance(value, str) else value

    @field_validator("autonous_tool_policy", mode="before")
    @classmethod
    def _policy(cls, value: object) -> object:
        return tiers.parse(value) if isinstance(value, str) else value

    @field_validator("autonous_tool_allowed_roots", mode="before")
    @classmethod
    def _roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        roots = [workplace.cleaned(part.strip()) for part in value.split(",") if part.strip()]
        if not all(root.is_absolute() and root != Path("/") for root in roots):
            raise ValueError("only absolute paths other than / can be, comma separated")
        return tuple(dict.fromkeys(roots))

    @field_validator(
        "autonous_dummy_provider_script",
        "autonous_dummy_commander_script",
        "autonous_dummy_commander_send_script",
        mode="before",
    )
    @classmethod
    def _script(cls, value: object) -> object:
        return scripts.parse(value) if isinstance(value, str) else value

    @field_validator("autonous_dummy_commander_send_script")
    @classmethod
    def _sends_nothing_of_its_own(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if any(step.action is Action.MSG for step in steps):
            raise ValueError("a script for sending has only ok, err:<class> and sleep:<ms>")
        return steps

    @model_validator(mode="after")
    def _has_what_it_names(self) -> "Settings":
        if self.autonous_commander == "telegram" and not self.telegram_bot_token:
            raise ValueError(
                "TELEGRAM_BOT_TOKEN is not set: AUTONOUS_COMMANDER=telegram needs it, AUTONOUS_COMMANDER=dummy does not"
            )
        given = {name: getattr(self, name.lower()) for name in KEY_NAMES.values()}
        if (
            missing := missing_key((self.provider, *(step for step, _ in self.autonous_model_fallback)), given)
        ) is not None:
            provider, name = missing
            raise ValueError(
                f"{name} is not set: the provider {provider} needs it, AUTONOUS_MODEL_PROVIDER=dummy does not"
            )
        return self

    @property
    def provider(self) -> Provider:
        """Which model provider is asked first."""
        return self.autonous_model_provider or (Provider.OPENAI if self.openai_api_key else Provider.DUMMY)

    @property
    def providers_elsewhere(self) -> frozenset[Provider]:
        """Those that are reached at another server than their own, whose models may be any."""
        own = {
            Provider.OPENAI: self.openai_base_url or self.autonous_openai_uds,
            Provider.OPENAI_RESPONSES: self.openai_base_url or self.autonous_openai_uds,
            Provider.ANTHROPIC: self.anthropic_base_url,
            Provider.GEMINI: self.gemini_base_url,
        }
        return frozenset(provider for provider, other in own.items() if other)

    @property
    def retries(self) -> RetryPolicy:
        """How failed attempts are tried again."""
        return RetryPolicy(
            max_retries=self.autonous_control_max_retries,
            base_seconds=self.autonous_control_retry_base_seconds,
            max_seconds=self.autonous_control_retry_max_seconds,
        )

    @property
    def circuit(self) -> CircuitPolicy:
        """When failures in a row stop the work for a while."""
        return CircuitPolicy(
            threshold=self.autonous_control_circuit_threshold,
            cooldown_seconds=self.autonous_control_circuit_cooldown_seconds,
        )

    @property
    def limits(self) -> Limits:
        """What a run, and a day, may cost."""
        return Limits(
            max_turns=self.autonous_control_max_turns,
            max_wall_time_seconds=self.autonous_control_max_wall_time_seconds,
            max_tokens=self.autonous_control_max_tokens,
            budget_tokens_per_day=self.autonous_budget_tokens_per_day,
        )


def load() -> Settings:
    """Read the environment, also what of it is for the tools. Raises SettingsError."""
    try:
        settings = Settings()
        workplace.from_environment(os.environ)
    except ValidationError as error:
        raise SettingsError(_one_line(error, os.environ)) from None
    except WorkplaceError as error:
        raise SettingsError(str(error)) from None
    return settings


def secrets(environ: Mapping[str, str]) -> list[str]:
    """The values that must never be seen, as they stand in the environment."""
    return [environ[name] for name in SECRETS if environ.get(name)]


def _one_line(error: ValidationError, environ: Mapping[str, str]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    allowed = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return allowed
    name = str(first["loc"][0]).upper()
    shown = "..." if name in SECRETS else repr(environ.get(name, first["input"]))
    return f"{name}={shown} cannot be used: {allowed[:1].lower()}{allowed[1:]}"
