"""Policies, prices and fleets as messages."""

from typing import Any

from vzero.v1 import policy_pb2
from vzero_server.api.errors import InvalidRequestError
from vzero_server.api.messages.times import timestamp_message
from vzero_server.storage.records import Fleet, PolicyRecord, Price, PriceUnit

# The field of the message that holds a price, by unit.
_PRICE_FIELDS = {PriceUnit.PARAMS: "params_ratio", PriceUnit.MONEY: "money"}
_PRICE_UNITS = {field: unit for unit, field in _PRICE_FIELDS.items()}


def policy_message(record: PolicyRecord) -> policy_pb2.Policy:
    """Return the description of a policy."""
    return policy_pb2.Policy(
        policy_id=record.policy_id,
        version=record.version,
        newest_step=record.newest_step,
        mean_reward=record.mean_reward,
        created_at=timestamp_message(record.created_at),
        updated_at=timestamp_message(record.updated_at),
        mean_cost=record.mean_cost,
        mean_tokens=record.mean_tokens,
        price=_price_message(record.price),
        labels=record.labels,
        outcomes=record.outcomes,
    )


def policy_fields(request: policy_pb2.UpdatePolicyRequest) -> dict[str, Any]:
    """Return the fields that ``UpdatePolicy`` sets, as ``OutcomeStore.update_policy`` takes them.

    Raises:
        InvalidRequestError: The mask names another field.
    """
    fields: dict[str, Any] = {"price": _price_from(request.price), "labels": dict(request.labels)}
    paths = list(request.update_mask.paths)
    for path in paths:
        if path not in fields:
            reason = f"names {path!r}; the fields that can be set are {', '.join(fields)}"
            raise InvalidRequestError.of("update_mask", reason)
    if not paths:
        is_set = {"price": request.HasField("price"), "labels": bool(request.labels)}
        paths = [path for path in fields if is_set[path]]
    return {path: fields[path] for path in paths}


def fleet_message(fleet: Fleet) -> policy_pb2.Fleet:
    """Return a fleet."""
    return policy_pb2.Fleet(name=fleet.name, policy_ids=fleet.policy_ids)


def _price_message(price: Price | None) -> policy_pb2.Price | None:
    if price is None:
        return None
    return policy_pb2.Price(**{_PRICE_FIELDS[price.unit]: price.per_token})


def _price_from(message: policy_pb2.Price) -> Price | None:
    field = message.WhichOneof("per_token")
    return None if field is None else Price(getattr(message, field), _PRICE_UNITS[field])
