"""Benchmarks of the server, each against references measured in the same run.

Each is one command, ``python -m benchmarks.NAME [--quick] [--json]``. The last line of its output
is one JSON object.
"""
