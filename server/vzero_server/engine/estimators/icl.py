"""The compact in-context head as an estimator."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import expit

from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.grouping import QueryGroup, batches, grouped
from vzero_server.engine.estimators.prior import PRIOR_SAMPLE_SIZE
from vzero_server.engine.estimators.registry import EstimatorEntry, LoadContext, register
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.head_state import HeadState
from vzero_server.model.in_context_head import InContextHead
from vzero_server.model.torchscript import TensorFunction, Tensors, trace
from vzero_server.types import Features, FloatArray, IntArray
from vzero_server.values.beta import PRIOR, Values
from vzero_server.values.dispersion import concentration
from vzero_server.values.evidence import ContextEvidence

NAME = "icl"

# Queries up to which many contexts are not worth copying into one batch.
_FEW_QUERIES = 8
# Queries times context rows up to which a prediction runs inline.
_INLINE_ENTRIES = 512
# Contexts, their rows, and queries of each, that the head is traced and checked with.
_EXAMPLES = ((1, 5, 2), (3, 9, 1), (2, 0, 3), (1, 2, 4))


@dataclass(frozen=True)
class HeadContext:
    """A context that the head has read.

    Attributes:
        state: What the head made of it, a batch of one.
        prompts: Keys of the prompts it read, ``[N]``.
        rewards: Their rewards, ``[N]``.
        rollouts: Attempts behind each reward, ``[N]``.
        kappa: Concentration of success rates around values.
        basis: See ``FittedContext``.
    """

    state: HeadState
    prompts: IntArray
    rewards: FloatArray
    rollouts: IntArray
    kappa: float
    basis: str

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return self.state.nbytes + 24 * len(self.prompts)

    @cached_property
    def evidence(self) -> ContextEvidence:
        """What corrections are fitted to."""
        return ContextEvidence(
            prompts=self.prompts,
            rewards=self.rewards,
            rollouts=self.rollouts,
            loo_logits=loo_logits(self.state),
            offset=float(self.state.offset[0]),
            drift=float(self.state.drift[0]),
            kappa=self.kappa,
            kappa_fitted=self.basis != PRIOR,
        )


class InContext:
    """Values of the in-context head.

    The interval is that of the prompt's own success rate: its width comes from how far the success
    rates of the context's prompts lie from their leave-one-out predictions.
    """

    name = NAME
    corrections = Correction.PEERS | Correction.FLEET | Correction.HISTORY

    def __init__(
        self, head: InContextHead, *, rows: int = 512, min_rows: int = 8, device: str = "cpu"
    ) -> None:
        """Take a head into service.

        Args:
            head: In evaluation mode; its weights are frozen.
            rows: Most rows of a context that it reads: the newest.
            min_rows: With fewer rows the basis of values is ``PRIOR``: the head's learned prior,
                shifted by the rows there are.
            device: Torch device.
        """
        self._head = head.to(device).requires_grad_(False)
        self._program: TensorFunction = self._logits
        if device == "cpu":
            self._program = trace(self._logits, _examples(head), "the in-context head")
        self.rows_needed = rows
        self._min_rows = min_rows
        self._device = device

    @torch.inference_mode()
    def window_features(self, features: Features) -> Features:
        """See ``Estimator``: features ``[n, columns]`` to the rows of the head, ``[n, row]``."""
        rows = self._head.rows(torch.from_numpy(features).to(self._device).float())
        kept: Features = rows.half().cpu().numpy()
        return kept

    @torch.inference_mode()
    def fit(self, window: ContextWindow) -> HeadContext:
        """See ``Estimator``."""
        read = min(self.rows_needed, len(window))
        newest = slice(len(window) - read, None)
        features = window.features[NAME]
        rows = torch.from_numpy(features[len(features) - read :]).to(self._device).float()
        rewards, rollouts = window.rewards[newest], window.rollouts[newest]
        ages = window.ages[newest]
        state = self._head.encode(
            rows.unsqueeze(0),
            self._column(rewards),
            ages=self._column(ages) if ages.any() else None,
        )
        few = len(window) < self._min_rows
        exact_rewards = rewards.astype(np.float64)
        return HeadContext(
            state=state,
            prompts=window.prompts[newest],
            rewards=exact_rewards,
            rollouts=rollouts,
            kappa=PRIOR_SAMPLE_SIZE if few else _kappa(exact_rewards, rollouts, loo_logits(state)),
            basis=PRIOR if few else NAME,
        )

    @torch.inference_mode()
    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """See ``Estimator``."""
        logits: list[FloatArray] = [np.empty(0)] * len(queries)
        for batch in batches(grouped(queries), _group_size):
            for group, group_logits in zip(batch, self._predict_batch(batch), strict=True):
                parts = np.split(group_logits, np.cumsum(group.lengths)[:-1])
                for position, part in zip(group.positions, parts, strict=True):
                    logits[position] = part
        kappas = [np.full(len(query), query.context.kappa) for query in queries]
        joined = Values.around(expit(np.concatenate(logits)), np.concatenate(kappas), NAME)
        values, start = [], 0
        for query in queries:
            end = start + len(query)
            values.append(joined.part(slice(start, end), query.context.basis))
            start = end
        return values

    def runs_inline(self, query: Query) -> bool:
        """See ``Estimator``; not on a GPU, where the event loop would wait for the device."""
        on_cpu = self._device == "cpu"
        return on_cpu and len(query) * len(query.context.prompts) <= _INLINE_ENTRIES

    def _predict_batch(self, batch: Sequence[QueryGroup]) -> list[FloatArray]:
        """Logits of the queries of each group."""
        most = max(len(group) for group in batch)
        # A ranking asks all contexts about the same prompts.
        shared = all(group.features is batch[0].features for group in batch)
        distinct = batch[:1] if shared else batch
        padded = np.zeros((len(distinct), most, self._head.config.features), np.float32)
        for padded_features, group in zip(padded, distinct, strict=True):
            columns = padded_features.shape[1]
            padded_features[: len(group)] = group.features[:, -columns:]
        # Checked here, since a traced program does not check.
        if not np.isfinite(padded).all():
            raise ValueError("features hold NaN or infinite values")
        features = torch.from_numpy(padded).to(self._device)
        states = [group.context.state for group in batch]
        if len(batch) > 1 and most <= _FEW_QUERIES:
            predicted = self._head.predict_many(states, self._head.rows(features))
        else:
            (predicted,) = self._program(*HeadState.stack(states).tensors(), features)
        logits = predicted.double().cpu().numpy()
        return [row[: len(group)] for row, group in zip(logits, batch, strict=True)]

    def _logits(self, *tensors: torch.Tensor) -> Tensors:
        """Logits of queries: tensors of contexts and the queries' features to ``[B, Q]``."""
        *state, features = tensors
        return (self._head.predict(HeadState(*state), self._head.rows(features)),)

    def _column(self, numbers: np.ndarray) -> torch.Tensor:
        """One number per row of one context, ``[1, N]``."""
        return torch.from_numpy(numbers).to(self._device).float().unsqueeze(0)


