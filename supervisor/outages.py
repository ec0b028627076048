"""What the installation stands on and no revision can be blamed for: the Bot API, the model, the disk, the engine.

The supervisor looks for itself. While something of it is away the clock of a probation stands still; when it was away
for long enough to be noticed, the owners are told once. Each such time is an episode with its two events in the ledger.
"""

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx
import structlog

from supervisor.bot import client as botapi
from supervisor.contract import EventType
from supervisor.contract.providers import KEY_NAMES, Provider
from supervisor.ledger import Ledger, LedgerError
from supervisor.sessions import Sessions
from supervisor.settings import Settings
from supervisor.specs import CONTRACT_TARGET
from supervisor.states import Status
from supervisor.timing import SYSTEM_CLOCKS, Clocks, Timing

_LOG = structlog.get_logger()
_LOOK_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 5.0
_DISK_FULL_BYTES: Final = 4 * 1024 * 1024


class Part(StrEnum):
    """What may be away."""

    BOT_API = "bot_api"
    MODEL = "model"
    DISK = "disk"
    ENGINE = "engine"
    WORKERS = "workers"  # whatever makes N-1 repeat the failure of N


#: Why it is away, in one line; empty when it is there.
Probe = Callable[[], str]


@dataclass(frozen=True)
class Probes:
    """The ways to look. Those of the Bot API and the model take seconds when they fail."""

    bot_api: Probe
    model: Probe
    disk: Probe
    engine: Probe


@dataclass
class _Episode:
    """Since when something has been away; ``event`` once that stands in the ledger."""

    reason: str
    since: float  # monotonic seconds
    event: int | None = None


