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

    The test rows are those of held-out policies on held-out benchmarks. Trained on is what
    shares no policy, no prompt and no benchmark with them.

    Args:
        outcomes: All outcomes.
        benchmarks: Held-out benchmarks. Name all that share a family (every GSM8K): the same
            prompt must not stand on both sides under another name.
        share: Share of policies that are held out, drawn at random. Policies that are known
            from the held-out benchmarks only are held out besides.
        seed: Of the draw.
    """
    held = np.isin(outcomes.benchmark, list(benchmarks))
    policies = np.unique(outcomes.policy)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(policies, int(share * len(policies)), replace=False)
    only = np.setdiff1d(outcomes.policy[held], outcomes.policy[~held])
    theirs = np.isin(outcomes.policy, np.union1d(drawn, only))
    seen = ~held & ~theirs & ~_prompts_of(outcomes, held)
    return Split(outcomes.where(seen), outcomes.where(held & theirs))


def unseen_benchmarks(outcomes: Outcomes, benchmarks: Collection[str]) -> Split:
    """Hold out benchmarks: judged are all policies on them; no prompt of theirs is trained on."""
    held = np.isin(outcomes.benchmark, list(benchmarks))
    return Split(outcomes.where(~_prompts_of(outcomes, held)), outcomes.where(held))


def _prompts_of(outcomes: Outcomes, rows: BoolArray) -> BoolArray:
    """True where a row's prompt is also the prompt of one of ``rows``."""
    held = np.zeros(len(outcomes.texts), dtype=bool)
    held[outcomes.prompt[rows]] = True
    return held[outcomes.prompt]
