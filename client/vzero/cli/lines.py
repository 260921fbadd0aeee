"""The error of bad input under its former path."""

from vzero.cli.errors import BadInput

__all__ = ["BadInput"]
