"""From arguments to the requests of decisions, checked before anything is sent."""

import math
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from vzero import outcome, requests
from vzero.errors import InvalidArgument
from vzero.requests import Column, Prompts
from vzero.v1 import policy_pb2, value_pb2
from vzero.values import Keep, Price

MAX_RANKED = 256
"""Prompts or policies of one ranking request."""

_MOST_ROLLOUTS = 4096
_MOST_TOTAL = 10**12


def allocate(
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
    estimator: str,
    as_of_step: int | None,
    min_version: int | None,
    with_peers: bool,
    with_history: bool,
) -> value_pb2.AllocateBudgetRequest:
    """Build the call that divides rollouts among prompts; see `Client.allocate`.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """
    requests.check_policy(policy_id)
    texts = requests.check_prompts(prompts)
    if len(texts) > requests.MAX_ITEMS:
        most = requests.MAX_ITEMS
        raise InvalidArgument.of("prompts", f"must be at most {most}, not {len(texts)}")
    request = value_pb2.AllocateBudgetRequest(
        policy_id=policy_id,
        prompts=texts,
        total=outcome.integer("total", total, 0, _MOST_TOTAL),
        minimum=outcome.integer("minimum", minimum, 0, _MOST_ROLLOUTS),
        maximum=outcome.integer("maximum", maximum, 1, _MOST_ROLLOUTS),
        multiple_of=outcome.integer("multiple_of", multiple_of, 1, _MOST_ROLLOUTS),
        objective=value_pb2.Objective.Value(
            requests.choice("objective", objective, value_pb2.Objective.keys())
        ),
        skip=bool(skip),
        exact=bool(exact),
        estimator=requests.check_estimator(estimator),
        with_peers=bool(with_peers),
        with_history=bool(with_history),
    )
    if token_costs is not None:
        for i, cost in enumerate(requests.spread("token_costs", token_costs, len(texts))):
            number = outcome.number(f"token_costs[{i}]", cost)
            if number == 0.0:
                raise InvalidArgument.of(f"token_costs[{i}]", "must be positive, not 0")
            request.token_costs.append(number)
    if uncertain_minimum is not None:
        least = outcome.integer("uncertain_minimum", uncertain_minimum, 1, _MOST_ROLLOUTS)
        request.uncertain_minimum = least
    if uncertain_width is not None:
        request.uncertain_width = outcome.number("uncertain_width", uncertain_width, 1.0)
    if as_of_step is not None:
        request.as_of_step = outcome.check_count("as_of_step", as_of_step)
    if min_version is not None:
        request.min_version = outcome.check_count("min_version", min_version)
    return request


def rank(
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
    estimator: str,
    with_peers: bool,
    with_history: bool,
) -> Iterator[value_pb2.RankModelsRequest]:
    """Build the calls that put policies in order for prompts; see `Client.rank`.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """
    texts = requests.check_prompts(prompts)
    if (policies is None) == (fleet is None):
        raise InvalidArgument.of("policies", "name policies, or else a fleet")
    common = value_pb2.RankModelsRequest(
        policy_ids=[] if policies is None else _policies("policies", policies),
        fleet="" if fleet is None else outcome.check_name("fleet", fleet, 256),
        mode=value_pb2.RankMode.Value(requests.choice("mode", mode, value_pb2.RankMode.keys())),
        estimator=requests.check_estimator(estimator),
        with_peers=bool(with_peers),
        with_history=bool(with_history),
        labels=_labels(labels or {}),
    )
    count = 1 if not hasattr(betas, "__len__") or isinstance(betas, str) else len(betas)
    if not 1 <= count <= 32:
        raise InvalidArgument.of("betas", f"must be 1 to 32, not {count}")
    for i, beta in enumerate(requests.spread("betas", betas, count)):
        common.betas.append(outcome.number(f"betas[{i}]", beta, 1.0))
    for policy_id, cost in (costs or {}).items():
        common.costs[policy_id] = outcome.number(f"costs[{policy_id!r}]", cost)
    if min_value is not None:
        common.min_value = outcome.number("min_value", min_value, 1.0)
    if max_cost is not None:
        common.max_cost = outcome.number("max_cost", max_cost, math.inf)
    sizes = (len(text.encode()) for text in texts)
    for part in requests.cut(texts, sizes, MAX_RANKED):
        request = value_pb2.RankModelsRequest(prompts=part)
        request.MergeFrom(common)
        yield request


def update_policy(
    policy_id: str, price: Price | Keep | None, labels: Mapping[str, str] | None
) -> policy_pb2.UpdatePolicyRequest:
    """Build the call that sets what is known of a policy; see `Client.update_policy`.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """
    request = policy_pb2.UpdatePolicyRequest(policy_id=requests.check_policy(policy_id))
    mask = FieldMask()
    if not isinstance(price, Keep):
        mask.paths.append("price")
        if isinstance(price, Price):
            per_token = outcome.number("price", price.per_token)
            if price.unit == "params":
                request.price.params_ratio = per_token
            elif price.unit == "money":
                request.price.money = per_token
            else:
                raise InvalidArgument.of("price", f"is in params or money, not {price.unit!r}")
        elif price is not None:
            kind = type(price).__name__
            raise InvalidArgument.of("price", f"must be a Price or None, not {kind}")
    if labels is not None:
        mask.paths.append("labels")
        request.labels.update(_labels(labels))
    if not mask.paths:
        raise InvalidArgument.of("price", "name a price or labels to set")
    request.update_mask.CopyFrom(mask)
    return request


def update_fleet(name: str, policies: Sequence[str]) -> policy_pb2.UpdateFleetRequest:
    """Build the call that stores a fleet; see `Client.update_fleet`.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """
    return policy_pb2.UpdateFleetRequest(
        name=check_fleet(name), policy_ids=_policies("policies", policies)
    )


def check_fleet(name: str) -> str:
    """Return the name of a fleet: 1 to 256 characters, none of them a control character.

    Raises:
        InvalidArgument: it is something else.
    """
    return outcome.check_name("name", name, 256)


def _policies(field: str, policies: Sequence[str]) -> list[str]:
    """Names of 1 to 256 policies, each once."""
    names = [
        outcome.check_name(f"{field}[{i}]", name, 256)
        for i, name in enumerate(requests.strings(field, policies))
    ]
    if len(names) > MAX_RANKED:
        raise InvalidArgument.of(field, f"must be at most {MAX_RANKED}, not {len(names)}")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InvalidArgument.of(field, f"names {twice!r} twice")
    return names


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels whose names and values are strings."""
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidArgument.of("labels", f"must be strings, not {name!r}: {value!r}")
    return dict(labels)
