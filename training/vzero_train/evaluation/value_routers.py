"""Routing with the in-context head: a context of its own for every policy of the fleet.

Shapes: N prompts whose rewards are known, P policies, Q prompts to route, b preferences.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit

from vzero_server.decisions.ranking import Label
from vzero_server.model.icl import InContextHead
from vzero_train.evaluation.routers import Array, Floats, Ints, Task

# How firmly the weight of what sets policies apart is held at 1, in squared logits.
_HOLD = 3.0
_STEPS = 8


class Contexts:
    """The head on the prompts of an outcomes file, all policies on the same context prompts.

    Every policy has a context of its own, as on a server, and no policy knows an asked prompt:
    what peers earned on it, which the server uses where it can, does not exist here.
    """

    def __init__(self, head: InContextHead, features: Floats) -> None:
        """Read all prompts once: features ``[prompts, columns]``."""
        self._head = head.eval()
        with torch.inference_mode():
            self._rows = self._head.rows(torch.from_numpy(features.astype(np.float32)))

    @torch.inference_mode()
    def logits(self, known: Ints, labels: Array, asked: Ints) -> tuple[Array, Array, Array]:
        """Logits of the known prompts left out ``[N, P]``, of the asked ones, and offsets ``[P]``.

        Args:
            known: Prompt indices, ``[N]``.
            labels: In [0, 1], ``[N, P]``.
            asked: Prompt indices, ``[Q]``.
        """
        rows = self._rows[torch.from_numpy(known)].unsqueeze(0)
        queries = self._rows[torch.from_numpy(asked)].unsqueeze(0)
        left_out, predicted, offsets = [], [], []
        for column in torch.from_numpy(labels.astype(np.float32)).T:
            encoded = self._head.encode(rows, column.unsqueeze(0))
            left_out.append(encoded.left_out[0])
            predicted.append(self._head.predict(encoded, queries)[0])
            offsets.append(encoded.offset[0])
        return _stacked(left_out), _stacked(predicted), torch.stack(offsets).double().numpy()


class InContext:
    """Every policy valued by itself, as the server ranks."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def __call__(self, task: Task) -> Array:
        """See ``Router``."""
        _, logits, _ = self._contexts.logits(task.known, task.rewards, task.asked)
        values: Array = expit(logits)
        return values


class Shrunk:
    """The same, with what sets policies apart counted by what it proved worth on the context.

    A value's logit is the policy's offset, a part that all policies share and a part of its own.
    Two policies that are much alike differ on a prompt mostly by the noise of two regressions:
    the own parts are multiplied by one weight for the fleet, from 0 to 1, fitted to the
    leave-one-out logits of all policies on the context (one column, logistic, held at 1).
    """

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def __call__(self, task: Task) -> Array:
        """See ``Router``."""
        left_out, logits, offsets = self._contexts.logits(task.known, task.rewards, task.asked)
        shared, own = _apart(left_out, offsets)
        weight = own_weight(shared + offsets, own, task.rewards)
        shared, own = _apart(logits, offsets)
        values: Array = expit(offsets + shared + weight * own)
        return values


class Relabelled:
    """The paper's way: the contexts are labelled with reward and cost, then read (Eq. 11)."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def __call__(self, task: Task, cost: Array, betas: Sequence[float]) -> Array:
        """Scores ``[b, Q, P]`` for normalised costs ``[P]``; reads every context b times."""
        scores = np.empty((len(betas), len(task.asked), len(cost)))
        for number, beta in enumerate(betas):
            labels = [Label.of(beta, one) for one in cost]
            scale = np.array([label.scale for label in labels])
            shift = np.array([label.shift for label in labels])
            relabelled = task.rewards * scale + shift
            _, logits, _ = self._contexts.logits(task.known, relabelled, task.asked)
            scores[number] = expit(logits)
        return scores


def own_weight(shared: Array, own: Array, rewards: Array) -> float:
    """Weight in [0, 1] of the parts that set policies apart.

    Args:
        shared: Logits without them, ``[N, P]``.
        own: Those parts, of prompts left out of the fit, ``[N, P]``.
        rewards: What came true, ``[N, P]``.
    """
    weight = 1.0
    for _ in range(_STEPS):
        values = expit(shared + weight * own)
        slope = float((own * (rewards - values)).sum()) - _HOLD * (weight - 1.0)
        weight += slope / (float((own**2 * values * (1.0 - values)).sum()) + _HOLD)
    return min(1.0, max(0.0, weight))


def _apart(logits: Array, offsets: Array) -> tuple[Array, Array]:
    """What all policies share on a prompt, ``[n, 1]``, and the part of each, ``[n, P]``."""
    beyond = logits - offsets
    shared: Array = beyond.mean(1, keepdims=True)
    return shared, beyond - shared


def _stacked(columns: Sequence[torch.Tensor]) -> Array:
    stacked: Array = torch.stack(list(columns), 1).double().numpy()
    return stacked
