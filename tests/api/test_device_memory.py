"""A server with TabPFN on a device that runs out of memory."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

import vzero
from tests.api.calls import Stubs, detail, refused
from tests.api.faulty_server import (
    CROWDED_ALWAYS,
    CROWDED_ONCE,
    CROWDED_QUERIES,
    FaultyServer,
)
from tests.tiny_qwen import save_released_file, save_tiny_qwen
from tests.tiny_tabpfn import save_tiny_tabpfn

PROMPTS = [f"What is {a} and {a * a}?" for a in range(60)]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    folder = tmp_path_factory.mktemp("crowded")
    save_tiny_qwen(folder / "qwen")
    settings = {
        "backbone": folder / "qwen",
        "adapter": save_released_file(folder / "v0.pt"),
        "tabpfn": save_tiny_tabpfn(folder / "head.ckpt"),
        "head": "none",
    }
    with FaultyServer(folder / "data", **settings) as running:
        yield running
        assert running.running


@pytest.fixture
def client(crowded: FaultyServer) -> Iterator[vzero.Client]:
    with vzero.Client(crowded.address) as client:
        yield client


def learn(client: vzero.Client, policy: str, rows: int) -> None:
    client.update(policy, PROMPTS[:rows], np.arange(rows) % 2.0)


def test_queries_that_do_not_fit_are_computed_in_pieces(
    crowded: FaultyServer, client: vzero.Client
) -> None:
    learn(client, "small", 12)
    prompts = PROMPTS[12:52]
    values = client.predict("small", prompts, estimator="TABPFN")
    assert set(values.basis) == {"TABPFN"}
    pieces = [
        client.predict("small", prompts[start : start + CROWDED_QUERIES], estimator="TABPFN").mean
        for start in range(0, len(prompts), CROWDED_QUERIES)
    ]
    np.testing.assert_allclose(values.mean, np.concatenate(pieces), atol=1e-5)
    assert "out of memory; dropping cached contexts" in crowded.log.read_text()


def test_a_context_that_does_not_fit_is_fitted_after_memory_is_freed(client: vzero.Client) -> None:
    learn(client, "once", CROWDED_ONCE)
    values = client.predict("once", PROMPTS[50:53], estimator="TABPFN")
    assert set(values.basis) == {"TABPFN"}


def test_contexts_that_never_fit_are_rejected_and_others_are_served(
    crowded: FaultyServer, client: vzero.Client
) -> None:
    learn(client, "never", CROWDED_ALWAYS)
    stubs = Stubs(crowded)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
        stubs.predict("never", PROMPTS[50:53], estimator="tabpfn")
    assert caught[0].details() == (
        f"the device is out of memory: no room for a context of {CROWDED_ALWAYS} rows"
    )
    info = detail(caught[0], error_details_pb2.ErrorInfo)
    assert info.reason == "DEVICE_MEMORY_FULL"  # type: ignore[attr-defined]
    assert detail(caught[0], error_details_pb2.RetryInfo)
    learn(client, "other", 12)
    assert set(client.predict("other", PROMPTS[50:53], estimator="TABPFN").basis) == {"TABPFN"}
