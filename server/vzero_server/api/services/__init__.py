"""The servicers of ``vzero.v1``."""
