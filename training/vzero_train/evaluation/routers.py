"""Baseline routers.

All read the same rewards of the whole fleet on the known prompts, and estimate the success rate of
each policy on the other prompts. Free parameters are chosen by cross-validation on the known
prompts, by the squared error over all policies.

Shapes: N prompts whose rewards are known, P policies, Q prompts to route.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vzero_server.types import AnyFloatArray, FloatArray, IntArray
from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import LogisticRegression

NEIGHBOURS = (4, 8, 16, 32, 64, 128, 256)
CLUSTERS = (1, 4, 8, 16, 32, 64)
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Task:
    """The input of a router.

    Attributes:
        known: Prompt indices, ``[N]``.
        rewards: Rewards of every policy on them, ``[N, P]``.
        asked: Prompt indices, ``[Q]``, none of them known.
        seed: Seed of all draws.
    """

    known: IntArray
    rewards: FloatArray
    asked: IntArray
    seed: int = 0


class Router(Protocol):
    """Estimates the success rates of all policies of a fleet."""

    def __call__(self, task: Task) -> FloatArray:
        """Return values in [0, 1], ``[Q, P]``."""


class BestSingle:
    """One policy for all prompts: the mean reward of every policy, for any prompt."""

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        return np.tile(task.rewards.mean(0), (len(task.asked), 1))


class Chance:
    """Random values: routing without information."""

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        shape = (len(task.asked), task.rewards.shape[1])
        return np.random.default_rng([task.seed, 1]).random(shape)


class Oracle:
    """Values that equal the observed rewards."""

    def __init__(self, rewards: FloatArray) -> None:
        """Store the rewards of all prompts, ``[prompts, P]``."""
        self._rewards = rewards

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        return self._rewards[task.asked]


class NearestPrompts:
    """Mean rewards of the k nearest prompts; k by leave-one-out."""

    def __init__(self, embeddings: AnyFloatArray) -> None:
        """Store embeddings of all prompts, ``[prompts, d]``, of length 1."""
        self._embeddings = embeddings

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        known, asked = self._embeddings[task.known], self._embeddings[task.asked]
        among = known @ known.T
        np.fill_diagonal(among, -np.inf)
        most = min(max(NEIGHBOURS), len(known) - 1)
        inner = _running_means(among, task.rewards, most)
        sizes = [k for k in NEIGHBOURS if k <= most] or [most]
        errors = [float(((inner(k) - task.rewards) ** 2).mean()) for k in sizes]
        return _running_means(asked @ known.T, task.rewards, most)(sizes[int(np.argmin(errors))])


class Clusters:
    """Mean rewards within the cluster of a prompt (k-means), as in Avengers.

    The mean of each cluster is shrunk towards that of the policy by one row, so that empty clusters
    have a value.
    """

    def __init__(self, embeddings: AnyFloatArray) -> None:
        """Store embeddings of all prompts, ``[prompts, d]``, of length 1."""
        self._embeddings = embeddings

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``; the number of clusters is chosen by cross-validation."""
        sizes = [size for size in CLUSTERS if size <= len(task.known) // 4] or [1]

        def error(size: int) -> float:
            return _cross_validated(task, lambda inner: self._values(inner, size))

        return self._values(task, min(sizes, key=error))

    def _values(self, task: Task, size: int) -> FloatArray:
        from sklearn.cluster import KMeans

        model = KMeans(size, n_init=2, random_state=task.seed).fit(self._embeddings[task.known])
        sums = np.zeros((size, task.rewards.shape[1]))
        np.add.at(sums, model.labels_, task.rewards)
        counts = np.bincount(model.labels_, minlength=size)[:, None]
        means: FloatArray = (sums + task.rewards.mean(0)) / (counts + 1.0)
        nearest: IntArray = model.predict(self._embeddings[task.asked])
        values: FloatArray = means[nearest]
        return values


class Regressions:
    """A logistic regression on embeddings per policy, each with its own regularisation."""

    def __init__(self, embeddings: AnyFloatArray) -> None:
        """Store embeddings of all prompts, ``[prompts, d]``, of length 1."""
        self._estimator = LogisticRegression(embeddings)

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        values = [
            self._estimator(
                Question(
                    policy="",
                    step=-1,
                    benchmark="",
                    context=task.known,
                    context_rewards=rewards.astype(np.float32),
                    queries=task.asked,
                    rewards=np.zeros(len(task.asked), np.float32),
                )
            )
            for rewards in task.rewards.T
        ]
        return np.stack(values, axis=1).astype(np.float64)


def _cross_validated(task: Task, router: Callable[[Task], FloatArray]) -> float:
    """Return the cross-validated squared error of a router on the known prompts."""
    count = len(task.known)
    parts = np.array_split(np.random.default_rng(task.seed).permutation(count), _FOLDS)
    total = 0.0
    for part in parts:
        others = np.setdiff1d(np.arange(count), part)
        inner = Task(task.known[others], task.rewards[others], task.known[part], task.seed)
        total += float(((router(inner) - task.rewards[part]) ** 2).sum())
    return total / task.rewards.size


def _running_means(
    similarity: AnyFloatArray, rewards: FloatArray, most: int
) -> Callable[[int], FloatArray]:
    """Return a function of k: mean rewards of the k most similar rows, k at most ``most``."""
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :most]

    def of(k: int) -> FloatArray:
        means: FloatArray = rewards[order[:, :k]].mean(1)
        return means

    return of
