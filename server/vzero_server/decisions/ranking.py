"""Ranking of the policies of a fleet for each prompt (paper, section 5.6).

A preference beta weighs success against cost. With the cost of a policy normalised over the
fleet to c~ in [0, 1], an outcome with reward r is relabelled as

    r_beta = beta r + (1 - beta) (1 - c~),

and the policy with the highest predicted r_beta is chosen (Eq. 11). Either the head reads contexts
of relabelled rewards (``PAPER``), or it predicts the reward, and the value is combined with the
cost afterwards (``DECOMPOSED``). The second reads each context once for all preferences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vzero_server.types import BoolArray, FloatArray, IntArray


class Mode(StrEnum):
    """Where success and cost are combined: after the head (``DECOMPOSED``) or before it."""

    DECOMPOSED = "decomposed"
    PAPER = "paper"


@dataclass(frozen=True, slots=True)
class Relabelling:
    """Affine map of the rewards of a context: ``scale`` * r + ``shift``, in [0, 1]."""

    scale: float
    shift: float

    @classmethod
    def of(cls, beta: float, normalised_cost: float) -> "Relabelling":
        """The map to r_beta, for a preference and a normalised cost in [0, 1]."""
        return cls(beta, (1.0 - beta) * (1.0 - normalised_cost))


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Policies of a fleet in order, for each prompt and preference.

    Shapes: b preferences, n prompts, P policies.

    Attributes:
        scores: Scores in [0, 1], ``[b, n, P]``.
        order: Positions of the policies, best first, ``[b, n, P]``: by score, then by cost.
            Policies that are not eligible come last.
        eligible: Whether a policy passes the filters, ``[n, P]``.
    """

    scores: FloatArray
    order: IntArray
    eligible: BoolArray


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
    """Whether each policy passes the filters, ``[n, P]``.

    Args:
        values: Values, ``[n, P]``, in [0, 1].
        costs: Expected cost of a rollout of each policy, ``[P]``; None if unknown.
        min_value: Minimum value.
        max_cost: Maximum expected cost; an unknown cost does not pass.
        admitted: Whether each policy passes other filters, ``[P]``; None: all do.
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
    """Order the policies of a fleet.

    Args:
        scores: Scores, ``[b, n, P]``.
        cost: Normalised costs, ``[P]``.
        passed: Result of ``eligible``, ``[n, P]``.
    """
    costs = np.broadcast_to(cost, scores.shape)
    excluded = np.broadcast_to(~passed, scores.shape)
    # The last key is the primary one. Rounding makes scores equal that differ by float errors.
    order: IntArray = np.lexsort((costs, -scores.round(12), excluded), axis=-1).astype(np.int64)
    return Ranking(scores, order, passed)
