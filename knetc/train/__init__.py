"""Training: optimizers, updates, iterators over data, progress."""
