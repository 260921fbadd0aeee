"""The asyncio client."""

from vzero._async.decision_calls import AsyncDecisionCalls
from vzero._async.fleet_calls import AsyncFleetCalls
from vzero._async.policy_calls import AsyncPolicyCalls
from vzero._async.server_calls import AsyncServerCalls
from vzero._async.value_calls import AsyncValueCalls


class AsyncClient(
    AsyncValueCalls, AsyncDecisionCalls, AsyncPolicyCalls, AsyncFleetCalls, AsyncServerCalls
):
    """An asyncio client of a vzero server.

    It belongs to one event loop. Do not use it after a fork.

    Methods that call the server raise subclasses of `VzeroError`. An argument that breaks a rule
    raises `InvalidArgument`, which is also a `ValueError`, before anything is sent.
    """
