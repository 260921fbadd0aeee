"""Success rates as Beta distributions: what the engine answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaincinv, logit

from vzero_server.types import FloatArray, IntArray

PRIOR = "prior"
"""Basis of values that rest on too few outcomes to tell prompts apart."""

# A success rate of exactly 0 or 1 has no Beta distribution.
_LEAST_RATE = 1e-4
# A success rate of exactly 0 or 1 has no logit. Small enough to leave any other logit as it is.
_LEAST_LOGIT_RATE = 1e-12


def inside(rates: FloatArray) -> FloatArray:
    """Success rates drawn away from 0 and 1, so that they can be centres of Beta distributions."""
    return rates.clip(_LEAST_RATE, 1.0 - _LEAST_RATE)


def logits(rates: FloatArray, least: float = _LEAST_LOGIT_RATE) -> FloatArray:
    """Finite logits of success rates in [0, 1].

    Args:
        rates: Of any shape.
        least: Rates below it, and above ``1 - least``, count as if they were there.
    """
    finite: FloatArray = logit(rates.clip(least, 1.0 - least))
    return finite


@dataclass(frozen=True, slots=True)
class HistorySummary:
    """The past outcomes of ``n`` prompts that values were combined with.

    Attributes:
        rollouts: Attempts in these outcomes, ``[n]``; 0 for a prompt without history.
        weight: What they count for in the value, in rollouts, ``[n]``.
        newest_step: Highest step among them, ``[n]``; None where no outcome names a step.
        newest_observed_at: When the newest was observed, in seconds since the epoch, ``[n]``; None
            for a prompt without history.
    """

    rollouts: IntArray
    weight: FloatArray
    newest_step: Sequence[int | None]
    newest_observed_at: Sequence[float | None]

    def part(self, rows: slice) -> "HistorySummary | None":
        """Return the summary of some of the prompts; None if none of them has a history."""
        if not self.rollouts[rows].any():
            return None
        return HistorySummary(
            self.rollouts[rows],
            self.weight[rows],
            self.newest_step[rows],
            self.newest_observed_at[rows],
        )


@dataclass(frozen=True)
class Values:
    """Estimated success rates of ``n`` prompts under one policy.

    The success rate of each prompt is distributed as Beta(κc, κ(1-c)). The bounds of its interval
    are computed on first use: they cost more than the rest, and most values are corrected before
    anyone reads them.

    Attributes:
        mean: The estimates, ``[n]``, in [0, 1].
        centre: c, ``[n]``, strictly between 0 and 1: the mean, drawn inwards as far as the number
            of rewards behind it demands.
        effective_sample_size: κ, ``[n]``, positive: how many rollouts of the very prompt each
            estimate is worth.
        basis: Name of the estimator they rest on, or ``PRIOR``.
        history: The past outcomes they were combined with; None without any.
    """

    mean: FloatArray
    centre: FloatArray
    effective_sample_size: FloatArray
    basis: str
    history: HistorySummary | None = None

    def __len__(self) -> int:
        return len(self.mean)

    @classmethod
    def around(cls, means: FloatArray, effective_sample_size: FloatArray, basis: str) -> "Values":
        """Return values centred on their means."""
        return cls(means, inside(means), effective_sample_size, basis)

    @cached_property
    def lower(self) -> FloatArray:
        """Lower ends of the 90 % intervals, ``[n]``, in [0, mean]."""
        return np.minimum(self._quantile(0.05), self.mean)

    @cached_property
    def upper(self) -> FloatArray:
        """Upper ends of the 90 % intervals, ``[n]``, in [mean, 1]."""
        return np.maximum(self._quantile(0.95), self.mean)

    def _quantile(self, share: float) -> FloatArray:
        size = self.effective_sample_size
        quantile: FloatArray = betaincinv(size * self.centre, size * (1.0 - self.centre), share)
        return quantile

    @classmethod
    def joined(cls, parts: Sequence["Values"]) -> "Values":
        """Concatenate values of one basis; their histories are left out."""
        if len(parts) == 1 and parts[0].history is None:
            return parts[0]
        return cls(
            mean=np.concatenate([part.mean for part in parts]),
            centre=np.concatenate([part.centre for part in parts]),
            effective_sample_size=np.concatenate([part.effective_sample_size for part in parts]),
            basis=parts[0].basis,
        )

    def split(self, parts: Sequence["Values"]) -> list["Values"]:
        """Undo ``joined``: cut into as many prompts as each part has, under the part's basis."""
        if len(parts) == 1:
            return [self]
        split, start = [], 0
        for part in parts:
            split.append(self.part(slice(start, start + len(part)), part.basis))
            start += len(part)
        return split

    def part(self, rows: slice, basis: str) -> "Values":
        """Return the values of some of the prompts, under another basis."""
        return Values(
            mean=self.mean[rows],
            centre=self.centre[rows],
            effective_sample_size=self.effective_sample_size[rows],
            basis=basis,
            history=self.history.part(rows) if self.history else None,
        )