class OutageMonitor:
    """The present state of what is around, as far as somebody has to know it.

    The Bot API and the model are asked only while it matters: at the start, when a worker complains, in a roll-out, and
    until what was away is back. One that never answered the host may be out of the host's reach alone, and then counts
    as away only while a worker complains, too.
    """

    def __init__(
        self, *, probes: Probes, ledger: Ledger, sessions: Sessions, timing: Timing, clocks: Clocks = SYSTEM_CLOCKS
    ) -> None:
        self._probes = probes
        self._ledger = ledger
        self._sessions = sessions
        self._timing = timing
        self._clocks = clocks
        self._lock = threading.RLock()
        self._episodes: dict[Part, _Episode] = {}
        self._answered: set[Part] = set()
        self._noted = ""
        self._probed_at = float("-inf")
        self._bot_api_away_at = float("-inf")
        self._complained = False
        self._take_up()

    def run(self, stopping: threading.Event) -> None:
        """Look after it, until ``stopping``; meant for a thread."""
        while not stopping.is_set():
            try:
                self.look()
            except LedgerError as error:
                _LOG.warning("cannot note what is away", error=str(error))
            except Exception:  # a defect here must not end the one who keeps a worker running
                _LOG.exception("a defect in looking after what is around")
            stopping.wait(min(_LOOK_SECONDS, self._timing.probe))

    # -- what is known

    def away(self) -> str:
        """What is away now and stops the clock of a probation, in one line; empty while all is there."""
        with self._lock:
            return "; ".join(episode.reason for part, episode in self._episodes.items() if part is not Part.WORKERS)

    def bot_api_away_since(self, moment: float) -> bool:
        """Whether the Bot API was away at some time since then, on the monotonic clock."""
        return self._bot_api_away_at > moment

    def excuse(self) -> str:
        """Why a worker that fails just now is not to be blamed; asks nobody but this machine."""
        return self._probes.disk() or self._probes.engine()

    def repeated(self) -> bool:
        """Whether N-1 has repeated the failure of N, and nobody is to be blamed for it until workers stay up."""
        with self._lock:
            return Part.WORKERS in self._episodes

    def repeats(self, reason: str) -> None:
        """N-1 repeats the failure of N."""
        self._noted = reason
        self._settle(Part.WORKERS, reason)

    def recovered(self) -> None:
        """A worker has stayed up."""
        self._noted = ""
        self._settle(Part.WORKERS, "")

    # -- looking

    def look(self, *, afresh: bool = False) -> str:
        """Look at what has to be known, ``afresh`` though it was asked a moment ago; gives what is away."""
        self._settle(Part.DISK, self._probes.disk())
        self._settle(Part.ENGINE, self._probes.engine())
        self._go_on_with_workers()
        now = self._clocks.monotonic()
        complains_of_bot, complains_of_model = self._complaints()
        begins = (complains_of_bot or complains_of_model) and not self._complained
        self._complained = complains_of_bot or complains_of_model
        # At once when a worker begins to complain: what is away for a moment is soon there again.
        if afresh or begins or now - self._probed_at >= self._timing.probe:
            first, self._probed_at = self._probed_at == float("-inf"), now
            matters = afresh or first or bool(self._ledger.having(Status.DEPLOYING, Status.DEPLOYED_UNSTABLE))
            self._ask(Part.BOT_API, self._probes.bot_api, complaint=complains_of_bot, matters=matters)
            self._ask(Part.MODEL, self._probes.model, complaint=complains_of_model, matters=matters)
        return self.away()

    def _complaints(self) -> tuple[bool, bool]:
        """Whether a worker complains of the Bot API, and of the model."""
        beats = [session.beat for session in self._sessions.all()]
        return any(beat.poll_error for beat in beats), any(beat.model_error for beat in beats)

    def _ask(self, part: Part, probe: Probe, *, complaint: bool, matters: bool) -> None:
        if not (complaint or matters or part in self._episodes):
            return
        reason = probe()
        if not reason:
            self._answered.add(part)
        elif not (complaint or part in self._answered or part in self._episodes):
            return
        self._settle(part, reason)

    # -- episodes

    def _settle(self, part: Part, reason: str) -> None:
        with self._lock:
            episode = self._episodes.get(part)
            if reason:
                if episode is None:
                    _LOG.warning("something outside is away", part=part, reason=reason)
                    episode = self._episodes[part] = _Episode(reason, self._clocks.monotonic())
                self._go_on(part, episode)
                if part is Part.BOT_API:
                    self._bot_api_away_at = self._clocks.monotonic()
            elif episode is not None:
                self._end(part, episode)
                del self._episodes[part]  # last: what could not be noted is noted at the next look

    def _go_on_with_workers(self) -> None:
        """Nobody asks for them anew: a supervisor may have died before it told of an episode that it had noted."""
        with self._lock:
            if (episode := self._episodes.get(Part.WORKERS)) is not None:
                self._go_on(Part.WORKERS, episode)

    def _go_on(self, part: Part, episode: _Episode) -> None:
        if episode.event is None:
            told = {"what": part, "reason": episode.reason}
            episode.event = self._ledger.append(EventType.EXTERNAL_TROUBLE_STARTED, told)
        long_enough = self._clocks.monotonic() - episode.since >= self._timing.told_after or part is Part.WORKERS
        if long_enough and part in _TOLD_AT_ONCE:
            self._ledger.add_notice(f"{part} {episode.event}", _TOLD_AT_ONCE[part].format(reason=episode.reason))

    def _end(self, part: Part, episode: _Episode) -> None:
        seconds = round(self._clocks.monotonic() - episode.since, 1)
        _LOG.info("something outside is back", part=part, seconds=seconds)
        if episode.event is None:
            return
        # First what is told: who finds the episode ended adds nothing to it.
        if part in _TOLD_AFTERWARDS and (seconds >= self._timing.told_after or part is Part.ENGINE):
            text = _TOLD_AFTERWARDS[part].format(reason=episode.reason, seconds=seconds)
            self._ledger.add_notice(f"{part} {episode.event}", text)
        told = {"what": part, "seconds": seconds}
        self._ledger.append(EventType.EXTERNAL_TROUBLE_ENDED, told, parent_id=episode.event)

    def _take_up(self) -> None:
        """Episodes that an earlier supervisor noted go on until it is seen that they are over."""
        both = (EventType.EXTERNAL_TROUBLE_STARTED, EventType.EXTERNAL_TROUBLE_ENDED)
        seen: set[str] = set()
        for event in self._ledger.events(*both, newest_first=True, limit=100):
            what = event.payload["what"]
            if what not in seen and event.event_type == EventType.EXTERNAL_TROUBLE_STARTED and what in set(Part):
                since = self._clocks.monotonic() - max(0.0, self._clocks.wall() - event.timestamp)
                self._episodes[Part(what)] = _Episode(event.payload["reason"], since, event.id)
            seen.add(what)


