"""A cache of policy versions and records in front of a store."""

from collections.abc import Mapping, Sequence
from typing import Any

from vzero_server.errors import UnknownPolicyError
from vzero_server.observability.liveness import Monitored
from vzero_server.storage.base import OutcomeStore
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
from vzero_server.storage.waiters import PolicyWaiters
from vzero_server.types import Features


class CachedOutcomeStore:
    """Implements ``OutcomeStore`` by another store, which it owns.

    Versions and records of policies that were asked for stay in memory: a caller learns without
    a database query that a policy has not changed. All changes must go through this object.
    """

    def __init__(self, store: OutcomeStore) -> None:
        self._store = store
        self._versions: dict[tuple[str, str], PolicyVersion] = {}
        self._records: dict[tuple[str, str], PolicyRecord] = {}
        self._waiters = PolicyWaiters()
        # Counts writes to policies; a record read before a write must not be kept after it.
        self._writes = 0

    @property
    def changes(self) -> int:
        """See ``OutcomeStore``."""
        return self._store.changes

    @property
    def deletions(self) -> int:
        """See ``OutcomeStore``."""
        return self._store.deletions

    @property
    def monitored(self) -> tuple[Monitored, ...]:
        """See ``OutcomeStore``."""
        return self._store.monitored

    def close(self) -> None:
        """See ``OutcomeStore``."""
        self._store.close()

    async def append(
        self, policy_id: str, outcomes: Sequence[Outcome], *, tenant: str = DEFAULT_TENANT
    ) -> Appended:
        """See ``OutcomeStore``."""
        appended = await self._store.append(policy_id, outcomes, tenant=tenant)
        self._forget_record(tenant, policy_id)
        self._keep_version(appended.policy)
        return appended

    async def policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> PolicyRecord:
        """See ``OutcomeStore``."""
        return await self._store.policy(policy_id, tenant=tenant)

    async def policies(
        self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """See ``OutcomeStore``."""
        return await self._store.policies(after, limit, tenant=tenant)

    async def policies_by_id(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """See ``OutcomeStore``."""
        records = {
            policy_id: self._records[tenant, policy_id]
            for policy_id in policy_ids
            if (tenant, policy_id) in self._records
        }
        if missing := [policy_id for policy_id in policy_ids if policy_id not in records]:
            writes = self._writes
            read = await self._store.policies_by_id(missing, tenant=tenant)
            records |= {policy.policy_id: policy for policy in read}
            if writes == self._writes:
                self._records |= {(tenant, policy.policy_id): policy for policy in read}
        return [records[policy_id] for policy_id in policy_ids]

    async def update_policy(
        self, policy_id: str, fields: Mapping[str, Any], *, tenant: str = DEFAULT_TENANT
    ) -> PolicyRecord:
        """See ``OutcomeStore``."""
        policy = await self._store.update_policy(policy_id, fields, tenant=tenant)
        self._forget_record(tenant, policy_id)
        self._keep_version(policy.at_version)
        return policy

    async def delete_policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> int:
        """See ``OutcomeStore``."""
        try:
            return await self._store.delete_policy(policy_id, tenant=tenant)
        finally:
            self._forget_record(tenant, policy_id)
            self._versions.pop((tenant, policy_id), None)
            self._waiters.wake(tenant, policy_id)

    async def policy_version(
        self, policy_id: str, *, min_version: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> PolicyVersion:
        """See ``OutcomeStore``; does not suspend if the version is in memory."""
        key = tenant, policy_id
        while True:
            if key not in self._versions:
                self._keep_version(await self._store.policy_version(policy_id, tenant=tenant))
            policy = self._versions[key]
            if min_version is None or policy.version >= min_version:
                return policy
            await self._waiters.change_of(tenant, policy_id).wait()

    async def policy_versions(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyVersion]:
        """See ``OutcomeStore``; does not suspend if all versions are in memory."""
        missing = [
            policy_id for policy_id in policy_ids if (tenant, policy_id) not in self._versions
        ]
        if missing:
            for policy in await self._store.policy_versions(missing, tenant=tenant):
                self._keep_version(policy)
        return [await self.policy_version(policy_id, tenant=tenant) for policy_id in policy_ids]

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
        """See ``OutcomeStore``."""
        try:
            return await self._store.newest_rows(
                policy,
                model_key,
                after=after,
                limit=limit,
                embedded_rows=embedded_rows,
                as_of_step=as_of_step,
            )
        except UnknownPolicyError:
            # Its version may have been read before it was deleted, and kept after.
            key = policy.tenant, policy.policy_id
            if key in self._versions and self._versions[key].key == policy.key:
                del self._versions[key]
            raise

    async def outcomes(
        self, policy: PolicyVersion, *, after: int, limit: int
    ) -> list[LoggedOutcome]:
        """See ``OutcomeStore``."""
        return await self._store.outcomes(policy, after=after, limit=limit)

    async def write_fleet(
        self, name: str, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> Fleet:
        """See ``OutcomeStore``."""
        return await self._store.write_fleet(name, policy_ids, tenant=tenant)

    async def fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> Fleet:
        """See ``OutcomeStore``."""
        return await self._store.fleet(name, tenant=tenant)

    async def fleets(self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT) -> list[Fleet]:
        """See ``OutcomeStore``."""
        return await self._store.fleets(after, limit, tenant=tenant)

    async def delete_fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """See ``OutcomeStore``."""
        await self._store.delete_fleet(name, tenant=tenant)

    async def find_peers(
        self, policy_key: int, prompt_keys: Sequence[int], limit: int
    ) -> list[Peer]:
        """See ``OutcomeStore``."""
        return await self._store.find_peers(policy_key, prompt_keys, limit)

    async def peer_rewards(
        self, peer_keys: Sequence[int], prompt_keys: Sequence[int]
    ) -> PeerRewards:
        """See ``OutcomeStore``."""
        return await self._store.peer_rewards(peer_keys, prompt_keys)

    async def peer_rewards_by_digest(
        self, peer_keys: Sequence[int], digests: Sequence[bytes]
    ) -> list[tuple[bytes, int, float]]:
        """See ``OutcomeStore``."""
        return await self._store.peer_rewards_by_digest(peer_keys, digests)

    async def histories(
        self, policy_keys: Sequence[int], digests: Sequence[bytes], as_of_step: int | None
    ) -> dict[tuple[int, bytes], list[PastOutcome]]:
        """See ``OutcomeStore``."""
        return await self._store.histories(policy_keys, digests, as_of_step)

    async def histories_by_key(
        self, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
    ) -> dict[int, list[PastOutcome]]:
        """See ``OutcomeStore``."""
        return await self._store.histories_by_key(policy_key, prompt_keys, as_of_step)

    async def model_key(self, fingerprint: str) -> int:
        """See ``OutcomeStore``."""
        return await self._store.model_key(fingerprint)

    async def prompt_texts(self, keys: Sequence[int]) -> dict[int, str]:
        """See ``OutcomeStore``."""
        return await self._store.prompt_texts(keys)

    async def embeddings(self, model_key: int, digests: Sequence[bytes]) -> dict[bytes, Features]:
        """See ``OutcomeStore``."""
        return await self._store.embeddings(model_key, digests)

    async def save_embeddings(self, model_key: int, vectors: dict[bytes, Features]) -> int:
        """See ``OutcomeStore``."""
        return await self._store.save_embeddings(model_key, vectors)

    def _forget_record(self, tenant: str, policy_id: str) -> None:
        """Drop the record of a policy that was written."""
        self._writes += 1
        self._records.pop((tenant, policy_id), None)

    def _keep_version(self, policy: PolicyVersion) -> None:
        """Keep the version of a policy if it is newer, and wake the calls that wait for it."""
        key = policy.tenant, policy.policy_id
        known = self._versions.get(key)
        if known is None or (policy.key, policy.version) > (known.key, known.version):
            self._versions[key] = policy
        self._waiters.wake(*key)
