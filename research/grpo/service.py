"""The arms that ask a vzero server."""

from research.grpo.arms import Division, even
from research.grpo.settings import Settings
from research.grpo.step import Groups
from research.policy_zoo.tasks import Task
from vzero import Client
from vzero_server.types import FloatArray

OBJECTIVES = {"paper": "PAPER", "expected": "EXPECTED", "nonzero_gradient": "NONZERO_GRADIENT"}
"""Arms that ask a server, and what they ask it to maximise."""


class Asked:
    """Asks before every step, and reports after it.

    Values rest on what this very policy earned: with ``with_peers`` off no arm learns from the
    others, whose policies are on the same server.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        policy_id: str,
        objective: str,
    ) -> None:
        """Keep the client; the policy is unknown to the server as yet."""
        self._settings = settings
        self._client = client
        self._policy_id = policy_id
        self._objective = objective
        self._known = False

    def divide(self, tasks: list[Task], truth: FloatArray) -> Division:
        """By the server's values; evenly for the first step, when it knows nothing."""
        if not self._known:
            return even(self._settings)
        allocation = self._client.allocate(
            self._policy_id,
            [task.prompt for task in tasks],
            self._settings.total,
            minimum=self._settings.minimum,
            maximum=self._settings.maximum,
            objective=self._objective,
            with_peers=False,
        )
        return Division(allocation.rollouts, allocation.values.mean)

    def learn(self, tasks: list[Task], groups: Groups, step: int) -> None:
        """Report the outcomes; on return they are visible to the next question."""
        self._client.update(
            self._policy_id,
            [task.prompt for task in tasks],
            groups.rates,
            rollouts=groups.counts,
            step=step,
        )
        self._known = True
