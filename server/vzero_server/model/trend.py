"""Policies that change while they are watched: the drift of a policy's level, in closed form.

A policy in training is another policy some hundred outcomes later. Its level, as a logit, is
taken for a Gaussian process over the ages of rows,

    k(i, j) = s exp(-|age_i - age_j| / LENGTH),

with its mean over the context taken out, since the mean is known from the rewards themselves:
so rows of one moment say nothing of a drift, and change no value. How large it is, s, is read
from the context too, and is 0 unless the rewards show a drift.

Shapes: B contexts, N rows.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# Measured along the training of the policy zoo (research/results/experiments.md), 64 and 128
# outcomes per step: how fast a level is forgotten, in rows, and the most it may drift.
LENGTH = 2048.0
_MOST = 0.2
# Square of the z-score below which a drift counts for nothing (positive-part shrinkage).
_NOISE = 4.0
_TINY = 1e-12


@dataclass(frozen=True)
class TimeKernel:
    """Covariance of the level at the moments of a context, for s = 1.

    Attributes:
        gram: Between rows, ``[B, N, N]``; zero for padding.
        now: Between rows and a query, ``[B, N]``; zero for padding.
    """

    gram: Tensor
    now: Tensor

    @classmethod
    def of(cls, ages: Tensor, mask: Tensor) -> Self:
        """The kernel of rows of these ages.

        Args:
            ages: In rows, ``[B, N]``; queries are of age 0.
            mask: Real rows, ``[B, N]``.

        Raises:
            ValueError: Shapes that do not match, or an age that is negative or not finite.
        """
        if ages.shape != mask.shape:
            raise ValueError("ages must be [B, N], like the rows")
        ages = torch.where(mask, ages, 0.0)
        if not (torch.isfinite(ages) & (ages >= 0.0)).all():
            raise ValueError("ages must be finite and at least 0")
        gram = torch.exp(-(ages.unsqueeze(-1) - ages.unsqueeze(-2)).abs() / LENGTH)
        now = torch.exp(-ages / LENGTH)
        share = _share(mask, ages)
        mean = torch.einsum("bnk,bk->bn", gram, share)
        total = (mean * share).sum(1, keepdim=True)
        now = now - mean - (now * share).sum(1, keepdim=True) + total
        gram = gram - mean.unsqueeze(-1) - mean.unsqueeze(-2) + total.unsqueeze(-1)
        # What rounding leaves of a context of one moment is no drift.
        several = ages.amax(1) > torch.where(mask, ages, torch.inf).amin(1)
        both = mask.unsqueeze(-1) & mask.unsqueeze(-2) & several[:, None, None]
        return cls(torch.where(both, gram, 0.0), torch.where(mask & several.unsqueeze(1), now, 0.0))

    def amplitude(self, residuals: Tensor, curvature: Tensor, mask: Tensor) -> Tensor:
        """How much the level drifts, s, ``[B]``: 0 where nothing but noise shows.

        What residuals of like age have in common, beyond what they would by chance, is the
        drift: the estimator of moments of s, shrunk towards 0 by its z-score.

        Args:
            residuals: Rewards less leave-one-out values without a drift, ``[B, N]``.
            curvature: Variance of a label of the context, ``[B]``.
            mask: Real rows, ``[B, N]``.
        """
        share = _share(mask, residuals)
        residuals = residuals - (residuals * share).sum(1, keepdim=True)
        residuals = torch.where(mask, residuals, 0.0)
        variance = (residuals.square() * share).sum(1)
        common = torch.einsum("bn,bnk,bk->b", residuals, self.gram, residuals)
        beyond = common - variance * self.gram.diagonal(dim1=1, dim2=2).sum(1)
        norm = self.gram.square().sum((1, 2)).clamp_min(_TINY)
        score = beyond.square() / (2.0 * variance.square() * norm).clamp_min(_TINY)
        shrunk = (1.0 - _NOISE / score.clamp_min(_TINY)).clamp_min(0.0)
        found = shrunk * beyond.clamp_min(0.0) / (curvature.square() * norm)
        return found.clamp_max(_MOST)


def _share(mask: Tensor, like: Tensor) -> Tensor:
    """What each real row counts in a mean over its context, ``[B, N]``."""
    return mask.to(like.dtype) / mask.sum(1, keepdim=True).clamp_min(1)
