"""The command line on a small outcomes file, for the tests of training and research."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.training.made_up import made_up_outcomes
from vzero.cli import main
from vzero_train.data.outcomes import Outcomes

RECIPE = """
components = 8

[head]
skills = 4
traits = 3
hidden = 8

[trainer]
steps = 4
contexts = 2
queries = 8
smallest = 4
largest = 16
warmup = 2
save_every = 2

[folds]
first = ["b0"]
other = ["b1", "c*"]
"""

PROVENANCE = """
[provenance.licences]
"made up" = "CC0-1.0"
another = "MIT"
"""


def write_inputs(folder: Path) -> None:
    """Write outcomes of several policies and of one, and a recipe."""
    write(folder / "outcomes.parquet", made_up_outcomes(prompts=160, policies=3, steps=2))
    write(folder / "one-policy.parquet", made_up_outcomes(prompts=160, policies=1, steps=2))
    (folder / "recipe.toml").write_text(RECIPE + PROVENANCE)


def write(path: Path, outcomes: Outcomes) -> None:
    columns = {
        "prompt": [outcomes.texts[index] for index in outcomes.prompt],
        "policy": outcomes.policy.tolist(),
        "benchmark": outcomes.benchmark.tolist(),
        "source": outcomes.source.tolist(),
        "step": outcomes.step,
        "reward": outcomes.reward,
        "n_rollouts": outcomes.rollouts,
    }
    parquet.write_table(pa.table(columns), path)


def run(*arguments: object, command: Callable[[Sequence[str]], None] = main) -> int:
    """Exit code of ``vzero``, or of another command."""
    with pytest.raises(SystemExit) as ended:
        command([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def document(
    capsys: pytest.CaptureFixture[str],
    *arguments: object,
    command: Callable[[Sequence[str]], None] = main,
) -> Any:
    """What a command prints with ``--json``."""
    assert run(*arguments, "--json", command=command) == 0
    printed = capsys.readouterr()
    assert not printed.err
    return json.loads(printed.out)
