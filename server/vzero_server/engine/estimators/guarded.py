"""An estimator whose device may run out of memory."""

from collections.abc import Sequence
from dataclasses import replace

from vzero_server.engine.estimators.base import Correction, Estimator, FittedContext, Query
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.oom import OomGuard
from vzero_server.types import Features
from vzero_server.values.beta import Values

# Prompts of one pass after memory ran out.
_FEW_PROMPTS = 16


class GuardedEstimator:
    """An estimator with every pass under an ``OomGuard``."""

    def __init__(self, estimator: Estimator, guard: OomGuard) -> None:
        self._estimator = estimator
        self._guard = guard

    @property
    def name(self) -> str:
        """See ``Estimator``."""
        return self._estimator.name

    @property
    def corrections(self) -> Correction:
        """See ``Estimator``."""
        return self._estimator.corrections

    @property
    def rows_needed(self) -> int | None:
        """See ``Estimator``."""
        return self._estimator.rows_needed

    def window_features(self, features: Features) -> Features | None:
        """See ``Estimator``."""
        return self._estimator.window_features(features)

    def fit(self, window: ContextWindow) -> FittedContext:
        """See ``Estimator``.

        Raises:
            DeviceMemoryError: There is no room for the context.
        """

        def work() -> FittedContext:
            return self._estimator.fit(window)

        return self._guard.run(work, work, f"a context of {len(window)} rows")

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """See ``Estimator``.

        Raises:
            DeviceMemoryError: There is no room even for a few prompts at a time.
        """
        return self._guard.run(
            lambda: self._estimator.predict(queries),
            lambda: [self._in_pieces(query) for query in queries],
            f"{_FEW_PROMPTS} prompts on one context",
        )

    def runs_inline(self, query: Query) -> bool:
        """See ``Estimator``; never, since freeing memory waits for the event loop."""
        return False

    def _in_pieces(self, query: Query) -> Values:
        pieces = [
            replace(query, features=query.features[start : start + _FEW_PROMPTS])
            for start in range(0, len(query), _FEW_PROMPTS)
        ]
        return Values.joined([self._estimator.predict([piece])[0] for piece in pieces])
