"""TabPFN, the paper's head, as an estimator."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vzero_server.engine.estimators.base import Correction, FittedContext, Query
from vzero_server.engine.estimators.guarded import GuardedEstimator
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.estimators.registry import EstimatorEntry, LoadContext, register
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.model.dtypes import DTYPES
from vzero_server.paper.loading import located
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_context import TabPFNContext
from vzero_server.paper.tabpfn_file import read_tabpfn
from vzero_server.types import Features
from vzero_server.values.beta import Values
from vzero_server.values.dispersion import concentration

logger = logging.getLogger(__name__)

NAME = "tabpfn"

# Minimum reward of a success (section 5.1).
_SUCCESS = 0.5
# Maximum cells (prompts times columns times members) of a pass. A single query may have more: the
# engine splits long calls into pieces of some hundred prompts.
_BATCH_CELLS = 1 << 22
# Maximum contexts of a pass.
_BATCH_CONTEXTS = 32


@dataclass(frozen=True, slots=True)
class TabPFNFittedContext:
    """A context cached by TabPFN.

    Attributes:
        read: Cache of TabPFN.
        kappa: Concentration of success rates around values.
    """

    read: TabPFNContext
    kappa: float
    basis: str = NAME
    evidence: None = None

    @property
    def nbytes(self) -> int:
        """Memory of the context, in bytes."""
        return self.read.nbytes


class TabPFN:
    """Predicts values with TabPFN on the features of an adapter.

    Rewards of at least 1/2 count as successes, others as failures. TabPFN cannot learn from a
    context of only successes or only failures, or with identical prompts; the values are then
    priors, from the context's mean. Contexts of equal size share a pass.

    The interval is that of the prompt's success rate. Its width comes from the distance between
    the success rates of the context's prompts and the mean of their neighbours. If TabPFN predicts
    them better than that, its intervals are too wide; ``benchmarks.tabpfn_intervals`` measures it.
    """

    name = NAME
    corrections = Correction.HISTORY
    # The neighbours of a row may be any rows of the window.
    rows_needed = None

    def __init__(
        self,
        head: TabPFNHead,
        *,
        rows: int = 256,
        neighbours: int = 64,
        batch_cells: int = _BATCH_CELLS,
    ) -> None:
        """Set up the estimator.

        Args:
            head: Head for the features of the encoder in use.
            rows: Maximum rows of a context; the newest are used.
            neighbours: Number of neighbours that determine the width of intervals.
            batch_cells: Maximum cells of a pass: prompts times columns times members.

        Raises:
            CheckpointError: ``rows`` is more than the head was trained for.
        """
        if rows > head.most_rows:
            raise CheckpointError(
                f"setting context_rows: the head reads at most {head.most_rows} rows, not {rows}"
            )
        self._head = head
        self._rows = rows
        self._neighbours = neighbours
        self._batch_cells = batch_cells
        self._prior = Prior()

    def window_features(self, features: Features) -> Features:
        """See ``Estimator``; the adapter's features, unchanged."""
        return features

    def fit(self, window: ContextWindow) -> FittedContext:
        """See ``Estimator``; a prior if TabPFN cannot learn from the window."""
        count = min(self._rows, len(window))
        read = None
        if count:
            features = window.features[NAME]
            successes = window.rewards[len(window) - count :] >= _SUCCESS
            read = self._head.encode(
                torch.from_numpy(features[len(features) - count :]).float(),
                torch.from_numpy(successes).long(),
            )
        if read is None:
            return self._prior.fit(window)
        return TabPFNFittedContext(read, self._kappa(window, count))

    def runs_inline(self, query: Query) -> bool:
        """See ``Estimator``; a transformer never does."""
        return False

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """See ``Estimator``."""
        predictions: dict[int, Values] = {}
        for position, query in enumerate(queries):
            if not isinstance(query.context, TabPFNFittedContext):
                predictions[position] = self._prior.predict([query])[0]
        positions = [position for position in range(len(queries)) if position not in predictions]
        for batch in self._batches(positions, queries):
            longest = max(len(queries[position]) for position in batch)
            padded = np.zeros((len(batch), longest, self._head.columns), np.float32)
            for padded_features, position in zip(padded, batch, strict=True):
                features = queries[position].features
                padded_features[: len(features)] = features[:, -self._head.columns :]
            contexts = [queries[position].context.read for position in batch]
            predicted = self._head.predict(contexts, torch.from_numpy(padded))
            for row, position in zip(predicted.double().cpu().numpy(), batch, strict=True):
                query = queries[position]
                kappas = np.full(len(query), query.context.kappa)
                predictions[position] = Values.around(row[: len(query)], kappas, NAME)
        return [predictions[position] for position in range(len(queries))]

    def _batches(self, positions: Sequence[int], queries: Sequence[Query]) -> Iterator[list[int]]:
        """Positions of queries that share a pass: of equal shape and similar length."""
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position in positions:
            by_shape[queries[position].context.read.shape].append(position)
        for (_, columns), group in by_shape.items():
            batch: list[int] = []
            for position in sorted(group, key=lambda position: len(queries[position])):
                cells = len(queries[position]) * columns * self._head.members
                full = len(batch) == _BATCH_CONTEXTS
                if batch and (full or (len(batch) + 1) * cells > self._batch_cells):
                    yield batch
                    batch = []
                batch.append(position)
            yield batch

    def _kappa(self, window: ContextWindow, count: int) -> float:
        """Concentration of the success rates of the newest rows around their neighbours' mean."""
        newest = np.arange(len(window) - count, len(window))
        embeddings = window.embeddings[window.embedded_rows - count :]
        neighbours = window.nearest(embeddings, min(self._neighbours + 1, len(window)))
        others = neighbours != newest[:, None]
        # A row that is not among its own neighbours has a duplicate there, which takes its place.
        others[others.all(axis=1), 0] = False
        expected = (window.rewards[neighbours] * others).sum(axis=1) / others.sum(axis=1)
        kappa = concentration(
            window.rewards[newest].astype(np.float64).reshape(1, count),
            window.rollouts[newest].reshape(1, count),
            expected.astype(np.float64).reshape(1, count),
        )
        return float(kappa[0])


def _load(context: LoadContext) -> GuardedEstimator | None:
    settings, encoder = context.settings, context.models.encoder
    if settings.tabpfn == "none":
        return None
    path = located(settings.tabpfn, settings)
    network = read_tabpfn(path)
    if not network.commercial:
        logger.warning(
            "the weights of %s are under %s: commercial use needs a licence of its own",
            path.name,
            network.licence,
        )
    head = TabPFNHead(
        network,
        columns=encoder.columns - encoder.pooled,
        members=settings.tabpfn_members,
        device=context.models.device,
        compute=DTYPES[settings.tabpfn_dtype],
        store=DTYPES[settings.tabpfn_cache_dtype],
    )
    estimator = TabPFN(head, rows=settings.context_rows, neighbours=settings.knn_k)
    return GuardedEstimator(estimator, context.guard)


register(EstimatorEntry(NAME, preference=10, load=_load))
