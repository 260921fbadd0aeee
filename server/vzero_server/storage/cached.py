"""The one door to what is known of policies, for an asyncio program."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from vzero_server.errors import UnknownFleetError, UnknownPolicyError
from vzero_server.observability.liveness import Monitored, Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import record
from vzero_server.storage.group_commit import GroupCommitWriter
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
from vzero_server.storage.sql import fleets, log, peers, prompts
from vzero_server.storage.sql.histories import read_histories, read_histories_by_key
from vzero_server.storage.sqlite import Database
from vzero_server.types import Features

T = TypeVar("T")


class ContextStore:
    """Appends to the log and reads from it; every method but ``close`` is for one loop.

    Opening reads no policy. The versions of policies that were asked for are kept in
    memory, so that a caller can learn that nothing changed without asking the database.

    Attributes:
        changes: Chunks appended since it was opened.
        deletions: Policies deleted since it was opened.
        monitored: What must work for it to answer.
    """

    def __init__(
        self, database: Database, *, readers: int = 2, metrics: Metrics | None = None
    ) -> None:
        self._database = database
        self._writer = GroupCommitWriter(database.writes, metrics=metrics)
        self._readers = Worker("reader", readers)
        self.monitored: tuple[Monitored, ...] = (self._writer, self._readers)
        self._versions: dict[str, PolicyVersion] = {}
        self._records: dict[str, PolicyRecord] = {}
        self._writes = 0
        self._advanced: dict[str, asyncio.Event] = {}
        self.changes = 0
        self.deletions = 0

    def close(self) -> None:
        """Commit what is queued, then close the data folder."""
        self._writer.close()
        self._readers.shutdown()
        self._database.close()

    async def append(
        self, policy_id: str, outcomes: Sequence[Outcome], *, tenant: str = DEFAULT_TENANT
    ) -> Appended:
        """Append outcomes, each ``outcome_id`` once; returns when they are durable.

        Raises:
            StorageFullError: There is no space; nothing of the chunk was stored.
        """
        now = time.time()
        appended = await self._write(
            lambda connection: log.append(connection, policy_id, outcomes, now), len(outcomes)
        )
        self.changes += 1
        self._changed(policy_id)
        self._advance(appended.policy)
        return appended

    async def policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> PolicyRecord:
        """Describe a policy.

        Raises:
            UnknownPolicyError: It has no outcome.
        """
        record = await self._read(lambda connection: log.get_policy(connection, policy_id))
        if record is None:
            raise UnknownPolicyError(policy_id)
        return record

    async def policies(
        self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """Up to ``limit`` policies whose name sorts after ``after``, in order of name."""
        return await self._read(lambda connection: log.list_policies(connection, after, limit))

    async def policies_by_id(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyRecord]:
        """Describe policies, in the order of their names.

        Raises:
            UnknownPolicyError: One of them is not known.
        """
        records = {name: self._records[name] for name in policy_ids if name in self._records}
        if missing := [policy_id for policy_id in policy_ids if policy_id not in records]:
            writes = self._writes
            found = await self._read(lambda connection: log.get_policies(connection, missing))
            records |= {record.policy_id: record for record in found}
            if writes == self._writes:
                # Nothing was written meanwhile that they might not show.
                self._records |= {record.policy_id: record for record in found}
        for policy_id in policy_ids:
            if policy_id not in records:
                raise UnknownPolicyError(policy_id)
        return [records[policy_id] for policy_id in policy_ids]

    def _changed(self, policy_id: str) -> None:
        """Forget what is kept of a policy."""
        self._writes += 1
        self._records.pop(policy_id, None)

    async def update_policy(
        self, policy_id: str, fields: Mapping[str, Any], *, tenant: str = DEFAULT_TENANT
    ) -> PolicyRecord:
        """Set price or labels of a policy, as ``log.update_policy``."""
        now = time.time()
        record = await self._write(
            lambda connection: log.update_policy(connection, policy_id, fields, now)
        )
        self._changed(policy_id)
        self._advance(record.at_version)
        return record

    async def write_fleet(
        self, name: str, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> Fleet:
        """Store a fleet in place of the one of that name.

        Raises:
            UnknownPolicyError: One of its policies is not known.
        """
        return await self._write(
            lambda connection: fleets.write_fleet(connection, name, policy_ids)
        )

    async def fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> Fleet:
        """A fleet by name.

        Raises:
            UnknownFleetError: It is not known.
        """
        found = await self._read(lambda connection: fleets.read_fleet(connection, name))
        if found is None:
            raise UnknownFleetError(name)
        return found

    async def fleets(self, after: str, limit: int, *, tenant: str = DEFAULT_TENANT) -> list[Fleet]:
        """Up to ``limit`` fleets whose name sorts after ``after``, in order of name."""
        return await self._read(lambda connection: fleets.list_fleets(connection, after, limit))

    async def delete_fleet(self, name: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Forget a fleet; its policies stay.

        Raises:
            UnknownFleetError: It is not known.
        """
        if not await self._write(lambda connection: fleets.delete_fleet(connection, name)):
            raise UnknownFleetError(name)

    async def delete_policy(self, policy_id: str, *, tenant: str = DEFAULT_TENANT) -> int:
        """Forget a policy; returns the number of outcomes deleted.

        Raises:
            UnknownPolicyError: It has no outcome.
        """
        deleted = await self._write(lambda connection: log.delete_policy(connection, policy_id))
        self.deletions += 1
        self._changed(policy_id)
        self._versions.pop(policy_id, None)
        if advanced := self._advanced.pop(policy_id, None):
            advanced.set()
        if deleted is None:
            raise UnknownPolicyError(policy_id)
        return deleted

    async def policy_version(
        self, policy_id: str, *, min_version: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> PolicyVersion:
        """The current version of a policy, which is at least ``min_version``.

        Raises:
            UnknownPolicyError: It has no outcome.
        """
        while True:
            if policy_id not in self._versions:
                record = await self.policy(policy_id, tenant=tenant)
                self._advance(record.at_version)
            current = self._versions[policy_id]
            if min_version is None or current.version >= min_version:
                return current
            await self._advanced.setdefault(policy_id, asyncio.Event()).wait()

    async def policy_versions(
        self, policy_ids: Sequence[str], *, tenant: str = DEFAULT_TENANT
    ) -> list[PolicyVersion]:
        """Key and version of policies, in order.

        Raises:
            UnknownPolicyError: One of them has no outcome.
        """
        missing = [policy_id for policy_id in policy_ids if policy_id not in self._versions]
        if missing:
            read = await self._read(lambda connection: log.get_policies(connection, missing))
            for record in read:
                self._advance(record.at_version)
        return [await self.policy_version(policy_id) for policy_id in policy_ids]

    async def outcomes(
        self, policy: PolicyVersion, *, after: int, limit: int
    ) -> list[LoggedOutcome]:
        """Read one page of the outcomes of a policy, as ``log.read_outcomes``.

        Raises:
            UnknownPolicyError: The policy was deleted.
        """
        logged = await self._read(
            lambda connection: log.read_outcomes(connection, policy, after=after, limit=limit)
        )
        if logged is None:
            raise UnknownPolicyError(policy.policy_id)
        return logged

    async def newest_rows(
        self,
        policy: PolicyVersion,
        model_key: int,
        *,
        after: int,
        limit: int,
        depth: int,
        as_of_step: int | None,
    ) -> tuple[int, list[Row]]:
        """Version and newest rows of a policy, as ``log.newest_rows``.

        Raises:
            UnknownPolicyError: The policy was deleted.
        """
        result = await self._read(
            lambda connection: log.newest_rows(
                connection,
                policy.key,
                model_key,
                after=after,
                limit=limit,
                depth=depth,
                as_of_step=as_of_step,
            )
        )
        if result is None:
            known = self._versions.get(policy.policy_id)
            if known is not None and known.key == policy.key:
                del self._versions[policy.policy_id]
            raise UnknownPolicyError(policy.policy_id)
        return result

    async def find_peers(
        self, policy_key: int, prompt_keys: Sequence[int], limit: int
    ) -> list[Peer]:
        """The other policies that tried most of some prompts, as ``peers.find_peers``."""
        return await self._read(
            lambda connection: peers.find_peers(connection, policy_key, prompt_keys, limit)
        )

    async def peer_rewards(
        self, peer_keys: Sequence[int], prompt_keys: Sequence[int]
    ) -> PeerRewards:
        """Mean rewards of policies on prompts, as ``peers.peer_rewards``."""
        return await self._read(
            lambda connection: peers.peer_rewards(connection, peer_keys, prompt_keys)
        )

    async def peer_rewards_by_digest(
        self, peer_keys: Sequence[int], digests: Sequence[bytes]
    ) -> list[tuple[bytes, int, float]]:
        """Mean rewards of policies on prompts: (digest, policy key, reward)."""
        return await self._read(
            lambda connection: peers.peer_rewards_by_digest(connection, peer_keys, digests)
        )

    async def histories(
        self, policy_keys: Sequence[int], digests: Sequence[bytes], as_of_step: int | None
    ) -> dict[tuple[int, bytes], list[PastOutcome]]:
        """Newest outcomes of policies on prompts by digest, as ``histories.read_histories``."""
        return await self._read(
            lambda connection: read_histories(connection, policy_keys, digests, as_of_step)
        )

    async def histories_by_key(
        self, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
    ) -> dict[int, list[PastOutcome]]:
        """Newest outcomes of a policy on prompts by key, as ``read_histories_by_key``."""
        return await self._read(
            lambda connection: read_histories_by_key(
                connection, policy_key, prompt_keys, as_of_step
            )
        )

    async def model_key(self, fingerprint: str) -> int:
        """The key under which embeddings of a model are stored."""
        return await self._write(lambda connection: prompts.model_key(connection, fingerprint))

    async def prompt_texts(self, keys: Sequence[int]) -> dict[int, str]:
        """Texts of prompts by key."""
        return await self._read(lambda connection: prompts.prompt_texts(connection, keys))

    async def embeddings(self, model_key: int, digests: Sequence[bytes]) -> dict[bytes, Features]:
        """Stored embeddings by the digests of their prompts."""
        return await self._read(
            lambda connection: prompts.read_embeddings(connection, model_key, digests)
        )

    async def save_embeddings(self, model_key: int, vectors: dict[bytes, Features]) -> int:
        """Store the embeddings of those prompts that the log names."""
        return await self._write(
            lambda connection: prompts.write_embeddings(connection, model_key, vectors),
            len(vectors),
        )

    def _advance(self, version: PolicyVersion) -> None:
        """Keep a newer version and wake the calls that wait for it."""
        known = self._versions.get(version.policy_id)
        if known is None or (version.key, version.version) > (known.key, known.version):
            self._versions[version.policy_id] = version
        if advanced := self._advanced.pop(version.policy_id, None):
            advanced.set()

    async def _write(self, job: Callable[[Connection], T], rows: int = 1) -> T:
        began = time.monotonic()
        result = await asyncio.wrap_future(self._writer.submit(job, rows=rows))
        record("commit", began, time.monotonic(), rows=rows)
        return result

    async def _read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._database.reads.begin() as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)
