"""The paper's TabPFN head as an estimator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_tabpfn import save_tiny_tabpfn
from vzero_server.engine.estimators.base import Query
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.estimator import TabPFN
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import read_tabpfn
from vzero_server.storage.records import Row
from vzero_server.values.beta import Values

POOLED, COLUMNS = 3, 9


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> TabPFNHead:
    path = save_tiny_tabpfn(tmp_path_factory.mktemp("head") / "head.ckpt")
    return TabPFNHead(read_tabpfn(path), columns=COLUMNS)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Feature vectors of the layout of an encoder: an embedding, then an adapter's columns."""
    columns = POOLED + COLUMNS
    return np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float16)


def window_of(features: np.ndarray, rewards: np.ndarray, rollouts: int = 1) -> ContextWindow:
    rows = [Row(i, i, float(r), rollouts, None, 0.0, None) for i, r in enumerate(rewards)]
    empty = ContextWindow.empty(POOLED)
    embeddings = features[:, :POOLED].astype(np.float32)
    return empty.extended(len(rows), rows, embeddings, 2048, {"tabpfn": features[:, POOLED:]})


def rewards_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count).astype(np.float32)


def predict(estimator: TabPFN, window: ContextWindow, queries: np.ndarray) -> Values:
    return estimator.predict([Query(estimator.fit(window), queries)])[0]


def test_values_equal_the_output_of_the_head_on_binary_rewards(head: TabPFNHead) -> None:
    features, rewards = vectors(40), rewards_of(30)
    rewards[:2] = [0.5, 0.499]
    values = predict(TabPFN(head), window_of(features[:30], rewards), features[30:])
    adapter_features = torch.from_numpy(features[:, POOLED:]).float().unsqueeze(0)
    labels = torch.from_numpy(rewards >= 0.5).long().unsqueeze(0)
    with torch.no_grad():
        expected = head(adapter_features[:, :30], labels, adapter_features[:, 30:]).softmax(-1)[
            0, :, 1
        ]
    np.testing.assert_allclose(values.mean, expected.numpy(), atol=1e-5)
    assert values.basis == "tabpfn"
    assert (values.lower <= values.mean).all()
    assert (values.mean <= values.upper).all()


def test_batched_queries_of_many_policies_equal_single_ones(head: TabPFNHead) -> None:
    """Contexts of several lengths, constant columns, priors, and calls of 1 to 20 prompts."""
    estimator, generator = TabPFN(head, batch_cells=40 * COLUMNS * 4), np.random.default_rng(2)
    queries = []
    for number in range(24):
        size = (0, 1, 12, 12, 20)[number % 5]
        features = vectors(size, number)
        if number % 4 == 0:
            features[:, POOLED + 2] = 1.0
        window = window_of(features, rewards_of(size, number))
        query_features = vectors(int(generator.integers(1, 20)), 1000 + number)
        queries.append(Query(estimator.fit(window), query_features))
    batched = estimator.predict(queries)
    assert {values.basis for values in batched} == {"tabpfn", "prior"}
    for query, values in zip(queries, batched, strict=True):
        single = estimator.predict([query])[0]
        assert values.mean.shape == (len(query),)
        assert values.basis == single.basis
        np.testing.assert_allclose(values.mean, single.mean, atol=1e-5)
        np.testing.assert_allclose(values.upper, single.upper, atol=1e-4)


@pytest.mark.parametrize("reward", [0.0, 0.3, 0.6, 1.0])
def test_a_context_of_one_class_gives_a_prior(head: TabPFNHead, reward: float) -> None:
    values = predict(TabPFN(head), window_of(vectors(18), np.full(18, reward)), vectors(3, 1))
    assert values.basis == "prior"
    np.testing.assert_allclose(values.mean, (18 * reward + 1) / 20)
    assert (values.upper - values.lower > 0.3).all()


def test_a_context_of_equal_prompts_gives_a_prior(head: TabPFNHead) -> None:
    features = np.repeat(vectors(1), 10, axis=0)
    values = predict(TabPFN(head), window_of(features, rewards_of(10)), vectors(2, 1))
    assert values.basis == "prior"


def test_only_the_newest_rows_are_used(head: TabPFNHead) -> None:
    features, rewards = vectors(50), rewards_of(40)
    truncated = predict(TabPFN(head, rows=16), window_of(features[:40], rewards), features[40:])
    newest = predict(TabPFN(head), window_of(features[24:40], rewards[24:]), features[40:])
    np.testing.assert_allclose(truncated.mean, newest.mean, atol=1e-5)


def test_rewards_that_agree_with_their_neighbours_narrow_the_interval(head: TabPFNHead) -> None:
    features = vectors(200)
    order = features[:, 0].astype(np.float32)
    smooth = 1.0 / (1.0 + np.exp(-2.0 * order))
    rough = np.random.default_rng(3).permutation(smooth)
    estimator = TabPFN(head, neighbours=8)
    sample_sizes = [
        predict(estimator, window_of(features, rewards, 16), vectors(1)).effective_sample_size[0]
        for rewards in (smooth, rough)
    ]
    assert sample_sizes[0] > 2 * sample_sizes[1]


def test_repeated_prompts_give_a_finite_sample_size(head: TabPFNHead) -> None:
    """Each prompt is in the context many times, and its rows are their nearest neighbours."""
    features = np.tile(vectors(4), (10, 1))
    window = window_of(features, rewards_of(40), 4)
    sample_size = predict(TabPFN(head, neighbours=3), window, vectors(2)).effective_sample_size
    assert np.isfinite(sample_size).all()
    assert (sample_size > 0).all()


def test_the_bytes_of_a_context_grow_with_its_rows(head: TabPFNHead) -> None:
    estimator = TabPFN(head)
    small = estimator.fit(window_of(vectors(10), rewards_of(10)))
    large = estimator.fit(window_of(vectors(100), rewards_of(100)))
    assert large.nbytes > 5 * small.nbytes
    assert small.nbytes == small.read.nbytes


def test_more_context_rows_than_the_head_supports_are_rejected(tmp_path: Path) -> None:
    path = save_tiny_tabpfn(tmp_path / "h.ckpt", inference_config={"MAX_NUMBER_OF_SAMPLES": 100})
    head = TabPFNHead(read_tabpfn(path), columns=COLUMNS)
    with pytest.raises(
        CheckpointError, match=r"setting context_rows: .* at most 100 rows, not 101"
    ):
        TabPFN(head, rows=101)
