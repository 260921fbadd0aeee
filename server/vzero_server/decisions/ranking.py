"""Which policy of a fleet should answer a prompt (paper, section 5.6).

A preference beta weighs success against cost. With the cost of a policy normalised over the
fleet to c~ in [0, 1], an outcome with reward r is labelled

    r_beta = beta r + (1 - beta) (1 - c~),

and the policy whose context, labelled like that, promises the most is chosen (Eq. 11). Either
the labels go through the head (``PAPER``), or the head predicts the reward and the label is made
of that (``DECOMPOSED``). The second needs no context to be read again for another beta.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vzero_server.types import BoolArray, FloatArray, IntArray


class Mode(StrEnum):
    """Where success and cost are put together: after the head, or before it."""

    DECOMPOSED = "decomposed"
    PAPER = "paper"


@dataclass(frozen=True, slots=True)
class Label:
    """How the rewards of a context become labels: ``scale`` * r + ``shift``, in [0, 1]."""

    scale: float
    shift: float

    @classmethod
    def of(cls, beta: float, normalised_cost: float) -> "Label":
        """r_beta, for a preference and a normalised cost in [0, 1]."""
        return cls(beta, (1.0 - beta) * (1.0 - normalised_cost))


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """A fleet in order, for some prompts and preferences.

    Shapes: b preferences, n prompts, P policies.

    Attributes:
        scores: ``[b, n, P]``, in [0, 1].
        order: IntArray of the policies, best first, ``[b, n, P]``: by score, the cheaper of
            equals first; those that are not eligible come last.
        eligible: Which policies pass the filters, ``[n, P]``.
    """

    scores: FloatArray
    order: IntArray
    eligible: BoolArray


def expected_cost(
    per_token: float | None, tokens: float | None, observed: float | None
) -> float | None:
    """What one rollout of a policy should cost; None if nothing says.

    Args:
        per_token: Its price per token, if it has one: with its size in comparison with others
            (7 for 7 billion parameters) this is Eq. 56.
        tokens: Mean number of tokens of its rollouts, if known.
        observed: Mean cost of its outcomes, if known: what counts without a price.
    """
    cost = observed
    if per_token is not None:
        cost = None if tokens is None else per_token * tokens
    # Of sums and products that are too large for a number nothing is known.
    return cost if cost is not None and math.isfinite(cost) else None


def normalised(costs: Sequence[float | None]) -> FloatArray:
    """Costs of a fleet on a scale from 0, the cheapest, to 1, the dearest, ``[P]``.

    A policy of unknown cost counts as the dearest, so that it is not chosen for its price. If
    all costs are equal or unknown, cost decides nothing: all are 0.
    """
    known = np.array([np.nan if cost is None else cost for cost in costs])
    if np.isnan(known).all():
        return np.zeros(len(known))
    lowest, highest = np.nanmin(known), np.nanmax(known)
    if lowest == highest:
        return np.where(np.isnan(known), 1.0, 0.0)
    scaled: FloatArray = np.where(np.isnan(known), 1.0, (known - lowest) / (highest - lowest))
    return scaled


def decomposed_scores(values: FloatArray, cost: FloatArray, betas: Sequence[float]) -> FloatArray:
    """Scores beta v + (1 - beta) (1 - c~), ``[b, n, P]``, of values ``[n, P]``, costs ``[P]``."""
    weight = np.asarray(betas, np.float64)[:, None, None]
    scores: FloatArray = weight * values + (1.0 - weight) * (1.0 - cost)
    return scores


def eligible(
    values: FloatArray,
    costs: Sequence[float | None],
    *,
    min_value: float | None = None,
    max_cost: float | None = None,
    admitted: Sequence[bool] | None = None,
) -> BoolArray:
    """Which policies pass the filters, ``[n, P]``.

    Args:
        values: ``[n, P]``, in [0, 1].
        costs: Expected cost of a rollout of each policy, ``[P]``; None if unknown.
        min_value: Least value.
        max_cost: Highest expected cost; an unknown cost does not pass.
        admitted: Which policies pass for other reasons, ``[P]``; None: all.
    """
    passed = np.ones(values.shape, np.bool_)
    if min_value is not None:
        passed &= values >= min_value
    if max_cost is not None:
        passed &= np.array([cost is not None and cost <= max_cost for cost in costs])
    if admitted is not None:
        passed &= np.asarray(admitted, np.bool_)
    return passed


def rank(scores: FloatArray, cost: FloatArray, passed: BoolArray) -> Ranking:
    """Put a fleet in order.

    Args:
        scores: ``[b, n, P]``.
        cost: Normalised, ``[P]``.
        passed: From ``eligible``, ``[n, P]``.
    """
    dear = np.broadcast_to(cost, scores.shape)
    last = np.broadcast_to(~passed, scores.shape)
    # The last key counts first. Rounding must not part what is equal.
    order: IntArray = np.lexsort((dear, -scores.round(12), last), axis=-1).astype(np.int64)
    return Ranking(scores, order, passed)
