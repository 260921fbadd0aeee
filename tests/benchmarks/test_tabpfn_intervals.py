"""The benchmark of TabPFN's intervals."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tabpfn_intervals import evaluate, figures_of, observations
from tests.tiny_tabpfn import save_tiny_tabpfn
from vzero_server.engine.estimators.knn import NearestNeighbours
from vzero_server.paper.estimator import TabPFN
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import read_tabpfn
from vzero_server.values.beta import Values
from vzero_train.data.outcomes import Outcomes

COLUMNS = 6


def outcomes_of(rates: np.ndarray, rollouts: int, seed: int = 0) -> Outcomes:
    count = len(rates)
    names = np.full(count, "p")
    return Outcomes(
        texts=tuple(str(i) for i in range(count)),
        prompt=np.arange(count),
        policy=names,
        benchmark=names,
        source=names,
        step=np.zeros(count, np.int64),
        reward=(np.random.default_rng(seed).binomial(rollouts, rates) / rollouts).astype(
            np.float32
        ),
        rollouts=np.full(count, rollouts),
    )


@pytest.mark.parametrize(("claimed", "covered"), [(4.0, 0.9), (40.0, 0.5), (0.4, 1.0)])
def test_coverage_separates_calibrated_intervals_from_others(
    claimed: float, covered: float
) -> None:
    """Rates have concentration 4; values claim the same, more, or less."""
    rates = np.random.default_rng(1).beta(1.2, 2.8, 4000)
    outcomes = outcomes_of(rates, 10)
    means = np.full(len(rates), 0.3)
    values = Values(means, means, np.full(len(rates), claimed), "tabpfn")
    rng = np.random.default_rng(2)
    figures = figures_of(observations(values, outcomes, np.arange(len(rates)), rng))
    if covered == 0.9:
        assert figures["coverage"] == pytest.approx(0.9, abs=0.015)
        assert figures["below"] == pytest.approx(0.05, abs=0.01)
    else:
        assert (figures["coverage"] < 0.75) == (covered < 0.9)
        assert (figures["coverage"] > 0.92) == (covered > 0.9)
    assert figures["bias"] == pytest.approx(0.0, abs=0.02)


def test_both_estimators_predict_the_same_prompts(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(80, COLUMNS)).astype(np.float32)
    outcomes = outcomes_of(1.0 / (1.0 + np.exp(-2.0 * vectors[:, 0])), 10)
    head = TabPFNHead(read_tabpfn(save_tiny_tabpfn(tmp_path / "h.ckpt")), columns=COLUMNS)
    estimators = {"tabpfn": TabPFN(head, rows=40), "knn": NearestNeighbours(8)}
    results = evaluate(outcomes, vectors, estimators, 40)
    assert results.keys() == estimators.keys()
    for figures in results.values():
        parts = figures["coverage"] + figures["below"] + figures["above"]
        assert parts == pytest.approx(1.0)
        assert 0.0 < figures["width"] < 1.0
    assert results["knn"]["mse"] < 0.15
