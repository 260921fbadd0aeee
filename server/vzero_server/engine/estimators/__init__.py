"""What computes values from contexts: one estimator a file."""
