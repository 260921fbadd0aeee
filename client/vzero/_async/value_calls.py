"""Calls about values and outcomes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from vzero._async.connection import AsyncConnection
from vzero._async.stream import AsyncStream
from vzero._concurrency import async_sleep
from vzero._messages.columns import Column, Prompts
from vzero._messages.outcomes import build_outcomes
from vzero._messages.predict import predict_requests
from vzero._messages.replies import read_values
from vzero._options import ReadOptions
from vzero._stream.core import StreamCore
from vzero._stream.pending_update import PendingUpdate
from vzero._stream.spool import DEFAULT_BYTES
from vzero._transport.retry import Backoff, pause_before_retry
from vzero._transport.status import translated_errors
from vzero.errors import VzeroError
from vzero.values import Ack, Values


class AsyncValueCalls(AsyncConnection):
    """Predict values, and report outcomes in one call or in a stream."""

    async def predict(
        self,
        policy_id: str,
        prompts: Prompts,
        *,
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> Values:
        """Estimate how likely the policy is to succeed on each prompt.

        Args:
            policy_id: name of the policy, as in `update`.
            prompts: strings [n], n >= 1, each of 1 to 65,536 bytes of UTF-8. More than 4096
                prompts take several calls.
            timeout: longest time of all calls together, seconds; None: the timeout of the client.
            **options: read options: the estimator, the outcomes to use and the corrections; see
                `ReadOptions`.

        Returns:
            Values in the order of the prompts.

        Raises:
            InvalidArgument: an argument breaks a rule, or the estimator is unknown.
            NotFound: the policy is unknown.
            FailedPrecondition: the server has not loaded the estimator.
            Overloaded: the queue of the server stayed full.
            DeadlineExceeded: the server did not reply within the timeout.
            TypeError: an option is unknown.
        """
        requests = predict_requests(policy_id, prompts, options)
        deadline = self._deadline(timeout)
        parts = []
        for request in requests:
            reply = await self._call(
                self._services.values.Predict, request, deadline.left(), policy_id
            )
            parts.append(read_values(reply, len(request.prompts)))
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
        """Store outcomes of a policy; on return they are durable and visible to `predict`.

        The first outcome of a policy creates it. If the connection fails, outcomes without
        acknowledgement are sent again with the same ids until the timeout. Those that were stored
        before then count as duplicates.

        Args:
            policy_id: name of the policy.
            prompts: strings [n], n >= 1.
            rewards: mean reward over the rollouts, in [0, 1]: [n], or one for all.
            rollouts: number of attempts behind each reward, 1 to 1,000,000: [n], or one for all.
            cost: mean cost of one rollout, >= 0: [n], or one for all.
            step: checkpoint that made the rollouts, >= 0: [n], or one for all.
            observed_at: time of the observations: aware datetimes, NumPy datetimes (UTC) or
                seconds since 1970, [n] or one for all. None: when the server receives them.
            outcome_ids: identifiers [n], unique within the policy. None: random ones.
            tokens: mean number of tokens of one rollout, >= 0: [n], or one for all.
            decision_id: ``decision_id`` of the `Allocation` or `Ranking` that led to the rollouts:
                [n], or one for all.
            timeout: longest time of the call with all retries, seconds; None: the timeout of the
                client.

        Raises:
            InvalidArgument: a column has another length, or a value breaks a rule.
            Overloaded: the storage of the server is full.
            Unavailable: no server replied in time.
        """
        outcomes = build_outcomes(
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
        pending = PendingUpdate(policy_id, outcomes)
        deadline = self._deadline(timeout)
        backoff = Backoff()
        metadata = self._endpoint.metadata(policy_id)
        while True:
            try:
                with translated_errors():
                    async for reply in self._services.values.UpdateContext(
                        iter(pending.requests()), timeout=deadline.left(), metadata=metadata
                    ):
                        pending.acknowledge(reply)
                        backoff.reset()
                return pending.result()
            except VzeroError as error:
                await async_sleep(pause_before_retry(error, backoff, deadline))

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
        """Open a stream that sends outcomes in the background; use it in an ``async with`` block.

        Args:
            policy_id: name of the policy.
            chunk_size: outcomes that are sent and acknowledged together, 1 to 4096.
            flush_interval: longest time an outcome waits for its chunk to fill, seconds.
            window: chunks that may be unacknowledged at once, at least 1.
            spool_dir: folder that keeps chunks while the server is unreachable. Chunks that an
                earlier stream left in it are delivered first, whatever their policy.
            spool_bytes: most bytes the folder may hold.
            step: step of the outcomes that are added without one, >= 0.
            timeout: longest wait of a method, and for an acknowledgement, seconds; None: the
                timeout of the client.

        Raises:
            InvalidArgument: an argument is out of range.
            SpoolError: another stream uses the folder, or it cannot be written.
        """
        core = StreamCore(
            policy_id,
            chunk_size=chunk_size,
            flush_interval=flush_interval,
            window=window,
            spool_dir=spool_dir,
            spool_bytes=spool_bytes,
            step=step,
        )
        metadata = self._endpoint.metadata(policy_id)
        return AsyncStream(
            core,
            lambda requests: self._services.values.UpdateContext(requests, metadata=metadata),
            timeout or self._endpoint.timeout,
        )
