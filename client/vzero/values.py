"""What the server answers, as frozen dataclasses and NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Context:
    """The outcomes that values were conditioned on.

    Attributes:
        version: outcomes of the policy ever accepted, at the time of the read.
        rows: outcomes in the window that was used.
        newest_step: highest step in the window; None when no outcome of it names one.
        age_seconds: time since the newest outcome was observed; None when the window is empty.
        peers: other policies whose outcomes on the same prompts corrected some of the values.
    """

    version: int
    rows: int
    newest_step: int | None
    age_seconds: float | None
    peers: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What values remember of their prompts: past outcomes under the same policy.

    Attributes:
        rollouts: attempts known, int64 [n]; 0 where a value remembers nothing.
        weight: rollouts they count for in the value, float64 [n].
        newest_step: highest step among them, int64 [n]; -1 where none names one.
        age_seconds: time since the newest of them was observed, float64 [n]; NaN where a value
            remembers nothing.
    """

    rollouts: npt.NDArray[np.int64]
    weight: FloatArray
    newest_step: npt.NDArray[np.int64]
    age_seconds: FloatArray

    @classmethod
    def empty(cls, count: int) -> "History":
        """Nothing remembered of so many prompts."""
        return cls(
            rollouts=np.zeros(count, np.int64),
            weight=np.zeros(count),
            newest_step=np.full(count, -1, np.int64),
            age_seconds=np.full(count, np.nan),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Values:
    """Estimated success rates, one per prompt, in the order asked.

    ``numpy.asarray(values)`` is ``values.mean``.

    Attributes:
        mean: the estimates, float64 [n] in [0, 1].
        lower: lower ends of the 90 % intervals, float64 [n] in [0, mean].
        upper: upper ends of the 90 % intervals, float64 [n] in [mean, 1].
        effective_sample_size: rollouts of the prompt each estimate is worth, float64 [n].
        basis: what each estimate rests on, str [n]: ``ICL``, ``KNN``, ``TABPFN`` or ``PRIOR``.
        context: the outcomes all estimates rest on; the oldest when several reads were needed.
        history: what the estimates remember of the prompts; None if unknown.
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
        """Return the means, so that NumPy functions take the values as they are."""
        if copy is False:
            return np.asarray(self.mean, dtype=dtype)
        return np.array(self.mean, dtype=dtype)

    def __repr__(self) -> str:
        """Show the first few estimates, their basis and the context."""
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
        """Put the values of several reads behind one another.

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
    """The server has stored outcomes: they are durable and visible to ``predict``.

    Attributes:
        policy_id: the policy.
        version: version of its context afterwards.
        accepted: outcomes stored now.
        duplicates: outcomes stored before, and ignored.
    """

    policy_id: str
    version: int
    accepted: int
    duplicates: int

    def plus(self, later: "Ack") -> "Ack":
        """Add up with a later acknowledgement of the same policy."""
        return Ack(
            self.policy_id,
            max(self.version, later.version),
            self.accepted + later.accepted,
            self.duplicates + later.duplicates,
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What a token of a policy costs. Policies that are ranked together have one unit.

    Attributes:
        per_token: at least 0.
        unit: ``"params"``: the size in comparison with others, such as 7 for 7 billion
            parameters; ``"money"``: money, in any currency.
    """

    per_token: float
    unit: Literal["params", "money"] = "money"


class Keep:
    """Stands for: leave it as it is. Use `KEEP`."""

    def __repr__(self) -> str:
        """Return its name."""
        return "KEEP"


KEEP = Keep()


@dataclass(frozen=True, slots=True)
class Fleet:
    """A named list of policies.

    Attributes:
        name: its name.
        policies: their names, in the order they were given; without those deleted since.
    """

    name: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the server knows of one policy.

    Attributes:
        policy_id: its name.
        version: number of outcomes ever accepted.
        newest_step: highest step reported; None when no outcome names one.
        mean_reward: mean over its outcomes, each weighing the same, in [0, 1].
        created_at: when its first outcome was stored, or it was created, UTC.
        updated_at: when its newest outcome was stored, or price or labels were set, UTC.
        mean_cost: mean over its outcomes that name a cost; None when none does.
        mean_tokens: mean over its outcomes that name tokens; None when none does.
        price: what a token costs; None when it has no price.
        labels: its labels.
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
