"""The store of outcomes on an SQL database."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from vzero_server.errors import UnknownFleetError, UnknownPolicyError
from vzero_server.observability.liveness import Monitored, Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import record
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
from vzero_server.storage.sql import fleets, histories, log, peers, policies, prompts
from vzero_server.storage.sql.database import SqlDatabase
from vzero_server.storage.sql.group_commit import GroupCommitWriter
from vzero_server.storage.waiters import PolicyWaiters
from vzero_server.types import Features

T = TypeVar("T")


class SqlOutcomeStore:
    """Implements ``OutcomeStore``: one writer thread with group commit, a pool of readers.

    Every read goes to the database. Opening reads no policy.

    Attributes:
        changes: See ``OutcomeStore``.
        deletions: See ``OutcomeStore``.
        monitored: See ``OutcomeStore``.
    """

    def __init__(
        self, database: SqlDatabase, *, readers: int = 2, metrics: Metrics | None = None
    ) -> None:
        """Start the threads.

        Args:
            database: Closed by ``close``.
            readers: Threads for concurrent reads, at most the connections of the database.
            metrics: Where the store reports its measurements.
        """
        self._database = database
        self._writer = GroupCommitWriter(database, metrics=metrics)
        self._readers = Worker("reader", readers)
        self._waiters = PolicyWaiters()
        self.monitored: tuple[Monitored, ...] = (self._writer, self._readers)
        self.changes = 0
        self.deletions = 0

    def close(self) -> None:
        """Commit queued changes, end the threads and close the database."""
        self._writer.close()
        self._readers.shutdown()
        self._database.close()

    async def append(
        self, policy_id: str, outcomes: Sequence[Outcome], *, tenant: str = DEFAULT_TENANT
    ) -> Appended:
        """See ``OutcomeStore``."""
        now = time.time()
        appended = await self._write(
            lambda connection: log.append(connection, tenant, policy_id, outcomes, now),
            len(outcomes),
        )
        self.changes += 1
        self._waiters.wake(tenant, policy_id)
        return appended

    async def policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> PolicyRecord:
        """See ``OutcomeStore``."""
        policy = await self._read(
            lambda connection: policies.get_policy(connection, tenant, policy_id)
        )
        if policy is None:
            raise UnknownPolicyError(policy_id)
        return policy

    async def policies(
        self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: policies.list_policies(connection, tenant, after, limit)
        )

    async def policies_by_id(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """See ``OutcomeStore``."""
        rows = await self._read(
            lambda connection: policies.get_policies(connection, tenant, policy_ids)
        )
        records = {row.policy_id: row for row in rows}
        for policy_id in policy_ids:
            if policy_id not in records:
                raise UnknownPolicyError(policy_id)
        return [records[policy_id] for policy_id in policy_ids]

    async def update_policy(
        self, policy_id: str, fields: Mapping[str, Any], *, tenant: str = DEFAULT_TENANT
    ) -> PolicyRecord:
        """See ``OutcomeStore``."""
        now = time.time()
        policy = await self._write(
            lambda connection: policies.update_policy(connection, tenant, policy_id, fields, now)
        )
        self._waiters.wake(tenant, policy_id)
        return policy

    async def delete_policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> int:
        """See ``OutcomeStore``."""
        deleted = await self._write(
            lambda connection: policies.delete_policy(connection, tenant, policy_id)
        )
        if deleted is None:
            raise UnknownPolicyError(policy_id)
        self.deletions += 1
        self._waiters.wake(tenant, policy_id)
        return deleted

    async def policy_version(
        self, policy_id: str, *, min_version: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> PolicyVersion:
        """See ``OutcomeStore``."""
        while True:
            # Before the read, so that a change during the read is not missed.
            changed = self._waiters.change_of(tenant, policy_id)
            policy = (await self.policy(policy_id, tenant=tenant)).at_version
            if min_version is None or policy.version >= min_version:
                return policy
            await changed.wait()

    async def policy_versions(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyVersion]:
        """See ``OutcomeStore``."""
        records = await self.policies_by_id(policy_ids, tenant=tenant)
        return [policy.at_version for policy in records]

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
        version_and_rows = await self._read(
            lambda connection: log.newest_rows(
                connection,
                policy.key,
                model_key,
                after=after,
                limit=limit,
                embedded_rows=embedded_rows,
                as_of_step=as_of_step,
            )
        )
        if version_and_rows is None:
            raise UnknownPolicyError(policy.policy_id)
        return version_and_rows

    async def outcomes(
        self, policy: PolicyVersion, *, after: int, limit: int
    ) -> list[LoggedOutcome]:
        """See ``OutcomeStore``."""
        page = await self._read(
            lambda connection: log.read_outcomes(connection, policy, after=after, limit=limit)
        )
        if page is None:
            raise UnknownPolicyError(policy.policy_id)
        return page

    async def write_fleet(
        self, name: str, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> Fleet:
        """See ``OutcomeStore``."""
        return await self._write(
            lambda connection: fleets.write_fleet(connection, tenant, name, policy_ids)
        )

    async def fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> Fleet:
        """See ``OutcomeStore``."""
        fleet = await self._read(lambda connection: fleets.read_fleet(connection, tenant, name))
        if fleet is None:
            raise UnknownFleetError(name)
        return fleet

    async def fleets(self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT) -> list[Fleet]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: fleets.list_fleets(connection, tenant, after, limit)
        )

    async def delete_fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """See ``OutcomeStore``."""
        if not await self._write(lambda connection: fleets.delete_fleet(connection, tenant, name)):
            raise UnknownFleetError(name)

    async def find_peers(
        self, policy_key: int, prompt_keys: Sequence[int], limit: int
    ) -> list[Peer]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: peers.find_peers(connection, policy_key, prompt_keys, limit)
        )

    async def peer_rewards(
        self, peer_keys: Sequence[int], prompt_keys: Sequence[int]
    ) -> PeerRewards:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: peers.peer_rewards(connection, peer_keys, prompt_keys)
        )

    async def peer_rewards_by_digest(
        self, peer_keys: Sequence[int], digests: Sequence[bytes]
    ) -> list[tuple[bytes, int, float]]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: peers.peer_rewards_by_digest(connection, peer_keys, digests)
        )

    async def histories(
        self, policy_keys: Sequence[int], digests: Sequence[bytes], as_of_step: int | None
    ) -> dict[tuple[int, bytes], list[PastOutcome]]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: histories.read_histories(
                connection, policy_keys, digests, as_of_step
            )
        )

    async def histories_by_key(
        self, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
    ) -> dict[int, list[PastOutcome]]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: histories.read_histories_by_key(
                connection, policy_key, prompt_keys, as_of_step
            )
        )

    async def model_key(self, fingerprint: str) -> int:
        """See ``OutcomeStore``."""
        return await self._write(lambda connection: prompts.model_key(connection, fingerprint))

    async def prompt_texts(self, keys: Sequence[int]) -> dict[int, str]:
        """See ``OutcomeStore``."""
        return await self._read(lambda connection: prompts.prompt_texts(connection, keys))

    async def embeddings(self, model_key: int, digests: Sequence[bytes]) -> dict[bytes, Features]:
        """See ``OutcomeStore``."""
        return await self._read(
            lambda connection: prompts.read_embeddings(connection, model_key, digests)
        )

    async def save_embeddings(self, model_key: int, vectors: dict[bytes, Features]) -> int:
        """See ``OutcomeStore``."""
        return await self._write(
            lambda connection: prompts.write_embeddings(connection, model_key, vectors),
            len(vectors),
        )

    async def _write(self, job: Callable[[Connection], T], rows: int = 1) -> T:
        """Run a job on the writer thread and return its result once it is durable."""
        began = time.monotonic()
        result = await asyncio.wrap_future(self._writer.submit(job, rows=rows))
        record("commit", began, time.monotonic(), rows=rows)
        return result

    async def _read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a transaction on a reader thread."""

        def run() -> T:
            with self._database.reads.begin() as connection:
                return query(connection)

        return await self._readers.run(run)
