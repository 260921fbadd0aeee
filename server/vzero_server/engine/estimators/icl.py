"""The compact in-context head, from windows to values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit

from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.estimators.base import Question
from vzero_server.engine.estimators.prior import PRIOR_SAMPLE_SIZE
from vzero_server.engine.estimators.selection import Selection, select
from vzero_server.model.head_state import HeadState
from vzero_server.model.in_context_head import InContextHead
from vzero_server.model.torchscript import TensorFunction, Tensors, trace
from vzero_server.types import Features, FloatArray, IntArray
from vzero_server.values.dispersion import concentration
from vzero_server.values.peer_correction import (
    PeerCorrection,
    agreement,
    corrected,
    fit_peer_correction,
)
from vzero_server.values.values import Basis, Values

# Entries of the largest kernel matrix of a batch of contexts, padding counted: more would
# only leave the processor's caches.
_BATCH_ENTRIES = 1 << 19
# Queries up to which many contexts are not worth copying into one batch.
_FEW_QUERIES = 8
# Queries times context rows of a quick question.
_QUICK_ENTRIES = 512
# Contexts, their rows, and queries of each, to try the head with.
_EXAMPLES = ((1, 5, 2), (3, 9, 1), (2, 0, 3), (1, 2, 4))
# A success rate at the very edge has no Beta distribution.
_EDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Known:
    """A context the head has read.

    Attributes:
        encoded: By the head, a batch of one.
        prompts: Keys of the prompts it read, ``[N]``.
        rewards: Their rewards, ``[N]``.
        rollouts: Attempts behind each, ``[N]``.
        kappa: Concentration of success rates around values.
        basis: What values are called.
    """

    encoded: HeadState
    prompts: IntArray
    rewards: FloatArray
    rollouts: IntArray
    kappa: float
    basis: Basis

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.encoded.nbytes + 24 * len(self.prompts)

    @property
    def left_out(self) -> FloatArray:
        """Logits of the context rows, each left out of the fit, ``[N]``."""
        return self.encoded.loo_logits[0].double().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Correction:
    """What other policies add to the values of a context.

    Attributes:
        population: How they correct logits.
        kappa: Concentration of success rates around corrected values.
    """

    population: PeerCorrection
    kappa: float


class InContext:
    """Values of the in-context head.

    The interval holds the prompt's own success rate: how far the rates of the context's
    prompts lie from what the head says of each when it is left out.
    """

    def __init__(
        self,
        head: InContextHead,
        *,
        rows: int = 512,
        selection: Selection = Selection.RECENT,
        min_rows: int = 8,
        device: str = "cpu",
    ) -> None:
        """Take a head into service.

        Args:
            head: In evaluation mode; its weights are frozen.
            rows: Most rows of a context it reads.
            selection: Which, of a longer window.
            min_rows: With fewer, values are called a prior: the head's own, shifted by the
                little that is known.
            device: Torch device.
        """
        self._head = head.to(device).requires_grad_(False)
        self._program: TensorFunction = self._logits
        if device == "cpu":
            self._program = trace(self._logits, _examples(head), "the in-context head")
        self._rows = rows
        self._selection = selection
        self._min_rows = min_rows
        self._device = device

    @torch.inference_mode()
    def rows(self, features: Features) -> Features:
        """What a window keeps of prompts: features ``[n, columns]`` to rows ``[n, row]``."""
        read = self._head.rows(torch.from_numpy(features).to(self._device).float())
        rows: Features = read.half().cpu().numpy()
        return rows

    @property
    def depth(self) -> int | None:
        """See ``Estimator``."""
        return self._rows if self._selection is Selection.RECENT else None

    def prompts(self, window: ContextWindow) -> IntArray | None:
        """Keys of the prompts that ``encode`` reads, ``[N]``; None if it waits for queries."""
        if self._waits(window):
            return None
        chosen: IntArray = window.prompts[select(window, self._rows, self._selection)]
        return chosen

    def _waits(self, window: ContextWindow) -> bool:
        return self._selection is Selection.NEAREST and len(window) > self._rows

    def encode(self, window: ContextWindow) -> Known | ContextWindow:
        """See ``Estimator``; a window whose rows depend on the queries waits for them."""
        if self._waits(window):
            return window
        return self._known(window, select(window, self._rows, self._selection))

    @torch.inference_mode()
    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """See ``Estimator``."""
        known = [self._for(question) for question in questions]
        answers: list[FloatArray] = [np.empty(0)] * len(questions)
        asked = _asked(known, questions)
        for batch in _batches(asked):
            for own, logits in zip(batch, self._answered(batch), strict=True):
                parts = np.split(logits, np.cumsum(own.lengths)[:-1])
                for i, part in zip(own.questions, parts, strict=True):
                    answers[i] = part
        return _values(answers, known, questions)

    def _answered(self, batch: Sequence["_Asked"]) -> list[FloatArray]:
        """Logits of the queries of each."""
        most = max(len(own.queries) for own in batch)
        # A ranking asks all contexts the same.
        same = all(own.queries is batch[0].queries for own in batch)
        asked = batch[:1] if same else batch
        features = np.zeros((len(asked), most, self._head.config.features), np.float32)
        for row, own in zip(features, asked, strict=True):
            row[: len(own.queries)] = own.queries[:, -row.shape[1] :]
        # Here, since a program would not look.
        if not np.isfinite(features).all():
            raise ValueError("features hold NaN or infinite values")
        queries = torch.from_numpy(features).to(self._device)
        contexts = [own.known.encoded for own in batch]
        if len(batch) > 1 and most <= _FEW_QUERIES:
            predicted = self._head.predict_many(contexts, self._head.rows(queries))
        else:
            (predicted,) = self._program(*HeadState.stack(contexts).tensors(), queries)
        logits = predicted.double().cpu().numpy()
        return [given[: len(own.queries)] for given, own in zip(logits, batch, strict=True)]

    def _logits(self, *tensors: torch.Tensor) -> Tensors:
        """Logits of queries: parts of contexts and the queries' features to ``[B, Q]``."""
        *context, features = tensors
        return (self._head.predict(HeadState(*context), self._head.rows(features)),)

    def quick(self, question: Question) -> bool:
        """See ``Estimator``; on a GPU the loop would wait for it to come to the question."""
        known = question.context
        return (
            self._device == "cpu"
            and isinstance(known, Known)
            and len(question.queries) * len(known.prompts) <= _QUICK_ENTRIES
        )

    def _for(self, question: Question) -> Known:
        context = question.context
        if isinstance(context, Known):
            return context
        queries = question.queries[:, : context.index.d].astype(np.float32)
        return self._known(context, select(context, self._rows, self._selection, queries))

    @torch.inference_mode()
    def _known(self, window: ContextWindow, chosen: np.ndarray) -> Known:
        unknown = len(window) - window.depth
        rows = torch.from_numpy(window.features[chosen - unknown]).to(self._device).float()
        rewards = window.rewards[chosen]
        ages = window.ages[chosen]
        encoded = self._head.encode(
            rows.unsqueeze(0),
            self._column(rewards),
            ages=self._column(ages) if ages.any() else None,
        )
        known = Known(
            encoded=encoded,
            prompts=window.prompts[chosen],
            rewards=rewards.astype(np.float64),
            rollouts=window.rollouts[chosen],
            kappa=PRIOR_SAMPLE_SIZE,
            basis=Basis.PRIOR,
        )
        if len(window) < self._min_rows:
            return known
        kappa = _concentration(known, known.left_out, np.arange(len(chosen)))
        return replace(known, kappa=kappa, basis=Basis.ICL)

    def _column(self, numbers: np.ndarray) -> torch.Tensor:
        """One number per row of one context, ``[1, N]``."""
        return torch.from_numpy(numbers).to(self._device).float().unsqueeze(0)


