"""Synthetic tables: what a TabPFN of one's own is pre-trained on.

A table has rows with columns and rewards, of which nothing is known beforehand. Its columns are
random views of a few hidden factors, some of them of nothing but noise; its rewards are those of
a synthetic policy (``synthetic``) that looks at the factors and at the columns.
"""

import numpy as np

from vzero_server.types import Float32Array
from vzero_train.training.synthetic import random_skill, unit

_SUCCESS = 0.5
_MOST_FACTORS = 24
_MOST_CLUSTERS = 8


def synthetic_tables(
    rng: np.random.Generator, tables: int, context: int, asked: int, columns: int
) -> tuple[Float32Array, Float32Array]:
    """New tables.

    Args:
        rng: Source of all there is in them.
        tables: How many, B.
        context: Rows of each context, at least 2; they come first.
        asked: Rows that are asked for.
        columns: Of a row.

    Returns:
        Features ``[B, context + asked, columns]``, finite, and rewards
        ``[B, context + asked]``, 0 or 1, of which each context has both.
    """
    drawn = [_table(rng, context, asked, columns) for _ in range(tables)]
    return np.stack([features for features, _ in drawn]), np.stack([one for _, one in drawn])


def _table(
    rng: np.random.Generator, context: int, asked: int, columns: int
) -> tuple[Float32Array, Float32Array]:
    while True:
        factors = _factors(rng, context + asked)
        features = _columns(rng, factors, columns)
        rewards = _rewards(rng, factors if rng.random() < 0.7 else features)
        known = rewards[:context] >= _SUCCESS
        # As when it serves: a context of one class is never shown to TabPFN.
        if known.any() and not known.all():
            return features, rewards


def _rewards(rng: np.random.Generator, seen: Float32Array) -> Float32Array:
    """Rewards ``[rows]``, 0 or 1: a random function of what is seen, and luck."""
    skill = unit(random_skill(seen, rng))
    sharpness, ability = rng.gamma(2.0, 1.5), rng.standard_normal()
    chance = 1.0 / (1.0 + np.exp(-(skill * sharpness + ability)))
    rewards: Float32Array = (rng.random(len(chance)) < chance).astype(np.float32)
    return rewards


def _factors(rng: np.random.Generator, rows: int) -> Float32Array:
    """Hidden factors ``[rows, factors]``: normal, around some centres, the later the smaller."""
    count = int(rng.integers(1, _MOST_FACTORS + 1))
    centres = rng.standard_normal((int(rng.integers(1, _MOST_CLUSTERS + 1)), count))
    member = rng.integers(len(centres), size=rows)
    factors = rng.uniform(0.0, 2.0) * centres[member] + rng.standard_normal((rows, count))
    decay = rng.uniform(0.0, 1.0)
    sized: Float32Array = (factors * np.arange(1, count + 1) ** -decay).astype(np.float32)
    return sized


def _columns(rng: np.random.Generator, factors: Float32Array, columns: int) -> Float32Array:
    """Columns ``[rows, columns]``: linear in the factors or bent, with noise, on any scale."""
    count = factors.shape[1]
    seen = rng.standard_normal((count, columns)) * (rng.random((count, columns)) < rng.random())
    view = factors @ (seen / np.sqrt(count))
    if rng.random() < 0.4:
        view = np.tanh(rng.uniform(0.5, 2.0) * view + rng.standard_normal(columns))
    noise = rng.gamma(1.0, 0.2) * rng.standard_normal(view.shape)
    scale = np.exp(rng.standard_normal(columns))
    noisy: Float32Array = ((view + noise) * scale).astype(np.float32)
    return noisy
