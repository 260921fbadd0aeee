"""The protocol of estimators: fit a context once, then predict from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Protocol

from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.types import Features
from vzero_server.values.beta import Values
from vzero_server.values.evidence import ContextEvidence


class Correction(Flag):
    """Corrections that estimates of an estimator get."""

    NONE = 0
    PEERS = auto()
    """By rewards of other policies on the same prompts; needs evidence."""
    FLEET = auto()
    """By the other policies of a ranking; needs evidence."""
    HISTORY = auto()
    """By the policy's past outcomes on the same prompts; fitted to evidence if there is any."""


class FittedContext(Protocol):
    """A context as an estimator has read it: what ``predict`` needs of it, kept between calls."""

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""

    @property
    def basis(self) -> str:
        """Name of the estimator, or ``PRIOR`` if it had too few rows to tell prompts apart."""

    @property
    def evidence(self) -> ContextEvidence | None:
        """What corrections are fitted to; None if the estimator offers none."""


class EstimatorContext(Protocol):
    """A fitted context together with the estimator that can predict from it."""

    @property
    def estimator(self) -> "Estimator":
        """The estimator."""

    @property
    def fitted(self) -> FittedContext:
        """What the estimator made of the context."""


@dataclass(frozen=True, slots=True)
class Query:
    """Some prompts under one context.

    Attributes:
        context: What ``Estimator.fit`` made of the context. Its class is known to the estimator
            alone.
        features: Feature vectors of the prompts, ``[m, columns]``, m at least 1.
    """

    context: Any
    features: Features

    def __len__(self) -> int:
        return len(self.features)


class Estimator(Protocol):
    """Computes values in two steps, which run on worker threads.

    Attributes:
        name: Under which callers ask for it; lower case.
        corrections: What its estimates are corrected by.
        rows_needed: Number of newest rows of a window whose features it reads; None for all.
    """

    @property
    def name(self) -> str:
        """See the class."""

    @property
    def corrections(self) -> Correction:
        """See the class."""

    @property
    def rows_needed(self) -> int | None:
        """See the class."""

    def window_features(self, features: Features) -> Features | None:
        """Return what a window keeps of prompts for this estimator, beside their embeddings.

        Args:
            features: Columns of feature vectors behind the embedding, ``[n, columns]``.

        Returns:
            ``[n, kept columns]``, found again under its name in ``ContextWindow.features``; None
            if the estimator reads embeddings alone.
        """

    def fit(self, window: ContextWindow) -> FittedContext:
        """Read a context; the result is cached by its ``nbytes``."""

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """Answer queries about any contexts together, one ``Values`` each, in order."""

    def runs_inline(self, query: Query) -> bool:
        """Whether a prediction is cheap enough for the event loop: about a millisecond at most."""