def loo_logits(state: HeadState) -> FloatArray:
    """Return the leave-one-out logits of the rows of one context, ``[N]``."""
    return state.loo_logits[0].double().cpu().numpy()


def _kappa(rewards: FloatArray, rollouts: IntArray, logits: FloatArray) -> float:
    return float(concentration(rewards[None], rollouts[None], expit(logits)[None])[0])


def _group_size(group: QueryGroup) -> tuple[int, int]:
    return group.context.state.rows.shape[1], len(group)


@torch.inference_mode()
def _examples(head: InContextHead) -> list[Tensors]:
    """Inputs of the head, of different sizes."""
    random = torch.Generator().manual_seed(0)
    examples = []
    for contexts, rows, queries in _EXAMPLES:
        features = torch.rand(contexts, rows + queries, head.config.features, generator=random)
        state = head.encode(head.rows(features[:, :rows]), features[:, :rows, 0])
        examples.append((*state.tensors(), features[:, rows:]))
    return examples


def _load(context: LoadContext) -> InContext | None:
    checkpoint = context.models.checkpoint
    if checkpoint is None:
        return None
    return InContext(
        checkpoint.head,
        rows=context.settings.context_rows,
        min_rows=context.settings.min_context_rows,
        device=context.models.device,
    )


register(EstimatorEntry(NAME, preference=20, load=_load, answers_small_contexts=True))
