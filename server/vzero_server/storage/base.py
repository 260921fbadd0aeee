"""The protocol of a store of outcomes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vzero_server.observability.liveness import Monitored
from vzero_server.storage.records import (
    DEFAULT_TENANT,
    Appended,
    Fleet,
    LoggedOutcome,
    Outcome,
    PastOutcome,
    Peer,
    PeerRewards,
    PolicyRecord,
    PolicyVersion,
    Row,
)
from vzero_server.types import Features

MAX_HISTORY = 64
"""Most outcomes of one policy and prompt that ``histories`` returns."""


class OutcomeStore(Protocol):
    """A durable log of outcomes per policy, and what is derived from it.

    All methods except ``close`` belong to one event loop. A policy's **version** counts the
    changes of its log: appending n outcomes adds n, any other change adds 1. Sequence numbers
    of outcomes rise with the version and may have gaps.
    """

    @property
    def changes(self) -> int:
        """Number of appends since the store was opened."""
        ...

    @property
    def deletions(self) -> int:
        """Number of policies deleted since the store was opened."""
        ...

    @property
    def monitored(self) -> tuple[Monitored, ...]:
        """Workers that must be alive for the store to answer."""
        ...

    def close(self) -> None:
        """Commit queued changes and release the storage."""
        ...

    async def append(
        self, policy_id: str, outcomes: Sequence[Outcome], *, tenant: str = DEFAULT_TENANT
    ) -> Appended:
        """Append outcomes, each ``outcome_id`` once, and return when they are durable.

        The policy is created if it is unknown.

        Raises:
            StorageFullError: There is no space left; nothing was stored.
        """
        ...

    async def policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> PolicyRecord:
        """Describe a policy.

        Raises:
            UnknownPolicyError: The policy is unknown.
        """
        ...

    async def policies(
        self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """List up to ``limit`` policies whose names sort after ``after``, in order of name."""
        ...

    async def policies_by_id(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """Describe several policies, in the order of ``policy_ids``.

        Raises:
            UnknownPolicyError: A policy is unknown.
        """
        ...

    async def update_policy(
        self, policy_id: str, fields: Mapping[str, Any], *, tenant: str = DEFAULT_TENANT
    ) -> PolicyRecord:
        """Set the price or the labels of a policy, which is created if it is unknown.

        Args:
            policy_id: The policy.
            fields: The fields to set: ``price`` to a ``Price`` or None, ``labels`` to a mapping
                of strings.
            tenant: The owner of the policy.

        Raises:
            StorageFullError: There is no space left; nothing was stored.
        """
        ...

    async def delete_policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> int:
        """Delete a policy and its outcomes, and return the number of outcomes deleted.

        Raises:
            UnknownPolicyError: The policy is unknown.
        """
        ...

    async def policy_version(
        self, policy_id: str, *, min_version: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> PolicyVersion:
        """Return the current version of a policy.

        Args:
            policy_id: The policy.
            min_version: Wait until the policy has at least this version.
            tenant: The owner of the policy.

        Raises:
            UnknownPolicyError: The policy is unknown, or was deleted while waiting.
        """
        ...

    async def policy_versions(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyVersion]:
        """Return the current versions of several policies, in order.

        Raises:
            UnknownPolicyError: A policy is unknown.
        """
        ...

    async def newest_rows(
        self,
        policy: PolicyVersion,
        model_key: int,
        *,
        after: int,
        limit: int,
        embedded_rows: int,
        as_of_step: int | None,
    ) -> tuple[int, list[Row]]:
        """Read the newest outcomes of a policy and the version that they belong to.

        Args:
            policy: The policy. Its version does not limit the rows.
            model_key: The model whose feature vectors are read.
            after: Only rows with a larger ``seq``; a version works too, since every later row
                has a larger ``seq``.
            limit: Most rows to return, the newest.
            embedded_rows: Most rows, the newest, to return with their feature vectors.
            as_of_step: Only rows that have a step of at most this.

        Returns:
            The version and the rows, oldest first.

        Raises:
            UnknownPolicyError: The policy was deleted.
        """
        ...

    async def outcomes(
        self, policy: PolicyVersion, *, after: int, limit: int
    ) -> list[LoggedOutcome]:
        """Read one page of the outcomes of a policy, in order of ``seq``.

        Args:
            policy: The policy. Outcomes appended after its version are left out.
            after: Only outcomes with a larger ``seq``: 0, or the ``seq`` that ended the
                previous page.
            limit: Most outcomes to return. A page without outcomes is the end.

        Raises:
            UnknownPolicyError: The policy was deleted.
        """
        ...

    async def write_fleet(
        self, name: str, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> Fleet:
        """Create or replace a fleet.

        Raises:
            UnknownPolicyError: A policy is unknown.
        """
        ...

    async def fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> Fleet:
        """Look up a fleet by name.

        Raises:
            UnknownFleetError: The fleet is unknown.
        """
        ...

    async def fleets(self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT) -> list[Fleet]:
        """List up to ``limit`` fleets whose names sort after ``after``, in order of name."""
        ...

    async def delete_fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Delete a fleet; its policies stay.

        Raises:
            UnknownFleetError: The fleet is unknown.
        """
        ...

    async def find_peers(
        self, policy_key: int, prompt_keys: Sequence[int], limit: int
    ) -> list[Peer]:
        """Find the policies of the same tenant that share most prompts with a policy.

        Args:
            policy_key: The policy, which is not its own peer.
            prompt_keys: Its prompts. Of many prompts an evenly spaced sample is used.
            limit: Most peers to return.

        Returns:
            Peers, those with most shared prompts first, of equals the newest first.
        """
        ...

    async def peer_rewards(
        self, peer_keys: Sequence[int], prompt_keys: Sequence[int]
    ) -> PeerRewards:
        """Read the mean rewards of policies on prompts; pairs without outcomes are left out."""
        ...

    async def peer_rewards_by_digest(
        self, peer_keys: Sequence[int], digests: Sequence[bytes]
    ) -> list[tuple[bytes, int, float]]:
        """Read the mean rewards of policies on prompts as (digest, policy key, reward).

        Digests of unknown prompts are allowed.
        """
        ...

    async def histories(
        self, policy_keys: Sequence[int], digests: Sequence[bytes], as_of_step: int | None
    ) -> dict[tuple[int, bytes], list[PastOutcome]]:
        """Read the newest outcomes of policies on prompts, at most ``MAX_HISTORY`` per pair.

        Args:
            policy_keys: The policies.
            digests: Digests of the prompts. Unknown prompts are allowed.
            as_of_step: Only outcomes that have a step of at most this.

        Returns:
            Outcomes by policy key and digest, oldest first; pairs without outcomes are left out.
        """
        ...

    async def histories_by_key(
        self, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
    ) -> dict[int, list[PastOutcome]]:
        """Read the newest outcomes of one policy by prompt key, as ``histories``."""
        ...

    async def model_key(self, fingerprint: str) -> int:
        """Return the key under which the feature vectors of a model are stored."""
        ...

    async def prompt_texts(self, keys: Sequence[int]) -> dict[int, str]:
        """Read the texts of prompts by key; unknown keys are left out."""
        ...

    async def embeddings(self, model_key: int, digests: Sequence[bytes]) -> dict[bytes, Features]:
        """Read stored feature vectors by digest; prompts without one are left out."""
        ...

    async def save_embeddings(self, model_key: int, vectors: dict[bytes, Features]) -> int:
        """Store feature vectors of known prompts that have none, and return how many.

        Raises:
            StorageFullError: There is no space left; nothing was stored.
        """
        ...
