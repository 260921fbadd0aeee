"""Results of calls, as frozen dataclasses and NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Context:
    """Outcomes that values were computed from.

    Attributes:
        version: version of the policy at the time of the read; it counts changes.
        rows: outcomes in the window that was read.
        newest_step: highest step in the window; None if no outcome has one.
        age_seconds: time since the newest outcome was observed; None if the window is empty.
        peers: number of other policies whose outcomes corrected some of the values.
    """

    version: int
    rows: int
    newest_step: int | None
    age_seconds: float | None
    peers: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Past outcomes of each prompt under the same policy, which values were combined with.

    Attributes:
        rollouts: past rollouts, int64 [n]; 0 if a prompt has no history.
        weight: rollouts that the history counts for in the value, float64 [n].
        newest_step: highest step of the history, int64 [n]; -1 if no outcome has one.
        age_seconds: time since its newest outcome was observed, float64 [n]; NaN if a prompt has
            no history.
    """

    rollouts: npt.NDArray[np.int64]
    weight: FloatArray
    newest_step: npt.NDArray[np.int64]
    age_seconds: FloatArray

    @classmethod
    def empty(cls, count: int) -> "History":
        """Return the history of ``count`` prompts without past outcomes."""
        return cls(
            rollouts=np.zeros(count, np.int64),
            weight=np.zeros(count),
            newest_step=np.full(count, -1, np.int64),
            age_seconds=np.full(count, np.nan),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Values:
    """Estimated success rates, one per prompt, in the order of the request.

    ``numpy.asarray(values)`` is ``values.mean``.

    Attributes:
        mean: the estimates, float64 [n] in [0, 1].
        lower: lower ends of the 90 % intervals, float64 [n] in [0, mean].
        upper: upper ends of the 90 % intervals, float64 [n] in [mean, 1].
        effective_sample_size: rollouts of the prompt that each estimate is worth, float64 [n].
        basis: upper-case name of the estimator behind each estimate, str [n], such as ``ICL``,
            ``KNN`` or ``TABPFN``; ``PRIOR`` if the policy has too few outcomes.
        context: outcomes behind the estimates; of several calls, the one of the lowest version.
        history: past outcomes of the prompts; None if unknown.
    """

    mean: FloatArray
    lower: FloatArray
    upper: FloatArray
    effective_sample_size: FloatArray
    basis: npt.NDArray[np.str_]
    context: Context
    history: History | None = None

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.mean)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return the means, so that NumPy functions accept the values."""
        if copy is False:
            return np.asarray(self.mean, dtype=dtype)
        return np.array(self.mean, dtype=dtype)

    def __repr__(self) -> str:
        """Return the first few estimates, their bases and the context."""
        shown = ", ".join(
            f"{mean:.3f} [{lower:.3f}, {upper:.3f}]"
            for mean, lower, upper in zip(
                self.mean[:4], self.lower[:4], self.upper[:4], strict=True
            )
        )
        more = ", …" if len(self) > 4 else ""
        basis = "/".join(sorted(set(self.basis.tolist())))
        return (
            f"Values(n={len(self)}, mean=({shown}{more}), basis={basis}, "
            f"version={self.context.version}, rows={self.context.rows})"
        )

    @classmethod
    def join(cls, parts: Sequence["Values"]) -> "Values":
        """Concatenate the values of several calls.

        Args:
            parts: at least one.
        """
        if len(parts) == 1:
            return parts[0]
        return cls(
            mean=np.concatenate([part.mean for part in parts]),
            lower=np.concatenate([part.lower for part in parts]),
            upper=np.concatenate([part.upper for part in parts]),
            effective_sample_size=np.concatenate([part.effective_sample_size for part in parts]),
            basis=np.concatenate([part.basis for part in parts]),
            context=min((part.context for part in parts), key=lambda context: context.version),
            history=_joined([part.history or History.empty(len(part)) for part in parts]),
        )


def _joined(parts: Sequence[History]) -> History:
    return History(
        rollouts=np.concatenate([part.rollouts for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        newest_step=np.concatenate([part.newest_step for part in parts]),
        age_seconds=np.concatenate([part.age_seconds for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Ack:
    """Acknowledgement of outcomes: they are durable and visible to ``predict``.

    Attributes:
        policy_id: policy of the outcomes.
        version: version of the policy after the call.
        accepted: outcomes stored by the call.
        duplicates: outcomes that were stored before, and ignored.
    """

    policy_id: str
    version: int
    accepted: int
    duplicates: int

    def plus(self, later: "Ack") -> "Ack":
        """Return the sum with a later acknowledgement of the same policy."""
        return Ack(
            self.policy_id,
            max(self.version, later.version),
            self.accepted + later.accepted,
            self.duplicates + later.duplicates,
        )


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a token of a policy. Policies that are ranked together must have the same unit.

    Attributes:
        per_token: price of one token, >= 0.
        unit: ``"money"``: an amount of money, in any currency; ``"params"``: the size relative to
            other policies, such as 7 for 7 billion parameters.
    """

    per_token: float
    unit: Literal["params", "money"] = "money"


class Keep:
    """Type of `KEEP`."""

    def __repr__(self) -> str:
        """Return its name."""
        return "KEEP"


KEEP = Keep()
"""Leaves a setting unchanged, where None would remove it."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A named list of policies.

    Attributes:
        name: name of the fleet.
        policies: names of its policies, in the order given, without deleted ones.
    """

    name: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Description of a policy.

    Attributes:
        policy_id: name of the policy.
        version: number of changes, such as outcomes accepted.
        newest_step: highest step of its outcomes; None if no outcome has one.
        mean_reward: mean reward of its outcomes, each with the same weight, in [0, 1].
        created_at: time of the first outcome or of `Client.update_policy`, UTC.
        updated_at: time of the newest outcome or of a change of price or labels, UTC.
        mean_cost: mean cost of the outcomes that have one; None if none has.
        mean_tokens: mean tokens of the outcomes that have them; None if none has.
        price: price of a token; None if it has no price.
        labels: labels by name.
        outcomes: number of outcomes stored.
    """

    policy_id: str
    version: int
    newest_step: int | None
    mean_reward: float
    created_at: datetime
    updated_at: datetime
    mean_cost: float | None = None
    mean_tokens: float | None = None
    price: Price | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    outcomes: int = 0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Description of a server.

    Attributes:
        version: version of the server, such as ``"0.1.0"``.
        estimators: lower-case names of the estimators that are loaded, best first.
        default_estimator: estimator of calls that name none; None if none is loaded.
        backbone: model that embeds prompts.
        device: device of the models, such as ``"cpu"`` or ``"cuda"``.
    """

    version: str
    estimators: tuple[str, ...]
    default_estimator: str | None
    backbone: str
    device: str
