"""The blocking client."""

import time
from collections.abc import Sequence
from pathlib import Path

from vzero import replies, requests
from vzero.courier import Courier
from vzero.decision_calls import DecisionCalls
from vzero.delivery import Delivery
from vzero.errors import VzeroError, translated
from vzero.policy_calls import PolicyCalls
from vzero.requests import Column, Prompts
from vzero.retry import Backoff, pause_before_retry
from vzero.spool import DEFAULT_BYTES
from vzero.stream import Stream
from vzero.values import Ack, Values


class Client(DecisionCalls, PolicyCalls):
    """Asks a server and reports to it. Threads may share a client; a fork may not.

    Every method that calls the server raises a `VzeroError`; arguments that break a rule raise
    `InvalidArgument`, a `ValueError`, before anything is sent. Each ``timeout`` is in seconds, and
    None stands for the timeout of the client.
    """

    def predict(
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
        """Estimate how likely the policy is to succeed on each prompt.

        Args:
            policy_id: the policy, as named in `update`.
            prompts: strings [n], n >= 1, each of 1 to 65,536 bytes of UTF-8. More than 4096 take
                several calls.
            estimator: ``AUTO``, ``ICL``, ``KNN`` or ``TABPFN``.
            as_of_step: condition only on outcomes whose step is set and at most this.
            min_version: wait until the context has reached this version, such as ``ack.version``.
            with_peers: correct values by what other policies of the server earned on the same
                prompts, where that helps.
            with_history: combine values with what the policy earned on the prompts before.
            timeout: for all calls together.

        Returns:
            Values in the order of the prompts.

        Raises:
            NotFound: no outcome of the policy was ever stored.
            FailedPrecondition: the server has not loaded the estimator.
            Overloaded: the queue of the server stayed full.
            DeadlineExceeded: no answer in time.
        """
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
            reply = self._ask(self._values.Predict, call, policy_id, deadline.left())
            parts.append(replies.values(reply, len(call.prompts)))
        return Values.join(parts)

    def update(
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

        The first outcome of a policy creates it. When the connection breaks, what was not
        acknowledged is sent again with the same ids until the timeout; outcomes that were stored
        nevertheless are then counted as duplicates.

        Args:
            policy_id: the policy.
            prompts: strings [n], n >= 1.
            rewards: mean reward over the rollouts, in [0, 1]: [n], or one for all.
            rollouts: attempts each reward is the mean of, 1 to 1,000,000: [n], or one for all.
            cost: mean cost of one rollout, >= 0: [n], or one for all.
            step: checkpoint that made the rollouts, >= 0: [n], or one for all.
            observed_at: when the rewards were observed: aware datetimes, NumPy datetimes (UTC) or
                seconds since 1970, [n] or one for all. None: when the server receives them.
            outcome_ids: identifiers [n], unique within the policy. None: fresh ones.
            tokens: mean number of tokens of one rollout, >= 0: [n], or one for all.
            decision_id: what led to the rollouts, the ``decision_id`` of an `Allocation` or a
                `Ranking`: [n], or one for all.
            timeout: for all of it.

        Raises:
            InvalidArgument: a column has another length, or a value breaks a rule.
            Overloaded: the server cannot store more.
            Unavailable: no server answered in time.
        """
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
                    for response in self._values.UpdateContext(
                        iter(delivery.unacked()), timeout=deadline.left(), metadata=headers
                    ):
                        delivery.acked(response)
                        backoff.reset()
                return delivery.result()
            except VzeroError as error:
                time.sleep(pause_before_retry(error, backoff, deadline))

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
    ) -> Stream:
        """Open a stream that sends outcomes in the background; use it in a ``with`` block.

        Args:
            policy_id: policy of the outcomes.
            chunk_size: outcomes sent and acknowledged together, 1 to 4096.
            flush_interval: longest time an outcome waits for its chunk to fill, seconds.
            window: chunks that may be unacknowledged at once, at least 1.
            spool_dir: folder that keeps chunks while the server is away. What an earlier stream
                left there is delivered first, whatever its policy.
            spool_bytes: most bytes the folder may hold.
            step: step of the outcomes that name none.
            timeout: longest wait of a method, and for an acknowledgement.

        Raises:
            InvalidArgument: an option is out of range.
            SpoolError: another stream uses the folder, or it cannot be written.
        """
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
        return Stream(
            courier,
            lambda chunks: self._values.UpdateContext(chunks, metadata=headers),
            timeout or self._endpoint.timeout,
        )
