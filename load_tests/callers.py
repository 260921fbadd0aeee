"""Trainers and routers on asyncio, each making one call after the other."""

from collections.abc import Sequence
from random import Random

from load_tests.loop import Done
from load_tests.messages import check_acks, check_values, chunks, predict_request
from load_tests.prompts import PromptSource
from vzero.v1 import value_pb2_grpc

TIMEOUT = 60.0
"""Deadline of every call, in seconds."""


class Router:
    """Asks for the value of one prompt under one policy after the other."""

    def __init__(
        self,
        stub: "value_pb2_grpc.ValueServiceAsyncStub",
        policies: Sequence[str],
        source: PromptSource,
    ) -> None:
        self._stub = stub
        self._policies = policies
        self._source = source
        self._left: list[str] = []
        self._prompt: list[str] = []

    async def __call__(self) -> Done:
        """Make the next call."""
        if not self._left:
            self._left = list(self._policies)
            self._prompt = self._source.take(1)
        request = predict_request(self._left.pop(), self._prompt)
        check_values(request, await self._stub.Predict(request, timeout=TIMEOUT))
        return Done("Predict", 1)


class Trainer:
    """Alternates between the values of a batch and the outcomes of its rollouts."""

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
            stub: The server.
            policy_id: The policy in training.
            source: Its prompts.
            run: Tells its outcomes from those of other runs.
            batch: Least and most prompts of a step.
        """
        self._stub = stub
        self._policy_id = policy_id
        self._source = source
        self._run = run
        self._batch = batch
        self._random = Random(run)
        self._step = 0
        self._rolled_out: list[str] = []

    async def __call__(self) -> Done:
        """Make the next call."""
        if self._rolled_out:
            return await self._update()
        prompts = self._source.take(self._random.randint(*self._batch))
        request = predict_request(self._policy_id, prompts)
        check_values(request, await self._stub.Predict(request, timeout=TIMEOUT))
        self._rolled_out = prompts
        return Done("Predict", len(prompts))

    async def _update(self) -> Done:
        prompts, self._rolled_out = self._rolled_out, []
        self._step += 1
        requests = chunks(self._policy_id, prompts, run=self._run, step=self._step)
        call = self._stub.UpdateContext(iter(requests), timeout=TIMEOUT)
        check_acks(requests, [ack async for ack in call])
        return Done("UpdateContext", len(prompts))
