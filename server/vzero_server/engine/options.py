"""Read options: how a caller wants values to be computed."""

from dataclasses import dataclass

AUTO = "auto"
"""Stands for the preferred estimator among those that are loaded."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How values are computed, as one object from the edge to the engine.

    Attributes:
        estimator: Name of the estimator, in any case; ``AUTO`` for the preferred one.
        as_of_step: Condition only on outcomes whose step is set and at most this.
        min_version: Wait until the policy's log has reached this version.
        with_peers: Correct values by the rewards of other policies on the same prompts. Has no
            effect with ``as_of_step``: the steps of other policies belong to other runs.
        with_history: Combine values with the policy's past outcomes on the same prompts.
    """

    estimator: str = AUTO
    as_of_step: int | None = None
    min_version: int | None = None
    with_peers: bool = True
    with_history: bool = True


DEFAULTS = ReadOptions()
"""The options of a caller that sets none."""
