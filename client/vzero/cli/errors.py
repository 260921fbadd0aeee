"""Errors of commands. Commands of other packages raise them too."""

import typer


class BadInput(typer.TyperException):
    """The input cannot be used. The program exits with code 2."""

    exit_code = 2

    @classmethod
    def at(cls, line_number: int, problem: object) -> "BadInput":
        """Return the error of one line of a file.

        Args:
            line_number: number of the line, from 1.
            problem: what is wrong with it.
        """
        return cls(f"line {line_number}: {problem}")
