"""The compact in-context head: a context of outcomes in, values of new prompts out.

One row is one token. A row's features depend on its prompt alone (``rows``); context rows
attend to each other through kernels that are solved exactly (``encode``); a query attends
to context rows only (``predict``). There is no positional encoding: the order of rows does
not matter. Padding is masked: contexts of different length share a batch.

The head is a small meta-learned model around closed forms. A learned map turns prompts into
*skills*; several Gaussian processes, each with its own mixture of kernels on skills and raw
features, regress the context's rewards in logit space; their leave-one-out predictions decide,
in closed form, how much each is trusted in this context. Learned are the skills, a prior of
difficulty, the kernels, and how strongly the blend is held to what worked elsewhere.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vzero_server.model.closed_form import blend, fit_experts, masked_mean, squared_distances
from vzero_server.model.head_config import HeadConfig, first_amplitudes
from vzero_server.model.head_state import HeadState
from vzero_server.model.trend import TimeKernel

MAX_ROWS = 2048
"""Most rows of a context."""

_SPREAD_FLOOR = 1e-4
_LIMIT = 6.0


class InContextHead(nn.Module):
    """Values of prompts for policies that are known by a context of outcomes.

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
        self.amplitude = nn.Parameter(first_amplitudes(config))
        self.decay = nn.Parameter(torch.zeros(len(config.groups) + 1))
        noise = torch.zeros(experts)
        noise[1:2] = 1.0  # text alone says least
        self.noise = nn.Parameter(noise)
        self.belief = nn.Parameter(torch.eye(experts)[0])
        self.trust = nn.Parameter(torch.eye(experts + 1)[0])
        self.hold = nn.Parameter(torch.full((experts + 1,), 100.0))

    def rows(self, features: Tensor, keep: Tensor | None = None) -> Tensor:
        """What the head reads of prompts: features ``[..., features]`` to ``[..., row]``.

        Depends on the prompts alone, so a caller may compute it once per prompt and keep it.

        Args:
            features: Columns of the groups, concatenated; finite.
            keep: While training, a factor per projected column, which drops some of them for
                a whole context.

        Raises:
            ValueError: Wrong number of columns, or a value that is not finite.
        """
        return self.read(self.project(features), keep)

    def project(self, features: Tensor) -> Tensor:
        """Principal components and scaled columns: ``[..., features]`` to ``[..., components]``.

        Raises:
            ValueError: Wrong number of columns, or a value that is not finite.
        """
        if features.shape[-1] != self.config.features:
            raise ValueError(
                f"features have {features.shape[-1]} columns, the head was made for "
                f"{self.config.features}"
            )
        if not torch.isfinite(features).all():
            raise ValueError("features hold NaN or infinite values")
        groups = self.config.groups
        parts = torch.split(features - self.mean, [group.columns for group in groups], -1)
        projected = []
        for index, (group, part) in enumerate(zip(groups, parts, strict=True)):
            part = part @ self.get_buffer(f"projection_{index}")
            # Columns that are only scaled have no bound of their own, as embeddings do.
            bounded = group.components == group.columns
            projected.append(part.clamp(-_LIMIT, _LIMIT) if bounded else part)
        return torch.cat(projected, -1)

    def read(self, projected: Tensor, keep: Tensor | None = None) -> Tensor:
        """Rows ``[..., row]`` of projected features ``[..., components]``; see ``rows``."""
        seen = projected if keep is None else projected * keep
        return torch.cat([projected, self.skills(seen), self.traits(seen)], -1)

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
            rewards: Their mean rewards in [0, 1], ``[B, N]``; soft values are welcome.
            mask: True where a row is real, ``[B, N]``; all are by default.
            ages: How old each row is, in rows, at least 0, ``[B, N]``; queries are of age 0.
                Rows of one moment share an age. By default all are of one moment. A context
                whose rewards show no drift along them is read as if there were none.

        Raises:
            ValueError: Shapes that do not match, more than 2,048 rows, a reward that is NaN or
                outside [0, 1], or an age that is negative or not finite.
        """
        mask = self._checked(rows, rewards, mask)
        rewards = torch.where(mask, rewards, 0.0)
        count = mask.sum(1)
        mean = (rewards.sum(1) + 1.0) / (count + 2.0)
        curvature = mean * (1.0 - mean)
        centre = masked_mean(rows, mask)
        scaled, spread = self._scaled(rows - centre.unsqueeze(1), mask)
        norms = self._norms(scaled)
        kernels = self._kernels(scaled, scaled, norms, spread)
        amplitude = F.softplus(self.amplitude)
        grams = torch.einsum("mj,bjnk->bmnk", amplitude, kernels)

        residuals = torch.where(mask, rewards - mean.unsqueeze(1), 0.0)
        difficulty = torch.where(mask, self._difficulty(scaled, spread), 0.0).unsqueeze(1)
        belief = self.belief.unsqueeze(-1) * difficulty
        targets = (residuals / curvature.unsqueeze(1)).unsqueeze(1) - belief
        noise = F.softplus(self.noise) / curvature.unsqueeze(1)
        offset = torch.logit(mean)

        def fitted(grams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Dual coefficients, trust, and the leave-one-out logits of the blend."""
            dual, loo_logits = fit_experts(grams, targets, noise, mask)
            columns = torch.cat([loo_logits + belief, difficulty], 1)
            trust = blend(columns, residuals, curvature, self.trust, F.softplus(self.hold))
            blended = offset.unsqueeze(1) + torch.einsum("bm,bmn->bn", trust, columns)
            return dual, trust, blended

        dual, trust, blended = fitted(grams)
        drift = torch.zeros_like(offset)
        if ages is not None:
            time = TimeKernel.of(ages, mask)
            size = time.amplitude(rewards - torch.sigmoid(blended), curvature, mask)
            if size.any():
                dual, trust, blended = fitted(grams + (size[:, None, None] * time.gram)[:, None])
                drift = size * torch.einsum("bm,bmn,bn->b", trust[:, :-1], dual, time.now)
        # The blend is linear in the experts, so that one set of weights per kernel is left.
        weights = torch.einsum("bm,mj,bmn->bjn", trust[:, :-1], amplitude, dual)
        prior = trust[:, :-1] @ self.belief + trust[:, -1]
        scaled, norms = (torch.where(mask.unsqueeze(-1), part, 0.0) for part in (scaled, norms))
        return HeadState(
            scaled, norms, centre, spread, weights, offset + drift, drift, prior, blended
        )

    def predict(self, context: HeadState, rows: Tensor) -> Tensor:
        """Logits of success, ``[B, Q]``, of query rows ``[B, Q, row]``.

        Queries do not see each other. ``B`` may be 1 on either side.

        Raises:
            ValueError: Shapes that do not match.
        """
        if rows.dim() != 3 or rows.shape[-1] != self.config.row:
            raise ValueError(
                f"query rows must be [B, Q, {self.config.row}], not {list(rows.shape)}"
            )
        spread = context.spread
        scaled = (rows - context.centre.unsqueeze(1)) / self._widen(spread).unsqueeze(1)
        kernels = self._kernels(scaled, context.rows, context.norms, spread)
        votes = torch.einsum("bjqn,bjn->bq", kernels, context.weights)
        difficulty = self._difficulty(scaled, spread)
        return context.offset.unsqueeze(1) + context.prior.unsqueeze(1) * difficulty + votes

    def predict_many(self, contexts: Sequence[HeadState], rows: Tensor) -> Tensor:
        """What ``predict`` says of the contexts stacked, without stacking their rows.

        For few queries of many contexts. The rows are nearly all of a context's memory, and
        copying them would take longer than all that is computed: here they are read once.

        Args:
            contexts: B of them, each a batch of one.
            rows: Query rows of each, ``[B, Q, row]``, or of all, ``[1, Q, row]``.
        """
        centre = torch.cat([context.centre for context in contexts])
        spread = torch.cat([context.spread for context in contexts])
        scaled = (rows - centre.unsqueeze(1)) / self._widen(spread).unsqueeze(1)
        sizes, queries = self.config.blocks, rows.shape[1]
        # Each query once per block, the other blocks zero: one product gives all of a context.
        numbers = torch.arange(len(sizes), device=rows.device)
        block = numbers.repeat_interleave(torch.tensor(sizes, device=rows.device))
        apart = (block == numbers.unsqueeze(1)).unsqueeze(1) * scaled.unsqueeze(1)
        masked = apart.flatten(1, 2)
        pairs = zip(masked, contexts, strict=True)
        products = _padded([context.rows[0] @ own.T for own, context in pairs])
        products = products.transpose(1, 2).reshape(len(contexts), len(sizes), queries, -1)
        norms = _padded([context.norms[0] for context in contexts]).transpose(1, 2).unsqueeze(2)
        weights = _padded([context.weights[0].T for context in contexts]).transpose(1, 2)
        distances = self._norms(scaled).transpose(1, 2).unsqueeze(-1) + norms - 2.0 * products
        decay = F.softplus(self.decay)[:, None, None]
        near = torch.exp(-decay * distances.clamp_min(0.0))
        linear = products[:, -1] * spread[:, -1].square()[:, None, None]
        kernels = torch.cat([near, linear.unsqueeze(1)], 1)
        votes = torch.einsum("bjqn,bjn->bq", kernels, weights)
        difficulty = self._difficulty(scaled, spread)
        offset = torch.cat([context.offset for context in contexts])
        prior = torch.cat([context.prior for context in contexts])
        return offset.unsqueeze(1) + prior.unsqueeze(1) * difficulty + votes

    def forward(
        self,
        features: Tensor,
        rewards: Tensor,
        queries: Tensor,
        mask: Tensor | None = None,
        ages: Tensor | None = None,
    ) -> Tensor:
        """Logits ``[B, Q]`` of query features, given context features ``[B, N, features]``."""
        encoded = self.encode(self.rows(features), rewards, mask, ages)
        return self.predict(encoded, self.rows(queries))

    def _checked(self, rows: Tensor, rewards: Tensor, mask: Tensor | None) -> Tensor:
        if rows.dim() != 3 or rows.shape[-1] != self.config.row:
            raise ValueError(f"rows must be [B, N, {self.config.row}], not {list(rows.shape)}")
        if rewards.shape != rows.shape[:2] or (mask is not None and mask.shape != rewards.shape):
            raise ValueError("rewards and mask must be [B, N], like the rows")
        if rows.shape[1] > MAX_ROWS:
            raise ValueError(f"a context holds at most {MAX_ROWS} rows, not {rows.shape[1]}")
        if mask is None:
            mask = torch.ones(rewards.shape, dtype=torch.bool, device=rewards.device)
        if not (~mask | ((rewards >= 0.0) & (rewards <= 1.0))).all():
            raise ValueError("rewards must lie in [0, 1]")
        return mask

    def _scaled(self, centred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        blocks = torch.split(centred, self.config.blocks, -1)
        energy = [masked_mean(block.square().sum(-1), mask) for block in blocks]
        spread = (torch.stack(energy, -1) + _SPREAD_FLOOR).sqrt()
        return centred / self._widen(spread).unsqueeze(1), spread

    def _widen(self, spread: Tensor) -> Tensor:
        sizes = torch.tensor(self.config.blocks, device=spread.device)
        return spread.repeat_interleave(sizes, dim=-1, output_size=self.config.row)

    def _kernels(self, left: Tensor, right: Tensor, norms: Tensor, spread: Tensor) -> Tensor:
        """Kernels ``[B, kernels, L, R]``, given the norms of the rows on the right."""
        sizes = self.config.blocks
        decay = F.softplus(self.decay)
        kernels = [
            torch.exp(-decay[i] * squared_distances(a, b, norms[..., i]))
            for i, (a, b) in enumerate(
                zip(torch.split(left, sizes, -1), torch.split(right, sizes, -1), strict=True)
            )
        ]
        learned = -sizes[-1]
        # Skills keep their learned scale in the linear kernel.
        linear = left[..., learned:] @ right[..., learned:].transpose(-1, -2)
        return torch.stack([*kernels, linear * spread[:, -1].square()[:, None, None]], 1)

    def _norms(self, rows: Tensor) -> Tensor:
        """Squared lengths of the blocks of rows ``[B, N, row]``: ``[B, N, blocks]``."""
        blocks = torch.split(rows, self.config.blocks, -1)
        return torch.stack([block.square().sum(-1) for block in blocks], -1)

    def _difficulty(self, scaled: Tensor, spread: Tensor) -> Tensor:
        learned = scaled[..., -self.config.blocks[-1] :]
        return (learned @ self.difficulty) * spread[:, -1:]


def _padded(rows: list[Tensor]) -> Tensor:
    """Tensors ``[N, columns]`` of different N as one, ``[B, N, columns]``, filled with zeros."""
    return pad_sequence(rows, batch_first=True)