@torch.inference_mode()
def _examples(head: InContextHead) -> list[Tensors]:
    """What the head may be asked, of unlike sizes."""
    random = torch.Generator().manual_seed(0)
    found = []
    for contexts, rows, queries in _EXAMPLES:
        features = torch.rand(contexts, rows + queries, head.config.features, generator=random)
        read = head.encode(head.rows(features[:, :rows]), features[:, :rows, 0])
        found.append((*read.tensors(), features[:, rows:]))
    return found


def correction(known: Known, others: FloatArray, means: FloatArray) -> Correction | None:
    """What other policies add to the values of a context; None if nothing.

    Args:
        known: The context.
        others: What they earned on its prompts, ``[P, N]``, NaN where one does not know it.
        means: Their mean rewards over all they did, ``[P]``, inside (0, 1).
    """
    now, drift = float(known.encoded.offset[0]), float(known.encoded.drift[0])
    population = fit_peer_correction(
        known.left_out,
        now - drift,
        known.rewards,
        others,
        means,
        agreement(others, means),
    )
    if population.weight == 0.0:
        return None
    # Queries are asked of the policy as it is now; how far it has come does not make a prompt
    # easier for the others.
    population = replace(population, offset=now)
    kappa = known.kappa
    if known.basis is Basis.ICL:
        unknown = np.isnan(others).all(axis=0)
        kappa = _concentration(known, population.left_out, np.flatnonzero(~unknown))
    return Correction(population, kappa)


