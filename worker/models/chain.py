"""A model, and others that are asked while it fails. Each has a circuit breaker of its own."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from worker.control import circuit
from worker.control.circuit import Circuit, CircuitPolicy, CircuitStatus, Work
from worker.control.errors import ErrorClass
from worker.models.base import (
    CompletionResponse,
    ContextOverflow,
    Message,
    ModelProvider,
    OnText,
    ProviderApiError,
    ToolSpec,
)

logger = logging.getLogger(__name__)


class Link:
    """One model of a chain."""

    def __init__(self, model: ModelProvider, policy: CircuitPolicy, monotonic: Callable[[], float]) -> None:
        self.model = model
        self._policy = policy
        self._monotonic = monotonic
        self._circuit = Circuit()

    @property
    def name(self) -> str:
        """What it is called where another model was expected."""
        return f"{self.model.provider}:{self.model.model_name}"

    @property
    def open(self) -> bool:
        """Whether it is not to be asked now. After its rest one call is let through, which decides."""
        self._circuit = circuit.cooled(self._circuit, self._policy, self._monotonic())
        return not circuit.admits(self._circuit, Work.RUN)

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], on_text: OnText | None
    ) -> CompletionResponse:
        """Ask it, and remember how that went. Raises ModelError."""
        probe = circuit.is_probe(self._circuit, Work.RUN)
        self._circuit = circuit.begun(self._circuit, Work.RUN)
        try:
            answer = await self.model.complete(messages, tools, on_text)
        except ContextOverflow:
            self._circuit = circuit.abandoned(self._circuit, probe=probe)
            raise
        except ProviderApiError:
            now = self._monotonic()
            failure = ErrorClass.PROVIDER_API
            self._circuit = circuit.failed(self._circuit, self._policy, Work.RUN, failure, now, probe=probe)
            if self._circuit.status is CircuitStatus.OPEN:
                logger.warning("%s is not asked for %g s", self.name, self._policy.cooldown_seconds)
            raise
        except BaseException:
            self._circuit = circuit.abandoned(self._circuit, probe=probe)
            raise
        self._circuit = circuit.succeeded(self._circuit, Work.RUN, probe=probe)
        return answer


class Chain:
    """Asks the first model whose breaker is not open. ``monotonic`` gives seconds."""

    def __init__(self, models: Sequence[ModelProvider], policy: CircuitPolicy, monotonic: Callable[[], float]) -> None:
        self._links = [Link(model, policy, monotonic) for model in models]
        self.provider = models[0].provider
        self.model_name = models[0].model_name

    @property
    def models(self) -> list[ModelProvider]:
        """All of them, the first one first."""
        return [link.model for link in self._links]

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        """One completion; its ``spoken_by`` says who gave it when that was not the first. Raises ModelError.

        A failure that opens the breaker of one goes on to the next at once. When all are open the first is asked.
        """
        asked = [link for link in self._links if not link.open] or self._links[:1]
        for link in asked:
            try:
                answer = await link.complete(messages, tools, on_text)
            except ProviderApiError as error:
                if link is asked[-1] or isinstance(error, ContextOverflow) or not link.open:
                    raise
            else:
                return answer if link is self._links[0] else replace(answer, spoken_by=link.name)
        raise ProviderApiError("no model is left to ask")

    async def close(self) -> None:
        """Free the connections of all."""
        for link in self._links:
            await link.model.close()
