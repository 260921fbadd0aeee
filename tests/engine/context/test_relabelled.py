"""Contexts fitted to relabelled rewards, with an estimator that counts its fits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.engine.context.counting_estimator import CountedContext, CountingEstimator
from tests.engine.context.harness import window_harness
from tests.outcomes import sums
from vzero_server.decisions.ranking import Relabelling
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.relabelled import RelabelledContexts
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.errors import UnknownPolicyError
from vzero_server.model.backbone import Backbone
from vzero_server.storage.base import OutcomeStore

HALVED = Relabelling(scale=0.5, shift=0.25)
IDENTITY = Relabelling(scale=1.0, shift=0.0)


@dataclass
class RelabelledHarness:
    """A store, and the relabelled contexts of its policies.

    Attributes:
        store: The log.
        windows: The windows that are relabelled.
        contexts: The contexts; those of fewer than three rows are fitted by ``small``.
        estimator: Fits the contexts of ``icl``.
        second: Fits the contexts of ``knn``.
        small: Fits small contexts.
    """

    store: OutcomeStore
    windows: WindowCache
    contexts: RelabelledContexts
    estimator: CountingEstimator
    second: CountingEstimator
    small: CountingEstimator

    async def get(
        self, relabelling: Relabelling, name: str = "p", estimator: str = "icl"
    ) -> CachedContext:
        policy = await self.store.policy_version(name)
        return await self.contexts.get(policy, estimator, relabelling)


@asynccontextmanager
async def relabelled_harness(
    folder: Path,
    backbone: Backbone,
    estimator: CountingEstimator | None = None,
    *,
    max_bytes: int = 1 << 20,
) -> AsyncIterator[RelabelledHarness]:
    estimator, second, small = (
        estimator or CountingEstimator(),
        CountingEstimator(name="knn"),
        CountingEstimator(name="prior"),
    )
    async with window_harness(folder, backbone, rows=1000) as parts:
        contexts = RelabelledContexts(
            parts.windows,
            {"icl": estimator, "knn": second},
            small,
            min_rows=3,
            max_bytes=max_bytes,
            worker=parts.worker,
        )
        yield RelabelledHarness(parts.store, parts.windows, contexts, estimator, second, small)


async def test_a_context_is_fitted_to_relabelled_rewards(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        outcomes = sums(10)
        await harness.store.append("p", outcomes)
        rewards = np.array([outcome.reward for outcome in outcomes])
        context = await harness.get(HALVED)
        np.testing.assert_allclose(context.fitted.rewards, 0.5 * rewards + 0.25)
        assert context.estimator is harness.estimator
        assert (context.summary.version, context.summary.rows) == (10, 10)
        # The window itself keeps the rewards of the log.
        window = await harness.windows.get(await harness.store.policy_version("p"), None)
        np.testing.assert_allclose(window.rewards, rewards)


async def test_contexts_are_cached_by_relabelling_and_estimator(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(10))
        halved, identity = await harness.get(HALVED), await harness.get(IDENTITY)
        assert harness.estimator.fits == [10, 10]
        assert not np.array_equal(halved.fitted.rewards, identity.fitted.rewards)
        assert await harness.get(HALVED) is halved
        assert await harness.get(Relabelling(0.5, 0.25)) is halved
        assert await harness.get(IDENTITY) is identity
        assert harness.estimator.fits == [10, 10]
        assert (await harness.get(HALVED, estimator="knn")).estimator is harness.second
        assert harness.second.fits == [10]


async def test_a_new_version_is_fitted_again(tmp_path: Path, tiny_backbone: Backbone) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(10))
        older = await harness.get(HALVED)
        await harness.store.append("p", sums(5, start=10))
        newer = await harness.get(HALVED)
        assert (older.summary.version, newer.summary.version) == (10, 15)
        assert newer.fitted.rows == 15
        assert harness.estimator.fits == [10, 15]


async def test_policies_are_separate(tmp_path: Path, tiny_backbone: Backbone) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(10))
        await harness.store.append("q", sums(4))
        assert (await harness.get(HALVED)).fitted.rows == 10
        assert (await harness.get(HALVED, "q")).fitted.rows == 4


async def test_concurrent_calls_share_one_fit(tmp_path: Path, tiny_backbone: Backbone) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(10))
        contexts = await asyncio.gather(*(harness.get(HALVED) for _ in range(9)))
        assert harness.estimator.fits == [10]
        assert len(set(map(id, contexts))) == 1


async def test_few_rows_are_fitted_by_the_estimator_for_small_contexts(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(2))
        context = await harness.get(HALVED)
        assert context.estimator is harness.small
        np.testing.assert_allclose(context.fitted.rewards, [0.75, 0.25])
        await harness.store.append("p", sums(1, start=2))
        assert (await harness.get(HALVED)).estimator is harness.estimator
        assert (harness.small.fits, harness.estimator.fits) == ([2], [3])


async def test_the_least_recently_used_context_is_evicted_beyond_max_bytes(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    # An entry takes 2000 bytes.
    async with relabelled_harness(tmp_path, tiny_backbone, max_bytes=5000) as harness:
        await harness.store.append("p", sums(10))
        relabellings = [Relabelling(scale, 0.0) for scale in (0.25, 0.5, 0.75)]
        contexts = [await harness.get(relabelling) for relabelling in relabellings]
        assert len(harness.estimator.fits) == 3
        assert await harness.get(relabellings[2]) is contexts[2]
        assert await harness.get(relabellings[1]) is contexts[1]
        assert len(harness.estimator.fits) == 3
        assert await harness.get(relabellings[0]) is not contexts[0]
        assert await harness.get(relabellings[2]) is not contexts[2]
        assert len(harness.estimator.fits) == 5


async def test_a_context_too_large_for_the_cache_is_fitted_for_every_call(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone, max_bytes=1500) as harness:
        await harness.store.append("p", sums(10))
        assert (await harness.get(HALVED)).fitted.rows == 10
        assert (await harness.get(HALVED)).fitted.rows == 10
        assert harness.estimator.fits == [10, 10]


async def test_dropped_contexts_are_fitted_again(tmp_path: Path, tiny_backbone: Backbone) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(10))
        halved, identity = await harness.get(HALVED), await harness.get(IDENTITY)
        harness.contexts.drop()
        assert await harness.get(HALVED) is not halved
        assert await harness.get(IDENTITY) is not identity
        assert harness.estimator.fits == [10] * 4


async def test_a_failed_fit_is_not_cached(tmp_path: Path, tiny_backbone: Backbone) -> None:
    class FailingOnce(CountingEstimator):
        def fit(self, window: ContextWindow) -> CountedContext:
            if not self.fits:
                self.fits.append(0)
                raise ArithmeticError("the first fit fails")
            return super().fit(window)

    async with relabelled_harness(tmp_path, tiny_backbone, FailingOnce()) as harness:
        await harness.store.append("p", sums(10))
        with pytest.raises(ArithmeticError):
            await harness.get(HALVED)
        assert (await harness.get(HALVED)).fitted.rows == 10


async def test_a_policy_deleted_in_the_meantime_is_unknown(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with relabelled_harness(tmp_path, tiny_backbone) as harness:
        await harness.store.append("p", sums(10))
        policy = await harness.store.policy_version("p")
        await harness.store.delete_policy("p")
        with pytest.raises(UnknownPolicyError):
            await harness.contexts.get(policy, "icl", HALVED)
