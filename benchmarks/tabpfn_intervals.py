"""Whether the intervals of ``TABPFN`` hold what they say: on prompts of the policy zoo.

``python -m benchmarks.tabpfn_intervals --tabpfn FILE [--rows N] [--quick] [--json]``. FILE is any
TabPFN that reads MiniLM's 384 columns, such as one of ``python -m research.tabpfn``: the features
are MiniLM's embeddings, with no adapter before them. Each of the zoo's 36 checkpoints is asked for
prompts outside its context. A value states a distribution of the prompt's own success rate; what
is seen of it are 10 rollouts, so the 90 % interval is that of their mean reward under the
distribution, drawn at random where the count falls on its edge. Headlines, for ``TABPFN`` and
beside it for ``KNN`` on the same windows: ``coverage`` (0.90 were honest), ``below`` and ``above``
(how often the rewards lie below and above the interval; 0.05 each), ``width`` of the stated
interval, and ``bias``, the mean value less the mean reward.
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
from vzero_train.data.outcomes import (
    Outcomes,
    load_outcomes,
)
from vzero_train.demo.command import zoo

ASKED = 200
MEMBERS = 4
LEVEL = 0.9


def main() -> None:
    """Measure and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--tabpfn", type=Path, required=True, help="Weights of a TabPFN.")
    parser.add_argument("--rows", type=int, default=128, help="Rows of a context [128].")
    given = parser.parse_args()
    out = report.Report("tabpfn_intervals", given)
    outcomes = load_outcomes(zoo())
    with out.status("encoding the zoo's prompts"):
        vectors = embeddings(outcomes)
    head = TabPFNHead(read_tabpfn(given.tabpfn), columns=vectors.shape[1], members=MEMBERS)
    estimators: dict[str, Estimator] = {
        "tabpfn": TabPFN(head, rows=given.rows),
        "knn": NearestNeighbours(64),
    }
    with out.status("asking"):
        found = judged(outcomes, vectors, estimators, given.rows, 4 if given.quick else None)
    for name, figures in found.items():
        for figure, value in figures.items():
            out.add(f"{name}.{figure}", f"{name}: {figure}", "", [value])
    out.print()


def embeddings(outcomes: Outcomes) -> Float32Array:
    """MiniLM's embeddings of all prompts, ``[texts, 384]``."""
    backbone = Backbone.load()
    tokens = backbone.tokenize(outcomes.texts)
    parts = [backbone.embed(tokens[at : at + 64]) for at in range(0, len(tokens), 64)]
    return np.concatenate(parts)


def judged(
    outcomes: Outcomes,
    vectors: Float32Array,
    estimators: dict[str, Estimator],
    rows: int,
    most: int | None = None,
) -> dict[str, dict[str, float]]:
    """Figures by estimator, over checkpoints.

    Args:
        outcomes: Of policies along their steps.
        vectors: Of all prompts, ``[texts, columns]``.
        estimators: What is judged.
        rows: Of a context.
        most: Checkpoints that are asked; all by default.
    """
    rng = np.random.default_rng(0)
    seen: dict[str, list[FloatArray]] = {name: [] for name in estimators}
    keys = zip(outcomes.policy.tolist(), outcomes.step.tolist(), strict=True)
    for policy, step in sorted(set(keys))[:most]:
        of_it = rng.permutation(
            np.flatnonzero((outcomes.policy == policy) & (outcomes.step == step))
        )
        context, asked = of_it[:rows], of_it[rows : rows + ASKED]
        window = window_of(outcomes, vectors, context)
        features = vectors[outcomes.prompt[asked]]
        # As an encoder makes them: what prompts are compared by, then what the head reads.
        queries = np.concatenate([features, features], 1).astype(np.float16)
        for name, estimator in estimators.items():
            (values,) = estimator.predict([Query(estimator.fit(window), queries)])
            seen[name].append(seen_of(values, outcomes, asked, rng))
    return {name: figures_of(np.concatenate(parts, 1)) for name, parts in seen.items()}


def window_of(outcomes: Outcomes, vectors: Float32Array, rows: IntArray) -> ContextWindow:
    """A window over these outcomes of one policy."""
    found = [
        Row(at + 1, int(outcomes.prompt[row]), float(outcomes.reward[row]),
            int(outcomes.rollouts[row]), None, 0.0, None)
        for at, row in enumerate(rows)
    ]  # fmt: skip
    columns = vectors.shape[1]
    own = vectors[outcomes.prompt[rows]]
    empty = ContextWindow.empty(columns)
    return empty.extended(len(rows), found, own, len(rows), {"tabpfn": own.astype(np.float16)})


def seen_of(
    values: Values, outcomes: Outcomes, asked: IntArray, rng: np.random.Generator
) -> FloatArray:
    """Where the rewards lie in what was stated of them, width, value and reward, ``[4, m]``."""
    rollouts, rewards = outcomes.rollouts[asked], outcomes.reward[asked].astype(np.float64)
    successes = np.round(rewards * rollouts)
    first = values.mean * values.effective_sample_size
    stated = betabinom(rollouts, first, values.effective_sample_size - first)
    # Counts have no quantile of their own: a random point of the step makes it uniform.
    place = stated.cdf(successes) - rng.random(len(asked)) * stated.pmf(successes)
    return np.stack([place, values.upper - values.lower, values.mean, rewards])


def figures_of(seen: FloatArray) -> dict[str, float]:
    """The headlines of ``[4, n]``."""
    place, width, value, reward = seen
    edge = (1.0 - LEVEL) / 2.0
    below, above = float((place < edge).mean()), float((place > 1.0 - edge).mean())
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
