"""The asyncio client."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from vzero import replies, requests
from vzero.aio_decision_calls import AsyncDecisionCalls
from vzero.aio_policy_calls import AsyncPolicyCalls
from vzero.aio_stream import AsyncStream
from vzero.courier import Courier
from vzero.delivery import Delivery
from vzero.errors import VzeroError, translated
from vzero.requests import Column, Prompts
from vzero.retry import Backoff, pause_before_retry
from vzero.spool import DEFAULT_BYTES
from vzero.values import Ack, Values


class AsyncClient(AsyncDecisionCalls, AsyncPolicyCalls):
    """Asks a server and reports to it, on an event loop: `Client` with ``await``.

    Methods take, return and raise what those of `Client` do. The connection belongs to the event
    loop on which the client is first used.
    """

    async def predict(
        self,
        policy_id: str,
        prompts: Prompts,
        *,
        estimator: str = "AUTO",
        as_of_step: int | None = None,
        min_version: int | None = None,
        with_peers: bool = True,
        with_history: bool = True,
        timeout: float | None = None,
    ) -> Values:
        """Estimate how likely the policy is to succeed on each prompt; see `Client.predict`."""
        calls = requests.predict(
            policy_id,
            prompts,
            estimator=estimator,
            as_of_step=as_of_step,
            min_version=min_version,
            with_peers=with_peers,
            with_history=with_history,
        )
        deadline = self._deadline(timeout)
        parts = []
        for call in calls:
            reply = await self._ask(self._values.Predict, call, policy_id, deadline.left())
            parts.append(replies.values(reply, len(call.prompts)))
        return Values.join(parts)

    async def update(
        self,
        policy_id: str,
        prompts: Prompts,
        rewards: Column,
        *,
        rollouts: Column = 1,
        cost: Column = None,
        step: Column = None,
        observed_at: Column = None,
        outcome_ids: Sequence[str] | None = None,
        tokens: Column = None,
        decision_id: Column = None,
        timeout: float | None = None,
    ) -> Ack:
        """Store outcomes of a policy, durable on return; see `Client.update`."""
        outcomes = requests.outcomes(
            prompts,
            rewards,
            rollouts=rollouts,
            cost=cost,
            step=step,
            observed_at=observed_at,
            outcome_ids=outcome_ids,
            tokens=tokens,
            decision_id=decision_id,
        )
        delivery = Delivery(policy_id, outcomes)
        deadline = self._deadline(timeout)
        backoff = Backoff()
        headers = self._headers(policy_id)
        while True:
            try:
                with translated():
                    async for response in self._values.UpdateContext(
                        iter(delivery.unacked()), timeout=deadline.left(), metadata=headers
                    ):
                        delivery.acked(response)
                        backoff.reset()
                return delivery.result()
            except VzeroError as error:
                await asyncio.sleep(pause_before_retry(error, backoff, deadline))

    def stream(
        self,
        policy_id: str,
        *,
        chunk_size: int = 256,
        flush_interval: float = 0.5,
        window: int = 32,
        spool_dir: str | Path | None = None,
        spool_bytes: int = DEFAULT_BYTES,
        step: int | None = None,
        timeout: float | None = None,
    ) -> AsyncStream:
        """Make a stream for an ``async with`` block; see `Client.stream`."""
        courier = Courier(
            policy_id,
            chunk_size=chunk_size,
            flush_interval=flush_interval,
            window=window,
            spool_dir=spool_dir,
            spool_bytes=spool_bytes,
            step=step,
        )
        headers = self._headers(policy_id)
        return AsyncStream(
            courier,
            lambda: self._values.UpdateContext(metadata=headers),
            timeout or self._endpoint.timeout,
        )
