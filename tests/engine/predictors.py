"""Predictors on the small model: the whole server except its gRPC edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from tests.outcomes import outcome
from vzero_server.app import running_predictor
from vzero_server.engine.predictor import Predictor
from vzero_server.settings import Settings
from vzero_server.storage.opening import open_store


@asynccontextmanager
async def tiny_predictor(folder: Path, model: Path, **settings: object) -> AsyncIterator[Predictor]:
    """A predictor whose log lies in a folder."""
    store = open_store(folder / "data")
    try:
        loaded = Settings.load(None, backbone=str(model), device="cpu", threads=1, **settings)
        async with running_predictor(loaded, store) as predictor:
            yield predictor
    finally:
        store.close()


async def report(
    predictor: Predictor,
    policy_id: str,
    prompts: list[str],
    rewards: np.ndarray,
    *,
    step: int | None = None,
) -> None:
    """Append an outcome of one rollout for each prompt, all of one step."""
    await predictor.update(
        policy_id,
        [
            outcome(f"{prompt}/{reward}", prompt, reward=float(reward), rollouts=1, step=step)
            for prompt, reward in zip(prompts, rewards, strict=True)
        ],
    )
