"""What an asyncio client asks of policies and fleets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vzero import bundles, decision_requests, replies, requests
from vzero.connection import AsyncConnection
from vzero.errors import translated
from vzero.files import write_whole
from vzero.v1 import policy_pb2
from vzero.values import KEEP, Ack, Fleet, Keep, Policy, Price


class AsyncPolicyCalls(AsyncConnection):
    """`PolicyCalls` with ``await``."""

    async def policies(self, *, timeout: float | None = None) -> list[Policy]:
        """Describe all policies, in order of their names."""
        deadline = self._deadline(timeout)
        found: list[Policy] = []
        request = policy_pb2.ListPoliciesRequest(page_size=requests.PAGE_SIZE)
        while True:
            page = await self._ask(self._policies.ListPolicies, request, None, deadline.left())
            found.extend(replies.policy(message) for message in page.policies)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def policy(self, policy_id: str, *, timeout: float | None = None) -> Policy:
        """Describe one policy. Raises `NotFound` when no outcome of it was ever stored."""
        request = policy_pb2.GetPolicyRequest(policy_id=requests.check_policy(policy_id))
        reply = await self._ask(self._policies.GetPolicy, request, policy_id, timeout)
        return replies.policy(reply.policy)

    async def update_policy(
        self,
        policy_id: str,
        *,
        price: Price | Keep | None = KEEP,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Policy:
        """Set price and labels of a policy; see `Client.update_policy`."""
        request = decision_requests.update_policy(policy_id, price, labels)
        reply = await self._ask(self._policies.UpdatePolicy, request, policy_id, timeout)
        return replies.policy(reply.policy)

    async def delete(self, policy_id: str, *, timeout: float | None = None) -> int:
        """Forget a policy; return the number of its outcomes. See `Client.delete`."""
        request = policy_pb2.DeletePolicyRequest(policy_id=requests.check_policy(policy_id))
        reply = await self._ask(self._policies.DeletePolicy, request, policy_id, timeout)
        return reply.outcomes

    async def export(
        self, policy_id: str, path: str | Path, *, timeout: float | None = None
    ) -> None:
        """Write all outcomes of a policy to a file; see `Client.export`."""
        request = policy_pb2.ExportContextRequest(policy_id=requests.check_policy(policy_id))
        with write_whole(Path(path)) as file, translated():
            async for piece in self._policies.ExportContext(
                request,
                timeout=self._deadline(timeout).left(),
                metadata=self._headers(policy_id),
            ):
                file.write(piece.data)

    async def import_(
        self, path: str | Path, *, policy_id: str | None = None, timeout: float | None = None
    ) -> Ack:
        """Store the outcomes of a file that `export` wrote; see `Client.import_`."""
        with bundles.opened(path, policy_id) as pieces, translated():
            reply = await self._policies.ImportContext(
                pieces,
                timeout=self._deadline(timeout).left(),
                metadata=self._headers(policy_id),
            )
        return replies.ack(reply)

    async def update_fleet(
        self, name: str, policies: Sequence[str], *, timeout: float | None = None
    ) -> Fleet:
        """Store a fleet; see `Client.update_fleet`."""
        request = decision_requests.update_fleet(name, policies)
        reply = await self._ask(self._policies.UpdateFleet, request, None, timeout)
        return replies.fleet(reply.fleet)

    async def fleet(self, name: str, *, timeout: float | None = None) -> Fleet:
        """Return one fleet. Raises `NotFound` when it is unknown."""
        request = policy_pb2.GetFleetRequest(name=decision_requests.check_fleet(name))
        reply = await self._ask(self._policies.GetFleet, request, None, timeout)
        return replies.fleet(reply.fleet)

    async def fleets(self, *, timeout: float | None = None) -> list[Fleet]:
        """Return all fleets, in order of their names."""
        deadline = self._deadline(timeout)
        found: list[Fleet] = []
        request = policy_pb2.ListFleetsRequest(page_size=requests.PAGE_SIZE)
        while True:
            page = await self._ask(self._policies.ListFleets, request, None, deadline.left())
            found.extend(replies.fleet(message) for message in page.fleets)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def delete_fleet(self, name: str, *, timeout: float | None = None) -> None:
        """Forget a fleet; its policies stay. Raises `NotFound` when it is unknown."""
        request = policy_pb2.DeleteFleetRequest(name=decision_requests.check_fleet(name))
        await self._ask(self._policies.DeleteFleet, request, None, timeout)
