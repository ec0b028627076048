"""One run: from a claimed message to the model's answer."""

import time
from collections.abc import Callable

from supervisor.contract import EventType
from worker.context import ContextBuilder
from worker.models.base import CompletionResponse, ModelProvider, ValidationError
from worker.store import Task
from worker.store.events import Events


class AgentLoop:
    """Asks the model, one turn for each message. ``monotonic`` gives seconds and is used for latencies."""

    def __init__(
        self,
        *,
        model: ModelProvider,
        context: ContextBuilder,
        events: Events,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._context = context
        self._events = events
        self._monotonic = monotonic

    async def run(self, task: Task, *, parent_id: int) -> CompletionResponse:
        """The answer to a message. ``parent_id`` is the run's agent.started event. Raises ModelError."""
        messages = self._context.build(task.chat_id, task.text, parent_id=parent_id)
        turn = {"turn": 1, "model_name": self._model.model_name}
        turn_id = self._events.append(EventType.TURN_STARTED, turn, parent_id=parent_id)
        begun = self._monotonic()
        response = await self._model.complete(messages)
        self._events.append(
            EventType.TURN_COMPLETED,
            {
                **turn,
                "latency_ms": round((self._monotonic() - begun) * 1000),
                "input_tokens": response.input_tokens,
                "output_tokens": response.output_tokens,
            },
            parent_id=turn_id,
        )
        if response.tool_calls:
            raise ValidationError("the model asked for a tool, though it was offered none")
        if not response.text.strip():
            raise ValidationError("the model's answer is empty")
        return response
