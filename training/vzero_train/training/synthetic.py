"""Synthetic policies on real prompts: unlimited tasks that nobody can memorise.

A synthetic policy succeeds with a probability that is a random function of a prompt's
features: directions, small networks and clusters in each block of columns, mixed, with a
random ability and sharpness. A head that meets enough of them learns to read the context
instead of recalling what is hard on which benchmark.
"""

from collections.abc import Sequence

import numpy as np

from vzero_server.types import AnyFloatArray, Float32Array


def synthetic_rewards(blocks: Sequence[AnyFloatArray], rng: np.random.Generator) -> Float32Array:
    """Rewards of a new policy on n prompts.

    Args:
        blocks: Blocks of feature columns of the same prompts, each ``[n, columns]``.
        rng: Source of the policy and of its luck.

    Returns:
        Rewards ``[n]``: 0 or 1, or for one policy in five the mean of eight rollouts.
    """
    count = len(blocks[0])
    skill = np.zeros(count)
    for block in blocks:
        if rng.random() < 0.55:
            skill += rng.normal() * unit(random_skill(block, rng))
    sharpness, ability = rng.gamma(2.0, 0.5), 1.5 * rng.normal()
    chance = 1.0 / (1.0 + np.exp(-(unit(skill) * sharpness + ability)))
    if rng.random() < 0.8:
        rewards: Float32Array = (rng.random(count) < chance).astype(np.float32)
    else:
        rewards = (rng.binomial(8, chance) / 8).astype(np.float32)
    return rewards


def random_skill(block: AnyFloatArray, rng: np.random.Generator) -> AnyFloatArray:
    """A random function of columns: linear, a small network, or clusters.

    Args:
        block: Columns of the same prompts, ``[n, columns]``.
        rng: Source of the function.

    Returns:
        Its values, ``[n]``, of any scale.
    """
    block = _centred(block)
    columns = block.shape[1]
    kind = rng.random()
    if kind < 0.45:
        used = rng.random(columns) < rng.uniform(0.02, 1.0)
        linear: AnyFloatArray = block @ (rng.standard_normal(columns) * used)
        return linear
    if kind < 0.75:
        width = int(rng.integers(4, 33))
        first = rng.standard_normal((columns, width)) / np.sqrt(columns) * rng.uniform(0.5, 3.0)
        network: AnyFloatArray = np.tanh(block @ first) @ rng.standard_normal(width)
        return network
    centres = block[rng.integers(len(block), size=int(rng.integers(2, 12)))]
    distances = (block**2).sum(1, keepdims=True) - 2.0 * block @ centres.T + (centres**2).sum(1)
    nearest = distances - distances.min(1, keepdims=True)
    members = np.exp(-nearest / (distances.mean() * rng.uniform(0.05, 0.5) + 1e-9))
    heights = rng.standard_normal(len(centres))
    clusters: AnyFloatArray = (members / members.sum(1, keepdims=True)) @ heights
    return clusters


def _centred(block: AnyFloatArray) -> AnyFloatArray:
    centred = block.astype(np.float32) - block.mean(0, dtype=np.float32)
    scaled: AnyFloatArray = centred / (np.sqrt((centred**2).mean()) + 1e-6)
    return scaled


def unit(values: AnyFloatArray) -> AnyFloatArray:
    """Values ``[n]`` with mean 0 and standard deviation 1."""
    scaled: AnyFloatArray = (values - values.mean()) / (values.std() + 1e-6)
    return scaled
