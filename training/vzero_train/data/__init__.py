"""Recorded outcomes, how they are split, and what is asked of them."""
