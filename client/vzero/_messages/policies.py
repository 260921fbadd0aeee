"""Requests about policies and fleets."""

from collections.abc import Mapping, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from vzero._checks import check_name, check_number
from vzero._messages.columns import elements
from vzero.errors import InvalidArgument
from vzero.v1 import policy_pb2
from vzero.values import Keep, Price

PAGE_SIZE = 1000
"""Policies or fleets on one page of a listing."""

_MAX_POLICIES = 256


def update_policy_request(
    policy_id: str, price: Price | Keep | None, labels: Mapping[str, str] | None
) -> policy_pb2.UpdatePolicyRequest:
    """Build the request that sets price and labels of a policy; see `Client.update_policy`.

    Raises:
        InvalidArgument: an argument breaks a rule, or there is nothing to set.
    """
    request = policy_pb2.UpdatePolicyRequest(policy_id=check_name("policy_id", policy_id))
    mask = FieldMask()
    if not isinstance(price, Keep):
        mask.paths.append("price")
        if price is not None:
            request.price.CopyFrom(_price(price))
    if labels is not None:
        mask.paths.append("labels")
        request.labels.update(check_labels(labels))
    if not mask.paths:
        raise InvalidArgument.of("price", "or labels must be given: there is nothing to set")
    request.update_mask.CopyFrom(mask)
    return request


def update_fleet_request(name: str, policies: Sequence[str]) -> policy_pb2.UpdateFleetRequest:
    """Build the request that stores a fleet; see `Client.update_fleet`.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """
    return policy_pb2.UpdateFleetRequest(
        name=check_name("name", name), policy_ids=check_policies(policies)
    )


def check_policies(policies: Sequence[str]) -> list[str]:
    """Return the names of 1 to 256 policies, each once.

    Raises:
        InvalidArgument: a name breaks a rule, or there are none, too many or duplicates.
    """
    names = [
        check_name(f"policies[{i}]", name) for i, name in enumerate(elements("policies", policies))
    ]
    if len(names) > _MAX_POLICIES:
        raise InvalidArgument.of("policies", f"must be at most {_MAX_POLICIES}, not {len(names)}")
    if len(set(names)) < len(names):
        duplicate = next(name for i, name in enumerate(names) if name in names[:i])
        raise InvalidArgument.of("policies", f"must be different: {duplicate!r} is given twice")
    return names


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels whose names and values are strings.

    Raises:
        InvalidArgument: a name or a value is not a string.
    """
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidArgument.of("labels", f"must be strings, not {name!r}: {value!r}")
    return dict(labels)


def _price(price: object) -> policy_pb2.Price:
    if not isinstance(price, Price):
        raise InvalidArgument.of("price", f"must be a Price or None, not {type(price).__name__}")
    per_token = check_number("price", price.per_token)
    match price.unit:
        case "params":
            return policy_pb2.Price(params_ratio=per_token)
        case "money":
            return policy_pb2.Price(money=per_token)
    raise InvalidArgument.of("price", f"must be in params or money, not {price.unit!r}")
