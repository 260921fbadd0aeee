"""What the server decides, as frozen dataclasses and NumPy arrays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero.errors import InvalidArgument
from vzero.values import FloatArray, Values

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Rollouts of each prompt, in the order asked.

    Attributes:
        rollouts: how many each prompt gets, int64 [n].
        values: the estimates this rests on.
        utility: what the allocation is worth under the objective.
        upper_bound: no allocation within the constraints is worth more; equal to ``utility``
            where the allocation is known to be optimal.
        spent: what it costs, in the unit of ``total``.
        decision_id: its name, which outcomes may cite.
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
        """Version of the context the values were computed from."""
        return self.values.context.version


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """All policies in order for one prompt; P policies, b preferences.

    Attributes:
        policies: their names, best first under the first preference [P]; of equal scores the
            cheaper comes first, and those that do not pass the filters come last.
        scores: what they were ranked by, float64 [P] in [0, 1].
        mean: their estimated success rates, float64 [P] in [0, 1].
        lower: lower ends of the 90 % intervals, float64 [P].
        upper: upper ends of the 90 % intervals, float64 [P].
        effective_sample_size: rollouts of the prompt each estimate is worth, float64 [P].
        basis: what each estimate rests on, str [P].
        expected_cost: of one rollout, float64 [P]; NaN where unknown, which counts as the dearest.
        eligible: which of them pass the filters, bool [P].
        betas: the preferences, float64 [b].
        orders: positions in ``policies``, best first under each preference, int64 [b, P].
        order_scores: the scores in the order of ``orders``, float64 [b, P].
        decision_id: name of the ranking, which outcomes may cite.
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
        """The policy to ask; look at ``eligible[0]`` when there are filters."""
        return self.policies[0]

    def under(self, beta: float) -> tuple[str, ...]:
        """Return the policies in order, best first, under one of the preferences.

        Raises:
            InvalidArgument: it is none of ``betas``.
        """
        found = np.flatnonzero(self.betas == beta)
        if not found.size:
            raise InvalidArgument.of("beta", f"must be one of {self.betas.tolist()}, not {beta!r}")
        return tuple(self.policies[i] for i in self.orders[found[0]])
