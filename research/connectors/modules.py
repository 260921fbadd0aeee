"""Ways from a prompt's states to feature columns: the adapter and what it was compared with.

Table 4 of the paper names seven connectors and grades their cost, but describes only the last
(section 4.2). Where its text is silent, the docstring says what was chosen here.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from vzero_server.paper.adapter import (
    AdapterConfig,
    ResidualQueryAdapter,
    check_prompts,
    new_queries,
    project_tokens,
)

_WIDENING = 4
_STAGES = 3
_SCALES = (1, 2, 4, 8)
_WINDOWS = (16, 4, 1)


class Connector(Protocol):
    """Turns prompts into feature columns; a prompt's features depend on that prompt alone."""

    features: int
    """Columns of the output."""

    def __call__(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Features ``[B, features]`` of prompts.

        Args:
            states: Token states of the backbone's last layer, ``[B, T, hidden]``.
            mask: True where a token is real, ``[B, T]``; padding may stand on either side.
            pooled: The state that stands for the whole prompt, ``[B, hidden]``.

        Raises:
            ValueError: As ``ResidualQueryAdapter.forward``.
        """


class PooledState(nn.Module):
    """The pooled state as it is; no parameters, no cost ("fast").

    The paper's "only last_token": its backbone pools by taking the last token.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.features = self._hidden = config.hidden

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """See ``Connector``."""
        check_prompts(self._hidden, states, mask, pooled)
        return pooled


class MultiLayerPerceptron(nn.Module):
    """Two wide layers on the pooled state ("heavy").

    The paper is silent on its shape. Chosen: hidden layers of four times the pooled state, the
    habit of transformers; most of its parameters are the square matrix between them.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.features, self._hidden = config.features, config.hidden
        wide = _WIDENING * config.hidden
        self.layers = nn.Sequential(
            *_block(config.hidden, wide, config.dropout),
            *_block(wide, wide, config.dropout),
            nn.Linear(wide, config.features),
        )

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """See ``Connector``."""
        check_prompts(self._hidden, states, mask, pooled)
        features: Tensor = self.layers(pooled)
        return features


class Cascade(nn.Module):
    """Stages on the pooled state, each of which corrects the one before ("heavy").

    The paper is silent on its shape. Chosen: three stages; each reads the pooled state and the
    features so far through a layer of four times the pooled state, and adds to the features.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.features, self._hidden = config.features, config.hidden
        wide = _WIDENING * config.hidden
        self.stages = nn.ModuleList(
            nn.Sequential(
                *_block(config.hidden + config.features, wide, config.dropout),
                nn.Linear(wide, config.features),
            )
            for _ in range(_STAGES)
        )

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """See ``Connector``."""
        check_prompts(self._hidden, states, mask, pooled)
        features = pooled.new_zeros(len(pooled), self.features)
        for stage in self.stages:
            features = features + stage(torch.cat([pooled, features], -1))
        return features


class MultiScale(nn.Module):
    """Means over the whole prompt, its halves, quarters and eighths ("extremely heavy").

    The paper is silent on its shape. Chosen: a perceptron of its own for every scale, with a
    layer of twice the pooled state, reads that scale's means side by side and gives an equal
    share of the columns. A part that holds no token of a short prompt counts as zero.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.features, self._hidden = config.features, config.hidden
        wide = 2 * config.hidden
        shares = _shares(config.features, [1] * len(_SCALES))
        self.scales = nn.ModuleList(
            nn.Sequential(
                *_block(parts * config.hidden, wide, config.dropout), nn.Linear(wide, share)
            )
            for parts, share in zip(_SCALES, shares, strict=True)
        )

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """See ``Connector``."""
        check_prompts(self._hidden, states, mask, pooled)
        place, length = mask.cumsum(1) - 1, mask.sum(1, keepdim=True)
        # Every scale is a union of the finest parts, so that tokens are read once.
        finest = _SCALES[-1]
        sums, counts = _part_sums(states, mask, place * finest // length, finest)
        features = []
        for parts, scale in zip(_SCALES, self.scales, strict=True):
            shape = (len(states), parts, finest // parts, -1)
            means = sums.view(shape).sum(2) / counts.view(shape).sum(2).clamp_min(1.0)
            features.append(scale(means.flatten(1)))
        return torch.cat(features, -1)


class FixedQuery(nn.Module):
    """The adapter without its generator: every prompt is asked the same ("moderate").

    The static queries and the attention of Eq. 4, with no offset.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.features, self._hidden = config.features, config.hidden
        self.level = _QueryLevel(config, config.queries)

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """See ``Connector``."""
        check_prompts(self._hidden, states, mask, pooled)
        features: Tensor = self.level(states, mask, 1)
        return features


class PyramidalFixedQuery(nn.Module):
    """Fixed queries on three levels of a pyramid of tokens ("heavy").

    The paper is silent on its shape. Chosen: a quarter of the queries reads means of 16
    neighbouring tokens, a quarter means of 4, half the tokens themselves. Each level has a
    projection, attention and norms of its own.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.features, self._hidden = config.features, config.hidden
        if config.queries < len(_WINDOWS):
            raise ValueError(f"{len(_WINDOWS)} levels need as many queries, not {config.queries}")
        shares = _shares(config.queries, [1, 1, 2])
        self.levels = nn.ModuleList(_QueryLevel(config, share) for share in shares)

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """See ``Connector``."""
        check_prompts(self._hidden, states, mask, pooled)
        levels = zip(self.levels, _WINDOWS, strict=True)
        return torch.cat([level(states, mask, window) for level, window in levels], -1)


class _QueryLevel(nn.Module):
    """Fixed queries that read tokens, or means of neighbouring ones."""

    def __init__(self, config: AdapterConfig, queries: int) -> None:
        super().__init__()
        self.static_queries = new_queries(queries, config.width)
        self.proj_kv = nn.Linear(config.hidden, config.width)
        self.mha = nn.MultiheadAttention(config.width, config.heads, batch_first=True)
        self.ln_q = nn.LayerNorm(config.width)
        self.ln_kv = nn.LayerNorm(config.width)

    def forward(self, states: Tensor, mask: Tensor, window: int) -> Tensor:
        """Features ``[B, queries * width]`` of means over windows of so many tokens."""
        # The projection is linear: the mean of projected tokens is the projected mean, and
        # costs less.
        tokens = project_tokens(self.proj_kv, states, mask)
        if window > 1:
            windows = -(-states.shape[1] // window)
            place = mask.cumsum(1) - 1
            sums, counts = _part_sums(tokens, mask, place // window, windows)
            tokens, mask = sums / counts.clamp_min(1.0), counts.squeeze(-1) > 0
        queries = self.ln_q(self.static_queries).expand(len(tokens), -1, -1)
        read, _ = self.mha(
            queries, self.ln_kv(tokens), tokens, key_padding_mask=~mask, need_weights=False
        )
        features: Tensor = read.flatten(1)
        return features


CONNECTORS: Mapping[str, Callable[[AdapterConfig], nn.Module]] = {
    "pooled": PooledState,
    "mlp": MultiLayerPerceptron,
    "cascaded": Cascade,
    "multi-scale": MultiScale,
    "fixed-query": FixedQuery,
    "pyramidal-fixed-query": PyramidalFixedQuery,
    "residual-dynamic-query": ResidualQueryAdapter,
}
"""All connectors by name, in the order of Table 4; each is a ``Connector``."""


def make_connector(name: str, config: AdapterConfig) -> nn.Module:
    """A new connector with random weights; all but ``pooled`` have ``config.features`` columns.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in CONNECTORS:
        raise ValueError(f"no connector is called {name!r}; there are {', '.join(CONNECTORS)}")
    return CONNECTORS[name](config)


def _block(columns: int, wide: int, dropout: float) -> tuple[nn.Module, ...]:
    """The adapter's own sequence of layers, at another width."""
    return nn.Linear(columns, wide), nn.LayerNorm(wide), nn.GELU(), nn.Dropout(dropout)


def _part_sums(states: Tensor, mask: Tensor, part: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Sums ``[B, parts, D]`` and counts ``[B, parts, 1]`` of the real tokens of each part.

    Args:
        states: ``[B, T, D]``; padding may hold anything.
        mask: Real tokens, ``[B, T]``.
        part: Which part a real token belongs to, ``[B, T]``, from 0.
        parts: How many there are.
    """
    real = mask.unsqueeze(-1)
    states = states.masked_fill(~real, 0.0)
    part = part.clamp(0, parts - 1).unsqueeze(-1)
    sums = states.new_zeros(len(states), parts, states.shape[-1])
    sums = sums.scatter_add(1, part.expand_as(states), states)
    counts = states.new_zeros(len(states), parts, 1).scatter_add(1, part, real.to(states.dtype))
    return sums, counts


def _shares(total: int, weights: list[int]) -> list[int]:
    """Whole shares of a total; what rounding leaves goes to the last."""
    shares = [total * weight // sum(weights) for weight in weights]
    shares[-1] += total - sum(shares)
    return shares
