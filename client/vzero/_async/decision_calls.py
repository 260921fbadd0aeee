"""Calls about decisions: allocations and rankings."""

from collections.abc import Mapping, Sequence
from typing import Unpack

from vzero._async.connection import AsyncConnection
from vzero._messages.allocate import allocate_request
from vzero._messages.columns import Column, Prompts
from vzero._messages.rank import rank_requests
from vzero._messages.replies import read_allocation, read_rankings
from vzero._options import ReadOptions, ValueOptions
from vzero.decisions import Allocation, Ranking


class AsyncDecisionCalls(AsyncConnection):
    """Divide rollouts among prompts, and rank policies for prompts."""

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
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> Allocation:
        """Divide rollouts among prompts so that the policy learns the most from them.

        Args:
            policy_id: name of the policy, as in `update`.
            prompts: strings [n], 1 <= n <= 4096, each of 1 to 65,536 bytes of UTF-8.
            total: rollouts of all prompts together. All of them are assigned unless ``skip`` is
                set. With ``token_costs``: the most tokens that they may cost.
            minimum: fewest rollouts of a prompt.
            maximum: most rollouts of a prompt.
            multiple_of: number that divides the rollouts of each prompt.
            objective: ``EXPECTED``, ``UTILITY``, ``PAPER`` or ``NONZERO_GRADIENT``, in any case.
            token_costs: expected tokens of one rollout, > 0: [n], or one for all.
            skip: whether a prompt may get no rollout instead of the minimum.
            uncertain_minimum: fewest rollouts of prompts with an uncertain value, which are never
                skipped.
            uncertain_width: width of the 90 % interval, in [0, 1], from which a value is
                uncertain. None: 0.8.
            exact: whether to compute the optimum, however long it takes.
            timeout: longest time of the call, seconds; None: the timeout of the client.
            **options: read options; see `ReadOptions`.

        Raises:
            InvalidArgument: no allocation meets the constraints, or an argument breaks a rule.
            NotFound: the policy is unknown.
            FailedPrecondition: the server has not loaded the estimator.
            DeadlineExceeded: the server did not reply within the timeout.
            TypeError: an option is unknown.
        """
        request = allocate_request(
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
            options=options,
        )
        reply = await self._call(self._services.values.AllocateBudget, request, timeout, policy_id)
        return read_allocation(reply, len(request.prompts))

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
        timeout: float | None = None,
        **options: Unpack[ValueOptions],
    ) -> list[Ranking]:
        """Rank policies for each prompt by success and cost.

        Args:
            prompts: strings [n], n >= 1. More than 256 prompts take several calls.
            policies: names of 1 to 256 policies, each once.
            fleet: name of a fleet, instead of ``policies``.
            betas: preferences in [0, 1], from cost alone to success alone: one, or up to 32.
            costs: cost of one rollout by policy, instead of the cost that the server knows.
            mode: ``DECOMPOSED``: predicted success is combined with the cost; ``PAPER``: the head
                reads rewards that are combined with the cost (Eq. 11). In any case.
            min_value: policies with a lower value come last.
            max_cost: policies with a higher or unknown expected cost come last.
            labels: policies without all of these labels come last.
            timeout: longest time of all calls together, seconds; None: the timeout of the client.
            **options: read options; see `ValueOptions`.

        Returns:
            One ranking of all policies for each prompt, in the order of the prompts.

        Raises:
            InvalidArgument: an argument breaks a rule, or prices are in different units.
            NotFound: a policy or the fleet is unknown.
            FailedPrecondition: the server has not loaded the estimator.
            DeadlineExceeded: the server did not reply within the timeout.
            TypeError: an option is unknown, or applies to a single policy only.
        """
        requests = rank_requests(
            prompts,
            policies=policies,
            fleet=fleet,
            betas=betas,
            costs=costs,
            mode=mode,
            min_value=min_value,
            max_cost=max_cost,
            labels=labels,
            options=options,
        )
        deadline = self._deadline(timeout)
        rankings: list[Ranking] = []
        for request in requests:
            reply = await self._call(self._services.values.RankModels, request, deadline.left())
            rankings += read_rankings(reply, len(request.prompts))
        return rankings
