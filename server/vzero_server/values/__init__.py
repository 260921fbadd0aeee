"""Statistics of values, in NumPy alone."""
