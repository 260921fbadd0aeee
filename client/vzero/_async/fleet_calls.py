"""Calls about fleets."""

from collections.abc import Sequence

from vzero._async.connection import AsyncConnection
from vzero._checks import check_name
from vzero._messages import policies as policy_requests
from vzero._messages.policy_replies import read_fleet
from vzero.v1 import policy_pb2
from vzero.values import Fleet


class AsyncFleetCalls(AsyncConnection):
    """Store, describe and delete fleets."""

    async def update_fleet(
        self, name: str, policies: Sequence[str], *, timeout: float | None = None
    ) -> Fleet:
        """Store a fleet. It replaces a fleet of the same name.

        Args:
            name: name of the fleet.
            policies: names of 1 to 256 policies, each once.
            timeout: longest time of the call, seconds; None: the timeout of the client.

        Raises:
            InvalidArgument: an argument breaks a rule.
            NotFound: a policy is unknown.
        """
        request = policy_requests.update_fleet_request(name, policies)
        reply = await self._call(self._services.policies.UpdateFleet, request, timeout)
        return read_fleet(reply.fleet)

    async def fleet(self, name: str, *, timeout: float | None = None) -> Fleet:
        """Describe one fleet.

        Args:
            name: name of the fleet.
            timeout: longest time of the call, seconds; None: the timeout of the client.

        Raises:
            NotFound: the fleet is unknown.
        """
        request = policy_pb2.GetFleetRequest(name=check_name("name", name))
        reply = await self._call(self._services.policies.GetFleet, request, timeout)
        return read_fleet(reply.fleet)

    async def fleets(self, *, timeout: float | None = None) -> list[Fleet]:
        """Describe all fleets, in order of their names.

        Args:
            timeout: longest time of all calls together, seconds; None: the timeout of the client.
        """
        deadline = self._deadline(timeout)
        fleets: list[Fleet] = []
        request = policy_pb2.ListFleetsRequest(page_size=policy_requests.PAGE_SIZE)
        while True:
            page = await self._call(self._services.policies.ListFleets, request, deadline.left())
            fleets += [read_fleet(message) for message in page.fleets]
            if not page.next_page_token:
                return fleets
            request.page_token = page.next_page_token

    async def delete_fleet(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a fleet; its policies stay.

        Args:
            name: name of the fleet.
            timeout: longest time of the call, seconds; None: the timeout of the client.

        Raises:
            NotFound: the fleet is unknown.
        """
        request = policy_pb2.DeleteFleetRequest(name=check_name("name", name))
        await self._call(self._services.policies.DeleteFleet, request, timeout)
