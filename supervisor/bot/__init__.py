"""The supervisor at the bot itself: its client, what it tells owners, and its help while no worker runs."""
