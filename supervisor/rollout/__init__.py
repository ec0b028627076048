"""Which revision is active: from an approved update to a promoted one, and every way back."""
