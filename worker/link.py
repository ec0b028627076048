"""The link to the supervisor: HTTP and JSON over its Unix socket."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn, Protocol, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from supervisor.contract import (
    PROTOCOL,
    Announcement,
    Beat,
    Claim,
    Claimed,
    Command,
    Grant,
    GrantOrder,
    Grants,
    Kept,
    KeptUpdate,
    Press,
    Pressed,
    Problem,
    Progress,
    Revocation,
    RoleGrant,
    Submission,
    Submitted,
    Taken,
    Told,
    ToolboxNoted,
    ToolboxOpened,
    ToolboxOrder,
    ToolboxTrouble,
    Welcome,
)
from worker import uds
from worker.selfupdate.base import Away, Declined, SupervisorError

REQUEST_TIMEOUT_SECONDS: Final = 5.0
#: For what takes the supervisor a while: it applies a patch, or writes into the chat by itself.
LONG_REQUEST_TIMEOUT_SECONDS: Final = 60.0
#: A stream of progress says nothing while a step is at work, which may take as long as the pipeline allows.
PROGRESS_SILENCE_SECONDS: Final = 4000.0
FAREWELL_TIMEOUT_SECONDS: Final = 0.5
FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 2.0
#: A role stream that is silent for this many beats is dead.
SILENT_BEATS: Final = 3

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer", bound=BaseModel)
#: What a supervisor that is away, or not quite itself, looks like from here.
Lost = (httpx.HTTPError, ValidationError)
_JSON: Final = {"Content-Type": "application/json"}


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

    async def press(self, press: Press) -> Pressed:
        """Relay a pressed button. Raises Away, Declined."""
        return await self._ask("/v1/press", press, Pressed)

    async def command(self, command: Command) -> Told:
        """Relay an owner's command. Raises Away, Declined."""
        return await self._ask("/v1/command", command, Told)

    async def submit(self, submission: Submission) -> Submitted:
        """Hand in a patch. Raises Away, Declined."""
        return await self._ask("/v1/updates", submission, Submitted)

    async def kept(self) -> list[KeptUpdate]:
        """What the supervisor kept of the bot's updates while no worker ran. Raises Away."""
        with _translated():
            response = await self._client.get("/v1/kept")
            if response.status_code == httpx.codes.NOT_FOUND:  # it keeps none: it is older than that
                return []
            return Kept.model_validate_json(response.raise_for_status().content).updates

    async def taken(self, ids: Sequence[int]) -> None:
        """Tell that these are stored. Raises Away."""
        with _translated():
            await self._post("/v1/kept/taken", Taken(ids=list(ids)), Kept)

    async def history(self) -> list[dict[str, Any]]:
        """All updates, newest first. Raises Away, Declined."""
        with _translated():
            response = _checked(await self._client.get("/v1/history", timeout=LONG_REQUEST_TIMEOUT_SECONDS))
            updates: list[dict[str, Any]] = response.json()
            return updates

    async def progress(self, tx_id: str) -> AsyncIterator[Progress]:
        """The steps of an update until it waits for a person or is over. Raises Away, Declined."""
        timeout = httpx.Timeout(REQUEST_TIMEOUT_SECONDS, read=PROGRESS_SILENCE_SECONDS)
        with _translated():
            async with self._client.stream("GET", f"/v1/updates/{tx_id}/progress", timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                async for line in _checked(response).aiter_lines():
                    if line:
                        yield Progress.model_validate_json(line)

    async def report_trouble(self, reason: str) -> None:
        """The toolbox is of no use, and should be made anew. That the supervisor is away is no news to anybody."""
        with suppress(SupervisorError):
            await self._ask("/v1/toolbox/trouble", ToolboxTrouble(reason=reason), ToolboxNoted)

    async def open_toolbox(self, order: ToolboxOrder) -> ToolboxOpened:
        """A toolbox with a network for one call. Raises Away, Declined."""
        return await self._ask("/v1/toolboxes", order, ToolboxOpened)

    async def close_toolbox(self, toolbox_id: str) -> None:
        """That call has ended. Raises Away, Declined."""
        with _translated():
            _checked(await self._client.delete(f"/v1/toolboxes/{toolbox_id}", timeout=LONG_REQUEST_TIMEOUT_SECONDS))

    async def grants(self) -> Grants:
        """What is granted now. Raises Away, Declined."""
        with _translated():
            return Grants.model_validate_json(_checked(await self._client.get("/v1/grants")).content)

    async def grant(self, order: GrantOrder) -> Grant:
        """Open a directory of the host to the tools. Raises Away, Declined."""
        return await self._ask("/v1/grants", order, Grant)

    async def revoke(self, number: int, revocation: Revocation) -> Grant:
        """Take a grant back. Raises Away, Declined."""
        return await self._ask(f"/v1/grants/{number}/revoke", revocation, Grant)

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

    async def _ask(self, route: str, message: BaseModel, answer: type[Answer]) -> Answer:
        """What may take the supervisor a while. Raises Away, Declined."""
        with _translated():
            response = await self._client.post(
                route, content=message.model_dump_json(), headers=_JSON, timeout=LONG_REQUEST_TIMEOUT_SECONDS
            )
            return answer.model_validate_json(_checked(response).content)

    async def _post(self, route: str, message: BaseModel, answer: type[Answer]) -> Answer:
        response = await self._client.post(route, content=message.model_dump_json(), headers=_JSON)
        response.raise_for_status()
        return answer.model_validate_json(response.content)


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, when it is an answer. Raises Declined, HTTPError."""
    if response.status_code == httpx.codes.CONFLICT:
        problem = Problem.model_validate_json(response.content)
        raise Declined(problem.code, problem.reason)
    return response.raise_for_status()


@contextmanager
def _translated() -> Iterator[None]:
    """Turns what a supervisor that is away looks like into Away."""
    try:
        yield
    except Lost as error:
        raise Away(_reason(error)) from error
