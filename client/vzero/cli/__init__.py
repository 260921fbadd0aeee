"""The command line, ``vzero``."""

from vzero.cli._app import main, run

__all__ = ["main", "run"]
