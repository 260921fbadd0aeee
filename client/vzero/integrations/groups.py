"""Advantages of groups of rollouts that differ in size."""

from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-4


@dataclass(frozen=True, slots=True)
class Groups:
    """Which rollouts belong together: those of one drawn prompt.

    Attributes:
        index: Group of each rollout, int64 [n], each of 0 to ``count`` - 1 at least once.
        count: Number of groups, >= 1.
    """

    index: Tensor
    count: int

    @classmethod
    def of(cls, sizes: list[int], device: torch.device) -> "Groups":
        """Groups that stand one behind the other; ``sizes`` are positive."""
        index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        return cls(index.to(device), len(sizes))

    def scored(self, rewards: Tensor) -> Tensor:
        """How many rewards of each group are not NaN, float [count]."""
        return self._sum((~rewards.isnan()).to(rewards.dtype))

    def mean(self, rewards: Tensor) -> Tensor:
        """Mean of each group's rewards [n] that are not NaN; NaN for a group without. [count]."""
        return self._sum(rewards.nan_to_num(0.0)) / self.scored(rewards)

    def std(self, rewards: Tensor) -> Tensor:
        """Standard deviation (of a sample, as TRL has it) in each group; 0 of one reward. [count].

        Args:
            rewards: [n]; NaN is left out.
        """
        centred = (rewards - self.mean(rewards)[self.index]).nan_to_num(0.0)
        freedom = (self.scored(rewards) - 1.0).clamp(min=1.0)
        return (self._sum(centred.square()) / freedom).sqrt()

    def _sum(self, values: Tensor) -> Tensor:
        zeros = torch.zeros(self.count, dtype=values.dtype, device=values.device)
        return zeros.index_add_(0, self.index, values)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How rewards become advantages; the options of ``trl.GRPOConfig`` by their names there.

    Attributes:
        reward_weights: Weight of each reward function, float [functions].
        scale_rewards: What advantages are divided by: the standard deviation of the ``group``,
            of the ``batch``, or ``none``.
        multi_objective_aggregation: ``sum_then_normalize`` or ``normalize_then_sum``.
    """

    reward_weights: Tensor
    scale_rewards: str
    multi_objective_aggregation: str

    def total(self, rewards: Tensor) -> Tensor:
        """Weighted sum of the rewards [n, functions]; NaN where no function gave one. [n]."""
        total = (rewards * self.reward_weights).nansum(1)
        return total.masked_fill(rewards.isnan().all(1), torch.nan)

    def advantages(self, rewards: Tensor, groups: Groups) -> Tensor:
        """Advantage of each rollout, as TRL computes them for groups of one size.

        Args:
            rewards: Of each rollout by each function, [n, functions]; NaN where a function gave
                none.
            groups: Of the n rollouts.

        Returns:
            [n]; 0 for a rollout that no function rewarded, and in groups without variation.
        """
        if self.multi_objective_aggregation == "normalize_then_sum":
            columns = [self._normalised(column, groups) for column in rewards.unbind(1)]
            total = self.total(torch.stack(columns, dim=1))
            found = (total - total.nanmean()) / (batch_std(total) + _EPS)
        else:
            total = self.total(rewards)
            if self.scale_rewards == "group":
                found = self._normalised(total, groups)
            else:
                found = total - groups.mean(total)[groups.index]
                if self.scale_rewards == "batch":
                    found = found / (batch_std(total) + _EPS)
        return found.nan_to_num(0.0)

    @staticmethod
    def _normalised(rewards: Tensor, groups: Groups) -> Tensor:
        centred = rewards - groups.mean(rewards)[groups.index]
        return centred / (groups.std(rewards)[groups.index] + _EPS)


def batch_std(rewards: Tensor) -> Tensor:
    """Standard deviation (of a sample) of all rewards [n] that are not NaN; 0 of one. A scalar."""
    return Groups.of([len(rewards)], rewards.device).std(rewards)[0]
