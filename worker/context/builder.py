"""From a message to the prompt, with its events."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from supervisor.contract import EventType
from worker.context.assembler import PromptAssembler
from worker.context.compressor import ContextCompressor
from worker.context.provider import ContextProvider
from worker.context.tokens import total_tokens
from worker.models.base import Message, estimated_tokens
from worker.store.events import Events


@dataclass(frozen=True, slots=True)
class Context:
    """The messages for the model. ``original_count`` past ones were found, ``compressed_count`` are among them."""

    messages: Sequence[Message]
    original_count: int
    compressed_count: int


class ContextBuilder:
    """Runs provider, compressor and assembler, and records what came of it.

    ``why`` gives what the provider has to tell of its choice, for the event.
    """

    def __init__(
        self,
        *,
        system_prompt: str,
        provider: ContextProvider,
        compressor: ContextCompressor,
        assembler: PromptAssembler,
        events: Events,
        why: Callable[[int], Mapping[str, object]] = lambda _: {},
    ) -> None:
        self._system_prompt = system_prompt
        self._provider = provider
        self._compressor = compressor
        self._assembler = assembler
        self._events = events
        self._why = why

    def build(self, chat_id: int, text: str, *, parent_id: int, brief: str = "") -> Context:
        """The context of a message. ``parent_id`` is the event of the run, ``brief`` what only this run is told."""
        system = f"{self._system_prompt}\n\n{brief}" if brief else self._system_prompt
        found = self._provider.recent(chat_id)
        kept, rules = self._compressor.compress(found)
        counts = {
            "chat_id": chat_id,
            "original_count": len(found),
            "compressed_count": len(kept),
            "max_messages": self._compressor.max_messages,
        }
        messages = self._assembler.assemble(system, kept, text)
        if rules:
            before = total_tokens(self._assembler.assemble(system, found, text))
            compacted = {**counts, "before_tokens": before, "after_tokens": total_tokens(messages), "rules": rules}
            self._events.append(EventType.CONTEXT_COMPACTED, compacted, parent_id=parent_id)
        tokens = {
            "system_tokens": estimated_tokens(system),
            "history_tokens": _tokens(kept),
            "user_tokens": estimated_tokens(text),
        }
        assembled = {**counts, **tokens, **self._why(chat_id)}
        self._events.append(EventType.CONTEXT_ASSEMBLED, assembled, parent_id=parent_id)
        return Context(messages, len(found), len(kept))


def _tokens(messages: Iterable[Message]) -> int:
    return sum(estimated_tokens(message.text) for message in messages)
