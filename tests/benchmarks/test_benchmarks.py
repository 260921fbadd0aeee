"""One benchmark from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_benchmark_of_updates_runs_and_prints_its_figures(tiny_model: Path) -> None:
    """With a small model; the other benchmarks use the same parts."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.updates", "--quick"],
        cwd=ROOT,
        env={**os.environ, "VZERO_BACKBONE": str(tiny_model)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "known prompts" in process.stdout
    figures = json.loads(process.stdout.splitlines()[-1])
    for key in ("known_rows_per_s", "new_rows_per_s", "predict_p99_ratio"):
        assert figures[key] > 0
        low, high = figures["spread"][key]
        assert low <= figures[key] <= high
