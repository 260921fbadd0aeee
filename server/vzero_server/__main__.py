"""``python -m vzero_server``: the same as ``vzero serve``."""

import typer

from vzero_server.cli.serve import serve

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    app()
