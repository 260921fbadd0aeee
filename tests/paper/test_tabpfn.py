"""The TabPFN head: cached contexts against a joint pass, and against the package tabpfn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tabpfn import TabPFNClassifier
from tabpfn.preprocessing.configs import PreprocessorConfig

from tests.tiny_tabpfn import SMALL, save_tiny_tabpfn
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import read_tabpfn

COLUMNS = 13
ALL = list(SMALL)


def head_of(folder: Path, architecture: str = "tabpfn_v2_5", **settings: Any) -> TabPFNHead:
    path = save_tiny_tabpfn(folder / f"{architecture}.ckpt", architecture)
    return TabPFNHead(read_tabpfn(path), **{"columns": COLUMNS, **settings})


def task(rows: int, queries: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features ``[N, C]`` with labels of both classes ``[N]``, and queries ``[M, C]``."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows + queries, COLUMNS, generator=generator)
    labels = (features[:rows, 0] + 0.5 * torch.randn(rows, generator=generator) > 0).long()
    labels[:2] = torch.tensor([0, 1])
    return features[:rows], labels, features[rows:]


def joint_pass(head: TabPFNHead, *parts: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = head(*(part.unsqueeze(0) for part in parts))
    return logits[0].softmax(-1)[:, 1]


@pytest.mark.parametrize("architecture", ALL)
def test_predictions_from_a_cached_context_equal_those_of_a_joint_pass(
    tmp_path: Path, architecture: str
) -> None:
    head = head_of(tmp_path, architecture)
    rows, labels, queries = task(20, 5)
    context = head.encode(rows, labels)
    assert context is not None
    values = head.predict([context], queries.unsqueeze(0))[0]
    torch.testing.assert_close(values, joint_pass(head, rows, labels, queries), atol=1e-5, rtol=0)
    assert values.std() > 1e-3


@pytest.mark.parametrize("architecture", ALL)
def test_batched_contexts_equal_single_ones(tmp_path: Path, architecture: str) -> None:
    """Different policies, with calls of different length padded with zeros."""
    head = head_of(tmp_path, architecture)
    tasks = [task(16, queries, seed) for seed, queries in enumerate((3, 1, 6))]
    contexts = [head.encode(rows, labels) for rows, labels, _ in tasks]
    usable = [context for context in contexts if context is not None]
    padded = torch.zeros(3, 6, COLUMNS)
    for row, (_, _, queries) in zip(padded, tasks, strict=True):
        row[: len(queries)] = queries
    batched = head.predict(usable, padded)
    for values, context, (_, _, queries) in zip(batched, usable, tasks, strict=True):
        single = head.predict([context], queries.unsqueeze(0))[0]
        torch.testing.assert_close(values[: len(queries)], single, atol=1e-5, rtol=0)
    assert (batched[0, 0] - batched[1, 0]).abs() > 1e-4


@pytest.mark.parametrize("architecture", ["tabpfn_v2", "tabpfn_v2_5", "tabpfn_v2_6"])
@pytest.mark.parametrize("average_logits", [True, False])
def test_probabilities_equal_those_of_the_package_tabpfn(
    tmp_path: Path, architecture: str, average_logits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path of the package, with its preprocessing set to leave columns unchanged."""
    monkeypatch.setenv("TABPFN_NO_BROWSER", "1")
    path = save_tiny_tabpfn(tmp_path / "head.ckpt", architecture)
    rows, labels, queries = task(30, 7)
    classifier = TabPFNClassifier(
        model_path=str(path),
        n_estimators=4,
        device="cpu",
        inference_precision=torch.float32,
        average_before_softmax=average_logits,
        inference_config={
            "PREPROCESS_TRANSFORMS": [PreprocessorConfig("none", max_features_per_estimator=2000)],
            "FINGERPRINT_FEATURE": False,
            "FEATURE_SHIFT_METHOD": "shuffle",
            "CLASS_SHIFT_METHOD": None,
            "OUTLIER_REMOVAL_STD": None,
        },
    )
    classifier.fit(rows.numpy(), labels.numpy())
    expected = classifier.predict_proba(queries.numpy())[:, 1]
    orders = [
        member.cpu_preprocessor.steps[-1][0].index_permutation_
        for member in classifier.executor_.ensemble_members
    ]
    assert len({tuple(order) for order in orders}) == 4
    head = TabPFNHead(
        read_tabpfn(path), columns=COLUMNS, orders=orders, average_logits=average_logits
    )
    context = head.encode(rows, labels)
    assert context is not None
    values = head.predict([context], queries.unsqueeze(0))[0]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)


