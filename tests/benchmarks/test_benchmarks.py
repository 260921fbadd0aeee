import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_updates_runs_and_reports(tiny_model: Path) -> None:
    """One benchmark end to end, with a small model; the others are made of the same parts."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.updates", "--quick"],
        cwd=ROOT,
        env={**os.environ, "VZERO_BACKBONE": str(tiny_model)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "known prompts" in done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    for key in ("known_rows_per_s", "new_rows_per_s", "predict_p99_ratio"):
        assert found[key] > 0
        low, high = found["spread"][key]
        assert low <= found[key] <= high
