"""Exact in-context estimators on padded batches: Gaussian processes and their blend.

All functions take a mask of real rows and give the same numbers whatever the padding.
Shapes: B contexts, N rows, Q queries, J kernels, M experts.
"""

from typing import Any

import torch
from torch import Tensor

_JITTER = 1e-3
# Rows of a triangular matrix that are no longer cut in two to invert it.
_LEAF = 32


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over real rows: values ``[B, N, ...]``, mask ``[B, N]`` to ``[B, ...]``.

    Zero for a context without rows.
    """
    weights = mask.to(values.dtype).reshape(*mask.shape, *[1] * (values.dim() - 2))
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def squared_distances(left: Tensor, right: Tensor, norms: Tensor) -> Tensor:
    """Squared Euclidean distances ``[B, L, R]``.

    Args:
        left: ``[B, L, D]``.
        right: ``[B, R, D]``.
        norms: Squared lengths of the latter, ``[B, R]``.
    """
    both = left.square().sum(-1).unsqueeze(-1) + norms.unsqueeze(-2)
    return (both - 2.0 * left @ right.transpose(-1, -2)).clamp_min(0.0)


def fit_experts(
    kernels: Tensor, targets: Tensor, noise: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve M Gaussian-process regressions per context.

    Args:
        kernels: Gram matrices of the context rows, ``[B, M, N, N]``.
        targets: What each expert regresses on, ``[B, M, N]``.
        noise: Noise variance of each expert in each context, ``[B, M]``, positive.
        mask: Real rows, ``[B, N]``.

    Returns:
        Dual coefficients ``[B, M, N]``, zero for padding, and the leave-one-out prediction
        for each context row, ``[B, M, N]``: what the expert says of the row when fitted on
        all others.
    """
    real = mask.unsqueeze(1)
    both = real.unsqueeze(-1) & real.unsqueeze(-2)
    gram = torch.where(both, kernels, 0.0)
    gram.diagonal(dim1=-2, dim2=-1).add_(torch.where(real, noise.unsqueeze(-1) + _JITTER, 1.0))
    targets = torch.where(real, targets, 0.0)
    dual, spread = _solve(gram, targets)
    loo_logits = targets - dual / spread
    return dual, torch.where(real, loo_logits, 0.0)


class _Solve(torch.autograd.Function):
    """G^-1 t and diag(G^-1) of positive definite G, with the gradient in two products.

    The gradient of a batched Cholesky factor costs many times the factor itself; this one
    needs the inverse, which is at hand.
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
        """Gradients of both arguments; that of the Gram matrix is made symmetric."""
        root, dual = ctx.saved_tensors
        of_dual, of_diagonal = gradients
        inverse = root.transpose(-1, -2) @ root
        of_targets = (inverse @ of_dual.unsqueeze(-1)).squeeze(-1)
        outer = of_targets.unsqueeze(-1) * dual.unsqueeze(-2)
        outer = 0.5 * (outer + outer.transpose(-1, -2))
        of_gram = -outer - (inverse * of_diagonal.unsqueeze(-2)) @ inverse
        return of_gram, of_targets


def _inverse(factor: Tensor) -> Tensor:
    """Inverses of lower triangular matrices ``[..., N, N]``.

    Half by half, so that matrix products do nearly all of it: a triangular solve of the
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


def _solve(gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    solved: tuple[Tensor, Tensor] = _Solve.apply(gram, targets)  # type: ignore[no-untyped-call]
    return solved


def blend(
    columns: Tensor, residuals: Tensor, curvature: Tensor, prior: Tensor, precision: Tensor
) -> Tensor:
    """Weights of experts in each context: a regression shrunk towards learned weights.

    One Newton step of logistic regression of the labels on the experts' leave-one-out
    predictions. With few rows the weights stay at ``prior``; with many they follow the
    context, so that an expert which is worthless there loses its say.

    Args:
        columns: Leave-one-out predictions as logits, ``[B, M, N]``, zero for padding.
        residuals: Reward minus the context's mean, ``[B, N]``, zero for padding.
        curvature: Variance of a label of the context, ``[B]``.
        prior: Weights without evidence, ``[M]``.
        precision: How strongly each is held there, ``[M]``, positive.

    Returns:
        Weights, ``[B, M]``.
    """
    gram = curvature[:, None, None] * (columns @ columns.transpose(-1, -2))
    evidence = (columns @ residuals.unsqueeze(-1)).squeeze(-1)
    weights: Tensor = torch.linalg.solve(gram + torch.diag(precision), evidence + precision * prior)
    return weights
