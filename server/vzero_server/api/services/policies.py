"""``vzero.v1.PolicyService``: policies, fleets and bundles."""

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from vzero.v1 import policy_pb2, policy_pb2_grpc
from vzero_server.api.bundle_import import BundleImport
from vzero_server.api.call import Context
from vzero_server.api.messages.pages import name_before, next_token, page_size
from vzero_server.api.messages.policies import fleet_message, policy_fields, policy_message
from vzero_server.api.workers import EdgeWorkers
from vzero_server.engine.predictor import Predictor
from vzero_server.storage import bundle
from vzero_server.storage.base import OutcomeStore


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Administers policies and fleets, and exports and imports bundles."""

    def __init__(self, workers: EdgeWorkers, *, max_bundle_bytes: int) -> None:
        self._workers = workers
        self._max_bundle_bytes = max_bundle_bytes
        self._store: OutcomeStore
        self._predictor: Predictor
        self._folder: Path

    def attach(self, store: OutcomeStore, predictor: Predictor, folder: Path) -> None:
        """Set store and predictor, before calls are admitted.

        ``folder`` holds the files of bundles that are being imported.
        """
        self._store = store
        self._predictor = predictor
        self._folder = folder

    async def GetPolicy(
        self, request: policy_pb2.GetPolicyRequest, context: Context
    ) -> policy_pb2.GetPolicyResponse:
        """Describe a policy."""
        record = await self._store.policy(request.policy_id)
        return policy_pb2.GetPolicyResponse(policy=policy_message(record))

    async def ListPolicies(
        self, request: policy_pb2.ListPoliciesRequest, context: Context
    ) -> policy_pb2.ListPoliciesResponse:
        """Describe a page of policies."""
        size = page_size(request.page_size)
        records = await self._store.policies(name_before(request.page_token), size + 1)
        return policy_pb2.ListPoliciesResponse(
            policies=[policy_message(record) for record in records[:size]],
            next_page_token=next_token([record.policy_id for record in records], size),
        )

    async def UpdatePolicy(
        self, request: policy_pb2.UpdatePolicyRequest, context: Context
    ) -> policy_pb2.UpdatePolicyResponse:
        """Set price or labels."""
        record = await self._store.update_policy(request.policy_id, policy_fields(request))
        return policy_pb2.UpdatePolicyResponse(policy=policy_message(record))

    async def DeletePolicy(
        self, request: policy_pb2.DeletePolicyRequest, context: Context
    ) -> policy_pb2.DeletePolicyResponse:
        """Delete a policy and its outcomes."""
        deleted = await self._store.delete_policy(request.policy_id)
        return policy_pb2.DeletePolicyResponse(outcomes=deleted)

    async def UpdateFleet(
        self, request: policy_pb2.UpdateFleetRequest, context: Context
    ) -> policy_pb2.UpdateFleetResponse:
        """Store a fleet."""
        fleet = await self._store.write_fleet(request.name, request.policy_ids)
        return policy_pb2.UpdateFleetResponse(fleet=fleet_message(fleet))

    async def GetFleet(
        self, request: policy_pb2.GetFleetRequest, context: Context
    ) -> policy_pb2.GetFleetResponse:
        """Return a fleet."""
        fleet = await self._store.fleet(request.name)
        return policy_pb2.GetFleetResponse(fleet=fleet_message(fleet))

    async def ListFleets(
        self, request: policy_pb2.ListFleetsRequest, context: Context
    ) -> policy_pb2.ListFleetsResponse:
        """Return a page of fleets."""
        size = page_size(request.page_size)
        fleets = await self._store.fleets(name_before(request.page_token), size + 1)
        return policy_pb2.ListFleetsResponse(
            fleets=[fleet_message(fleet) for fleet in fleets[:size]],
            next_page_token=next_token([fleet.name for fleet in fleets], size),
        )

    async def DeleteFleet(
        self, request: policy_pb2.DeleteFleetRequest, context: Context
    ) -> policy_pb2.DeleteFleetResponse:
        """Delete a fleet."""
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
        while page := await self._store.outcomes(policy, after=after, limit=bundle.BATCH_SIZE):
            after = page[-1].seq
            outcomes = [logged.outcome for logged in page]
            yield policy_pb2.ExportContextResponse(data=writer.outcomes(outcomes))
        yield policy_pb2.ExportContextResponse(data=writer.footer())

    async def ImportContext(
        self,
        request_iterator: AsyncIterator[policy_pb2.ImportContextRequest],
        context: Context,
    ) -> policy_pb2.ImportContextResponse:
        """Store the outcomes of a bundle."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            imported = await BundleImport(
                file,
                self._predictor.update,
                self._workers.replies,
                max_bytes=self._max_bundle_bytes,
            ).run(request_iterator)
        return policy_pb2.ImportContextResponse(
            policy_id=imported.policy_id,
            version=imported.version,
            accepted=imported.accepted,
            duplicates=imported.duplicates,
        )
