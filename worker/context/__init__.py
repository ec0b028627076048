"""What the model is shown: three small protocols, and the plainest implementation of each."""

from worker.context.assembler import PlainAssembler, PromptAssembler
from worker.context.builder import Context, ContextBuilder
from worker.context.compressor import ContextCompressor, InTurn, LastMessages, LongMessages
from worker.context.prompt import PromptUnreadable, SystemPrompt
from worker.context.provider import ContextProvider, RecentHistory
from worker.context.recalled import Recaller, WithRecalled

__all__ = [
    "Context",
    "ContextBuilder",
    "ContextCompressor",
    "ContextProvider",
    "InTurn",
    "LastMessages",
    "LongMessages",
    "PlainAssembler",
    "PromptAssembler",
    "PromptUnreadable",
    "Recaller",
    "RecentHistory",
    "SystemPrompt",
    "WithRecalled",
]
