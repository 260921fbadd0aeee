"""Models: pure torch, no I/O but model files."""
