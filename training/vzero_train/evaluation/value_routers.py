"""Routers that use the in-context head, with one context per policy of the fleet.

Shapes: N prompts whose rewards are known, P policies, Q prompts to route, b preferences.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit

from vzero_server.decisions.ranking import Relabelling
from vzero_server.model.in_context_head import InContextHead
from vzero_server.types import AnyFloatArray, FloatArray, IntArray
from vzero_server.values.fleet import CLUSTER_COUNTS, FleetCalibration
from vzero_train.evaluation.routers import Task


class Contexts:
    """The head on the prompts of an outcomes file; all policies share the context prompts.

    Every policy has its own context, as on a server. No policy has outcomes of an asked prompt, so
    there is no evidence of peers.
    """

    def __init__(self, head: InContextHead, features: AnyFloatArray) -> None:
        """Read the features of all prompts, ``[prompts, columns]``, once."""
        self._head = head.eval()
        with torch.inference_mode():
            self._rows = self._head.rows(torch.from_numpy(features.astype(np.float32)))
        # Several routers read the same contexts of every split.
        self._last: tuple[Task, tuple[FloatArray, FloatArray, FloatArray]] | None = None

    def of_task(self, task: Task) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``logits`` of a split."""
        if self._last is None or self._last[0] is not task:
            self._last = task, self.logits(task.known, task.rewards, task.asked)
        return self._last[1]

    @torch.inference_mode()
    def logits(
        self, known: IntArray, labels: FloatArray, asked: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return leave-one-out logits ``[N, P]``, logits of asked prompts, and offsets ``[P]``.

        Args:
            known: Prompt indices, ``[N]``.
            labels: In [0, 1], ``[N, P]``.
            asked: Prompt indices, ``[Q]``.
        """
        rows = self._rows[torch.from_numpy(known)].unsqueeze(0)
        queries = self._rows[torch.from_numpy(asked)].unsqueeze(0)
        loo_logits, predicted, offsets = [], [], []
        for column in torch.from_numpy(labels.astype(np.float32)).T:
            encoded = self._head.encode(rows, column.unsqueeze(0))
            loo_logits.append(encoded.loo_logits[0])
            predicted.append(self._head.predict(encoded, queries)[0])
            offsets.append(encoded.offset[0])
        return _stacked(loo_logits), _stacked(predicted), torch.stack(offsets).double().numpy()


class InContext:
    """Every policy by itself, as ``Predict`` does."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        _, logits, _ = self._contexts.of_task(task)
        values: FloatArray = expit(logits)
        return values


class Jointly:
    """Policies calibrated jointly, as the server ranks prompts without outcomes.

    The calibration reads the context prompts only.
    """

    def __init__(
        self, contexts: Contexts, embeddings: AnyFloatArray, counts: Sequence[int] = CLUSTER_COUNTS
    ) -> None:
        """Store embeddings of all prompts, ``[prompts, d]``, and numbers of k-means clusters."""
        self._contexts = contexts
        self._embeddings = embeddings
        self._counts = counts

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        loo_logits, logits, levels = self._contexts.of_task(task)
        known, asked = self._embeddings[task.known], self._embeddings[task.asked]
        joint = FleetCalibration.fit(loo_logits, levels, task.rewards, known, self._counts)
        values: FloatArray = expit(joint.logits(logits, levels, asked))
        return values


class Relabelled:
    """The paper's way: contexts of rewards that include the cost (Eq. 11)."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def __call__(self, task: Task, cost: FloatArray, betas: Sequence[float]) -> FloatArray:
        """Return scores ``[b, Q, P]`` for normalised costs ``[P]``; reads every context b times."""
        scores = np.empty((len(betas), len(task.asked), len(cost)))
        for number, beta in enumerate(betas):
            relabellings = [Relabelling.of(beta, policy_cost) for policy_cost in cost]
            scale = np.array([relabelling.scale for relabelling in relabellings])
            shift = np.array([relabelling.shift for relabelling in relabellings])
            relabelled = task.rewards * scale + shift
            _, logits, _ = self._contexts.logits(task.known, relabelled, task.asked)
            scores[number] = expit(logits)
        return scores


def _stacked(columns: Sequence[torch.Tensor]) -> FloatArray:
    stacked: FloatArray = torch.stack(list(columns), 1).double().numpy()
    return stacked
