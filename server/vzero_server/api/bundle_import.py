"""Imports one bundle: the bytes go to a file, are checked, and are then stored."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from vzero.v1 import policy_pb2
from vzero_server.api.errors import InvalidRequestError
from vzero_server.api.messages.outcomes import chunk_message, outcomes_from
from vzero_server.api.update_stream import Append
from vzero_server.api.validation import check
from vzero_server.observability.liveness import Worker
from vzero_server.storage import bundle
from vzero_server.storage.records import Outcome


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import stored.

    Attributes:
        policy_id: The policy the outcomes were stored under.
        version: Version of the policy after the import.
        accepted: Outcomes stored now.
        duplicates: Outcomes stored before.
    """

    policy_id: str
    version: int
    accepted: int
    duplicates: int


class BundleImport:
    """Imports a bundle through a file. Nothing is stored of a bundle that is not whole."""

    def __init__(self, file: BinaryIO, append: Append, worker: Worker, *, max_bytes: int) -> None:
        """Set up the import.

        Args:
            file: An empty file for the bytes of the bundle.
            append: Appends the outcomes of a policy and returns when they are durable.
            worker: Reads and writes the file, in jobs of one piece of the bundle.
            max_bytes: Most bytes of a bundle.
        """
        self._file = file
        self._append = append
        self._worker = worker
        self._max_bytes = max_bytes

    async def run(self, requests: AsyncIterator[policy_pb2.ImportContextRequest]) -> Imported:
        """Receive, check and store the bundle.

        Raises:
            BundleError: The bundle is truncated, damaged, or of a newer format.
            InvalidRequestError: It is too large or empty, or an outcome breaks a rule.
            StorageFullError: There is no space left; pieces before this one are stored.
        """
        policy_id = await self._receive(requests)
        header = await self._worker.run(bundle.read_header, self._file)
        policy_id = policy_id or header.policy_id
        pieces = bundle.read_batches(self._file)
        while await self._worker.run(_check_next, policy_id, pieces):
            pass
        return await self._store(policy_id)

    async def _receive(self, requests: AsyncIterator[policy_pb2.ImportContextRequest]) -> str:
        """Write the bundle to the file and return the name that the first request gives."""
        policy_id, size = None, 0
        async for request in requests:
            policy_id = request.policy_id if policy_id is None else policy_id
            size += len(request.data)
            if size > self._max_bytes:
                reason = f"a bundle has at most {self._max_bytes} bytes"
                raise InvalidRequestError.of("data", reason)
            await self._worker.run(self._file.write, request.data)
        return policy_id or ""

    async def _store(self, policy_id: str) -> Imported:
        accepted = duplicates = version = 0
        pieces = bundle.read_batches(self._file)
        while (piece := await self._worker.run(next, pieces, None)) is not None:
            if not piece:
                continue
            appended = await self._append(policy_id, piece)
            accepted += appended.accepted
            duplicates += appended.duplicates
            version = appended.policy.version
        if accepted + duplicates == 0:
            raise InvalidRequestError.of("data", "the bundle holds no outcome")
        return Imported(policy_id, version, accepted, duplicates)


def _check_next(policy_id: str, pieces: Iterator[list[Outcome]]) -> bool:
    """Apply the rules of streamed outcomes to the next piece; False after the last one."""
    piece = next(pieces, None)
    if piece is None:
        return False
    if piece:
        try:
            chunk = chunk_message(policy_id, piece)
        except (ValueError, OverflowError) as error:
            reason = f"an outcome is out of range: {error}"
            raise InvalidRequestError.of("data", reason) from None
        check(chunk)
        outcomes_from(chunk)
    return True
