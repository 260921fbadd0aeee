"""The commands ``vzero eval`` and ``vzero train``."""
