"""Trainers and routers on asyncio, each with one call at a time."""

from collections.abc import Sequence
from random import Random

from load_tests.loop import CompletedCall
from load_tests.messages import check_acks, check_values, chunks, predict_request
from load_tests.prompts import PromptSource
from vzero.v1 import value_pb2_grpc

TIMEOUT = 60.0
"""Deadline of every call, in seconds."""


class Router:
    """Requests the value of each prompt under all policies, one call per policy."""

    def __init__(
        self,
        stub: "value_pb2_grpc.ValueServiceAsyncStub",
        policies: Sequence[str],
        source: PromptSource,
    ) -> None:
        self._stub = stub
        self._policies = policies
        self._source = source
        self._remaining: list[str] = []
        self._prompt: list[str] = []

    async def __call__(self) -> CompletedCall:
        """Make the next call."""
        if not self._remaining:
            self._remaining = list(self._policies)
            self._prompt = self._source.take(1)
        request = predict_request(self._remaining.pop(), self._prompt)
        check_values(request, await self._stub.Predict(request, timeout=TIMEOUT))
        return CompletedCall("Predict", 1)


class Trainer:
    """Alternates between requesting values of a batch and sending outcomes of its rollouts."""

    def __init__(
        self,
        stub: "value_pb2_grpc.ValueServiceAsyncStub",
        policy_id: str,
        source: PromptSource,
        *,
        run: str,
        batch: tuple[int, int],
    ) -> None:
        """Set up a trainer.

        Args:
            stub: Stub of the server.
            policy_id: The policy in training.
            source: Source of its prompts.
            run: Name of the run; part of the ids of its outcomes.
            batch: Minimum and maximum number of prompts of a step.
        """
        self._stub = stub
        self._policy_id = policy_id
        self._source = source
        self._run = run
        self._batch = batch
        self._random = Random(run)
        self._step = 0
        self._pending: list[str] = []

    async def __call__(self) -> CompletedCall:
        """Make the next call."""
        if self._pending:
            return await self._update()
        prompts = self._source.take(self._random.randint(*self._batch))
        request = predict_request(self._policy_id, prompts)
        check_values(request, await self._stub.Predict(request, timeout=TIMEOUT))
        self._pending = prompts
        return CompletedCall("Predict", len(prompts))

    async def _update(self) -> CompletedCall:
        prompts, self._pending = self._pending, []
        self._step += 1
        requests = chunks(self._policy_id, prompts, run=self._run, step=self._step)
        call = self._stub.UpdateContext(iter(requests), timeout=TIMEOUT)
        check_acks(requests, [ack async for ack in call])
        return CompletedCall("UpdateContext", len(prompts))