def test_all_adapter_columns_reach_the_network(tmp_path: Path) -> None:
    """The interface of the package uses only 500 of 1,008 columns per member."""
    head = head_of(tmp_path, columns=1008, members=2)
    rows = torch.randn(12, 1008, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 2
    context = head.encode(rows, labels)
    assert context is not None
    assert context.shape == (12, 1008)
    queries = torch.zeros(1, 2, 1008)
    for column in (0, 499, 500, 1007):
        queries[0, 1] = queries[0, 0]
        queries[0, 1, column] += 3.0
        values = head.predict([context], queries)[0]
        assert (values[0] - values[1]).abs() > 1e-6


def test_nbytes_is_the_memory_of_a_cached_context(tmp_path: Path) -> None:
    """A key and a value for each row, per member, layer and group of three columns."""
    rows, labels, _ = task(20, 0)
    full = head_of(tmp_path).encode(rows, labels)
    half = head_of(tmp_path, store=torch.float16).encode(rows, labels)
    assert full is not None
    assert half is not None
    groups, cached_rows, width, layers = 5 + 1, 20 + 4, 8, 2
    numbers = 4 * layers * groups * cached_rows * width * 2
    assert 4 * numbers < full.nbytes < 4 * numbers + 4000
    assert full.nbytes - half.nbytes == 2 * numbers


@pytest.mark.parametrize("architecture", ALL)
def test_storing_contexts_in_half_precision_changes_values_little(
    tmp_path: Path, architecture: str
) -> None:
    rows, labels, queries = task(40, 9)
    values = []
    for store in (torch.float32, torch.float16):
        head = head_of(tmp_path, architecture, store=store)
        context = head.encode(rows, labels)
        assert context is not None
        values.append(head.predict([context], queries.unsqueeze(0)))
    torch.testing.assert_close(values[1], values[0], atol=2e-3, rtol=0)
    assert not torch.equal(values[1], values[0])


@pytest.mark.parametrize("compute", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_from_a_cached_context_equal_those_of_a_joint_pass(
    tmp_path: Path, compute: torch.dtype
) -> None:
    rows, labels, queries = task(40, 9)
    head = head_of(tmp_path, compute=compute, store=compute)
    context = head.encode(rows, labels)
    assert context is not None
    values = head.predict([context], queries.unsqueeze(0))[0]
    torch.testing.assert_close(values, joint_pass(head, rows, labels, queries), atol=0.02, rtol=0)


@pytest.mark.parametrize("max_pass_cells", [1, 1 << 20])
def test_members_in_one_pass_or_several_give_the_same_values(
    tmp_path: Path, max_pass_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vzero_server.paper.tabpfn._MAX_PASS_CELLS", max_pass_cells)
    head = head_of(tmp_path)
    rows, labels, queries = task(20, 5)
    context = head.encode(rows, labels)
    assert context is not None
    values = head.predict([context], queries.unsqueeze(0))[0]
    torch.testing.assert_close(values, joint_pass(head, rows, labels, queries), atol=1e-5, rtol=0)


def test_columns_that_are_constant_in_a_context_are_dropped(tmp_path: Path) -> None:
    """As the package does: such a column carries no information."""
    head = head_of(tmp_path, orders=[range(COLUMNS)])
    rows, labels, queries = task(20, 5)
    rows[:, [3, 7]] = 1.5
    kept = [column for column in range(COLUMNS) if column not in (3, 7)]
    few = head_of(tmp_path, columns=len(kept), orders=[range(len(kept))])
    context = head.encode(rows, labels)
    assert context is not None
    assert context.shape == (20, COLUMNS - 2)
    values = head.predict([context], queries.unsqueeze(0))[0]
    expected = joint_pass(few, rows[:, kept], labels, queries[:, kept])
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def test_a_context_of_one_class_or_of_equal_prompts_is_not_encoded(tmp_path: Path) -> None:
    head = head_of(tmp_path)
    rows, labels, _ = task(10, 0)
    assert head.encode(rows, torch.ones_like(labels)) is None
    assert head.encode(rows[:1].expand(10, -1), labels) is None


@pytest.mark.parametrize("architecture", ["tabpfn_v2_5", "tabpfn_v3"])
def test_gradients_reach_features_but_no_parameters(tmp_path: Path, architecture: str) -> None:
    head = head_of(tmp_path, architecture)
    rows, labels, queries = (part.unsqueeze(0) for part in task(12, 4))
    rows.requires_grad_()
    queries.requires_grad_()
    head(rows, labels, queries)[..., 1].sum().backward()
    for part in (rows, queries):
        assert part.grad is not None
        assert part.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_input_beyond_the_limits_of_a_head_is_named_in_the_error(tmp_path: Path) -> None:
    limits = {"MAX_NUMBER_OF_SAMPLES": 16, "MAX_NUMBER_OF_FEATURES": 20}
    file = read_tabpfn(save_tiny_tabpfn(tmp_path / "small.ckpt", inference_config=limits))
    with pytest.raises(CheckpointError, match="at most 20 feature columns, the adapter makes 21"):
        TabPFNHead(file, columns=21)
    head = TabPFNHead(file, columns=COLUMNS)
    rows, labels, queries = task(17, 2)
    with pytest.raises(ValueError, match="a context of 17 rows; the head reads at most 16"):
        head.encode(rows, labels)
    with pytest.raises(ValueError, match="features must be"):
        head.encode(rows[:, 1:], labels)
    contexts = [head.encode(rows[:size], labels[:size]) for size in (10, 12)]
    usable = [context for context in contexts if context is not None]
    with pytest.raises(ValueError, match="must have one shape"):
        head.predict(usable, queries.expand(2, -1, -1))
    with pytest.raises(ValueError, match="queries must be"):
        head.predict(usable[:1], queries)
