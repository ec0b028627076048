"""What keeps a run within bounds."""
