"""Requests for rankings."""

import math
from collections.abc import Mapping, Sequence

from vzero._checks import check_choice, check_name, check_number
from vzero._messages.batches import split_prompts
from vzero._messages.columns import Column, Prompts, broadcast, check_prompts
from vzero._messages.policies import check_labels, check_policies
from vzero._options import ValueOptions, write_options
from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2

MAX_PROMPTS = 256
"""Prompts in one request."""

_MAX_BETAS = 32


def rank_requests(
    prompts: Prompts,
    *,
    policies: Sequence[str] | None,
    fleet: str | None,
    betas: Column,
    costs: Mapping[str, float] | None,
    mode: str,
    min_value: float | None,
    max_cost: float | None,
    labels: Mapping[str, str] | None,
    options: ValueOptions,
) -> list[value_pb2.RankModelsRequest]:
    """Build the requests that rank policies for prompts; see `Client.rank`.

    Raises:
        InvalidArgument: an argument breaks a rule.
        TypeError: an option is unknown, or applies to one policy only.
    """
    texts = check_prompts(prompts)
    if (policies is None) == (fleet is None):
        raise InvalidArgument.of("policies", "must be given, or else a fleet, but not both")
    mode_name = check_choice("mode", mode, value_pb2.RankMode.keys())
    shared = value_pb2.RankModelsRequest(
        policy_ids=[] if policies is None else check_policies(policies),
        fleet="" if fleet is None else check_name("fleet", fleet),
        mode=value_pb2.RankMode.Value(mode_name),
        labels=check_labels(labels or {}),
    )
    write_options("rank", shared, options, ValueOptions)
    shared.betas.extend(_betas(betas))
    for policy_id, cost in (costs or {}).items():
        shared.costs[policy_id] = check_number(f"costs[{policy_id!r}]", cost)
    if min_value is not None:
        shared.min_value = check_number("min_value", min_value, 1.0)
    if max_cost is not None:
        shared.max_cost = check_number("max_cost", max_cost, math.inf)
    requests = []
    for batch in split_prompts(texts, MAX_PROMPTS):
        request = value_pb2.RankModelsRequest(prompts=batch)
        request.MergeFrom(shared)
        requests.append(request)
    return requests


def _betas(betas: Column) -> list[float]:
    """Return 1 to 32 preferences in [0, 1]."""
    count = 1 if not hasattr(betas, "__len__") or isinstance(betas, str) else len(betas)
    if not 1 <= count <= _MAX_BETAS:
        raise InvalidArgument.of("betas", f"must be 1 to {_MAX_BETAS}, not {count}")
    return [
        check_number(f"betas[{i}]", beta, 1.0)
        for i, beta in enumerate(broadcast("betas", betas, count))
    ]
