"""Advantages of groups of rollouts that differ in size."""

from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-4


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of rollouts, one group for each drawn prompt.

    Attributes:
        index: Group of each rollout, int64 [n]; each of 0 to ``count`` - 1 occurs.
        count: Number of groups, >= 1.
    """

    index: Tensor
    count: int

    @classmethod
    def of(cls, sizes: list[int], device: torch.device) -> "Groups":
        """Return consecutive groups of the given sizes, each >= 1."""
        index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        return cls(index.to(device), len(sizes))

    def scored(self, rewards: Tensor) -> Tensor:
        """Return the number of rewards in each group that are not NaN, float [count]."""
        return self._sum((~rewards.isnan()).to(rewards.dtype))

    def mean(self, rewards: Tensor) -> Tensor:
        """Return the mean of each group's rewards [n] without NaN, [count]; NaN if none is left."""
        return self._sum(rewards.nan_to_num(0.0)) / self.scored(rewards)

    def std(self, rewards: Tensor) -> Tensor:
        """Return the sample standard deviation of each group, as in TRL; 0 for one reward. [count].

        Args:
            rewards: Rewards [n]; NaN is ignored.
        """
        centred = (rewards - self.mean(rewards)[self.index]).nan_to_num(0.0)
        degrees_of_freedom = (self.scored(rewards) - 1.0).clamp(min=1.0)
        return (self._sum(centred.square()) / degrees_of_freedom).sqrt()

    def _sum(self, values: Tensor) -> Tensor:
        zeros = torch.zeros(self.count, dtype=values.dtype, device=values.device)
        return zeros.index_add_(0, self.index, values)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Rules from rewards to advantages; the names are those of ``trl.GRPOConfig``.

    Attributes:
        reward_weights: Weight of each reward function, float [functions].
        scale_rewards: Divisor of advantages: the standard deviation of the ``group`` or of the
            ``batch``, or ``none``.
        multi_objective_aggregation: ``sum_then_normalize`` or ``normalize_then_sum``.
    """

    reward_weights: Tensor
    scale_rewards: str
    multi_objective_aggregation: str

    def total(self, rewards: Tensor) -> Tensor:
        """Return the weighted sum of the rewards [n, functions], [n]; NaN if all are NaN."""
        total = (rewards * self.reward_weights).nansum(1)
        return total.masked_fill(rewards.isnan().all(1), torch.nan)

    def advantages(self, rewards: Tensor, groups: Groups) -> Tensor:
        """Return the advantage of each rollout, as TRL computes it for groups of equal size.

        Args:
            rewards: Rewards by function, [n, functions]; NaN if a function gave none.
            groups: Groups of the n rollouts.

        Returns:
            Advantages [n]; 0 for a rollout without rewards and in groups without variation.
        """
        if self.multi_objective_aggregation == "normalize_then_sum":
            columns = [self._normalised(column, groups) for column in rewards.unbind(1)]
            total = self.total(torch.stack(columns, dim=1))
            advantages = (total - total.nanmean()) / (batch_std(total) + _EPS)
        else:
            total = self.total(rewards)
            if self.scale_rewards == "group":
                advantages = self._normalised(total, groups)
            else:
                advantages = total - groups.mean(total)[groups.index]
                if self.scale_rewards == "batch":
                    advantages = advantages / (batch_std(total) + _EPS)
        return advantages.nan_to_num(0.0)

    @staticmethod
    def _normalised(rewards: Tensor, groups: Groups) -> Tensor:
        centred = rewards - groups.mean(rewards)[groups.index]
        return centred / (groups.std(rewards)[groups.index] + _EPS)


def batch_std(rewards: Tensor) -> Tensor:
    """Return the sample standard deviation of the rewards [n] without NaN; 0 for one reward."""
    return Groups.of([len(rewards)], rewards.device).std(rewards)[0]
