"""The in-context head: predicts values of prompts from a context of outcomes.

One row is one outcome. The features of a row depend on its prompt alone (``rows``). Context rows
attend to each other through kernels that are solved exactly (``encode``); a query attends to
context rows only (``predict``). There is no positional encoding, so the order of rows does not
matter. Padding is masked, so contexts of different lengths share a batch.

The head is a small meta-learned model around closed forms. A learned map turns prompts into
*skills*. Several Gaussian processes, each with its own mixture of kernels on skills and raw
features, regress the context's rewards in logit space. Their leave-one-out predictions determine,
in closed form, the weight of each in this context. Training learns the skills, a prior difficulty,
the kernels, and how strongly the weights are shrunk towards weights that work on average.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vzero_server.model.closed_form import blend, fit_experts, masked_mean, squared_distances
from vzero_server.model.drift import DriftKernel
from vzero_server.model.head_config import HeadConfig, initial_amplitudes
from vzero_server.model.head_state import HeadState

MAX_ROWS = 2048
"""Maximum number of rows of a context."""

# Added to the mean square distance, so that blocks without variance have a scale.
_SCALE_FLOOR = 1e-4
# Bound of scaled columns.
_LIMIT = 6.0


class InContextHead(nn.Module):
    """Predicts values of prompts for policies, each described by a context of outcomes.

    Attributes:
        config: Shape of the head.
    """

    mean: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        experts, learned = config.experts, config.skills + config.traits
        self.register_buffer("mean", torch.zeros(config.features))
        for index, group in enumerate(config.groups):
            self.register_buffer(
                f"projection_{index}", torch.eye(group.columns)[:, : group.components]
            )
        self.skills = nn.Linear(config.components, config.skills, bias=False)
        self.traits = nn.Sequential(
            nn.Linear(config.components, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.traits),
        )
        nn.init.normal_(self.skills.weight, std=0.3 / config.components**0.5)
        self.difficulty = nn.Parameter(torch.zeros(learned))
        self.amplitude = nn.Parameter(initial_amplitudes(config))
        self.decay = nn.Parameter(torch.zeros(len(config.groups) + 1))
        noise = torch.zeros(experts)
        noise[1:2] = 1.0  # text alone predicts worst
        self.noise = nn.Parameter(noise)
        self.belief = nn.Parameter(torch.eye(experts)[0])
        self.trust = nn.Parameter(torch.eye(experts + 1)[0])
        self.hold = nn.Parameter(torch.full((experts + 1,), 100.0))

    def rows(self, features: Tensor) -> Tensor:
        """Rows of prompts: features ``[..., features]`` to ``[..., row]``.

        A row depends on its prompt alone, so callers may compute it once per prompt and keep it.

        Args:
            features: Columns of the groups, concatenated; finite.

        Raises:
            ValueError: The number of columns is wrong, or a feature is not finite.
        """
        return self.read(self.project(features))

    def project(self, features: Tensor) -> Tensor:
        """Principal components and scaled columns: ``[..., features]`` to ``[..., components]``.

        Raises:
            ValueError: The number of columns is wrong, or a feature is not finite.
        """
        if features.shape[-1] != self.config.features:
            raise ValueError(
                f"features have {features.shape[-1]} columns, but the head expects "
                f"{self.config.features}"
            )
        if not torch.isfinite(features).all():
            raise ValueError("features contain NaN or infinite values")
        groups = self.config.groups
        parts = torch.split(features - self.mean, [group.columns for group in groups], -1)
        projected = []
        for index, (group, part) in enumerate(zip(groups, parts, strict=True)):
            part = part @ self.get_buffer(f"projection_{index}")
            # Unlike embeddings, columns that are only scaled have no natural bound.
            only_scaled = group.components == group.columns
            projected.append(part.clamp(-_LIMIT, _LIMIT) if only_scaled else part)
        return torch.cat(projected, -1)

    def read(self, projected: Tensor, keep: Tensor | None = None) -> Tensor:
        """Rows of projected features: ``[..., components]`` to ``[..., row]``.

        Args:
            projected: Result of ``project``.
            keep: Dropout during training: a factor per projected column, the same for a whole
                context; None for no dropout.
        """
        kept = projected if keep is None else projected * keep
        return torch.cat([projected, self.skills(kept), self.traits(kept)], -1)

    def encode(
        self,
        rows: Tensor,
        rewards: Tensor,
        mask: Tensor | None = None,
        ages: Tensor | None = None,
    ) -> HeadState:
        """Read contexts.

        Args:
            rows: Rows of the context prompts, ``[B, N, row]``, N from 0 to 2,048.
            rewards: Mean rewards of the rows, ``[B, N]``, in [0, 1].
            mask: True for real rows, ``[B, N]``; all by default.
            ages: Age of each row, in rows, at least 0, ``[B, N]``; queries are of age 0. Rows of
                the same step share an age. By default all ages are equal. Ages do not change the
                result for a context whose rewards show no drift.

        Raises:
            ValueError: The shapes do not match, there are more than 2,048 rows, a reward is NaN
                or outside [0, 1], or an age is negative or not finite.
        """
        mask = self._check(rows, rewards, mask)
        rewards = torch.where(mask, rewards, 0.0)
        count = mask.sum(1)
        mean = (rewards.sum(1) + 1.0) / (count + 2.0)
        curvature = mean * (1.0 - mean)
        centre = masked_mean(rows, mask)
        scaled, scale = self._scaled(rows - centre.unsqueeze(1), mask)
        norms = self._norms(scaled)
        kernels = self._kernels(scaled, scaled, norms, scale)
        amplitude = F.softplus(self.amplitude)
        grams = torch.einsum("mj,bjnk->bmnk", amplitude, kernels)

        residuals = torch.where(mask, rewards - mean.unsqueeze(1), 0.0)
        difficulty = torch.where(mask, self._difficulty(scaled, scale), 0.0).unsqueeze(1)
        belief = self.belief.unsqueeze(-1) * difficulty
        targets = (residuals / curvature.unsqueeze(1)).unsqueeze(1) - belief
        noise = F.softplus(self.noise) / curvature.unsqueeze(1)
        offset = torch.logit(mean)

        def fit(grams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Dual coefficients, weights of the blend, and its leave-one-out logits."""
            dual, expert_logits = fit_experts(grams, targets, noise, mask)
            columns = torch.cat([expert_logits + belief, difficulty], 1)
            trust = blend(columns, residuals, curvature, self.trust, F.softplus(self.hold))
            loo_logits = offset.unsqueeze(1) + torch.einsum("bm,bmn->bn", trust, columns)
            return dual, trust, loo_logits

        dual, trust, loo_logits = fit(grams)
        drift = torch.zeros_like(offset)
        if ages is not None:
            kernel = DriftKernel.of(ages, mask)
            size = kernel.amplitude(rewards - torch.sigmoid(loo_logits), curvature, mask)
            if size.any():
                dual, trust, loo_logits = fit(grams + (size[:, None, None] * kernel.gram)[:, None])
                drift = size * torch.einsum("bm,bmn,bn->b", trust[:, :-1], dual, kernel.now)
        # The blend is linear in the experts, so one set of weights per kernel represents it.
        weights = torch.einsum("bm,mj,bmn->bjn", trust[:, :-1], amplitude, dual)
        prior = trust[:, :-1] @ self.belief + trust[:, -1]
        scaled, norms = (torch.where(mask.unsqueeze(-1), part, 0.0) for part in (scaled, norms))
        return HeadState(
            scaled, norms, centre, scale, weights, offset + drift, drift, prior, loo_logits
        )

    def predict(self, context: HeadState, rows: Tensor) -> Tensor:
        """Logits of success, ``[B, Q]``, for query rows ``[B, Q, row]``.

        Queries are independent of each other. ``B`` may be 1 on either side.

        Raises:
            ValueError: The shapes do not match.
        """
        if rows.dim() != 3 or rows.shape[-1] != self.config.row:
            raise ValueError(
                f"query rows must be [B, Q, {self.config.row}], not {list(rows.shape)}"
            )
        scale = context.scale
        scaled = (rows - context.centre.unsqueeze(1)) / self._per_column(scale).unsqueeze(1)
        kernels = self._kernels(scaled, context.rows, context.norms, scale)
        evidence = torch.einsum("bjqn,bjn->bq", kernels, context.weights)
        difficulty = self._difficulty(scaled, scale)
        return context.offset.unsqueeze(1) + context.prior.unsqueeze(1) * difficulty + evidence

    def predict_many(self, contexts: Sequence[HeadState], rows: Tensor) -> Tensor:
        """Logits of success, ``[B, Q]``, for few queries on many contexts.

        Equals ``predict`` on the stacked contexts, without stacking their rows. The rows take
        most of a context's memory, and copying them would take longer than the computation.

        Args:
            contexts: B contexts, each a batch of one.
            rows: Query rows of each context, ``[B, Q, row]``, or for all contexts,
                ``[1, Q, row]``.
        """
        centre = torch.cat([context.centre for context in contexts])
        scale = torch.cat([context.scale for context in contexts])
        scaled = (rows - centre.unsqueeze(1)) / self._per_column(scale).unsqueeze(1)
        sizes, count = self.config.blocks, rows.shape[1]
        # Each query once per block, with the other blocks zero: one product per context then
        # computes the dot products of all blocks.
        indices = torch.arange(len(sizes), device=rows.device)
        block = indices.repeat_interleave(torch.tensor(sizes, device=rows.device))
        blockwise = (block == indices.unsqueeze(1)).unsqueeze(1) * scaled.unsqueeze(1)
        pairs = zip(blockwise.flatten(1, 2), contexts, strict=True)
        products = _padded([context.rows[0] @ queries.T for queries, context in pairs])
        products = products.transpose(1, 2).reshape(len(contexts), len(sizes), count, -1)
        norms = _padded([context.norms[0] for context in contexts]).transpose(1, 2).unsqueeze(2)
        weights = _padded([context.weights[0].T for context in contexts]).transpose(1, 2)
        distances = self._norms(scaled).transpose(1, 2).unsqueeze(-1) + norms - 2.0 * products
        decay = F.softplus(self.decay)[:, None, None]
        radial = torch.exp(-decay * distances.clamp_min(0.0))
        linear = products[:, -1] * scale[:, -1].square()[:, None, None]
        kernels = torch.cat([radial, linear.unsqueeze(1)], 1)
        evidence = torch.einsum("bjqn,bjn->bq", kernels, weights)
        difficulty = self._difficulty(scaled, scale)
        offset = torch.cat([context.offset for context in contexts])
        prior = torch.cat([context.prior for context in contexts])
        return offset.unsqueeze(1) + prior.unsqueeze(1) * difficulty + evidence

    def forward(
        self,
        features: Tensor,
        rewards: Tensor,
        queries: Tensor,
        mask: Tensor | None = None,
        ages: Tensor | None = None,
    ) -> Tensor:
        """Logits ``[B, Q]`` of query features, given context features ``[B, N, features]``."""
        context = self.encode(self.rows(features), rewards, mask, ages)
        return self.predict(context, self.rows(queries))

    def _check(self, rows: Tensor, rewards: Tensor, mask: Tensor | None) -> Tensor:
        """The mask of a context; raises ``ValueError`` as ``encode`` does."""
        if rows.dim() != 3 or rows.shape[-1] != self.config.row:
            raise ValueError(f"rows must be [B, N, {self.config.row}], not {list(rows.shape)}")
        if rewards.shape != rows.shape[:2] or (mask is not None and mask.shape != rewards.shape):
            raise ValueError("rewards and mask must be [B, N], like the rows")
        if rows.shape[1] > MAX_ROWS:
            raise ValueError(f"a context has at most {MAX_ROWS} rows, not {rows.shape[1]}")
        if mask is None:
            mask = torch.ones(rewards.shape, dtype=torch.bool, device=rewards.device)
        if not (~mask | ((rewards >= 0.0) & (rewards <= 1.0))).all():
            raise ValueError("rewards must be in [0, 1]")
        return mask

    def _scaled(self, centred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Centred rows scaled per block, ``[B, N, row]``, and the scales, ``[B, blocks]``."""
        blocks = torch.split(centred, self.config.blocks, -1)
        energy = [masked_mean(block.square().sum(-1), mask) for block in blocks]
        scale = (torch.stack(energy, -1) + _SCALE_FLOOR).sqrt()
        return centred / self._per_column(scale).unsqueeze(1), scale

    def _per_column(self, scale: Tensor) -> Tensor:
        """Scales of blocks repeated for each column: ``[B, blocks]`` to ``[B, row]``."""
        sizes = torch.tensor(self.config.blocks, device=scale.device)
        return scale.repeat_interleave(sizes, dim=-1, output_size=self.config.row)

    def _kernels(self, left: Tensor, right: Tensor, norms: Tensor, scale: Tensor) -> Tensor:
        """Kernels between rows, ``[B, kernels, L, R]``, given the norms of ``right``."""
        sizes = self.config.blocks
        decay = F.softplus(self.decay)
        kernels = [
            torch.exp(-decay[i] * squared_distances(a, b, norms[..., i]))
            for i, (a, b) in enumerate(
                zip(torch.split(left, sizes, -1), torch.split(right, sizes, -1), strict=True)
            )
        ]
        learned = -sizes[-1]
        # The linear kernel uses the learned features unscaled.
        linear = left[..., learned:] @ right[..., learned:].transpose(-1, -2)
        return torch.stack([*kernels, linear * scale[:, -1].square()[:, None, None]], 1)

    def _norms(self, rows: Tensor) -> Tensor:
        """Squared norms of the blocks of rows ``[B, N, row]``: ``[B, N, blocks]``."""
        blocks = torch.split(rows, self.config.blocks, -1)
        return torch.stack([block.square().sum(-1) for block in blocks], -1)

    def _difficulty(self, scaled: Tensor, scale: Tensor) -> Tensor:
        """Learned difficulty of scaled rows, relative to the centre, ``[B, N]``."""
        learned = scaled[..., -self.config.blocks[-1] :]
        return (learned @ self.difficulty) * scale[:, -1:]


def _padded(rows: list[Tensor]) -> Tensor:
    """Tensors ``[N, columns]`` of different N, padded with zeros to ``[B, N, columns]``."""
    return pad_sequence(rows, batch_first=True)
