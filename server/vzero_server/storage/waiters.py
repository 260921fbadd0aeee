"""Wakes calls that wait for a policy to change."""

import asyncio


class PolicyWaiters:
    """One event per awaited policy; all methods belong to one event loop."""

    def __init__(self) -> None:
        self._changes: dict[tuple[str, str], asyncio.Event] = {}

    def change_of(self, tenant: str, policy_id: str) -> asyncio.Event:
        """Return the event that the policy's next change sets."""
        return self._changes.setdefault((tenant, policy_id), asyncio.Event())

    def wake(self, tenant: str, policy_id: str) -> None:
        """Set the event of a policy that has changed."""
        if change := self._changes.pop((tenant, policy_id), None):
            change.set()
