"""The link to the supervisor: HTTP and JSON over its Unix socket."""

import asyncio
import logging
from contextlib import suppress
from typing import Final, NoReturn, Protocol, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from supervisor.contract import PROTOCOL, Announcement, Beat, Claim, Claimed, RoleGrant, Welcome
from worker import uds

REQUEST_TIMEOUT_SECONDS: Final = 5.0
FAREWELL_TIMEOUT_SECONDS: Final = 0.5
FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 2.0
#: A role stream that is silent for this many beats is dead.
SILENT_BEATS: Final = 3

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer", bound=BaseModel)
#: What a supervisor that is away, or not quite itself, looks like from here.
Lost = (httpx.HTTPError, ValidationError)


def _reason(errors: BaseException) -> str:
    """The first error in a group of groups."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return f"{type(errors).__name__}: {errors}"


class Follower(Protocol):
    """Who hears what the supervisor says, and knows what to tell it."""

    def welcome(self, welcome: Welcome) -> None:
        """The answer to an announcement."""

    def receive(self, grant: RoleGrant) -> None:
        """A grant, new or repeated."""

    def beat(self) -> Beat:
        """How the worker is doing."""


class Link:
    """One worker's connection. ``beat_now`` makes the next beat go out at once."""

    def __init__(self, *, socket: str, credential: str, announcement: Announcement, beat_now: asyncio.Event) -> None:
        self._announcement = announcement
        self._beat_now = beat_now
        self._serial = 0
        self._client = httpx.AsyncClient(
            base_url=uds.HOST,
            transport=httpx.AsyncHTTPTransport(uds=socket, verify=uds.no_tls()),
            timeout=REQUEST_TIMEOUT_SECONDS,
            headers={"Authorization": f"Bearer {credential}", "Autonous-Protocol": str(PROTOCOL)},
        )

    async def run(self, follower: Follower) -> NoReturn:
        """Stay connected for ever. While the supervisor is away the worker goes on with what it has."""
        wait = FIRST_WAIT_SECONDS
        connected = True
        while True:
            try:
                welcome = await self._post("/v1/announce", self._announcement, Welcome)
                logger.info("announced to the supervisor, instance %d", welcome.instance)
                wait, connected = FIRST_WAIT_SECONDS, True
                self._serial = welcome.grant.serial
                follower.welcome(welcome)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow_role(follower, welcome.beat_seconds))
                    group.create_task(self._keep_beating(follower, welcome.beat_seconds))
            except* Lost as errors:
                if connected:
                    logger.warning("the supervisor is away: %s", _reason(errors))
                connected = False
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def claim(self, claim: Claim) -> Claimed | None:
        """Ask whether the code in a claim is right; None when the supervisor is away."""
        try:
            return await self._post("/v1/claim", claim, Claimed)
        except Lost as error:
            logger.warning("could not relay a claim: %s", _reason(error))
            return None

    async def farewell(self, follower: Follower) -> None:
        """One last beat, if the supervisor still listens."""
        with suppress(*Lost, TimeoutError):
            async with asyncio.timeout(FAREWELL_TIMEOUT_SECONDS):
                await self._post("/v1/beat", follower.beat(), RoleGrant)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _follow_role(self, follower: Follower, beat_seconds: float) -> None:
        timeout = httpx.Timeout(REQUEST_TIMEOUT_SECONDS, read=beat_seconds * SILENT_BEATS)
        async with self._client.stream("GET", "/v1/role", timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line:
                    self._pass_on(RoleGrant.model_validate_json(line), follower)
        raise httpx.RemoteProtocolError("the supervisor ended the stream of roles")

    async def _keep_beating(self, follower: Follower, beat_seconds: float) -> None:
        while True:
            self._beat_now.clear()
            self._pass_on(await self._post("/v1/beat", follower.beat(), RoleGrant), follower)
            with suppress(TimeoutError):
                async with asyncio.timeout(beat_seconds):
                    await self._beat_now.wait()

    def _pass_on(self, grant: RoleGrant, follower: Follower) -> None:
        if grant.serial >= self._serial:  # the answer to a beat may be overtaken by the stream
            self._serial = grant.serial
            follower.receive(grant)

    async def _post(self, route: str, message: BaseModel, answer: type[Answer]) -> Answer:
        response = await self._client.post(
            route, content=message.model_dump_json(), headers={"Content-Type": "application/json"}
        )
        response.raise_for_status()
        return answer.model_validate_json(response.content)
