"""Allocates rollouts by the values of a prediction."""

from dataclasses import dataclass

from vzero_server.decisions.allocation import Allocation, allocate
from vzero_server.decisions.constraints import Constraints, uncertainty_floors
from vzero_server.decisions.utility import Objective
from vzero_server.types import FloatArray
from vzero_server.values.beta import Values


@dataclass(frozen=True, slots=True, eq=False)
class AllocationOptions:
    """Constraints and objective of an allocation.

    Attributes:
        total: Rollouts of all prompts; with ``token_costs``, most tokens they may cost.
        minimum: Fewest rollouts of a prompt.
        maximum: Most rollouts of a prompt.
        multiple_of: The rollouts of each prompt are a multiple of this.
        token_costs: Expected tokens of one rollout of each prompt, ``[n]``; None counts rollouts.
        skip: Whether a prompt may get no rollout instead of the minimum.
        uncertain_minimum: Fewest rollouts of prompts with an uncertain value; None treats them
            like others.
        uncertain_width: A value is uncertain if its interval is at least this wide.
        objective: What is maximised.
        exact: Whether the optimum is required, which can take a minute.
    """

    total: int
    minimum: int
    maximum: int
    multiple_of: int
    token_costs: FloatArray | None
    skip: bool
    uncertain_minimum: int | None
    uncertain_width: float
    objective: Objective
    exact: bool


def allocate_by_values(values: Values, options: AllocationOptions) -> Allocation:
    """Allocate rollouts to the prompts of some values.

    Takes milliseconds, or up to a minute if the optimum is required.

    Raises:
        AllocationError: No allocation meets the constraints.
    """
    floors = None
    if options.uncertain_minimum is not None:
        floors = uncertainty_floors(
            values.lower, values.upper, options.uncertain_width, options.uncertain_minimum
        )
    constraints = Constraints(
        total=options.total,
        minimum=options.minimum,
        maximum=options.maximum,
        multiple_of=options.multiple_of,
        token_costs=options.token_costs,
        floors=floors,
        skip=options.skip,
    )
    return allocate(
        values.mean,
        values.effective_sample_size,
        constraints,
        options.objective,
        exact=options.exact,
    )
