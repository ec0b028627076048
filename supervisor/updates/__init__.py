"""What holds for an update in every step: who may decide what, what is bound, what is told of it."""
