"""From a message to the prompt, with its events."""

from supervisor.contract import EventType
from worker.context.assembler import PromptAssembler
from worker.context.compressor import ContextCompressor
from worker.context.provider import ContextProvider
from worker.models.base import Message
from worker.store.events import Events


class ContextBuilder:
    """Runs provider, compressor and assembler, and records what came of it."""

    def __init__(
        self,
        *,
        system_prompt: str,
        provider: ContextProvider,
        compressor: ContextCompressor,
        assembler: PromptAssembler,
        events: Events,
    ) -> None:
        self._system_prompt = system_prompt
        self._provider = provider
        self._compressor = compressor
        self._assembler = assembler
        self._events = events

    def build(self, chat_id: int, text: str, *, parent_id: int) -> list[Message]:
        """The messages for the model. ``parent_id`` is the event of the run."""
        found = self._provider.recent(chat_id)
        kept = self._compressor.compress(found)
        if len(kept) < len(found):
            self._events.append(
                EventType.CONTEXT_COMPACTED,
                {"chat_id": chat_id, "messages_before": len(found), "messages_after": len(kept)},
                parent_id=parent_id,
            )
        messages = self._assembler.assemble(self._system_prompt, kept, text)
        self._events.append(
            EventType.CONTEXT_ASSEMBLED,
            {
                "chat_id": chat_id,
                "messages": len(messages),
                "history": len(kept),
                "chars": sum(len(message.text) for message in messages),
            },
            parent_id=parent_id,
        )
        return messages
