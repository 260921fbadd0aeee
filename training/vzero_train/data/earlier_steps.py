"""Outcomes of a policy from before one of its steps."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from vzero_train.data.outcomes import Pool


class EarlierSteps:
    """Outcomes of policies along their steps.

    A policy without steps (step -1) has no earlier ones.
    """

    def __init__(self, visits: Iterable[Pool]) -> None:
        """Sort outcomes by policy and step.

        Args:
            visits: Outcomes of each policy at each step.
        """
        self._visits: dict[str, list[Pool]] = defaultdict(list)
        for pool in sorted(visits, key=lambda pool: pool.step):
            if pool.step >= 0 and len(pool):
                self._visits[pool.policy].append(pool)

    def of(self, policy: str) -> Sequence[Pool]:
        """Return the outcomes of all steps of a policy, oldest first."""
        return self._visits.get(policy, ())

    def before(self, policy: str, step: int) -> Sequence[Pool]:
        """Return the outcomes of a policy at earlier steps, oldest first."""
        return [pool for pool in self.of(policy) if pool.step < step]
