"""What stands between a model and its tools, put together: the toolbox, the guard before it, questions and grants."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor.contract import Redactor
from worker.agent.asks import PREFIX, Asks
from worker.agent.granting import Granting
from worker.agent.guard import Guard
from worker.agent.presses import Presses
from worker.commander.base import Commander
from worker.factory import make_toolbox
from worker.settings import Settings
from worker.store import Store
from worker.tools.local import LocalToolbox
from worker.tools.registry import TOOLS
from worker.tools.steady import SteadyToolbox, nobody_is_told

if TYPE_CHECKING:
    from worker.link import Link


@dataclass(frozen=True)
class Safeguards:
    """The parts that the rest of the worker meets."""

    toolbox: SteadyToolbox | LocalToolbox
    granting: Granting
    guard: Guard


def assemble(
    *, settings: Settings, commander: Commander, link: "Link | None", presses: Presses, store: Store, redact: Redactor
) -> Safeguards:
    """For one worker; ``link`` is None where no supervisor is."""
    asks = Asks(commander=commander, redact=redact)
    presses.handle(PREFIX, asks.press)
    granting = Granting(desk=link, asks=asks)
    toolbox = make_toolbox(settings, link.report_trouble if link else nobody_is_told)
    guard = Guard(
        toolbox=toolbox,
        tools=TOOLS,
        policy=settings.autonous_tool_policy,
        asks=asks,
        granting=granting,
        network=link,
        store=store,
        timeout_seconds=settings.autonous_tool_timeout_seconds,
    )
    return Safeguards(toolbox, granting, guard)
