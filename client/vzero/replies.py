"""From protobuf replies to dataclasses."""

from datetime import UTC

import numpy as np
import numpy.typing as npt

from vzero.errors import Internal
from vzero.v1 import policy_pb2, value_pb2
from vzero.values import Ack, Context, Policy, Values


def values(response: value_pb2.PredictResponse, expected: int) -> Values:
    """Read the values of one call.

    Args:
        response: the reply.
        expected: number of prompts that were asked.

    Raises:
        Internal: the server answered another number of values.
    """
    rows = response.values
    if len(rows) != expected:
        raise Internal(f"asked for {expected} values and got {len(rows)}")
    columns = np.array(
        [(row.mean, row.lower, row.upper, row.effective_sample_size) for row in rows],
        dtype=np.float64,
    ).reshape(-1, 4)
    mean, lower, upper, size = np.ascontiguousarray(columns.T)
    return Values(mean, lower, upper, size, _basis(response), _context(response.context))


def ack(
    response: value_pb2.UpdateContextResponse | policy_pb2.ImportContextResponse,
) -> Ack:
    """Read the acknowledgement of a chunk or of a bundle."""
    return Ack(response.policy_id, response.version, response.accepted, response.duplicates)


def policy(message: policy_pb2.Policy) -> Policy:
    """Read the description of a policy."""
    return Policy(
        policy_id=message.policy_id,
        version=message.version,
        newest_step=message.newest_step if message.HasField("newest_step") else None,
        mean_reward=message.mean_reward,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        updated_at=message.updated_at.ToDatetime(tzinfo=UTC),
    )


def _basis(response: value_pb2.PredictResponse) -> npt.NDArray[np.str_]:
    """Names of the bases [n]. A number that a newer server sends stays a number."""
    numbers = [int(row.basis) for row in response.values]
    known = value_pb2.Basis.DESCRIPTOR.values_by_number
    names = {
        number: known[number].name.removeprefix("BASIS_") if number in known else str(number)
        for number in set(numbers)
    }
    return np.array([names[number] for number in numbers], dtype=np.str_)


def _context(message: value_pb2.Context) -> Context:
    return Context(
        version=message.version,
        rows=message.rows,
        newest_step=message.newest_step if message.HasField("newest_step") else None,
        age_seconds=message.age.ToTimedelta().total_seconds() if message.HasField("age") else None,
        peers=message.peers,
    )
