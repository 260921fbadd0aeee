"""The command ``vzero demo``."""
