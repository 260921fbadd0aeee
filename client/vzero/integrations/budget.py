"""A trainer's rollouts, divided among prompts by a server that may be unreachable."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt

from vzero._checks import check_name
from vzero._messages.allocate import check_objective
from vzero._options import ReadOptions, write_options
from vzero.client import Client
from vzero.errors import InvalidArgument, NotFound, VzeroError
from vzero.stream import Stream
from vzero.v1 import value_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Division:
    """Rollouts of each prompt of a batch.

    Attributes:
        rollouts: Rollouts of each prompt, [n]; their sum is the total.
        values: Predicted success rates in [0, 1], float64 [n]; None if rollouts are divided
            evenly because the server knows nothing or is unreachable.
        seconds: Duration of the call.
        decision_id: Identifier of the allocation, for its outcomes; None if ``values`` is.
    """

    rollouts: list[int]
    values: npt.NDArray[np.float64] | None
    seconds: float
    decision_id: str | None = None


class Budget:
    """Divides rollouts among prompts by the values of a server, and reports the outcomes to it.

    Training does not depend on the server. While it is unreachable, rollouts are divided evenly,
    and outcomes wait in this process, or on disk if there is a spool folder.
    """

    def __init__(
        self,
        client: Client,
        policy_id: str,
        *,
        objective: str = "EXPECTED",
        minimum: int = 2,
        maximum: int = 128,
        spool_dir: str | Path | None = None,
        timeout: float = 5.0,
        **options: Unpack[ReadOptions],
    ) -> None:
        """Check the arguments; nothing is sent.

        Args:
            client: Client of the server. The caller closes it.
            policy_id: Policy of the training run.
            objective: Objective of allocations: ``EXPECTED``, ``UTILITY``, ``PAPER`` or
                ``NONZERO_GRADIENT``.
            minimum: Fewest rollouts of a prompt, >= 2: a group of one has no advantage.
            maximum: Most rollouts of a prompt, >= ``minimum``.
            spool_dir: Folder that keeps outcomes while the server is unreachable.
            timeout: Longest wait of the trainer for one call, seconds > 0.
            **options: Read options of the allocations; see `ReadOptions`.

        Raises:
            InvalidArgument: An argument is out of range.
            TypeError: An option is unknown.
        """
        if minimum < 2:
            raise InvalidArgument.of("minimum", f"must be at least 2, not {minimum}")
        if maximum < minimum:
            raise InvalidArgument.of("maximum", f"must be at least {minimum}, not {maximum}")
        if not timeout > 0:
            raise InvalidArgument.of("timeout", f"must be positive, not {timeout}")
        self.policy_id = check_name("policy_id", policy_id)
        self.minimum, self.maximum = minimum, maximum
        self._client = client
        check_objective(objective)
        self._objective = objective
        write_options("Budget", value_pb2.AllocateBudgetRequest(), options)
        self._options = options
        self._spool_dir = spool_dir
        self._timeout = timeout
        self._stream: Stream | None = None
        self._unreachable = False

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Send outcomes in the background inside the block, and deliver the rest at its end.

        Outcomes that cannot be delivered stay in the spool folder for the next run. Without a
        spool folder they are lost, with a warning.
        """
        stream = self._client.stream(
            self.policy_id, spool_dir=self._spool_dir, timeout=self._timeout
        )
        self._stream = stream
        try:
            yield
        finally:
            self._stream = None
            try:
                stream.close()
            except VzeroError as error:
                logger.warning("outcomes of %s are not all delivered: %s", self.policy_id, error)

    def divide(self, prompts: Sequence[str], total: int) -> Division:
        """Divide rollouts among prompts; evenly if the server knows nothing or is unreachable.

        Args:
            prompts: Prompts of the batch, [n], n >= 1.
            total: Rollouts of all prompts together, a multiple of n.

        Raises:
            InvalidArgument: A prompt is too long, or no division meets minimum and maximum.
        """
        started = time.monotonic()
        even = [total // len(prompts)] * len(prompts)
        try:
            # Reported outcomes count for this allocation, unless the server is unreachable.
            if self._stream is not None and not self._unreachable:
                self._stream.flush(self._timeout)
            allocation = self._client.allocate(
                self.policy_id,
                prompts,
                total,
                objective=self._objective,
                minimum=self.minimum,
                maximum=self.maximum,
                timeout=self._timeout,
                **self._options,
            )
        except InvalidArgument:
            raise
        except NotFound:  # before the first outcome
            self._mark_reachable()
            return Division(even, None, time.monotonic() - started)
        except VzeroError as error:
            if not self._unreachable:
                logger.warning("rollouts of %s are divided evenly: %s", self.policy_id, error)
            self._unreachable = True
            return Division(even, None, time.monotonic() - started)
        self._mark_reachable()
        seconds = time.monotonic() - started
        return Division(
            allocation.rollouts.tolist(), allocation.values.mean, seconds, allocation.decision_id
        )

    def report(
        self,
        prompt: str,
        reward: float,
        *,
        rollouts: int,
        step: int,
        tokens: float | None = None,
        decision_id: str | None = None,
    ) -> None:
        """Report the outcome of a prompt, inside a ``reporting`` block.

        Args:
            prompt: Prompt, as in ``divide``.
            reward: Mean reward over its rollouts, in [0, 1].
            rollouts: Number of rollouts, >= 1.
            step: Training step, >= 0.
            tokens: Mean number of tokens of a rollout, >= 0.
            decision_id: ``decision_id`` of the division.

        Raises:
            InvalidArgument: An argument is out of range, or the server rejected an earlier
                outcome.
            RuntimeError: There is no ``reporting`` block.
        """
        if self._stream is None:
            raise RuntimeError("report outcomes inside a Budget.reporting() block")
        try:
            self._stream.add(
                prompt,
                reward,
                rollouts=rollouts,
                step=step,
                tokens=tokens,
                decision_id=decision_id,
            )
        except InvalidArgument:
            raise
        except VzeroError as error:
            logger.warning("an outcome of %s is lost: %s", self.policy_id, error)

    def _mark_reachable(self) -> None:
        if self._unreachable:
            logger.warning(
                "the server answers again: rollouts of %s follow its values", self.policy_id
            )
        self._unreachable = False
