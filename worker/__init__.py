"""The patchable side of autonous: the agent that chats, and whose source an update changes."""

__version__ = "0.1.0"
