"""What an asyncio client lets the server decide."""

from collections.abc import Mapping, Sequence

from vzero import decision_requests, replies
from vzero.connection import AsyncConnection
from vzero.decisions import Allocation, Ranking
from vzero.requests import Column, Prompts


class AsyncDecisionCalls(AsyncConnection):
    """`DecisionCalls` with ``await``."""

    async def allocate(
        self,
        policy_id: str,
        prompts: Prompts,
        total: int,
        *,
        minimum: int = 2,
        maximum: int = 128,
        multiple_of: int = 1,
        objective: str = "EXPECTED",
        token_costs: Column = None,
        skip: bool = False,
        uncertain_minimum: int | None = None,
        uncertain_width: float | None = None,
        exact: bool = False,
        estimator: str = "AUTO",
        as_of_step: int | None = None,
        min_version: int | None = None,
        with_peers: bool = True,
        with_history: bool = True,
        timeout: float | None = None,
    ) -> Allocation:
        """Divide rollouts among prompts; see `Client.allocate`."""
        request = decision_requests.allocate(
            policy_id,
            prompts,
            total,
            minimum=minimum,
            maximum=maximum,
            multiple_of=multiple_of,
            objective=objective,
            token_costs=token_costs,
            skip=skip,
            uncertain_minimum=uncertain_minimum,
            uncertain_width=uncertain_width,
            exact=exact,
            estimator=estimator,
            as_of_step=as_of_step,
            min_version=min_version,
            with_peers=with_peers,
            with_history=with_history,
        )
        reply = await self._ask(self._values.AllocateBudget, request, policy_id, timeout)
        return replies.allocation(reply, len(request.prompts))

    async def rank(
        self,
        prompts: Prompts,
        *,
        policies: Sequence[str] | None = None,
        fleet: str | None = None,
        betas: Column = 0.7,
        costs: Mapping[str, float] | None = None,
        mode: str = "DECOMPOSED",
        min_value: float | None = None,
        max_cost: float | None = None,
        labels: Mapping[str, str] | None = None,
        estimator: str = "AUTO",
        with_peers: bool = True,
        with_history: bool = True,
        timeout: float | None = None,
    ) -> list[Ranking]:
        """Put policies in order for each prompt; see `Client.rank`."""
        calls = decision_requests.rank(
            prompts,
            policies=policies,
            fleet=fleet,
            betas=betas,
            costs=costs,
            mode=mode,
            min_value=min_value,
            max_cost=max_cost,
            labels=labels,
            estimator=estimator,
            with_peers=with_peers,
            with_history=with_history,
        )
        deadline = self._deadline(timeout)
        found: list[Ranking] = []
        for call in calls:
            reply = await self._ask(self._values.RankModels, call, None, deadline.left())
            found.extend(replies.rankings(reply, len(call.prompts)))
        return found
