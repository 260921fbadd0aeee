"""A trainer's rollouts, divided by a server that may be away."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vzero import outcome, requests
from vzero.client import Client
from vzero.errors import InvalidArgument, NotFound, VzeroError
from vzero.stream import Stream
from vzero.v1 import value_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Division:
    """Rollouts of each prompt of a batch.

    Attributes:
        rollouts: One number per prompt, [n]; their sum is the total asked for.
        values: Predicted success rates in [0, 1], float64 [n]; None where rollouts are divided
            evenly because there is nothing to go by.
        seconds: How long it took.
        decision_id: What the server calls it, for the outcomes to cite; None as for values.
    """

    rollouts: list[int]
    values: npt.NDArray[np.float64] | None
    seconds: float
    decision_id: str | None = None


class Budget:
    """Asks a server how to divide rollouts among prompts, and tells it what came of them.

    Training never waits long for the server, nor ends with it: while it cannot be reached,
    rollouts are divided evenly and outcomes wait, on disk if there is a spool folder.
    """

    def __init__(
        self,
        client: Client,
        policy_id: str,
        *,
        objective: str = "EXPECTED",
        minimum: int = 2,
        maximum: int = 128,
        with_peers: bool = True,
        spool_dir: str | Path | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Nothing is sent yet.

        Args:
            client: Of the server; it stays open, and is yours to close.
            policy_id: Names the training run.
            objective: What is maximised: ``EXPECTED``, ``UTILITY``, ``PAPER`` or
                ``NONZERO_GRADIENT``.
            minimum: Fewest rollouts of a prompt, >= 2: a group of one has no advantage.
            maximum: Most rollouts of a prompt, >= ``minimum``.
            with_peers: Whether other policies of the server correct the values.
            spool_dir: Folder that keeps outcomes while the server is away.
            timeout: Longest wait of the trainer for one answer, seconds > 0.

        Raises:
            InvalidArgument: An argument is out of range.
        """
        if minimum < 2:
            raise InvalidArgument.of("minimum", f"must be at least 2, not {minimum}")
        if maximum < minimum:
            raise InvalidArgument.of("maximum", f"must be at least {minimum}, not {maximum}")
        if not timeout > 0:
            raise InvalidArgument.of("timeout", f"must be positive, not {timeout}")
        self.policy_id = outcome.check_name("policy_id", policy_id, 256)
        self.minimum, self.maximum = minimum, maximum
        self._client = client
        requests.choice("objective", objective, value_pb2.Objective.keys())
        self._objective = objective
        self._with_peers = with_peers
        self._spool_dir = spool_dir
        self._timeout = timeout
        self._stream: Stream | None = None
        self._away = False

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Within this block outcomes are sent in the background; at its end they are delivered.

        What cannot be delivered is left in the spool folder for the next run, or lost with a
        warning if there is none.
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
        """Divide rollouts among prompts: evenly while the server knows nothing or is away.

        Args:
            prompts: [n], n >= 1.
            total: Rollouts of all together, a multiple of n.

        Raises:
            InvalidArgument: The server refuses the question: a prompt is too long, or no
                division keeps to the minimum and the maximum.
        """
        started = time.monotonic()
        even = [total // len(prompts)] * len(prompts)
        try:
            # What was reported shall count; but what waits for the server need not be waited for.
            if self._stream is not None and not self._away:
                self._stream.flush(self._timeout)
            found = self._client.allocate(
                self.policy_id,
                prompts,
                total,
                objective=self._objective,
                minimum=self.minimum,
                maximum=self.maximum,
                with_peers=self._with_peers,
                timeout=self._timeout,
            )
        except InvalidArgument:
            raise
        except NotFound:  # before the first outcome
            self._back()
            return Division(even, None, time.monotonic() - started)
        except VzeroError as error:
            if not self._away:
                logger.warning("rollouts of %s are divided evenly: %s", self.policy_id, error)
            self._away = True
            return Division(even, None, time.monotonic() - started)
        self._back()
        seconds = time.monotonic() - started
        return Division(found.rollouts.tolist(), found.values.mean, seconds, found.decision_id)

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
        """Report what a prompt earned, within ``reporting``.

        Args:
            prompt: As in ``divide``.
            reward: Mean over its rollouts, in [0, 1].
            rollouts: How many, >= 1.
            step: Of the training, >= 0.
            tokens: Mean tokens of a rollout, >= 0.
            decision_id: Of the division.

        Raises:
            InvalidArgument: An argument is out of range, or the server refused an earlier one.
            RuntimeError: Outside of ``reporting``.
        """
        if self._stream is None:
            raise RuntimeError("outcomes are reported within Budget.reporting()")
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

    def _back(self) -> None:
        if self._away:
            logger.warning("the server answers again: rollouts of %s follow it", self.policy_id)
        self._away = False
