"""The worker's database as the host meets it: copies, restores, and what of it is removed."""
