"""Calls about policies."""

from collections.abc import Mapping
from pathlib import Path

from vzero._async.connection import AsyncConnection
from vzero._checks import check_name
from vzero._files import write_whole
from vzero._messages import policies as policy_requests
from vzero._messages.bundles import import_requests
from vzero._messages.policy_replies import read_ack, read_policy
from vzero._transport.status import translated_errors
from vzero.v1 import policy_pb2
from vzero.values import KEEP, Ack, Keep, Policy, Price


class AsyncPolicyCalls(AsyncConnection):
    """Describe, price, copy and delete policies."""

    async def policies(self, *, timeout: float | None = None) -> list[Policy]:
        """Describe all policies, in order of their names.

        Args:
            timeout: longest time of all calls together, seconds; None: the timeout of the client.
        """
        deadline = self._deadline(timeout)
        policies: list[Policy] = []
        request = policy_pb2.ListPoliciesRequest(page_size=policy_requests.PAGE_SIZE)
        while True:
            page = await self._call(self._services.policies.ListPolicies, request, deadline.left())
            policies += [read_policy(message) for message in page.policies]
            if not page.next_page_token:
                return policies
            request.page_token = page.next_page_token

    async def policy(self, policy_id: str, *, timeout: float | None = None) -> Policy:
        """Describe one policy.

        Args:
            policy_id: name of the policy.
            timeout: longest time of the call, seconds; None: the timeout of the client.

        Raises:
            NotFound: the policy is unknown.
        """
        request = policy_pb2.GetPolicyRequest(policy_id=check_name("policy_id", policy_id))
        reply = await self._call(self._services.policies.GetPolicy, request, timeout, policy_id)
        return read_policy(reply.policy)

    async def update_policy(
        self,
        policy_id: str,
        *,
        price: Price | Keep | None = KEEP,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Policy:
        """Set price and labels of a policy. An unknown policy is created without outcomes.

        Args:
            policy_id: name of the policy.
            price: price of a token. None removes the price; `KEEP` leaves it unchanged.
            labels: all labels of the policy. None leaves them unchanged.
            timeout: longest time of the call, seconds; None: the timeout of the client.

        Raises:
            InvalidArgument: an argument breaks a rule, or there is nothing to set.
        """
        request = policy_requests.update_policy_request(policy_id, price, labels)
        reply = await self._call(self._services.policies.UpdatePolicy, request, timeout, policy_id)
        return read_policy(reply.policy)

    async def delete(self, policy_id: str, *, timeout: float | None = None) -> int:
        """Delete a policy and all its outcomes. The call is never retried.

        Args:
            policy_id: name of the policy.
            timeout: longest time of the call, seconds; None: the timeout of the client.

        Returns:
            Number of outcomes deleted.

        Raises:
            NotFound: the policy is unknown.
        """
        request = policy_pb2.DeletePolicyRequest(policy_id=check_name("policy_id", policy_id))
        reply = await self._call(self._services.policies.DeletePolicy, request, timeout, policy_id)
        return reply.outcomes

    async def export(
        self, policy_id: str, path: str | Path, *, timeout: float | None = None
    ) -> None:
        """Write all outcomes of a policy to a bundle, a file that `import_` reads.

        The file appears, or replaces an older one, when it is complete.

        Args:
            policy_id: name of the policy.
            path: file to write.
            timeout: longest time of the transfer, seconds; None: the timeout of the client.

        Raises:
            NotFound: the policy is unknown.
            OSError: the file cannot be written.
        """
        request = policy_pb2.ExportContextRequest(policy_id=check_name("policy_id", policy_id))
        with write_whole(Path(path)) as file, translated_errors():
            async for piece in self._services.policies.ExportContext(
                request,
                timeout=self._deadline(timeout).left(),
                metadata=self._endpoint.metadata(policy_id),
            ):
                file.write(piece.data)

    async def import_(
        self, path: str | Path, *, policy_id: str | None = None, timeout: float | None = None
    ) -> Ack:
        """Store the outcomes of a bundle. To import it again stores nothing twice.

        Args:
            path: file to read.
            policy_id: policy to store the outcomes under; None: the name in the bundle.
            timeout: longest time of the transfer, seconds; None: the timeout of the client.

        Raises:
            InvalidArgument: the bundle is damaged or of a newer format; nothing is stored.
            OSError: the file cannot be read.
        """
        with import_requests(path, policy_id) as requests, translated_errors():
            reply = await self._services.policies.ImportContext(
                requests,
                timeout=self._deadline(timeout).left(),
                metadata=self._endpoint.metadata(policy_id),
            )
        return read_ack(reply)
