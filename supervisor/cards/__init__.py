"""Cards: what the supervisor itself writes into a chat about an update, and the buttons that decide on it.

The worker relays a press and can neither make a card nor a button.
"""
