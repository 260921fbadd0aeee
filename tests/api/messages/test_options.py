"""Read options of requests."""

import dataclasses

import pytest
from google.protobuf.message import Message

from vzero.v1 import value_pb2
from vzero_server.api.messages.options import read_options
from vzero_server.engine.options import DEFAULTS, ReadOptions

REQUESTS = (
    value_pb2.PredictRequest,
    value_pb2.AllocateBudgetRequest,
    value_pb2.RankModelsRequest,
)


@pytest.mark.parametrize("request_type", REQUESTS)
def test_a_request_that_sets_nothing_has_the_defaults(request_type: type[Message]) -> None:
    assert read_options(request_type()) == DEFAULTS


@pytest.mark.parametrize("request_type", REQUESTS[:2])
def test_every_option_is_read_from_the_field_of_its_name(request_type: type[Message]) -> None:
    options = ReadOptions(
        estimator="knn", as_of_step=0, min_version=0, with_peers=False, with_history=False
    )
    assert read_options(request_type(**dataclasses.asdict(options))) == options


def test_an_option_that_a_request_does_not_have_keeps_its_default() -> None:
    request = value_pb2.RankModelsRequest(estimator="icl", with_peers=False)
    assert read_options(request) == ReadOptions(estimator="icl", with_peers=False)
