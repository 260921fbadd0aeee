"""What a blocking client asks of policies and fleets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vzero import bundles, decision_requests, replies, requests
from vzero.connection import Connection
from vzero.errors import translated
from vzero.files import write_whole
from vzero.v1 import policy_pb2
from vzero.values import KEEP, Ack, Fleet, Keep, Policy, Price


class PolicyCalls(Connection):
    """Describe, price, group, copy and delete policies."""

    def policies(self, *, timeout: float | None = None) -> list[Policy]:
        """Describe all policies, in order of their names."""
        deadline = self._deadline(timeout)
        found: list[Policy] = []
        request = policy_pb2.ListPoliciesRequest(page_size=requests.PAGE_SIZE)
        while True:
            page = self._ask(self._policies.ListPolicies, request, None, deadline.left())
            found.extend(replies.policy(message) for message in page.policies)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def policy(self, policy_id: str, *, timeout: float | None = None) -> Policy:
        """Describe one policy. Raises `NotFound` when no outcome of it was ever stored."""
        request = policy_pb2.GetPolicyRequest(policy_id=requests.check_policy(policy_id))
        reply = self._ask(self._policies.GetPolicy, request, policy_id, timeout)
        return replies.policy(reply.policy)

    def update_policy(
        self,
        policy_id: str,
        *,
        price: Price | Keep | None = KEEP,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Policy:
        """Set price and labels of a policy. One that is unknown is created without outcomes.

        Args:
            policy_id: the policy.
            price: what a token costs; None: no price. `KEEP` leaves it as it is.
            labels: all its labels; None leaves them as they are.
            timeout: for the call.

        Raises:
            InvalidArgument: there is nothing to set, or something that breaks a rule.
        """
        request = decision_requests.update_policy(policy_id, price, labels)
        reply = self._ask(self._policies.UpdatePolicy, request, policy_id, timeout)
        return replies.policy(reply.policy)

    def delete(self, policy_id: str, *, timeout: float | None = None) -> int:
        """Forget a policy and all its outcomes. It is never sent twice.

        Returns:
            Number of outcomes deleted.

        Raises:
            NotFound: the policy is unknown.
        """
        request = policy_pb2.DeletePolicyRequest(policy_id=requests.check_policy(policy_id))
        reply = self._ask(self._policies.DeletePolicy, request, policy_id, timeout)
        return reply.outcomes

    def export(self, policy_id: str, path: str | Path, *, timeout: float | None = None) -> None:
        """Write all outcomes of a policy to a file that `import_` reads.

        The file appears, or replaces an older one, when it is whole.

        Raises:
            NotFound: the policy is unknown.
            OSError: the file cannot be written.
        """
        request = policy_pb2.ExportContextRequest(policy_id=requests.check_policy(policy_id))
        with write_whole(Path(path)) as file, translated():
            for piece in self._policies.ExportContext(
                request,
                timeout=self._deadline(timeout).left(),
                metadata=self._headers(policy_id),
            ):
                file.write(piece.data)

    def import_(
        self, path: str | Path, *, policy_id: str | None = None, timeout: float | None = None
    ) -> Ack:
        """Store the outcomes of a file that `export` wrote. Doing it again doubles nothing.

        Args:
            path: the file to read.
            policy_id: name to store them under; None: the name in the file.
            timeout: for the whole transfer.

        Raises:
            InvalidArgument: the file is damaged or of a newer format; nothing is stored.
            OSError: the file cannot be read.
        """
        with bundles.opened(path, policy_id) as pieces, translated():
            reply = self._policies.ImportContext(
                pieces,
                timeout=self._deadline(timeout).left(),
                metadata=self._headers(policy_id),
            )
        return replies.ack(reply)

    def update_fleet(
        self, name: str, policies: Sequence[str], *, timeout: float | None = None
    ) -> Fleet:
        """Store a fleet, in place of the one of that name.

        Args:
            name: its name.
            policies: 1 to 256 names of policies, each once.
            timeout: for the call.

        Raises:
            NotFound: a policy is unknown.
        """
        request = decision_requests.update_fleet(name, policies)
        reply = self._ask(self._policies.UpdateFleet, request, None, timeout)
        return replies.fleet(reply.fleet)

    def fleet(self, name: str, *, timeout: float | None = None) -> Fleet:
        """Return one fleet. Raises `NotFound` when it is unknown."""
        request = policy_pb2.GetFleetRequest(name=decision_requests.check_fleet(name))
        reply = self._ask(self._policies.GetFleet, request, None, timeout)
        return replies.fleet(reply.fleet)

    def fleets(self, *, timeout: float | None = None) -> list[Fleet]:
        """Return all fleets, in order of their names."""
        deadline = self._deadline(timeout)
        found: list[Fleet] = []
        request = policy_pb2.ListFleetsRequest(page_size=requests.PAGE_SIZE)
        while True:
            page = self._ask(self._policies.ListFleets, request, None, deadline.left())
            found.extend(replies.fleet(message) for message in page.fleets)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def delete_fleet(self, name: str, *, timeout: float | None = None) -> None:
        """Forget a fleet; its policies stay. Raises `NotFound` when it is unknown."""
        request = policy_pb2.DeleteFleetRequest(name=decision_requests.check_fleet(name))
        self._ask(self._policies.DeleteFleet, request, None, timeout)
