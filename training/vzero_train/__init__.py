"""Training and evaluation of value models."""
