"""Coverage of the intervals of TabPFN, on prompts of the policy zoo.

``python -m benchmarks.tabpfn_intervals --tabpfn FILE [--rows N] [--quick] [--json]``. FILE is a
TabPFN for MiniLM's 384 columns, such as one of ``python -m research.tabpfn``: the features are
MiniLM's embeddings, without an adapter. For each of the zoo's 36 checkpoints, values of prompts
outside its context are computed. A value is a distribution of the success rate of a prompt, of
which 10 rollouts are observed. The 90 % interval is therefore that of their mean reward under the
distribution, randomised if the count is at an end of the interval. Headlines, for TabPFN and for
KNN on the same windows: ``coverage`` (ideally 0.90), ``below`` and ``above`` (how often rewards
are below and above the interval; ideally 0.05 each), ``width`` of the interval, and ``bias``, the
mean value minus the mean reward.
"""

from pathlib import Path

import numpy as np
from scipy.stats import betabinom

from benchmarks import report
from vzero_server.engine.estimators.base import Estimator, Query
from vzero_server.engine.estimators.knn import NearestNeighbours
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.backbone import Backbone
from vzero_server.paper.estimator import TabPFN
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import read_tabpfn
from vzero_server.storage.records import Row
from vzero_server.types import Float32Array, FloatArray, IntArray
from vzero_server.values.beta import Values
from vzero_train.data.outcomes import Outcomes, load_outcomes
from vzero_train.demo.command import zoo

QUERIES = 200
MEMBERS = 4
LEVEL = 0.9


def main() -> None:
    """Measure and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--tabpfn", type=Path, required=True, help="weights of a TabPFN")
    parser.add_argument("--rows", type=int, default=128, help="rows of a context, default: 128")
    options = parser.parse_args()
    out = report.Report("tabpfn_intervals", options)
    outcomes = load_outcomes(zoo())
    with out.status("encoding the zoo's prompts"):
        vectors = embeddings(outcomes)
    head = TabPFNHead(read_tabpfn(options.tabpfn), columns=vectors.shape[1], members=MEMBERS)
    estimators: dict[str, Estimator] = {
        "tabpfn": TabPFN(head, rows=options.rows),
        "knn": NearestNeighbours(64),
    }
    with out.status("predicting"):
        results = evaluate(
            outcomes, vectors, estimators, options.rows, 4 if options.quick else None
        )
    for name, figures in results.items():
        for figure, value in figures.items():
            out.add(f"{name}.{figure}", f"{name}: {figure}", "", [value])
    out.print()


def embeddings(outcomes: Outcomes) -> Float32Array:
    """MiniLM's embeddings of all prompts, ``[texts, 384]``."""
    backbone = Backbone.load()
    tokens = backbone.tokenize(outcomes.texts)
    parts = [backbone.embed(tokens[at : at + 64]) for at in range(0, len(tokens), 64)]
    return np.concatenate(parts)


def evaluate(
    outcomes: Outcomes,
    vectors: Float32Array,
    estimators: dict[str, Estimator],
    rows: int,
    max_checkpoints: int | None = None,
) -> dict[str, dict[str, float]]:
    """Figures of each estimator, over all checkpoints.

    Args:
        outcomes: Outcomes of policies at several steps.
        vectors: Embeddings of all prompts, ``[texts, columns]``.
        estimators: Estimators by name.
        rows: Rows of a context.
        max_checkpoints: Number of checkpoints to evaluate; all by default.
    """
    rng = np.random.default_rng(0)
    observed: dict[str, list[FloatArray]] = {name: [] for name in estimators}
    keys = zip(outcomes.policy.tolist(), outcomes.step.tolist(), strict=True)
    for policy, step in sorted(set(keys))[:max_checkpoints]:
        positions = rng.permutation(
            np.flatnonzero((outcomes.policy == policy) & (outcomes.step == step))
        )
        context, queried = positions[:rows], positions[rows : rows + QUERIES]
        window = window_of(outcomes, vectors, context)
        features = vectors[outcomes.prompt[queried]]
        # Like the vectors of an encoder: the embedding, then the features of the head.
        queries = np.concatenate([features, features], 1).astype(np.float16)
        for name, estimator in estimators.items():
            (values,) = estimator.predict([Query(estimator.fit(window), queries)])
            observed[name].append(observations(values, outcomes, queried, rng))
    return {name: figures_of(np.concatenate(parts, 1)) for name, parts in observed.items()}


def window_of(outcomes: Outcomes, vectors: Float32Array, rows: IntArray) -> ContextWindow:
    """A window of some outcomes of one policy."""
    window_rows = [
        Row(at + 1, int(outcomes.prompt[row]), float(outcomes.reward[row]),
            int(outcomes.rollouts[row]), None, 0.0, None)
        for at, row in enumerate(rows)
    ]  # fmt: skip
    columns = vectors.shape[1]
    embeddings = vectors[outcomes.prompt[rows]]
    empty = ContextWindow.empty(columns)
    return empty.extended(
        len(rows), window_rows, embeddings, len(rows), {"tabpfn": embeddings.astype(np.float16)}
    )


def observations(
    values: Values, outcomes: Outcomes, queried: IntArray, rng: np.random.Generator
) -> FloatArray:
    """Quantile of each reward under its value, interval width, value and reward, ``[4, m]``."""
    rollouts, rewards = outcomes.rollouts[queried], outcomes.reward[queried].astype(np.float64)
    successes = np.round(rewards * rollouts)
    first = values.mean * values.effective_sample_size
    predicted = betabinom(rollouts, first, values.effective_sample_size - first)
    # A random point within the step of a count makes the quantile uniform.
    quantile = predicted.cdf(successes) - rng.random(len(queried)) * predicted.pmf(successes)
    return np.stack([quantile, values.upper - values.lower, values.mean, rewards])


def figures_of(observed: FloatArray) -> dict[str, float]:
    """Headlines from ``observations``, ``[4, n]``."""
    quantile, width, value, reward = observed
    edge = (1.0 - LEVEL) / 2.0
    below, above = float((quantile < edge).mean()), float((quantile > 1.0 - edge).mean())
    return {
        "coverage": 1.0 - below - above,
        "below": below,
        "above": above,
        "width": float(width.mean()),
        "bias": float((value - reward).mean()),
        "mse": float(np.square(value - reward).mean()),
    }


if __name__ == "__main__":
    main()
