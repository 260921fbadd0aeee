"""Splits of outcomes into a training set and a test set."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vzero_server.types import BoolArray
from vzero_train.data.outcomes import Outcomes


@dataclass(frozen=True)
class Split:
    """A training set and a test set."""

    train: Outcomes
    test: Outcomes


def unseen_everything(
    outcomes: Outcomes, benchmarks: Collection[str], share: float = 0.4, seed: int = 11
) -> Split:
    """Hold out benchmarks, policies and prompts at once.

    The test rows are those of held-out policies on held-out benchmarks. The training rows share
    no policy, no prompt and no benchmark with them.

    Args:
        outcomes: All outcomes.
        benchmarks: Held-out benchmarks. Name all of a family (every GSM8K), so that no prompt is
            on both sides under two names.
        share: Share of policies to hold out, drawn at random. Policies with outcomes on held-out
            benchmarks only are held out as well.
        seed: Seed of the draw.
    """
    held = np.isin(outcomes.benchmark, list(benchmarks))
    policies = np.unique(outcomes.policy)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(policies, int(share * len(policies)), replace=False)
    only = np.setdiff1d(outcomes.policy[held], outcomes.policy[~held])
    held_policies = np.isin(outcomes.policy, np.union1d(drawn, only))
    seen = ~held & ~held_policies & ~_prompts_of(outcomes, held)
    return Split(outcomes.where(seen), outcomes.where(held & held_policies))


def unseen_benchmarks(outcomes: Outcomes, benchmarks: Collection[str]) -> Split:
    """Hold out benchmarks, and their prompts wherever they occur; policies are on both sides."""
    held = np.isin(outcomes.benchmark, list(benchmarks))
    return Split(outcomes.where(~_prompts_of(outcomes, held)), outcomes.where(held))


def _prompts_of(outcomes: Outcomes, rows: BoolArray) -> BoolArray:
    """Return where the prompt of a row is also the prompt of one of ``rows``."""
    held = np.zeros(len(outcomes.texts), dtype=bool)
    held[outcomes.prompt[rows]] = True
    return held[outcomes.prompt]
