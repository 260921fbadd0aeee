"""GRPO of TRL on a small model, with a server."""

import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integrations.tiny_policy import tiny_llama, tiny_tokenizer
from tests.integrations.tiny_training import (
    BATCHES,
    GROUP,
    PROMPTS,
    TOTAL,
    Batch,
    expected_advantages,
    mean_over_prompts,
    sizes,
    solved,
    trainer_of,
)
from vzero import Client
from vzero.errors import InvalidArgument
from vzero.integrations.budget import Budget
from vzero.integrations.trl import prompt_text
from vzero_server.testing.local_server import LocalServer

# Warnings of libraries about each other.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing.* is deprecated:FutureWarning",
)


def test_groups_follow_the_values_and_rewards_arrive(
    shared_server: LocalServer, tmp_path: Path
) -> None:
    with Client(shared_server.address) as client:
        budget = Budget(client, "trl-run", spool_dir=tmp_path / "spool", timeout=30.0)
        trainer = trainer_of(budget, tmp_path)
        trainer.train()
        policy = client.policy("trl-run")

    assert len(trainer.batches) == BATCHES
    for batch in trainer.batches:
        assert len(batch.prompts) == TOTAL
        assert len(sizes(batch)) == PROMPTS
        assert min(sizes(batch)) >= 2
        assert batch.rewards == solved(batch.prompts, batch.completions)
        assert batch.advantages == pytest.approx(expected_advantages(batch), abs=1e-4)
        assert batch.logged_advantages == batch.advantages
    assert sizes(trainer.batches[0]) == [GROUP] * PROMPTS
    assert len({tuple(sizes(batch)) for batch in trainer.batches}) > 2

    # All rewards are in the context.
    assert policy.version == BATCHES * PROMPTS
    assert policy.mean_reward == pytest.approx(mean_over_prompts(trainer.batches, "rewards"))
    assert policy.newest_step == BATCHES - 1
    assert policy.mean_tokens == pytest.approx(mean_over_prompts(trainer.batches, "lengths"))

    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == BATCHES
    assert all(math.isfinite(entry["loss"]) for entry in logs)
    for entry, batch in zip(logs, trainer.batches, strict=True):
        silent = np.mean(np.array(expected_advantages(batch)) == 0.0)
        assert entry["frac_reward_zero_std"] == pytest.approx(silent)
        assert entry["vzero/silent_rollouts"] == pytest.approx(silent)
        assert entry["vzero/group_size_max"] == max(sizes(batch))
        assert entry["vzero/group_size_min"] == min(sizes(batch))
        assert entry["reward"] == pytest.approx(np.mean(batch.rewards))
        assert entry["reward_std"] == pytest.approx(np.std(batch.rewards, ddof=1), abs=1e-5)
    assert [entry["vzero/divided"] for entry in logs] == [0.0] + [1.0] * (BATCHES - 1)
    assert all(0.0 <= entry["vzero/value_error"] <= 1.0 for entry in logs[1:])


def test_generations_that_are_used_in_several_steps_are_reported_once(
    shared_server: LocalServer, tmp_path: Path
) -> None:
    with Client(shared_server.address) as client:
        trainer = trainer_of(
            Budget(client, "trl-reuse", timeout=30.0),
            tmp_path,
            per_device_train_batch_size=TOTAL // 4,
            gradient_accumulation_steps=2,
            steps_per_generation=4,
            num_iterations=2,
            max_steps=24,
        )
        trainer.train()
        version = client.policy("trl-reuse").version
    # 24 steps of 2 batches each; a generation lasts 4 * 2 batches.
    assert len(trainer.batches) == 6
    assert version == 6 * PROMPTS
    for batch in trainer.batches:
        assert len(batch.prompts) == TOTAL
        assert batch.advantages == pytest.approx(expected_advantages(batch), abs=1e-4)


