"""A short training run of TRL on a small model, which records its batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from trl import GRPOConfig

from tests.integrations.tiny_policy import tiny_llama, tiny_tokenizer
from vzero.integrations.budget import Budget
from vzero.integrations.trl import BudgetedGRPOTrainer

PROMPTS, GROUP, BATCHES = 4, 4, 10
"""Prompts of a batch, rollouts of each on average, and batches of a training run."""

TOTAL = PROMPTS * GROUP


def training_prompts() -> list[str]:
    """Prompts of three kinds: always solved, never solved, and sometimes solved."""
    kinds = ("What is {i} plus 1?", "Prove theorem {i}.", "Write a word that rhymes with {i}.")
    return [kinds[i % 3].format(i=i) for i in range(24)]


def solved(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """The rewards, which depend on the completion for the third kind only."""
    rewards = []
    for prompt, completion in zip(prompts, completions, strict=True):
        luck = sum(map(ord, completion)) % 2
        rewards.append({"What": 1.0, "Prov": 0.0}.get(prompt[:4], float(luck)))
    return rewards


@dataclass
class Batch:
    """One generation batch as TRL trains on it, row by row."""

    prompts: list[str]
    rewards: list[float]
    advantages: list[float]
    logged_advantages: list[float]
    completions: list[str]
    lengths: list[int]


class RecordedTrainer(BudgetedGRPOTrainer):
    """Records every batch."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored = super()._generate_and_score_completions(inputs)
        decode = self.processing_class.batch_decode
        # The batch that TRL trains on, not its input.
        self.batches.append(
            Batch(
                decode(scored["prompt_ids"], skip_special_tokens=True),
                list(self._logs["rewards"]["solved"]),
                scored["advantages"].tolist(),
                list(self._logs["advantages"]),
                decode(scored["completion_ids"], skip_special_tokens=True),
                scored["completion_mask"].sum(1).tolist(),
            )
        )
        return scored


def trainer_of(budget: Budget, folder: Path, **settings: Any) -> RecordedTrainer:
    tokenizer = tiny_tokenizer()
    options = {
        "output_dir": str(folder),
        "per_device_train_batch_size": TOTAL,
        "num_generations": GROUP,
        "max_completion_length": 4,
        "max_steps": BATCHES,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **settings,
    }
    trainer = RecordedTrainer(
        model=tiny_llama(tokenizer),
        reward_funcs=solved,
        args=GRPOConfig(**options),
        train_dataset=Dataset.from_dict({"prompt": training_prompts()}),
        processing_class=tokenizer,
        budget=budget,
    )
    trainer.batches = []
    return trainer


def expected_advantages(batch: Batch) -> list[float]:
    """Advantages by their definition, prompt by prompt."""
    advantages = []
    for prompt, reward in zip(batch.prompts, batch.rewards, strict=True):
        group = [r for p, r in zip(batch.prompts, batch.rewards, strict=True) if p == prompt]
        std = np.std(group, ddof=1)
        advantages.append(float((reward - np.mean(group)) / (std + 1e-4)))
    return advantages


def sizes(batch: Batch) -> list[int]:
    return [batch.prompts.count(prompt) for prompt in dict.fromkeys(batch.prompts)]


def mean_over_prompts(batches: Sequence[Batch], column: str) -> float:
    """Mean over all prompts of all batches of the mean over their rollouts."""
    means = []
    for batch in batches:
        for prompt in dict.fromkeys(batch.prompts):
            rows = zip(batch.prompts, getattr(batch, column), strict=True)
            means.append(np.mean([value for row_prompt, value in rows if row_prompt == prompt]))
    return float(np.mean(means))
