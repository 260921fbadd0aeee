"""A pre-trained TabPFN beside logistic regression, on synthetic tables it has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from research.tabpfn.synthetic_tables import synthetic_tables
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import TabPFNFile
from vzero_server.types import AnyFloatArray
from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import Estimator, LogisticRegression
from vzero_train.evaluation.metrics import auc
from vzero_train.evaluation.resampling import Interval, Resampling

_ASKED = 128
_EDGE = 1e-6
# Apart from the tables of any training, which draw with [seed, 0].
_STREAM = 1


@dataclass(frozen=True)
class OnTables:
    """How good an estimator is on tables of one width; means over tables, and 95 % intervals.

    Attributes:
        columns: Of the tables.
        auc: In [0, 1].
        loss: Cross-entropy in nats; a coin has 0.69.
    """

    columns: int
    auc: Interval
    loss: Interval


def judge_pretrained(
    file: TabPFNFile,
    *,
    rows: int,
    widths: Sequence[int],
    tables: int = 50,
    members: int = 4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, list[OnTables]]:
    """Judge a TabPFN and logistic regression on the same new tables.

    Args:
        file: The TabPFN.
        rows: Of a context.
        widths: Columns of the tables.
        tables: Of each width.
        members: Passes of TabPFN that are averaged.
        seed: Of the tables.
        progress: Called with the tables done and their number.

    Returns:
        By estimator: ``tabpfn``, and ``logistic-regression``, which is told the scale of each
        column and chooses its strength inside the context.
    """
    rng = np.random.default_rng([seed, _STREAM])
    found: dict[str, list[OnTables]] = {"tabpfn": [], "logistic-regression": []}
    for at, columns in enumerate(widths):
        head = TabPFNHead(file, columns=columns, members=members)
        scores: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        for table in range(tables):
            features, rewards = synthetic_tables(rng, 1, rows, _ASKED, columns)
            question = _question(rewards[0], rows)
            estimators: Mapping[str, Estimator] = {
                "tabpfn": _Frozen(head, torch.from_numpy(features[0])),
                "logistic-regression": LogisticRegression(_scaled(features[0], rows)),
            }
            for name, estimator in estimators.items():
                values = estimator(question)
                chances = np.where(question.rewards > 0.5, values, 1.0 - values)
                loss = -float(np.log(chances.clip(_EDGE)).mean())
                scores[name].append((auc(question.rewards, values), loss))
            if progress:
                progress(at * tables + table + 1, len(widths) * tables)
        for name, several in scores.items():
            areas, losses = np.array(several).T
            found[name].append(OnTables(columns, _mean(areas), _mean(losses)))
    return found


class _Frozen:
    """TabPFN as an ``Estimator``."""

    def __init__(self, head: TabPFNHead, features: torch.Tensor) -> None:
        self._head, self._features = head, features

    @torch.inference_mode()
    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        labels = torch.from_numpy(question.context_rewards >= 0.5).float()
        context, queries = (
            self._features[torch.from_numpy(part)][None]
            for part in (question.context, question.queries)
        )
        logits = self._head(context, labels[None], queries)
        values: AnyFloatArray = logits[0].softmax(-1)[:, 1].double().numpy()
        return values


def _question(rewards: AnyFloatArray, rows: int) -> Question:
    places = np.arange(len(rewards))
    return Question(
        "synthetic", -1, "tables", places[:rows], rewards[:rows], places[rows:], rewards[rows:]
    )


def _scaled(features: AnyFloatArray, rows: int) -> AnyFloatArray:
    """Columns ``[rows + asked, C]`` with mean 0 and standard deviation 1 over the context."""
    context = features[:rows]
    scaled: AnyFloatArray = (features - context.mean(0)) / (context.std(0) + _EDGE)
    return scaled


def _mean(scores: AnyFloatArray) -> Interval:
    """The mean over tables; those whose rewards are all alike have no AUC."""
    known = scores[np.isfinite(scores)].astype(np.float64)
    return Interval.of(Resampling(np.arange(len(known))).mean(known))
