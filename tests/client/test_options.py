"""Read options: one list, checked by the types of the message's fields."""

import inspect

import numpy as np
import pytest

import vzero
from vzero._options import ReadOptions, ValueOptions, write_options
from vzero.cli._read_options import _declarations
from vzero.errors import FailedPrecondition, InvalidArgument
from vzero.v1 import value_pb2
from vzero_server.testing.local_server import LocalServer

READS = [value_pb2.PredictRequest, value_pb2.AllocateBudgetRequest]


def test_every_option_has_a_field_and_a_declaration_on_the_command_line() -> None:
    for message in READS:
        assert set(ReadOptions.__annotations__) <= set(message.DESCRIPTOR.fields_by_name)
    ranked = set(value_pb2.RankModelsRequest.DESCRIPTOR.fields_by_name)
    assert set(ReadOptions.__annotations__) & ranked == set(ValueOptions.__annotations__)
    declared = set(inspect.signature(_declarations).parameters)
    assert declared == set(ReadOptions.__annotations__)


def test_options_that_are_not_given_are_left_unset() -> None:
    request = value_pb2.PredictRequest()
    write_options("predict", request, {"as_of_step": None, "min_version": None})
    assert request == value_pb2.PredictRequest()


def test_values_of_all_types() -> None:
    request = value_pb2.PredictRequest()
    write_options(
        "predict",
        request,
        {
            "estimator": "TabPFN",
            "as_of_step": np.int64(3),  # type: ignore[typeddict-item]
            "min_version": 4.0,  # type: ignore[typeddict-item]
            "with_peers": np.False_,  # type: ignore[typeddict-item]
            "with_history": True,
        },
    )
    assert request == value_pb2.PredictRequest(
        estimator="tabpfn", as_of_step=3, min_version=4, with_peers=False, with_history=True
    )


@pytest.mark.parametrize("name", ["estimatr", "policy_id", "prompts"])
def test_an_unknown_option_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=rf"predict\(\) got .* keyword argument '{name}'.*min_ver"):
        write_options("predict", value_pb2.PredictRequest(), {name: 1})  # type: ignore[misc]


def test_clients_refuse_unknown_options() -> None:
    with vzero.Client("127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="'min_versions'"):
            client.predict("p", ["x"], min_versions=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="'with_peer'"):
            client.allocate("p", ["x"], 8, with_peer=False)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"rank\(\) got .* 'as_of_step'"):
            client.rank(["x"], policies=["p"], as_of_step=1)  # type: ignore[call-arg]


async def test_the_asyncio_client_refuses_unknown_options() -> None:
    async with vzero.AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="'min_versions'"):
            await client.predict("p", ["x"], min_versions=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"rank\(\) got .* 'min_version'"):
            await client.rank(["x"], policies=["p"], min_version=1)  # type: ignore[call-arg]


def test_the_server_resolves_the_names_of_estimators(shared_server: LocalServer) -> None:
    with vzero.Client(shared_server.address) as client:
        client.update("options/estimators", ["x", "y"], [0, 1])
        for name in ("KNN", "knn", "Knn"):
            values = client.predict("options/estimators", ["x"], estimator=name)
            assert set(values.basis) <= {"KNN", "PRIOR"}
        with pytest.raises(InvalidArgument, match="knn") as unknown:
            client.predict("options/estimators", ["x"], estimator="best")
        assert unknown.value.code is not None
        assert unknown.value.violations[0][0] == "estimator"
        with pytest.raises(FailedPrecondition):
            client.predict("options/estimators", ["x"], estimator="TABPFN")
