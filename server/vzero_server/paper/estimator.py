"""The paper's head, TabPFN, from windows to values."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.estimators.base import Question
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.estimators.selection import Selection, select
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_context import TabPFNContext
from vzero_server.types import Features, FloatArray
from vzero_server.values.dispersion import concentration
from vzero_server.values.values import Basis, Values

logger = logging.getLogger(__name__)

# Rewards from here on are successes (section 5.1).
_SUCCESS = 0.5
# Cells (queries times columns times members) up to which questions share a pass. One question
# alone may have more: the engine asks for at most some hundred queries at once.
_BATCH_CELLS = 1 << 22
# Contexts of one pass.
_BATCH_CONTEXTS = 32
# A success rate at the very edge has no Beta distribution.
_EDGE = 1e-4


@dataclass(frozen=True, slots=True)
class _Known:
    """A context the head has read, and the concentration of success rates around values."""

    encoded: TabPFNContext
    kappa: float

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.encoded.nbytes


class TabPFN:
    """Values of TabPFN on the features of an adapter.

    Rewards are made labels, success from ½ on. A context with one label only, or whose
    prompts are all alike, teaches TabPFN nothing: it is answered as a prior, from the
    context's mean. Contexts that have equally many rows are answered from together.

    The interval holds the prompt's own success rate: how far those of the context lie from the
    mean of their neighbours, each left out. A head that knows them better than
    that gets intervals wider than it needs; ``benchmarks.tabpfn_intervals`` tells.
    """

    # The neighbours of its rows may be any.
    depth = None

    def __init__(
        self,
        head: TabPFNHead,
        *,
        rows: int = 256,
        selection: Selection = Selection.RECENT,
        neighbours: int = 64,
        batch_cells: int = _BATCH_CELLS,
    ) -> None:
        """Take a head into service.

        Args:
            head: For the features of the encoder in use.
            rows: Most rows of a context it reads.
            selection: Which, of a longer window.
            neighbours: See the class.
            batch_cells: Numbers up to which questions share a pass: queries times columns times
                members.

        Raises:
            CheckpointError: The head was not trained for so many rows; or rows would depend on
                the queries, so that no context could be kept.
        """
        if rows > head.most_rows:
            raise CheckpointError(
                f"setting context_rows: the head reads at most {head.most_rows} rows, not {rows}"
            )
        if selection is Selection.NEAREST:
            raise CheckpointError(
                "setting context_selection: 'nearest' is not for TabPFN, which would have to "
                "read a context anew for every question"
            )
        self._head = head
        self._rows = rows
        self._selection = selection
        self._neighbours = neighbours
        self._batch_cells = batch_cells
        self._prior = Prior()

    def rows(self, features: Features) -> Features:
        """What a window keeps of prompts: the adapter's features, as they are."""
        return features

    def encode(self, window: ContextWindow) -> Any:  # noqa: ANN401
        """See ``Estimator``; of an empty window, a prior."""
        chosen = select(window, self._rows, self._selection)
        rewards = window.rewards[chosen]
        encoded = None
        if len(chosen):
            encoded = self._head.encode(
                torch.from_numpy(window.features[chosen]).float(),
                torch.from_numpy(rewards >= _SUCCESS).long(),
            )
        if encoded is None:
            return self._prior.encode(window)
        return _Known(encoded, self._concentration(window, chosen))

    def quick(self, question: Question) -> bool:
        """See ``Estimator``; a transformer is not."""
        return False

    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """See ``Estimator``."""
        answers: dict[int, Values] = {}
        for i, question in enumerate(questions):
            if not isinstance(question.context, _Known):
                answers[i] = self._prior.predict([question])[0]
        known = [i for i in range(len(questions)) if i not in answers]
        for batch in self._batches(known, questions):
            most = max(len(questions[i].queries) for i in batch)
            queries = np.zeros((len(batch), most, self._head.columns), np.float32)
            for row, i in zip(queries, batch, strict=True):
                own = questions[i].queries
                row[: len(own)] = own[:, -self._head.columns :]
            contexts = [questions[i].context.encoded for i in batch]
            values = self._head.predict(contexts, torch.from_numpy(queries))
            for given, i in zip(values.double().cpu().numpy(), batch, strict=True):
                asked = questions[i]
                answers[i] = _values(given[: len(asked.queries)], asked.context.kappa)
        return [answers[i] for i in range(len(questions))]

    def _batches(self, chosen: Sequence[int], questions: Sequence[Question]) -> Iterator[list[int]]:
        """Questions that are answered together: of one shape, and of like length."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in chosen:
            groups[questions[i].context.encoded.shape].append(i)
        for (_, columns), group in groups.items():
            batch: list[int] = []
            for i in sorted(group, key=lambda i: len(questions[i].queries)):
                cells = len(questions[i].queries) * columns * self._head.members
                full = len(batch) == _BATCH_CONTEXTS
                if batch and (full or (len(batch) + 1) * cells > self._batch_cells):
                    yield batch
                    batch = []
                batch.append(i)
            yield batch

    def _concentration(self, window: ContextWindow, chosen: np.ndarray) -> float:
        """Concentration of the rates of rows around the mean of their neighbours."""
        count = len(chosen)
        embeddings = window.embeddings[chosen]
        found = window.nearest(embeddings, min(self._neighbours + 1, len(window)))
        others = found != chosen[:, None]
        # A row that is not among its own neighbours has a twin there, which counts for it.
        others[others.all(axis=1), 0] = False
        expected = (window.rewards[found] * others).sum(axis=1) / others.sum(axis=1)
        kappa = concentration(
            window.rewards[chosen].astype(np.float64).reshape(1, count),
            window.rollouts[chosen].reshape(1, count),
            expected.astype(np.float64).reshape(1, count),
        )
        return float(kappa[0])


def _values(means: FloatArray, kappa: float) -> Values:
    worth = np.full(len(means), kappa)
    return Values(means, means.clip(_EDGE, 1.0 - _EDGE), worth, Basis.TABPFN)
