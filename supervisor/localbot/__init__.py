"""The local bot: a small server that speaks the Telegram Bot API, for use without a bot token.

It carries ``supervisor say`` and ``supervisor chat``, the exam and the end-to-end tests. ``app`` puts the parts
together; ``python -m supervisor.localbot`` runs it as a process; ``client`` is the user's side of the conversation.
"""
