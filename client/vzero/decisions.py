"""Decisions of the server, as frozen dataclasses and NumPy arrays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero.errors import InvalidArgument
from vzero.values import FloatArray, Values

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Rollouts of each prompt, in the order of the request.

    Attributes:
        rollouts: number of rollouts of each prompt, int64 [n].
        values: values that the allocation was computed from.
        utility: value of the objective.
        upper_bound: bound on the utility of every allocation within the constraints; equal to
            ``utility`` if the allocation is known to be optimal.
        spent: cost of the allocation, in the unit of ``total``.
        decision_id: identifier of the allocation, for its outcomes.
    """

    rollouts: npt.NDArray[np.int64]
    values: Values
    utility: float
    upper_bound: float
    spent: float
    decision_id: str

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.rollouts)

    @property
    def version(self) -> int:
        """Version of the policy that the values were computed from."""
        return self.values.context.version


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """All policies in order for one prompt; P policies, b preferences.

    Attributes:
        policies: names, best first under the first preference [P]; of equal scores the cheaper
            comes first, and policies that do not pass the filters come last.
        scores: scores under the first preference, float64 [P] in [0, 1].
        mean: estimated success rates, float64 [P] in [0, 1].
        lower: lower ends of the 90 % intervals, float64 [P].
        upper: upper ends of the 90 % intervals, float64 [P].
        effective_sample_size: rollouts of the prompt that each estimate is worth, float64 [P].
        basis: upper-case name of the estimator behind each estimate, str [P].
        expected_cost: cost of one rollout, float64 [P]; NaN if unknown, which ranks as the highest.
        eligible: whether each policy passes the filters, bool [P].
        betas: preferences, float64 [b].
        orders: positions in ``policies``, best first under each preference, int64 [b, P].
        order_scores: scores in the order of ``orders``, float64 [b, P].
        decision_id: identifier of the ranking, for its outcomes.
    """

    policies: tuple[str, ...]
    scores: FloatArray
    mean: FloatArray
    lower: FloatArray
    upper: FloatArray
    effective_sample_size: FloatArray
    basis: npt.NDArray[np.str_]
    expected_cost: FloatArray
    eligible: npt.NDArray[np.bool_]
    betas: FloatArray
    orders: Positions
    order_scores: FloatArray
    decision_id: str

    def __len__(self) -> int:
        """Return the number of policies."""
        return len(self.policies)

    @property
    def best(self) -> str:
        """The first policy. With filters, check ``eligible[0]``."""
        return self.policies[0]

    def under(self, beta: float) -> tuple[str, ...]:
        """Return the policies, best first, under one of the preferences.

        Raises:
            InvalidArgument: the preference is not in ``betas``.
        """
        rows = np.flatnonzero(self.betas == beta)
        if not rows.size:
            raise InvalidArgument.of("beta", f"must be one of {self.betas.tolist()}, not {beta!r}")
        return tuple(self.policies[i] for i in self.orders[rows[0]])
