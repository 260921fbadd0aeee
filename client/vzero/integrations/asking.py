"""The question of AllocateBudget."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero.client import Client
from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2

_PREFIX = "OBJECTIVE_"


@dataclass(frozen=True, slots=True)
class Answer:
    """Rollouts of each prompt [n], and the values they rest on, float64 [n]."""

    rollouts: list[int]
    values: npt.NDArray[np.float64]


def objective(name: str) -> "value_pb2.Objective.ValueType":
    """The objective of a name such as ``EXPECTED``.

    Raises:
        InvalidArgument: There is none of that name.
    """
    names = [known.removeprefix(_PREFIX) for known in value_pb2.Objective.keys()[1:]]
    if name.upper() not in names:
        raise InvalidArgument.of("objective", f"must be one of {', '.join(names)}, not {name!r}")
    return value_pb2.Objective.Value(_PREFIX + name.upper())


def allocate(
    client: Client,
    policy_id: str,
    prompts: Sequence[str],
    total: int,
    *,
    objective: "value_pb2.Objective.ValueType",
    minimum: int,
    maximum: int,
    with_peers: bool,
    timeout: float,
) -> Answer:
    """Ask how to divide ``total`` rollouts among prompts; raises a `VzeroError`."""
    request = value_pb2.AllocateBudgetRequest(
        policy_id=policy_id,
        prompts=prompts,
        total=total,
        minimum=minimum,
        maximum=maximum,
        objective=objective,
        with_peers=with_peers,
    )
    reply = client._ask(client._values.AllocateBudget, request, policy_id, timeout)
    return Answer(list(reply.rollouts), np.array([value.mean for value in reply.values]))