_TOLD_AT_ONCE: Final[Mapping[Part, str]] = {
    Part.MODEL: "{reason}. Messages are tried again, and /dead lists those that were given up; no revision is blamed, "
    "and the clock of a probation stands still.",
    Part.DISK: "{reason}. Nothing can be stored until there is room again; `supervisor gc` makes some.",
    Part.WORKERS: "The revision before fails just as the last one did: {reason}. So the cause lies outside of them: "
    "no revision is blamed, and I go on trying with the newest that was proven. /rollback <tx> takes an older one, "
    "where there is one.",
}
_TOLD_AFTERWARDS: Final[Mapping[Part, str]] = {
    Part.BOT_API: "For {seconds:.0f} s the chat could not be reached: {reason}. It is back; no revision is blamed.",
    Part.ENGINE: "The container engine was away for {seconds:.0f} s and is back. Workers that ended with it are "
    "started again; no revision is blamed.",
}


# -- the probes of an installation


def probes_of(settings: Settings, *, engine: Probe) -> Probes:
    """How this installation looks for itself."""
    return Probes(
        bot_api=lambda: bot_api_trouble(settings),
        model=lambda: model_trouble(settings),
        disk=lambda: disk_trouble(settings.home),
        engine=engine,
    )


def bot_api_trouble(settings: Settings) -> str:
    """Why the Bot API cannot be used now; a refused token is a reason, too."""
    if settings.commander != "telegram":
        return ""
    try:
        botapi.bot_name(settings)
    except botapi.BotApiError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class _ModelServer:
    """Where a provider's models are listed, for whom ``headers`` name; ``models`` is the path below its base URL."""

    url_name: str
    url: str
    models: str
    headers: Callable[[str], Mapping[str, str]]


_OPENAI: Final = _ModelServer(
    "OPENAI_BASE_URL", "https://api.openai.com/v1", "/models", lambda key: {"Authorization": f"Bearer {key}"}
)
#: What each provider's SDK takes for its server; who answers by no key has none.
_MODEL_SERVERS: Final[Mapping[Provider, _ModelServer]] = {
    Provider.OPENAI: _OPENAI,
    Provider.OPENAI_RESPONSES: _OPENAI,
    Provider.ANTHROPIC: _ModelServer(
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com",
        "/v1/models",
        lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"},
    ),
    Provider.GEMINI: _ModelServer(
        "GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "/v1beta/models",
        lambda key: {"x-goog-api-key": key},
    ),
}


def model_trouble(settings: Settings) -> str:
    """Why the server of the model that is asked first cannot be used now.

    Whatever it answers but 429 and 5xx shows that it is there.
    """
    provider, values = settings.providers[0], settings.worker_values
    server = _MODEL_SERVERS.get(provider)
    key = values.get(KEY_NAMES.get(provider, ""))
    if server is None or not key:
        return ""
    url, transport = values.get(server.url_name) or server.url, None
    if server is _OPENAI and (socket := values.get("AUTONOUS_OPENAI_UDS")):
        if Path(socket).parent != Path(CONTRACT_TARGET):
            return ""  # in a place that is the container's own
        transport = httpx.HTTPTransport(uds=str(settings.paths.contract_directory / Path(socket).name), verify=False)
        url = values.get(server.url_name) or "http://localhost/v1"
    try:
        with httpx.Client(transport=transport, timeout=_PROBE_SECONDS) as client:
            answer = client.get(url.rstrip("/") + server.models, headers=server.headers(key))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"the model's server does not answer: {type(error).__name__}"
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"the model's server answers {answer.status_code}"
    return ""


def disk_trouble(home: Path) -> str:
    """Why nothing can be written."""
    try:
        free = shutil.disk_usage(home).free
    except OSError as error:
        return f"the disk cannot be looked at: {error.strerror}"
    return f"the disk is full: {free:,} bytes are free" if free < _DISK_FULL_BYTES else ""
