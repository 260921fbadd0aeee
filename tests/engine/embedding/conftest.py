from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.engine.embedding.held_encoder import Callers, HeldEncoder
from vzero_server.engine.embedding.batch_budget import BatchBudget, PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.model.backbone import Backbone
from vzero_server.observability.metrics import Metrics

MakeCallers = Callable[..., Callers]


@pytest.fixture
def encoder(tiny_backbone: Backbone) -> HeldEncoder:
    return HeldEncoder(tiny_backbone)


@pytest_asyncio.fixture
async def make_callers(encoder: HeldEncoder) -> AsyncIterator[MakeCallers]:
    """Makes callers of new batchers, which are closed after the test."""
    async with AsyncExitStack() as stack:

        def make(
            budget: BatchBudget | None = None, *, max_queued_prompts: int = 100, **limits: float
        ) -> Callers:
            metrics = Metrics()
            batcher = EmbeddingBatcher(
                encoder,
                budget or PaddedBudget(64),
                max_queued_prompts=max_queued_prompts,
                metrics=metrics,
                **limits,
            )
            stack.push_async_callback(batcher.close)
            return Callers(batcher, encoder, metrics)

        yield make
        encoder.release.set()
        encoder.release_tokeniser.set()


@pytest_asyncio.fixture
async def callers(make_callers: MakeCallers) -> Callers:
    return make_callers()
