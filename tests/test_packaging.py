"""What importing costs, and what the command line says."""

import subprocess
import sys


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_the_client_imports_nothing_heavy() -> None:
    heavy = ("torch", "sentence_transformers", "sqlalchemy", "typer", "rich", "vzero_server")
    code = f"import sys, vzero; print([name for name in {heavy!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_the_commands_of_the_server_are_listed_without_loading_it() -> None:
    code = (
        "import sys; sys.argv = ['vzero', '--help']\n"
        "from vzero.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    printed = python(code)
    for command in ("serve", "demo", "predict", "update", "policies", "export", "import"):
        assert f" {command} " in printed
    assert printed.strip().endswith("False")
