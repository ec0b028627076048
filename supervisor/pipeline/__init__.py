"""From a patch, or a newer checkout, to an update that waits for a person."""
