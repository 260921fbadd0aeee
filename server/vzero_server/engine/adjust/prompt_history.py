"""The past outcomes of single prompts, and values combined with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vzero_server.storage.records import PastOutcome
from vzero_server.values.beta import HistorySummary, Values, inside
from vzero_server.values.history import Dynamics, combine
from vzero_server.values.visits import Visits, visits_of_outcomes


@dataclass(slots=True)
class PromptHistory:
    """A policy's past outcomes on one prompt.

    Attributes:
        outcomes: Oldest first.
        visits: The outcomes grouped into visits; None until they are first needed.
    """

    outcomes: Sequence[PastOutcome]
    visits: Visits | None = None

    def until(self, version: int) -> "PromptHistory":
        """Return the part that the log held at a version."""
        if not self.outcomes or self.outcomes[-1].seq <= version:
            return self
        return PromptHistory([outcome for outcome in self.outcomes if outcome.seq <= version])


def apply_history(
    values: Values, histories: Sequence[PromptHistory], dynamics: Sequence[Dynamics]
) -> Values:
    """Combine values with the histories of their prompts.

    Args:
        values: Of n prompts.
        histories: Of each prompt, ``[n]``.
        dynamics: Fitted to the policy of each prompt, ``[n]``.
    """
    if not any(history.outcomes for history in histories):
        return values
    visits = _visits(histories)
    combined = combine(values.mean, values.effective_sample_size, visits, dynamics)
    return Values(
        mean=combined.mean,
        centre=np.where(visits.present, inside(combined.mean), values.centre),
        effective_sample_size=combined.concentration,
        basis=values.basis,
        history=HistorySummary(
            rollouts=np.array([_rollouts(history) for history in histories]),
            weight=combined.weight,
            newest_step=tuple(_newest_step(history) for history in histories),
            newest_observed_at=tuple(
                history.outcomes[-1].observed_at if history.outcomes else None
                for history in histories
            ),
        ),
    )


def _rollouts(history: PromptHistory) -> int:
    return sum(outcome.rollouts for outcome in history.outcomes)


def _newest_step(history: PromptHistory) -> int | None:
    steps = (outcome.step for outcome in history.outcomes if outcome.step is not None)
    return max(steps, default=None)


def _visits(histories: Sequence[PromptHistory]) -> Visits:
    """The visits of all histories; those not yet grouped are grouped together."""
    ungrouped = [history for history in histories if history.visits is None]
    if ungrouped:
        outcomes = [outcome for history in ungrouped for outcome in history.outcomes]
        counts = [len(history.outcomes) for history in ungrouped]
        steps = [-1 if outcome.step is None else outcome.step for outcome in outcomes]
        grouped = visits_of_outcomes(
            np.repeat(np.arange(len(ungrouped)), counts),
            np.array(steps, np.int64),
            np.array([outcome.reward for outcome in outcomes], np.float64),
            np.array([outcome.rollouts for outcome in outcomes], np.float64),
            len(ungrouped),
        )
        for history, visits in zip(ungrouped, grouped.split(), strict=True):
            history.visits = visits
    return Visits.joined([history.visits for history in histories if history.visits is not None])
