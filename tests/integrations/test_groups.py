"""Advantages in groups of any size, against their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vzero.integrations.groups import Groups, Scoring

NAN = float("nan")
rewards = st.sampled_from([0.0, 0.25, 1.0, NAN])
batches = st.lists(
    st.lists(st.tuples(rewards, rewards), min_size=2, max_size=7), min_size=1, max_size=5
)


def reference_advantages(
    groups: list[list[tuple[float, float]]], weights: tuple[float, float], scale: str, order: str
) -> list[float]:
    """The advantages by their definition, rollout by rollout."""

    def normalised(values: list[float], spread: list[float] | None) -> list[float]:
        scored = [v for v in values if not np.isnan(v)]
        mean = np.mean(scored) if scored else NAN
        if spread is None:
            return [v - mean for v in values]
        scored = [v for v in spread if not np.isnan(v)]
        std = np.std(scored, ddof=1) if len(scored) > 1 else 0.0
        return [(v - mean) / (std + 1e-4) for v in values]

    def total(pair: tuple[float, float]) -> float:
        if all(map(np.isnan, pair)):
            return NAN
        return sum(w * r for w, r in zip(weights, pair, strict=True) if not np.isnan(r))

    if order == "normalize_then_sum":
        parts = [
            list(
                zip(
                    *(normalised([*column], [*column]) for column in zip(*g, strict=True)),
                    strict=True,
                )
            )
            for g in groups
        ]
        sums = [total(pair) for part in parts for pair in part]
        advantages = normalised(sums, sums)
    else:
        totals = [[total(pair) for pair in group] for group in groups]
        every = [value for values in totals for value in values]
        spreads = {"none": [None] * len(groups), "group": totals, "batch": [every] * len(groups)}
        advantages = [
            advantage
            for values, spread in zip(totals, spreads[scale], strict=True)
            for advantage in normalised(values, spread)
        ]
    return [0.0 if np.isnan(advantage) else advantage for advantage in advantages]


@pytest.mark.parametrize(
    ("scale", "order"),
    [
        ("group", "sum_then_normalize"),
        ("batch", "sum_then_normalize"),
        ("none", "sum_then_normalize"),
        ("group", "normalize_then_sum"),
    ],
)
@given(batch=batches, weights=st.tuples(st.floats(0.1, 2.0), st.floats(0.0, 2.0)))
def test_advantages_equal_their_definition(
    scale: str, order: str, batch: list[list[tuple[float, float]]], weights: tuple[float, float]
) -> None:
    groups = Groups.of([len(group) for group in batch], torch.device("cpu"))
    scoring = Scoring(torch.tensor(weights, dtype=torch.float64), scale, order)
    flat = torch.tensor([pair for group in batch for pair in group], dtype=torch.float64)
    advantages = scoring.advantages(flat, groups).tolist()
    # Rewards that are equal except for rounding have a spread of 1e-16, divided by 1e-4.
    assert advantages == pytest.approx(
        reference_advantages(batch, weights, scale, order), rel=1e-6, abs=1e-6
    )


def test_groups_of_one_rollout_or_without_rewards_have_no_deviation() -> None:
    groups = Groups.of([1, 2, 3], torch.device("cpu"))
    rewards = torch.tensor([0.5, NAN, NAN, 1.0, NAN, 0.0])
    assert groups.scored(rewards).tolist() == [1.0, 0.0, 2.0]
    assert groups.mean(rewards).tolist() == pytest.approx([0.5, NAN, 0.5], nan_ok=True)
    assert groups.std(rewards).tolist() == pytest.approx([0.0, 0.0, 0.5**0.5])
