"""Replies about policies, fleets and the server as dataclasses."""

from datetime import UTC

from vzero.v1 import policy_pb2, server_pb2, value_pb2
from vzero.values import Ack, Fleet, Policy, Price, ServerInfo


def read_ack(
    reply: value_pb2.UpdateContextResponse | policy_pb2.ImportContextResponse,
) -> Ack:
    """Read the acknowledgement of a chunk or of a bundle."""
    return Ack(reply.policy_id, reply.version, reply.accepted, reply.duplicates)


def read_policy(message: policy_pb2.Policy) -> Policy:
    """Read the description of a policy."""
    return Policy(
        policy_id=message.policy_id,
        version=message.version,
        outcomes=message.outcomes,
        newest_step=message.newest_step if message.HasField("newest_step") else None,
        mean_reward=message.mean_reward,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        updated_at=message.updated_at.ToDatetime(tzinfo=UTC),
        mean_cost=message.mean_cost if message.HasField("mean_cost") else None,
        mean_tokens=message.mean_tokens if message.HasField("mean_tokens") else None,
        price=_price(message.price),
        labels=dict(message.labels),
    )


def read_fleet(message: policy_pb2.Fleet) -> Fleet:
    """Read a fleet."""
    return Fleet(message.name, tuple(message.policy_ids))


def read_server_info(reply: server_pb2.GetServerInfoResponse) -> ServerInfo:
    """Read the description of a server."""
    return ServerInfo(
        version=reply.version,
        estimators=tuple(estimator.name for estimator in reply.estimators),
        default_estimator=next(
            (estimator.name for estimator in reply.estimators if estimator.is_default), None
        ),
        backbone=reply.backbone,
        device=reply.device,
    )


def _price(message: policy_pb2.Price) -> Price | None:
    match message.WhichOneof("per_token"):
        case "params_ratio":
            return Price(message.params_ratio, "params")
        case "money":
            return Price(message.money, "money")
    return None