@pytest.mark.long
def test_groups_may_span_processes(shared_server: LocalServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "tests.integrations.train_in_processes", shared_server.address, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert process.returncode == 0, process.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    spanning = 0
    for first, second in zip(*ranks, strict=True):
        parts = [Batch(**part) for part in (first, second)]
        # The rows of both processes; each logs the rewards of all rows.
        whole = Batch(*(a + b for a, b in zip(first.values(), second.values(), strict=True)))
        whole.rewards = parts[0].rewards
        assert parts[0].rewards == parts[1].rewards == solved(whole.prompts, whole.completions)
        assert len(whole.prompts) == TOTAL
        assert len(sizes(whole)) == PROMPTS
        assert whole.advantages == pytest.approx(expected_advantages(whole), abs=1e-4)
        spanning += bool(set(parts[0].prompts) & set(parts[1].prompts))
    assert spanning > 0
    with Client(shared_server.address) as client:
        assert client.policy("trl-processes").version == len(ranks[0]) * PROMPTS


def test_training_continues_without_a_server(
    server: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    with Client(server.address) as client:
        budget = Budget(client, "trl-offline", spool_dir=tmp_path / "spool", timeout=0.5)
        trainer = trainer_of(budget, tmp_path, max_steps=3)
        with caplog.at_level(logging.WARNING, "vzero"):
            trainer.train()
    assert [sizes(batch) for batch in trainer.batches] == [[GROUP] * PROMPTS] * 3
    assert all(
        batch.advantages == pytest.approx(expected_advantages(batch), abs=1e-4)
        for batch in trainer.batches
    )
    assert "rollouts of trl-offline are divided evenly" in caplog.text
    server.start()
    with Client(server.address) as client:
        # The next run with the same folder delivers the outcomes of this one.
        with Budget(client, "trl-offline", spool_dir=tmp_path / "spool", timeout=30.0).reporting():
            pass
        assert client.policy("trl-offline").version == 3 * PROMPTS


def test_rewards_that_are_not_success_rates_are_named_in_the_error(
    shared_server: LocalServer, tmp_path: Path
) -> None:
    with Client(shared_server.address) as client:
        budget = Budget(client, "trl-doubled", timeout=30.0)
        trainer = trainer_of(budget, tmp_path, max_steps=1, reward_weights=[2.0])
        with pytest.raises(InvalidArgument, match=r"outcome of a rollout must be in \[0, 1\]"):
            trainer.train()
        trainer = trainer_of(budget, tmp_path, max_steps=1, reward_weights=[2.0])
        trainer._outcome = lambda rewards: rewards[:, 0]
        trainer.train()
        assert client.policy("trl-doubled").version == PROMPTS


def test_a_minimum_above_the_group_size_is_rejected(tmp_path: Path) -> None:
    with Client() as client, pytest.raises(InvalidArgument, match="num_generations is 4"):
        trainer_of(Budget(client, "trl-large", minimum=5), tmp_path)


def test_the_example_of_the_documentation_runs(
    shared_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "trl.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for text, replacement in {
        '"127.0.0.1:50051"': repr(shared_server.address),
        '"Qwen/Qwen2.5-0.5B-Instruct"': "tiny_llama(tokenizer), processing_class=tokenizer",
        "GRPOConfig(": "GRPOConfig(max_steps=2, max_completion_length=4, use_cpu=True, "
        "report_to='none', save_strategy='no', disable_tqdm=True, ",
    }.items():
        assert code.count(text) == 1
        code = code.replace(text, replacement)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"tiny_llama": tiny_llama, "tokenizer": tiny_tokenizer()}
    exec(compile(code, "docs/trl.md", "exec"), names)
    with names["client"] as client:
        assert client.policy("qwen2.5-0.5b/grpo-1").version == 2 * 64 // 8


def test_the_text_of_a_conversation_joins_its_text_blocks() -> None:
    image = {"type": "image", "image": object()}
    blocks = [image, {"type": "text", "text": "What is this?"}]
    system = {"role": "system", "content": "Be brief."}
    assert prompt_text("What is this?") == "What is this?"
    assert (
        prompt_text([system, {"role": "user", "content": blocks}]) == "Be brief.\n\nWhat is this?"
    )
