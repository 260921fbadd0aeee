"""Replies as NumPy arrays."""

import numpy as np
import pytest

from vzero import Ack
from vzero._messages.replies import read_values
from vzero.errors import Internal
from vzero.v1 import value_pb2
from vzero.values import Values


def predict_reply(n: int, version: int = 5) -> value_pb2.PredictResponse:
    reply = value_pb2.PredictResponse(context=value_pb2.Context(version=version, rows=4))
    for i in range(n):
        reply.values.add(
            mean=0.5 + i / 100,
            lower=0.25,
            upper=0.75,
            effective_sample_size=3,
            basis="knn" if i else "prior",
        )
    return reply


def test_columns() -> None:
    values = read_values(predict_reply(3), 3)
    assert len(values) == 3
    assert values.mean.dtype == np.float64
    np.testing.assert_allclose(values.mean, [0.5, 0.51, 0.52])
    np.testing.assert_allclose(np.asarray(values), values.mean)
    assert np.argmax(values) == 2
    assert values.basis.tolist() == ["PRIOR", "KNN", "KNN"]
    assert values.context.rows == 4
    assert values.context.newest_step is None
    assert values.context.age_seconds is None
    assert repr(values) == (
        "Values(n=3, mean=(0.500 [0.250, 0.750], 0.510 [0.250, 0.750], 0.520 [0.250, 0.750]), "
        "basis=KNN/PRIOR, version=5, rows=4)"
    )


def test_optional_parts_of_the_context() -> None:
    reply = predict_reply(1)
    reply.context.newest_step = 0
    reply.context.age.FromMilliseconds(1500)
    context = read_values(reply, 1).context
    assert context.newest_step == 0
    assert context.age_seconds == 1.5


def test_join_reports_the_oldest_context() -> None:
    joined = Values.join([read_values(predict_reply(2, 7), 2), read_values(predict_reply(1, 6), 1)])
    assert len(joined) == 3
    assert joined.basis.tolist() == ["PRIOR", "KNN", "PRIOR"]
    assert joined.context.version == 6


def test_unknown_basis_of_a_newer_server() -> None:
    reply = predict_reply(1)
    reply.values[0].basis = "logistic"
    assert read_values(reply, 1).basis.tolist() == ["LOGISTIC"]


def test_wrong_number_of_values() -> None:
    with pytest.raises(Internal):
        read_values(predict_reply(2), 3)


def test_acks_add_up() -> None:
    assert Ack("p", 3, 2, 1).plus(Ack("p", 5, 2, 0)) == Ack("p", 5, 4, 1)
