"""State of contexts that the in-context head has read."""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class HeadState:
    """Contexts after ``InContextHead.encode``: everything that ``predict`` needs of them.

    Shapes: B contexts, N rows.

    Attributes:
        rows: Centred and scaled rows, ``[B, N, row]``.
        norms: Squared norm of each row, per block of columns, ``[B, N, groups + 1]``.
        centre: Mean row, ``[B, row]``.
        scale: Root mean square distance of the rows from the centre, per block of columns,
            ``[B, groups + 1]``.
        weights: Weight of each row in a query's logit, per kernel, ``[B, kernels, N]``.
        offset: Logit of the policy's present level, ``[B]``: that of the context's mean reward,
            plus the drift.
        drift: Difference between the present level and that of the mean, as a logit, ``[B]``;
            0 if the rows have no ages or show no drift.
        prior: Weight of the learned difficulty, ``[B]``.
        loo_logits: Leave-one-out logits of the context rows, ``[B, N]``; undefined for padding.
    """

    rows: Tensor
    norms: Tensor
    centre: Tensor
    scale: Tensor
    weights: Tensor
    offset: Tensor
    drift: Tensor
    prior: Tensor
    loo_logits: Tensor

    def __len__(self) -> int:
        return self.offset.shape[0]

    @property
    def nbytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def __getitem__(self, index: int) -> Self:
        """One context, as a batch of one with its own memory."""
        parts = (tensor[index : index + 1].clone() for tensor in self.tensors())
        return type(self)(*parts)

    def to(self, device: torch.device | str) -> Self:
        """The same contexts on another device."""
        return type(self)(*(tensor.to(device) for tensor in self.tensors()))

    @classmethod
    def stack(cls, contexts: "list[HeadState]") -> "HeadState":
        """Several states as one batch, padded to the longest; padding does not change a logit."""
        if len(contexts) == 1:
            return contexts[0]
        longest = max(context.rows.shape[1] for context in contexts)
        padded = []
        for context in contexts:
            missing = longest - context.rows.shape[1]
            rows = F.pad(context.rows, (0, 0, 0, missing))
            norms = F.pad(context.norms, (0, 0, 0, missing))
            weights = F.pad(context.weights, (0, missing))
            loo_logits = F.pad(context.loo_logits, (0, missing))
            padded.append(
                replace(context, rows=rows, norms=norms, weights=weights, loo_logits=loo_logits)
            )
        columns = zip(*(context.tensors() for context in padded), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def tensors(self) -> tuple[Tensor, ...]:
        """All attributes, in order."""
        level = (self.offset, self.drift, self.prior)
        return (
            *(self.rows, self.norms, self.centre, self.scale, self.weights),
            *level,
            self.loo_logits,
        )
