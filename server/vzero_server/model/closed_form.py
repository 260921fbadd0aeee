"""Exact in-context estimators on padded batches: Gaussian processes and their blend.

All functions take a mask of real rows; padding does not change their results.
Shapes: B contexts, N rows, Q queries, J kernels, M experts.
"""

import torch
from torch import Tensor

from vzero_server.model import cholesky

_JITTER = 1e-3


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over real rows: values ``[B, N, ...]``, mask ``[B, N]`` to ``[B, ...]``.

    Zero for a context without rows.
    """
    weights = mask.to(values.dtype).reshape(*mask.shape, *[1] * (values.dim() - 2))
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def squared_distances(left: Tensor, right: Tensor, right_norms: Tensor) -> Tensor:
    """Squared Euclidean distances, ``[B, L, R]``.

    Args:
        left: Points, ``[B, L, D]``.
        right: Points, ``[B, R, D]``.
        right_norms: Squared norms of ``right``, ``[B, R]``.
    """
    norms = left.square().sum(-1).unsqueeze(-1) + right_norms.unsqueeze(-2)
    return (norms - 2.0 * left @ right.transpose(-1, -2)).clamp_min(0.0)


def fit_experts(
    kernels: Tensor, targets: Tensor, noise: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve M Gaussian-process regressions per context.

    Args:
        kernels: Gram matrices of the context rows, ``[B, M, N, N]``.
        targets: Regression targets of each expert, as logits, ``[B, M, N]``.
        noise: Noise variance of each expert in each context, ``[B, M]``, positive.
        mask: True for real rows, ``[B, N]``.

    Returns:
        Dual coefficients, ``[B, M, N]``, and leave-one-out predictions, ``[B, M, N]``: the
        prediction for each row of the expert fitted on all other rows. Zero for padding.
    """
    real = mask.unsqueeze(1)
    both = real.unsqueeze(-1) & real.unsqueeze(-2)
    gram = torch.where(both, kernels, 0.0)
    gram.diagonal(dim1=-2, dim2=-1).add_(torch.where(real, noise.unsqueeze(-1) + _JITTER, 1.0))
    targets = torch.where(real, targets, 0.0)
    dual, inverse_diagonal = cholesky.solve(gram, targets)
    loo_logits = targets - dual / inverse_diagonal
    return dual, torch.where(real, loo_logits, 0.0)


def blend(
    columns: Tensor, residuals: Tensor, curvature: Tensor, prior: Tensor, precision: Tensor
) -> Tensor:
    """Weights of the experts in each context, by a regression shrunk towards learned weights.

    One Newton step of logistic regression of the rewards on the experts' leave-one-out
    predictions. With few rows the weights stay at ``prior``. With many rows they follow the
    context, so that an expert that does not help there loses its weight.

    Args:
        columns: Leave-one-out predictions as logits, ``[B, M, N]``, zero for padding.
        residuals: Rewards minus the context's mean, ``[B, N]``, zero for padding.
        curvature: Variance of a reward of the context, ``[B]``.
        prior: Weights without evidence, ``[M]``.
        precision: Strength of the shrinkage of each weight, ``[M]``, positive.

    Returns:
        Weights, ``[B, M]``.
    """
    gram = curvature[:, None, None] * (columns @ columns.transpose(-1, -2))
    evidence = (columns @ residuals.unsqueeze(-1)).squeeze(-1)
    weights: Tensor = torch.linalg.solve(gram + torch.diag(precision), evidence + precision * prior)
    return weights
