"""Imports of the client and of the command line."""

import subprocess
import sys


def python(code: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return process.stdout


def test_importing_the_client_imports_no_large_package() -> None:
    large = ("torch", "sentence_transformers", "sqlalchemy", "typer", "rich", "vzero_server")
    code = f"import sys, vzero; print([name for name in {large!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_listing_all_commands_does_not_import_the_server() -> None:
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
