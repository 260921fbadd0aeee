"""The frontier of reward against cost of a router, and the figures that benchmarks report.

A sweep over the preference gives points (mean cost, mean reward). A router that chooses at random
between two of them reaches every point of the chord, and higher cost need not be spent. The
frontier is therefore the least non-decreasing concave function above the points (RouterBench's
non-decreasing convex hull).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from vzero_server.types import FloatArray


@dataclass(frozen=True, eq=False)
class Frontier:
    """A non-decreasing concave function of the cost, constant after its last vertex.

    Attributes:
        costs: Of the vertices, rising, ``[v]``.
        rewards: Of the vertices, rising, ``[v]``.
    """

    costs: FloatArray
    rewards: FloatArray

    @classmethod
    def of(cls, costs: npt.ArrayLike, rewards: npt.ArrayLike) -> Self:
        """Return the frontier of points, ``[m]`` each, m at least 1."""
        points = sorted(zip(_floats(costs), _floats(rewards), strict=True))
        vertices: list[tuple[float, float]] = []
        for cost, reward in points:
            if vertices and reward <= vertices[-1][1]:
                continue
            if vertices and cost == vertices[-1][0]:
                vertices.pop()
            # Drop vertices on or below the chord from their predecessor to the new point.
            while len(vertices) > 1 and _turns_up(vertices[-2], vertices[-1], (cost, reward)):
                vertices.pop()
            vertices.append((cost, reward))
        return cls(*np.array(vertices).T)

    def reward_at(self, cost: float) -> float:
        """Return the highest mean reward for this mean cost; that of the first vertex below it."""
        return float(np.interp(cost, self.costs, self.rewards))

    def cost_of(self, reward: float) -> float:
        """Return the lowest mean cost for this mean reward; NaN if it is out of reach."""
        if reward > self.rewards[-1]:
            return float("nan")
        return float(np.interp(reward, self.rewards, self.costs))

    def mean_reward(self, lowest: float, highest: float) -> float:
        """Return the mean reward between two costs: RouterBench's AIQ."""
        if not highest > lowest:
            return self.reward_at(lowest)
        inner = self.costs[(self.costs > lowest) & (self.costs < highest)]
        grid = np.array([lowest, *inner, highest])
        area = trapezoid(np.interp(grid, self.costs, self.rewards), grid)
        return float(area / (highest - lowest))

    def threshold(
        self, share: float, weak: tuple[float, float], strong: tuple[float, float]
    ) -> float:
        """Return RouteLLM's CPT for any fleet: the share of a cost gap for a share of a reward gap.

        With two policies of constant cost it is the least share of calls to the strong one.

        Args:
            share: Share of the gap in reward, in [0, 1].
            weak: Mean cost and reward of the cheapest policy.
            strong: Mean cost and reward of the best policy.

        Returns:
            At most 1 if the strong policy itself is on the frontier or below it; below 0 if
            choosing by prompt is cheaper than the cheapest policy. NaN if the reward
            is out of reach, or there is no gap.
        """
        gap, spent = strong[1] - weak[1], strong[0] - weak[0]
        if not (gap > 0.0 and spent > 0.0):
            return float("nan")
        return (self.cost_of(weak[1] + share * gap) - weak[0]) / spent


def _turns_up(
    first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]
) -> bool:
    rise = (middle[1] - first[1]) * (last[0] - first[0])
    return bool(rise <= (last[1] - first[1]) * (middle[0] - first[0]))


def _floats(values: npt.ArrayLike) -> list[float]:
    listed: list[float] = np.asarray(values, np.float64).tolist()
    return listed
