"""For whom a tool call is made."""

from dataclasses import dataclass

from worker.tools.calls import OnProgress


@dataclass(frozen=True, slots=True)
class CallScope:
    """The chat, and the call's ``tool_call.started`` event. ``on_output`` sees the tool's output as it comes."""

    chat_id: int
    tool_call_id: str
    event_id: int
    on_output: OnProgress | None = None
