"""Workers as containers, and the lease that moves between them."""
