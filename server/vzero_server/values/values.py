"""Values: what the engine answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from scipy.special import betaincinv

from vzero_server.types import FloatArray, IntArray


class Basis(StrEnum):
    """What a value rests on."""

    ICL = "ICL"
    KNN = "KNN"
    TABPFN = "TABPFN"
    PRIOR = "PRIOR"


@dataclass(frozen=True, slots=True)
class History:
    """What became of ``n`` prompts before, under the same policy.

    Attributes:
        rollouts: Attempts known, ``[n]``; 0 for a prompt without a past.
        weight: What they count for in the value, in rollouts, ``[n]``.
        newest_step: Highest step among them, ``[n]``; None where none names one.
        newest_observed_at: When the newest was observed, ``[n]``; None without a past.
    """

    rollouts: IntArray
    weight: FloatArray
    newest_step: Sequence[int | None]
    newest_observed_at: Sequence[float | None]

    def part(self, rows: slice) -> "History | None":
        """That of some of the prompts; None if none has a past."""
        if not self.rollouts[rows].any():
            return None
        return History(
            self.rollouts[rows],
            self.weight[rows],
            self.newest_step[rows],
            self.newest_observed_at[rows],
        )


@dataclass(frozen=True)
class Values:
    """Estimated success rates of ``n`` prompts under one policy.

    The success rate of each is distributed as Beta(κc, κ(1-c)). Its interval is computed when it
    is asked for: that costs more than the rest, and most values are corrected before they are
    told to anybody.

    Attributes:
        mean: The estimates, ``[n]``, in [0, 1].
        centre: c, ``[n]``, strictly between 0 and 1: the mean, drawn inwards as far as what it
            was averaged over demands.
        effective_sample_size: κ, ``[n]``, positive: how many rollouts of the very prompt each
            estimate is worth.
        basis: What they rest on.
        history: What they remember of the prompts; None if nothing.
    """

    mean: FloatArray
    centre: FloatArray
    effective_sample_size: FloatArray
    basis: Basis
    history: History | None = None

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
        a, b = size * self.centre, size * (1.0 - self.centre)
        found: FloatArray = betaincinv(a, b, share)
        return found

    @classmethod
    def joined(cls, parts: Sequence["Values"]) -> "Values":
        """One after the other; the parts rest on the same, and remember nothing."""
        return cls(
            mean=np.concatenate([part.mean for part in parts]),
            centre=np.concatenate([part.centre for part in parts]),
            effective_sample_size=np.concatenate([part.effective_sample_size for part in parts]),
            basis=parts[0].basis,
        )

    def part(self, rows: slice, basis: Basis) -> "Values":
        """Some of the prompts, whose values rest on ``basis``."""
        return Values(
            mean=self.mean[rows],
            centre=self.centre[rows],
            effective_sample_size=self.effective_sample_size[rows],
            basis=basis,
            history=self.history.part(rows) if self.history else None,
        )
