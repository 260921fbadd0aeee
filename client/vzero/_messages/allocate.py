"""Requests for allocations."""

from vzero._checks import check_choice, check_integer, check_name, check_number
from vzero._messages.batches import MAX_ITEMS
from vzero._messages.columns import Column, Prompts, broadcast, check_prompts
from vzero._options import ReadOptions, write_options
from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2

_MAX_ROLLOUTS = 4096
_MAX_TOTAL = 10**12


def allocate_request(
    policy_id: str,
    prompts: Prompts,
    total: int,
    *,
    minimum: int,
    maximum: int,
    multiple_of: int,
    objective: str,
    token_costs: Column,
    skip: bool,
    uncertain_minimum: int | None,
    uncertain_width: float | None,
    exact: bool,
    options: ReadOptions,
) -> value_pb2.AllocateBudgetRequest:
    """Build the request that divides rollouts among prompts; see `Client.allocate`.

    Raises:
        InvalidArgument: an argument breaks a rule.
        TypeError: an option is unknown.
    """
    check_name("policy_id", policy_id)
    texts = check_prompts(prompts)
    if len(texts) > MAX_ITEMS:
        raise InvalidArgument.of("prompts", f"must be at most {MAX_ITEMS}, not {len(texts)}")
    request = value_pb2.AllocateBudgetRequest(
        policy_id=policy_id,
        prompts=texts,
        total=check_integer("total", total, 0, _MAX_TOTAL),
        minimum=check_integer("minimum", minimum, 0, _MAX_ROLLOUTS),
        maximum=check_integer("maximum", maximum, 1, _MAX_ROLLOUTS),
        multiple_of=check_integer("multiple_of", multiple_of, 1, _MAX_ROLLOUTS),
        objective=value_pb2.Objective.Value(check_objective(objective)),
        skip=bool(skip),
        exact=bool(exact),
    )
    if token_costs is not None:
        for i, token_cost in enumerate(broadcast("token_costs", token_costs, len(texts))):
            cost = check_number(f"token_costs[{i}]", token_cost)
            if cost == 0.0:
                raise InvalidArgument.of(f"token_costs[{i}]", "must be positive, not 0")
            request.token_costs.append(cost)
    if uncertain_minimum is not None:
        request.uncertain_minimum = check_integer(
            "uncertain_minimum", uncertain_minimum, 1, _MAX_ROLLOUTS
        )
    if uncertain_width is not None:
        request.uncertain_width = check_number("uncertain_width", uncertain_width, 1.0)
    write_options("allocate", request, options)
    return request


def check_objective(objective: object) -> str:
    """Return the full name of an objective; see `check_choice`."""
    return check_choice("objective", objective, value_pb2.Objective.keys())