def _concentration(known: Known, logits: FloatArray, chosen: IntArray) -> float:
    kappa = concentration(
        known.rewards[None, chosen], known.rollouts[None, chosen], expit(logits)[None, chosen]
    )
    return float(kappa[0])


def _values(
    logits: Sequence[FloatArray], known: Sequence[Known], questions: Sequence[Question]
) -> list[Values]:
    """What the head says of each question, corrected by what others say; all at once."""
    logits = list(logits)
    worth = [np.full(len(own), one.kappa) for own, one in zip(logits, known, strict=True)]
    heard = {i: one.hearsay for i, one in enumerate(questions) if one.hearsay is not None}
    if heard:
        found = corrected(
            [hearsay.correction.population for hearsay in heard.values()],
            [logits[i] for i in heard],
            [hearsay.rewards for hearsay in heard.values()],
        )
        for (i, hearsay), own in zip(heard.items(), found, strict=True):
            logits[i] = own
            unknown = np.isnan(hearsay.rewards).all(axis=0)
            worth[i] = np.where(unknown, worth[i], hearsay.correction.kappa)
    means = expit(np.concatenate(logits))
    centres = means.clip(_EDGE, 1.0 - _EDGE)
    together = Values(means, centres, np.concatenate(worth), Basis.ICL)
    ends = np.cumsum([len(own) for own in logits]).tolist()
    return [
        together.part(slice(end - len(own), end), one.basis)
        for own, one, end in zip(logits, known, ends, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A context, and all that is asked of it.

    Attributes:
        known: The context.
        queries: Feature vectors, ``[m, columns]``.
        questions: Which questions they come from.
        lengths: Queries of each.
    """

    known: Known
    queries: Features
    questions: Sequence[int]
    lengths: Sequence[int]

    @property
    def size(self) -> tuple[int, int]:
        """Rows of the context, and queries."""
        return self.known.encoded.rows.shape[1], len(self.queries)


def _asked(known: Sequence[Known], questions: Sequence[Question]) -> list[_Asked]:
    """Questions by their contexts: the rows of one are read once for all that ask of it."""
    groups: dict[int, list[int]] = {}
    for i, one in enumerate(known):
        groups.setdefault(id(one), []).append(i)
    found = []
    for own in groups.values():
        parts = [questions[i].queries for i in own]
        queries = parts[0] if len(parts) == 1 else np.concatenate(parts)
        found.append(_Asked(known[own[0]], queries, own, [len(part) for part in parts]))
    return found


def _batches(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """What is answered together: like sizes, so that little is padding."""
    batch: list[_Asked] = []
    most = 0
    for own in sorted(asked, key=lambda own: own.size):
        rows, queries = own.size
        most = max(most, queries)
        if batch and (len(batch) + 1) * max(rows, 1) * most > _BATCH_ENTRIES:
            yield batch
            batch, most = [], queries
        batch.append(own)
    if batch:
        yield batch
