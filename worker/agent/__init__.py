"""The work of the active worker: messages come in, runs answer them, answers go out."""
