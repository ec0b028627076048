"""Where the tools run, and which directories an owner opens to them."""
