"""``vzero.v1.PolicyService``: what the server knows of each policy."""

import asyncio
import base64
import binascii
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from vzero.v1 import policy_pb2, policy_pb2_grpc
from vzero_server.api import convert, decisions
from vzero_server.api.errors import Context, InvalidRequestError, Violation
from vzero_server.api.validation import check
from vzero_server.engine.predictor import Predictor
from vzero_server.storage import bundle
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Outcome

_DEFAULT_PAGE = 100


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Serves what is known of policies, fleets and bundles; store and engine come later."""

    def __init__(self, *, max_bundle_bytes: int) -> None:
        self._max_bundle_bytes = max_bundle_bytes
        self._store: OutcomeStore
        self._engine: Predictor
        self._spool: Path

    def attach(self, store: OutcomeStore, engine: Predictor, spool: Path) -> None:
        """Take store and engine into service; ``spool`` holds bundles on their way in."""
        self._store = store
        self._engine = engine
        self._spool = spool

    async def GetPolicy(
        self, request: policy_pb2.GetPolicyRequest, context: Context
    ) -> policy_pb2.GetPolicyResponse:
        """Describe one policy."""
        record = await self._store.policy(request.policy_id)
        return policy_pb2.GetPolicyResponse(policy=convert.policy_message(record))

    async def ListPolicies(
        self, request: policy_pb2.ListPoliciesRequest, context: Context
    ) -> policy_pb2.ListPoliciesResponse:
        """Describe a page of policies; a page token is the name before the page, encoded."""
        size = request.page_size or _DEFAULT_PAGE
        records = await self._store.policies(_after(request.page_token), size + 1)
        return policy_pb2.ListPoliciesResponse(
            policies=[convert.policy_message(record) for record in records[:size]],
            next_page_token=_token([record.policy_id for record in records], size),
        )

    async def UpdatePolicy(
        self, request: policy_pb2.UpdatePolicyRequest, context: Context
    ) -> policy_pb2.UpdatePolicyResponse:
        """Set price or labels."""
        fields = decisions.policy_fields(request)
        record = await self._store.update_policy(request.policy_id, fields)
        return policy_pb2.UpdatePolicyResponse(policy=convert.policy_message(record))

    async def DeletePolicy(
        self, request: policy_pb2.DeletePolicyRequest, context: Context
    ) -> policy_pb2.DeletePolicyResponse:
        """Forget a policy."""
        deleted = await self._store.delete_policy(request.policy_id)
        return policy_pb2.DeletePolicyResponse(outcomes=deleted)

    async def UpdateFleet(
        self, request: policy_pb2.UpdateFleetRequest, context: Context
    ) -> policy_pb2.UpdateFleetResponse:
        """Store a fleet."""
        fleet = await self._store.write_fleet(request.name, request.policy_ids)
        return policy_pb2.UpdateFleetResponse(fleet=decisions.fleet_message(fleet))

    async def GetFleet(
        self, request: policy_pb2.GetFleetRequest, context: Context
    ) -> policy_pb2.GetFleetResponse:
        """Return one fleet."""
        fleet = await self._store.fleet(request.name)
        return policy_pb2.GetFleetResponse(fleet=decisions.fleet_message(fleet))

    async def ListFleets(
        self, request: policy_pb2.ListFleetsRequest, context: Context
    ) -> policy_pb2.ListFleetsResponse:
        """Return a page of fleets, as ``ListPolicies``."""
        size = request.page_size or _DEFAULT_PAGE
        fleets = await self._store.fleets(_after(request.page_token), size + 1)
        return policy_pb2.ListFleetsResponse(
            fleets=[decisions.fleet_message(fleet) for fleet in fleets[:size]],
            next_page_token=_token([fleet.name for fleet in fleets], size),
        )

    async def DeleteFleet(
        self, request: policy_pb2.DeleteFleetRequest, context: Context
    ) -> policy_pb2.DeleteFleetResponse:
        """Forget a fleet."""
        await self._store.delete_fleet(request.name)
        return policy_pb2.DeleteFleetResponse()

    async def ExportContext(
        self, request: policy_pb2.ExportContextRequest, context: Context
    ) -> AsyncIterator[policy_pb2.ExportContextResponse]:
        """Stream a bundle of the outcomes up to the version at the time of the call."""
        policy = await self._store.policy_version(request.policy_id)
        writer = bundle.BundleWriter()
        yield policy_pb2.ExportContextResponse(
            data=writer.header(bundle.Header(request.policy_id, time.time()))
        )
        after = 0
        while page := await self._store.outcomes(policy, after=after, limit=bundle.PIECE):
            after = page[-1].seq
            outcomes = [logged.outcome for logged in page]
            yield policy_pb2.ExportContextResponse(data=writer.outcomes(outcomes))
        yield policy_pb2.ExportContextResponse(data=writer.footer())

    async def ImportContext(
        self,
        request_iterator: AsyncIterator[policy_pb2.ImportContextRequest],
        context: Context,
    ) -> policy_pb2.ImportContextResponse:
        """Take a bundle in: first all of it to a file, then checked, then stored."""
        with tempfile.TemporaryFile(dir=self._spool) as file:
            policy_id = await self._receive(request_iterator, file)
            header = await asyncio.to_thread(bundle.read_header, file)
            policy_id = policy_id or header.policy_id
            await asyncio.to_thread(_check_all, policy_id, file)
            accepted = duplicates = version = 0
            pieces = bundle.read_pieces(file)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                if not piece:
                    continue
                appended = await self._engine.update(policy_id, piece)
                accepted += appended.accepted
                duplicates += appended.duplicates
                version = appended.policy.version
            if accepted + duplicates == 0:
                raise InvalidRequestError([Violation("data", "the bundle holds no outcome")])
        return policy_pb2.ImportContextResponse(
            policy_id=policy_id, version=version, accepted=accepted, duplicates=duplicates
        )

    async def _receive(
        self, requests: AsyncIterator[policy_pb2.ImportContextRequest], file: BinaryIO
    ) -> str:
        """Write a bundle to a file; the name its first request gives."""
        policy_id, size = None, 0
        async for request in requests:
            policy_id = request.policy_id if policy_id is None else policy_id
            size += len(request.data)
            if size > self._max_bundle_bytes:
                limit = f"a bundle has at most {self._max_bundle_bytes} bytes"
                raise InvalidRequestError([Violation("data", limit)])
            await asyncio.to_thread(file.write, request.data)
        return policy_id or ""


def _after(token: str) -> str:
    """The name before a page.

    Raises:
        InvalidRequestError: The token is made up.
    """
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise InvalidRequestError(
            [Violation("page_token", "must come from an earlier reply")]
        ) from None


def _token(names: list[str], size: int) -> str:
    """The token of the next page, if there are more names than this one holds."""
    if len(names) <= size:
        return ""
    return base64.urlsafe_b64encode(names[size - 1].encode()).decode()


def _check_all(policy_id: str, file: BinaryIO) -> None:
    """Hold the outcomes of a bundle to the same rules as streamed ones."""
    for piece in bundle.read_pieces(file):
        if piece:
            _check(policy_id, piece)


def _check(policy_id: str, piece: list[Outcome]) -> None:
    try:
        chunk = convert.chunk_from(policy_id, piece)
    except (ValueError, OverflowError) as error:
        reason = f"an outcome is out of range: {error}"
        raise InvalidRequestError([Violation("data", reason)]) from None
    check(chunk)
    convert.outcomes_from(chunk)
