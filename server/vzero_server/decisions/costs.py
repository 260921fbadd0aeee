"""Expected costs of policies, and their normalisation over a fleet."""

import math
from collections.abc import Sequence

import numpy as np

from vzero_server.types import FloatArray


def expected_cost(
    per_token: float | None, tokens: float | None, observed: float | None
) -> float | None:
    """Expected cost of one rollout of a policy; None if unknown.

    Args:
        per_token: Its price per token, None if it has no price. With the number of parameters
            as the price (7 for 7 billion), this is Eq. 56.
        tokens: Mean number of tokens of its rollouts, None if unknown.
        observed: Mean cost of its outcomes, None if unknown; used without a price.
    """
    cost = observed
    if per_token is not None:
        cost = None if tokens is None else per_token * tokens
    # Sums and products that overflow count as unknown.
    return cost if cost is not None and math.isfinite(cost) else None


def normalised_costs(costs: Sequence[float | None]) -> FloatArray:
    """Costs of a fleet scaled from 0, the lowest, to 1, the highest, ``[P]``.

    An unknown cost counts as the highest, so that no policy is chosen because its cost is unknown.
    If all costs are equal or unknown, all are 0 and cost decides nothing.
    """
    known = np.array([np.nan if cost is None else cost for cost in costs])
    if np.isnan(known).all():
        return np.zeros(len(known))
    lowest, highest = np.nanmin(known), np.nanmax(known)
    if lowest == highest:
        return np.where(np.isnan(known), 1.0, 0.0)
    scaled: FloatArray = np.where(np.isnan(known), 1.0, (known - lowest) / (highest - lowest))
    return scaled
