"""Drift of a policy's level, in closed form: for policies that change while outcomes arrive.

A policy in training is a different policy some hundred outcomes later. Its level, as a logit, is
modelled as a Gaussian process over the ages of rows,

    k(i, j) = s exp(-|age_i - age_j| / LENGTH_SCALE),

with its mean over the context removed, because the rewards already determine the mean. Rows of
equal age therefore show no drift and change no value. The amplitude s is also estimated from the
context; it is 0 unless the rewards show a drift.

Shapes: B contexts, N rows.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# Measured on the training runs of the policy zoo (research/results/experiments.md), 64 and 128
# outcomes per step: the length scale in rows, and the maximum amplitude.
LENGTH_SCALE = 2048.0
_MAX_AMPLITUDE = 0.2
# Square of the z-score below which a drift counts as noise (positive-part shrinkage).
_NOISE = 4.0
_TINY = 1e-12


@dataclass(frozen=True)
class DriftKernel:
    """Covariance of the level over the ages of a context, for s = 1.

    Attributes:
        gram: Covariance between rows, ``[B, N, N]``; zero for padding.
        now: Covariance between rows and a query, ``[B, N]``; zero for padding.
    """

    gram: Tensor
    now: Tensor

    @classmethod
    def of(cls, ages: Tensor, mask: Tensor) -> Self:
        """The kernel of rows of some ages.

        Args:
            ages: Ages in rows, ``[B, N]``; queries are of age 0.
            mask: True for real rows, ``[B, N]``.

        Raises:
            ValueError: The shapes do not match, or an age is negative or not finite.
        """
        if ages.shape != mask.shape:
            raise ValueError("ages must be [B, N], like the rows")
        ages = torch.where(mask, ages, 0.0)
        if not (torch.isfinite(ages) & (ages >= 0.0)).all():
            raise ValueError("ages must be finite and at least 0")
        gram = torch.exp(-(ages.unsqueeze(-1) - ages.unsqueeze(-2)).abs() / LENGTH_SCALE)
        now = torch.exp(-ages / LENGTH_SCALE)
        weights = _mean_weights(mask, ages)
        mean = torch.einsum("bnk,bk->bn", gram, weights)
        total = (mean * weights).sum(1, keepdim=True)
        now = now - mean - (now * weights).sum(1, keepdim=True) + total
        gram = gram - mean.unsqueeze(-1) - mean.unsqueeze(-2) + total.unsqueeze(-1)
        # With a single age, all that is left is rounding.
        varied = ages.amax(1) > torch.where(mask, ages, torch.inf).amin(1)
        both = mask.unsqueeze(-1) & mask.unsqueeze(-2) & varied[:, None, None]
        return cls(torch.where(both, gram, 0.0), torch.where(mask & varied.unsqueeze(1), now, 0.0))

    def amplitude(self, residuals: Tensor, curvature: Tensor, mask: Tensor) -> Tensor:
        """Amplitude s of the drift, ``[B]``; 0 where the residuals show only noise.

        Residuals of similar age that agree more than by chance show a drift. This is the method
        of moments for s, shrunk towards 0 by its z-score.

        Args:
            residuals: Rewards minus leave-one-out values without drift, ``[B, N]``.
            curvature: Variance of a reward of the context, ``[B]``.
            mask: True for real rows, ``[B, N]``.
        """
        weights = _mean_weights(mask, residuals)
        residuals = residuals - (residuals * weights).sum(1, keepdim=True)
        residuals = torch.where(mask, residuals, 0.0)
        variance = (residuals.square() * weights).sum(1)
        common = torch.einsum("bn,bnk,bk->b", residuals, self.gram, residuals)
        excess = common - variance * self.gram.diagonal(dim1=1, dim2=2).sum(1)
        norm = self.gram.square().sum((1, 2)).clamp_min(_TINY)
        score = excess.square() / (2.0 * variance.square() * norm).clamp_min(_TINY)
        shrinkage = (1.0 - _NOISE / score.clamp_min(_TINY)).clamp_min(0.0)
        amplitude = shrinkage * excess.clamp_min(0.0) / (curvature.square() * norm)
        return amplitude.clamp_max(_MAX_AMPLITUDE)


def _mean_weights(mask: Tensor, like: Tensor) -> Tensor:
    """Weight of each row in a mean over its context, ``[B, N]``, in the dtype of ``like``."""
    return mask.to(like.dtype) / mask.sum(1, keepdim=True).clamp_min(1)
