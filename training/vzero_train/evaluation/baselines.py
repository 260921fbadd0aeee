"""Baseline estimators of success rates."""

import warnings
from typing import Protocol, Self

import numpy as np
import torch

from vzero_server.model.in_context_head import InContextHead
from vzero_server.types import AnyFloatArray, IntArray
from vzero_train.data.questions import Question

_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_PENALTIES = (1e2, 1e3, 1e4, 1e5)
# The mean reward of a prompt gains little from more policies than this.
_MOST_WEIGHT = 30


class Estimator(Protocol):
    """Estimates the probability of success on each query of a question."""

    def __call__(self, question: Question) -> AnyFloatArray:
        """Return probabilities in [0, 1], ``[queries]``."""


class ContextMean:
    """The same value for every query: the mean reward of the context."""

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        return np.full(len(question.queries), context_mean(question))


class Neighbours:
    """Mean reward of the k nearest prompts of the context, Euclidean (Eq. 52)."""

    def __init__(self, embeddings: AnyFloatArray, k: int = 64) -> None:
        self._embeddings, self._k = embeddings, k

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``; k is a quarter of a small context."""
        size = len(question.context)
        if size == 0:
            return np.full(len(question.queries), 0.5)
        k = self._k if size > self._k else max(1, size // 4)
        near = self._embeddings[question.context]
        queries = self._embeddings[question.queries]
        norms = (near**2).sum(1)
        distances = norms - 2.0 * queries @ near.T
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        values: AnyFloatArray = question.context_rewards[nearest].mean(1)
        return values


class LogisticRegression:
    """Logistic regression on columns; the regularisation is chosen within the context.

    On embeddings it is the strong practical baseline, on the log of the prompt's length alone
    the weakest baseline.
    """

    def __init__(self, columns: AnyFloatArray) -> None:
        self._columns = columns

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``; the context mean if all labels are equal."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Fixed
        from sklearn.linear_model import LogisticRegressionCV as Chosen

        success = question.context_rewards >= 0.5
        rarer = int(min(success.sum(), (~success).sum()))
        if rarer == 0:
            return np.full(len(question.queries), context_mean(question))
        folds = min(5, rarer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", FutureWarning)
            if folds < 2:
                model = Fixed(C=0.1)
            else:
                model = Chosen(Cs=_STRENGTHS, cv=folds, scoring="neg_log_loss", max_iter=300)
            model.fit(self._columns[question.context], success)
        values: AnyFloatArray = model.predict_proba(self._columns[question.queries])[:, 1]
        return values


class PromptDifficulty:
    """Mean reward of a prompt over the policies of a training set, for any context.

    It corresponds to the reward model of the paper: it reads the prompt and not the context.
    """

    def __init__(self, values: AnyFloatArray) -> None:
        """Store the value of each prompt, ``[prompts]``; see ``fit`` and ``cross_fit``."""
        self._values = values

    @classmethod
    def fit(cls, columns: AnyFloatArray, prompts: IntArray, rewards: AnyFloatArray) -> Self:
        """Fit a ridge regression of mean rewards on columns of prompts.

        Args:
            columns: Features of all prompts, ``[prompts, columns]``.
            prompts: Index of the prompt of each training outcome, ``[n]``.
            rewards: Their rewards, ``[n]``.
        """
        known = np.unique(prompts)
        return cls(_ridge(columns, prompts, rewards, known))

    @classmethod
    def cross_fit(
        cls,
        columns: AnyFloatArray,
        prompts: IntArray,
        rewards: AnyFloatArray,
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> Self:
        """Fit by folds, so that the rewards of a prompt do not enter its own value.

        The value of a prompt comes from a regression on the prompts of the other folds, which
        include outcomes of the judged policy.

        Args:
            columns: As for ``fit``.
            prompts: As for ``fit``.
            rewards: As for ``fit``.
            folds: Number of parts of the prompts.
            seed: Seed of the parts.
        """
        known = np.random.default_rng(seed).permutation(np.unique(prompts))
        values = np.full(len(columns), float(np.mean(rewards)))
        for part in np.array_split(known, min(folds, len(known))):
            others = np.setdiff1d(known, part)
            if len(others) > 1:
                values[part] = _ridge(columns, prompts, rewards, others)[part]
        return cls(values)

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        return self._values[question.queries]


class Head:
    """The in-context head on cached features; it reads the ages of rows if there are any."""

    def __init__(self, head: InContextHead, features: AnyFloatArray) -> None:
        self._head, self._features = head.eval(), features

    @torch.inference_mode()
    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        context = self._rows(question.context)
        rewards = torch.from_numpy(question.context_rewards).float().unsqueeze(0)
        ages = None
        if question.ages is not None:
            ages = torch.from_numpy(question.ages).float().unsqueeze(0)
        encoded = self._head.encode(context, rewards, ages=ages)
        logits = self._head.predict(encoded, self._rows(question.queries))
        values: AnyFloatArray = torch.sigmoid(logits)[0].double().numpy()
        return values

    def _rows(self, prompts: IntArray) -> torch.Tensor:
        features = torch.from_numpy(self._features[prompts].astype(np.float32))
        return self._head.rows(features).unsqueeze(0)


def context_mean(question: Question) -> float:
    """Return the mean reward of a context; one half if it is empty."""
    return float(question.context_rewards.mean()) if len(question.context) else 0.5


def _ridge(
    columns: AnyFloatArray, prompts: IntArray, rewards: AnyFloatArray, known: IntArray
) -> AnyFloatArray:
    """Return values of all prompts, learned from the mean rewards of ``known`` ones."""
    from sklearn.linear_model import RidgeCV

    counts = np.bincount(prompts, minlength=len(columns))[known]
    sums = np.bincount(prompts, weights=rewards, minlength=len(columns))[known]
    model = RidgeCV(alphas=_PENALTIES)
    model.fit(columns[known], sums / counts, sample_weight=np.minimum(counts, _MOST_WEIGHT))
    values: AnyFloatArray = model.predict(columns).clip(0.01, 0.99)
    return values
