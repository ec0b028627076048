"""What the images are built from, how they are built, and which of them stay."""
