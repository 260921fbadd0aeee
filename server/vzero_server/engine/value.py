"""Values: what the engine answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

Array = npt.NDArray[np.float64]


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

    rollouts: npt.NDArray[np.int64]
    weight: Array
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


@dataclass(frozen=True, slots=True)
class Values:
    """Estimated success rates of ``n`` prompts under one policy.

    Attributes:
        mean: The estimates, ``[n]``, in [0, 1].
        lower: Lower ends of the 90 % intervals, ``[n]``, in [0, mean].
        upper: Upper ends, ``[n]``, in [mean, 1].
        effective_sample_size: How many rollouts of the very prompt each estimate is
            worth, ``[n]``: the sum of the parameters of the Beta distribution.
        basis: What they rest on.
        history: What they remember of the prompts; None if nothing.
    """

    mean: Array
    lower: Array
    upper: Array
    effective_sample_size: Array
    basis: Basis
    history: History | None = None

    @classmethod
    def joined(cls, parts: Sequence["Values"]) -> "Values":
        """One after the other; the parts rest on the same, and remember nothing."""
        return cls(
            mean=np.concatenate([part.mean for part in parts]),
            lower=np.concatenate([part.lower for part in parts]),
            upper=np.concatenate([part.upper for part in parts]),
            effective_sample_size=np.concatenate([part.effective_sample_size for part in parts]),
            basis=parts[0].basis,
        )

    def part(self, rows: slice, basis: Basis) -> "Values":
        """Some of the prompts, whose values rest on ``basis``."""
        return Values(
            mean=self.mean[rows],
            lower=self.lower[rows],
            upper=self.upper[rows],
            effective_sample_size=self.effective_sample_size[rows],
            basis=basis,
            history=self.history.part(rows) if self.history else None,
        )


def beta_values(mean: Array, centre: Array, effective_sample_size: Array, basis: Basis) -> Values:
    """Values whose success rate is distributed as Beta(κc, κ(1-c)).

    Args:
        mean: What to report, ``[n]``, in [0, 1].
        centre: c, ``[n]``, strictly between 0 and 1: the mean, drawn inwards as far as
            what it was averaged over demands.
        effective_sample_size: κ, ``[n]``, positive.
        basis: What the values rest on.
    """
    a, b = effective_sample_size * centre, effective_sample_size * (1.0 - centre)
    return Values(
        mean=mean,
        lower=np.minimum(betaincinv(a, b, 0.05), mean),
        upper=np.maximum(betaincinv(a, b, 0.95), mean),
        effective_sample_size=effective_sample_size,
        basis=basis,
    )
