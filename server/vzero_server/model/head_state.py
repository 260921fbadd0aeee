"""What is kept of a context between calls."""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class HeadState:
    """Contexts after ``encode``: all that ``predict`` needs of them.

    Attributes:
        rows: Centred and scaled rows, ``[B, N, row]``.
        norms: Squared length of each row, per group, ``[B, N, groups + 1]``.
        centre: Mean row, ``[B, row]``.
        spread: Root mean square distance from the centre, per group, ``[B, groups + 1]``.
        weights: What each row adds to a query's logit, per kernel, ``[B, kernels, N]``.
        offset: Logit of the policy's level now, ``[B]``: of the context's mean reward, and the
            drift since.
        drift: By how much the level now differs from that of the mean, as a logit, ``[B]``;
            0 where rows have no ages, or show no drift.
        prior: Weight of the learned difficulty, ``[B]``.
        loo_logits: Logits of the context rows, each left out of the fit, ``[B, N]``;
            meaningless for padding.
    """

    rows: Tensor
    norms: Tensor
    centre: Tensor
    spread: Tensor
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
        """One context of the batch, as a batch of one that owns its memory."""
        parts = (tensor[index : index + 1].clone() for tensor in self.tensors())
        return type(self)(*parts)

    def to(self, device: torch.device | str) -> Self:
        """The same contexts on another device."""
        return type(self)(*(tensor.to(device) for tensor in self.tensors()))

    @classmethod
    def stack(cls, contexts: "list[HeadState]") -> "HeadState":
        """One batch of many, padded to the longest; padding adds nothing to a logit."""
        if len(contexts) == 1:
            return contexts[0]
        longest = max(context.rows.shape[1] for context in contexts)
        padded = []
        for context in contexts:
            short = longest - context.rows.shape[1]
            rows = F.pad(context.rows, (0, 0, 0, short))
            norms = F.pad(context.norms, (0, 0, 0, short))
            weights = F.pad(context.weights, (0, short))
            loo_logits = F.pad(context.loo_logits, (0, short))
            padded.append(
                replace(context, rows=rows, norms=norms, weights=weights, loo_logits=loo_logits)
            )
        columns = zip(*(context.tensors() for context in padded), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def tensors(self) -> tuple[Tensor, ...]:
        """All attributes, in order."""
        level = (self.offset, self.drift, self.prior)
        return (
            *(self.rows, self.norms, self.centre, self.spread, self.weights),
            *level,
            self.loo_logits,
        )
