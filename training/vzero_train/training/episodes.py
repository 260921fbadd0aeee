"""Training episodes: a context and queries of one policy, real or synthetic."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vzero_server.types import AnyFloatArray, Float32Array, IntArray
from vzero_train.data.outcomes import Pool
from vzero_train.training.synthetic import synthetic_rewards


class Episodes:
    """An endless stream of episodes.

    Benchmarks with many pools are drawn less than proportionally (each pool by the inverse
    square root of their number), so that one large source does not dominate.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        blocks: Sequence[AnyFloatArray],
        *,
        synthetic: float,
        rng: np.random.Generator,
    ) -> None:
        """Prepare the stream.

        Args:
            pools: Real outcomes.
            blocks: Feature columns of all prompts, one array ``[prompts, columns]`` per block, from
                which synthetic policies are generated.
            synthetic: Share of synthetic policies, in [0, 1].
            rng: Source of all draws.
        """
        if not pools:
            raise ValueError("no pool of outcomes is large enough to train on")
        counts = Counter(pool.benchmark for pool in pools)
        weights = np.array([counts[pool.benchmark] ** -0.5 for pool in pools])
        self._pools = list(pools)
        self._chances = weights / weights.sum()
        self._blocks = list(blocks)
        self._synthetic = synthetic
        self._rng = rng
        self._prompts = [
            np.unique(np.concatenate([pool.prompt for pool in pools if pool.benchmark == name]))
            for name in counts
        ]

    def batch(self, size: int, context: int, queries: int) -> tuple[IntArray, Float32Array]:
        """Draw prompt indices and rewards, both ``[size, context + queries]``, the context first.

        The queries of every episode contain a success and a failure.
        """
        drawn = [self._episode(context, queries) for _ in range(size)]
        prompts, rewards = zip(*drawn, strict=True)
        return np.stack(prompts), np.stack(rewards)

    def _episode(self, context: int, queries: int) -> tuple[IntArray, Float32Array]:
        needed = context + queries
        for _ in range(10_000):
            if self._rng.random() < self._synthetic:
                prompts, rewards = self._synthetic_policy(needed)
            else:
                pool = self._pools[self._rng.choice(len(self._pools), p=self._chances)]
                prompts, rewards = pool.prompt, pool.reward
            if len(prompts) < needed:
                continue
            order = self._rng.permutation(len(prompts))[:needed]
            success = rewards[order[context:]] >= 0.5
            if success.any() and not success.all():
                return prompts[order], rewards[order]
        raise ValueError(f"no pool holds {needed} outcomes with successes and failures")

    def _synthetic_policy(self, count: int) -> tuple[IntArray, Float32Array]:
        """Generate a synthetic policy on prompts of one benchmark or of benchmarks."""
        benchmarks = int(self._rng.integers(2, 5)) if self._rng.random() < 0.3 else 1
        prompts_of = [
            self._prompts[self._rng.integers(len(self._prompts))] for _ in range(benchmarks)
        ]
        prompts = self._rng.permutation(np.unique(np.concatenate(prompts_of)))[:count]
        if len(prompts) < count:
            return prompts, np.zeros(len(prompts), dtype=np.float32)
        blocks = [block[prompts] for block in self._blocks]
        return prompts, synthetic_rewards(blocks, self._rng)
