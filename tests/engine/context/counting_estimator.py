"""An estimator whose fits take as long as a test says, by its clock, and are counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.clock import Clock
from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.types import Features, Float32Array
from vzero_server.values.beta import Values


@dataclass
class CountedContext:
    """A fitted context.

    Attributes:
        rows: Rows of the window.
        rewards: Their rewards, ``[rows]``.
    """

    rows: int
    rewards: Float32Array = field(default_factory=lambda: np.empty(0, np.float32))
    nbytes: int = 1000
    basis: str = "icl"
    evidence: None = None


@dataclass
class CountingEstimator:
    """An estimator that fits, but does not predict.

    Attributes:
        clock: The clock that fits advance.
        seconds: Processor time of a fit.
        fits: Versions of the windows that were fitted.
    """

    clock: Clock = field(default_factory=Clock)
    seconds: float = 0.0
    fits: list[int] = field(default_factory=list)
    rows_needed: int | None = None
    name: str = "icl"
    corrections: Correction = Correction.NONE

    def window_features(self, features: Features) -> None:
        return None

    def fit(self, window: ContextWindow) -> CountedContext:
        self.clock.processor += self.seconds
        self.fits.append(window.version)
        return CountedContext(len(window), window.rewards)

    def runs_inline(self, query: Query) -> bool:
        return False

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        raise NotImplementedError
