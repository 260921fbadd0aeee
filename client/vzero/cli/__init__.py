"""The command line, ``vzero``."""

from vzero.cli.app import main

__all__ = ["main"]
