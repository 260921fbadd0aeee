"""The command ``vzero demo`` from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_the_demo_learns_survives_and_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vzero.cli import main; main()",
            "demo",
            "--policies",
            "2",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=280,
    )
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    scores, recovery = result["scores"], result["recovery"]
    assert len({score["policy"] for score in scores}) == 2
    assert len(scores) >= 16
    # After the first step, when the rewards of prompts differ.
    late = [score for score in scores if score["step"] > 0]
    assert all(score["knn_auc"] > 0.6 for score in late)
    for quality, better in (("auc", float.__gt__), ("mse", float.__lt__)):
        icl, knn = (
            sum(score[f"{name}_{quality}"] for score in late) / len(late) for name in ("icl", "knn")
        )
        assert better(icl, knn)
    assert all(score["knn_mse"] < score["context_mean_mse"] for score in late)
    assert recovery["acked"] == recovery["found_of_acked"] == sum(s["streamed"] for s in scores)
    assert recovery["sent_again"] > 0
    assert recovery["stored_twice"] == 0
    # Prompts of single calls are embedded in other batches, and rounded differently.
    assert recovery["largest_change_of_a_value"] < 1e-4
    assert list(tmp_path.iterdir()) == []
