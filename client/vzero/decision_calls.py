"""What a blocking client lets the server decide."""

from collections.abc import Mapping, Sequence

from vzero import decision_requests, replies
from vzero.connection import Connection
from vzero.decisions import Allocation, Ranking
from vzero.requests import Column, Prompts


class DecisionCalls(Connection):
    """Allocate rollouts to prompts, and rank policies for prompts."""

    def allocate(
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
        """Divide rollouts among prompts so that the policy learns the most from them.

        Args:
            policy_id: the policy, as named in `update`.
            prompts: strings [n], 1 <= n <= 4096, each of 1 to 65,536 bytes of UTF-8.
            total: rollouts of all prompts together, all of which are given away unless ``skip``;
                with ``token_costs``, most tokens they may cost.
            minimum: fewest rollouts of a prompt.
            maximum: most rollouts of a prompt.
            multiple_of: what the rollouts of each prompt are a multiple of.
            objective: ``EXPECTED``, ``UTILITY``, ``PAPER`` or ``NONZERO_GRADIENT``.
            token_costs: expected tokens of one rollout, > 0: [n], or one for all.
            skip: a prompt may get no rollout at all instead of the minimum.
            uncertain_minimum: fewest rollouts of prompts whose value is uncertain; they are never
                skipped.
            uncertain_width: a value is uncertain if its 90 % interval is at least this wide, in
                [0, 1]; None: 0.8.
            exact: demand the optimum, however long it takes.
            estimator: as in `predict`.
            as_of_step: as in `predict`.
            min_version: as in `predict`.
            with_peers: as in `predict`.
            with_history: as in `predict`.
            timeout: for the call.

        Raises:
            InvalidArgument: no allocation meets the constraints, or an argument breaks a rule.
            NotFound: the policy is unknown.
            FailedPrecondition: the server has not loaded the estimator.
            DeadlineExceeded: no answer in time.
        """
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
        reply = self._ask(self._values.AllocateBudget, request, policy_id, timeout)
        return replies.allocation(reply, len(request.prompts))

    def rank(
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
        """Put policies in order for each prompt, by success and cost.

        Args:
            prompts: strings [n], n >= 1. More than 256 take several calls.
            policies: names of 1 to 256 policies, each once.
            fleet: name of a fleet, instead of ``policies``.
            betas: preferences in [0, 1] from cost alone to success alone: one, or up to 32.
            costs: cost of one rollout by policy, instead of what the server knows.
            mode: ``DECOMPOSED``: success is predicted, then combined with the cost; ``PAPER``: the
                head reads labels in which they are combined.
            min_value: policies with a lower value come last.
            max_cost: policies with a higher or unknown expected cost come last.
            labels: policies that do not carry all of these come last.
            estimator: as in `predict`.
            with_peers: as in `predict`.
            with_history: as in `predict`.
            timeout: for all calls together.

        Returns:
            One ranking of all policies for each prompt, in the order of the prompts.

        Raises:
            InvalidArgument: an argument breaks a rule, or prices cannot be compared.
            NotFound: a policy or the fleet is unknown.
            FailedPrecondition: the server has not loaded the estimator.
            DeadlineExceeded: no answer in time.
        """
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
            reply = self._ask(self._values.RankModels, call, None, deadline.left())
            found.extend(replies.rankings(reply, len(call.prompts)))
        return found
