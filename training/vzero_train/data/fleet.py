"""Fleets: policies with outcomes on the same prompts, from which routers choose."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from vzero_server.types import Float32Array, FloatArray, IntArray
from vzero_train.data.outcomes import Outcomes

# Share of the prompts a policy must have been tried on to be part of the fleet.
_COVERAGE = 0.9
_FEWEST_PROMPTS = 64


class FleetError(Exception):
    """Outcomes hold no fleet."""


@dataclass(frozen=True, eq=False)
class Fleet:
    """P policies, each tried on the same n prompts.

    Attributes:
        texts: The prompts, ``[n]``.
        benchmarks: Their benchmarks, ``[n]``.
        policies: Names, ``[P]``.
        rewards: In [0, 1], ``[n, P]``.
        costs: Cost of an attempt, ``[n, P]``, not negative; see ``unit``.
        unit: Unit of the costs: ``params_b x tokens`` (Eq. 56), ``tokens``, ``params_b``, or
            ``unknown`` if all costs are unknown and 0.
    """

    texts: tuple[str, ...]
    benchmarks: npt.NDArray[np.str_]
    policies: tuple[str, ...]
    rewards: FloatArray
    costs: FloatArray
    unit: str

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, prompts: int, rng: np.random.Generator) -> Self:
        """Return the fleet on at most ``prompts`` of the prompts, drawn at random."""
        if len(self) <= prompts:
            return self
        kept = np.sort(rng.permutation(len(self))[:prompts])
        return replace(
            self,
            texts=tuple(self.texts[index] for index in kept),
            benchmarks=self.benchmarks[kept],
            rewards=self.rewards[kept],
            costs=self.costs[kept],
        )


def fleet_of(outcomes: Outcomes, *, sized: bool = False) -> Fleet:
    """Return the policies that were tried on nearly all prompts, on the prompts they share.

    Only the last step of a policy counts, and only the first benchmark of a prompt. Policies
    with outcomes of fewer than nine prompts in ten are left out.

    An attempt costs its tokens times the policy's size (Eq. 56) if all sizes are known, else
    its tokens: costs with and without sizes cannot be compared. If the tokens of an attempt are
    unknown, all attempts of the policy cost the mean of its known ones; if they are unknown for
    a whole policy, the size alone counts.

    Args:
        outcomes: Outcomes of one source.
        sized: Use only policies of known size.

    Raises:
        FleetError: Fewer than two policies, or fewer than 64 prompts, are left.
    """
    if sized:
        known = outcomes.params is not None and np.isfinite(outcomes.params)
        outcomes = outcomes.where(np.broadcast_to(known, outcomes.reward.shape))
    names, policy = np.unique(outcomes.policy, return_inverse=True)
    row_of = np.full((len(outcomes.texts), len(names)), -1)
    # Later rows overwrite earlier ones: the last step wins, and of its rows the first.
    order = np.lexsort((-np.arange(len(outcomes)), outcomes.step))
    row_of[outcomes.prompt[order], policy[order]] = order
    last = np.array([outcomes.step[policy == number].max() for number in range(len(names))])
    row_of[(row_of >= 0) & (outcomes.step[row_of] < last)] = -1
    tried = (row_of >= 0).sum(0)
    full = tried >= _COVERAGE * (row_of >= 0).any(1).sum()
    prompts = np.flatnonzero((row_of[:, full] >= 0).all(1))
    if full.sum() < 2 or len(prompts) < _FEWEST_PROMPTS:
        raise FleetError(
            f"{int(full.sum())} policies were tried on nine prompts of ten, and "
            f"{len(prompts) if full.any() else 0} prompts by all of them; routing needs two "
            f"policies and {_FEWEST_PROMPTS} prompts"
        )
    rows = row_of[np.ix_(prompts, np.flatnonzero(full))]
    costs, unit = _costs(outcomes, rows)
    return Fleet(
        texts=tuple(outcomes.texts[prompt] for prompt in prompts),
        benchmarks=outcomes.benchmark[rows[:, 0]],
        policies=tuple(str(name) for name in names[full]),
        rewards=outcomes.reward[rows].astype(np.float64),
        costs=costs,
        unit=unit,
    )


def _costs(outcomes: Outcomes, rows: IntArray) -> tuple[FloatArray, str]:
    """Return the costs of attempts, ``[n, P]``, and their unit."""
    tokens, sizes = _amounts(outcomes.tokens, rows), _amounts(outcomes.params, rows)
    counted = bool(np.isfinite(tokens).any(0).all())
    sized = bool(np.isfinite(sizes).any(0).all())
    costs = np.ones(rows.shape)
    if counted:
        known = np.isfinite(tokens)
        means = np.where(known, tokens, 0.0).sum(0) / known.sum(0)
        costs = tokens if known.all() else np.broadcast_to(means, rows.shape).copy()
    if sized:
        costs = costs * np.nanmax(sizes, axis=0)
    if not (counted or sized):
        return np.zeros(rows.shape), "unknown"
    return costs, " x ".join(["params_b"] * sized + ["tokens"] * counted)


def _amounts(amounts: Float32Array | None, rows: IntArray) -> FloatArray:
    if amounts is None:
        return np.full(rows.shape, np.nan)
    return amounts[rows].astype(np.float64)
