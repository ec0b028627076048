"""Where messages come from and answers go: one protocol, one module for each commander."""
