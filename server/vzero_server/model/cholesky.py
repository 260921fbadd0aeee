"""Solutions of positive definite systems, with the diagonal of the inverse."""

from typing import Any

import torch
from torch import Tensor

# Triangular matrices of at most this many rows are inverted without splitting.
_LEAF = 32


def solve(gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """G^-1 t and diag(G^-1) for positive definite G; differentiable.

    Args:
        gram: Gram matrices G, ``[..., N, N]``.
        targets: Targets t, ``[..., N]``.

    Returns:
        Solutions and diagonals, each ``[..., N]``.
    """
    solved: tuple[Tensor, Tensor] = _Solve.apply(gram, targets)  # type: ignore[no-untyped-call]
    return solved


class _Solve(torch.autograd.Function):
    """``solve`` with a gradient in two matrix products.

    The gradient of a batched Cholesky factorisation costs many times the factorisation. This one
    needs the inverse, which is already computed.
    """

    @staticmethod
    def forward(ctx: Any, gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Gram matrices ``[..., N, N]`` and targets ``[..., N]``."""
        factor = torch.linalg.cholesky(gram)
        dual = torch.cholesky_solve(targets.unsqueeze(-1), factor).squeeze(-1)
        root = _inverse(factor)
        ctx.save_for_backward(root, dual)
        return dual, root.square().sum(-2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Gradients of both arguments; that of the Gram matrix is symmetric."""
        root, dual = ctx.saved_tensors
        dual_gradient, diagonal_gradient = gradients
        inverse = root.transpose(-1, -2) @ root
        targets_gradient = (inverse @ dual_gradient.unsqueeze(-1)).squeeze(-1)
        outer = targets_gradient.unsqueeze(-1) * dual.unsqueeze(-2)
        outer = 0.5 * (outer + outer.transpose(-1, -2))
        gram_gradient = -outer - (inverse * diagonal_gradient.unsqueeze(-2)) @ inverse
        return gram_gradient, targets_gradient


def _inverse(factor: Tensor) -> Tensor:
    """Inverses of lower triangular matrices, ``[..., N, N]``.

    Splits in halves, so that matrix products do most of the work: a triangular solve of the
    identity takes three times as long.
    """
    count = factor.shape[-1]
    if count <= _LEAF:
        identity = torch.eye(count, dtype=factor.dtype, device=factor.device)
        solved: Tensor = torch.linalg.solve_triangular(
            factor, identity.expand_as(factor), upper=False
        )
        return solved
    first, rest = slice(None, count // 2), slice(count // 2, None)
    upper, lower = _inverse(factor[..., first, first]), _inverse(factor[..., rest, rest])
    inverse = torch.zeros_like(factor)
    inverse[..., first, first], inverse[..., rest, rest] = upper, lower
    inverse[..., rest, first] = -lower @ (factor[..., rest, first] @ upper)
    return inverse
