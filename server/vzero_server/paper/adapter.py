"""The Residual Query Adapter: computes features of a prompt from its token states."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

# Initial standard deviation of queries; layer normalisation removes it.
_QUERY_STD = 0.02


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of an adapter.

    Attributes:
        hidden: Columns of a token state.
        queries: Number of static queries, K.
        width: Columns of a query, e; a multiple of ``heads``.
        heads: Number of attention heads.
        bottleneck: Hidden width of the generator of query offsets.
        dropout: Dropout in the bottleneck during training, in [0, 1).

    Raises:
        ValueError: A size is not a positive integer, the heads do not divide the width, or the
            dropout is outside [0, 1).
    """

    hidden: int
    queries: int
    width: int
    heads: int
    bottleneck: int = 128
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for entry in fields(self):
            size = getattr(self, entry.name)
            if entry.name == "dropout":
                continue
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{entry.name} must be a whole number from 1, not {size!r}")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    @property
    def features(self) -> int:
        """Columns of the output, K * e."""
        return self.queries * self.width


RELEASED = AdapterConfig(hidden=1024, queries=168, width=6, heads=3)
"""Shape of the checkpoint that the paper's authors released: 1,008 columns (section 5.1)."""


class ResidualQueryAdapter(nn.Module):
    """Cross-attention of learned, prompt-specific queries to token states (section 4.2, Eq. 4).

    ``Q = Q_static + G(h)``, ``z = MHA(norm(Q), norm(kv), kv)``, where ``kv`` is a linear map of the
    token states. The columns of z belong to fixed queries, so they have the same meaning for every
    prompt. The generator's last layer is initialised to zero: training starts from static queries.
    Parameters have the names of the released checkpoint, without the prefix ``adapter_layer.``.

    Attributes:
        config: Shape of the adapter.
        features: Columns of the output, K * e.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.features = config.features
        self.static_queries = new_queries(config.queries, config.width)
        last = nn.Linear(config.bottleneck, config.features)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.generator = nn.Sequential(
            nn.Linear(config.hidden, config.bottleneck),
            nn.LayerNorm(config.bottleneck),
            nn.GELU(),
            nn.Dropout(config.dropout),
            last,
        )
        self.proj_kv = nn.Linear(config.hidden, config.width)
        self.mha = nn.MultiheadAttention(config.width, config.heads, batch_first=True)
        self.ln_q = nn.LayerNorm(config.width)
        self.ln_kv = nn.LayerNorm(config.width)

    def forward(self, states: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Features of prompts, ``[B, K * e]``.

        Args:
            states: Token states of the backbone's last layer, ``[B, T, hidden]``.
            mask: True for real tokens, ``[B, T]``; padding may be on either side.
            pooled: Pooled state of each prompt, ``[B, hidden]``.

        Raises:
            ValueError: The shapes do not match, the mask is not boolean, a prompt has no token, or
                a pooled state or the state of a real token is not finite.
        """
        check_prompts(self.config.hidden, states, mask, pooled)
        offsets = self.generator(pooled).view(-1, self.config.queries, self.config.width)
        tokens = project_tokens(self.proj_kv, states, mask)
        attended, _ = self.mha(
            self.ln_q(self.static_queries + offsets),
            self.ln_kv(tokens),
            tokens,
            key_padding_mask=~mask,
            need_weights=False,
        )
        features: Tensor = attended.flatten(1)
        return features


def new_queries(queries: int, width: int) -> nn.Parameter:
    """Randomly initialised static queries, ``[1, queries, width]``."""
    return nn.Parameter(_QUERY_STD * torch.randn(1, queries, width))


def check_prompts(hidden: int, states: Tensor, mask: Tensor, pooled: Tensor) -> None:
    """Check the input of an adapter.

    Args:
        hidden: Columns of a token state.
        states: Token states, ``[B, T, hidden]``.
        mask: True for real tokens, ``[B, T]``.
        pooled: Pooled states, ``[B, hidden]``.

    Raises:
        ValueError: A shape or type is wrong, a prompt has no token, or a pooled state is not
            finite.
    """
    if states.dim() != 3 or states.shape[-1] != hidden:
        raise ValueError(f"token states must be [B, T, {hidden}], not {list(states.shape)}")
    if mask.shape != states.shape[:2]:
        raise ValueError(
            f"mask must be {list(states.shape[:2])}, like the token states, not {list(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, not {mask.dtype}")
    if pooled.shape != (len(states), hidden):
        raise ValueError(
            f"pooled states must be [{len(states)}, {hidden}], not {list(pooled.shape)}"
        )
    if not mask.any(1).all():
        raise ValueError("a prompt has no token: its mask is False everywhere")
    if not torch.isfinite(pooled).all():
        raise ValueError("pooled states contain NaN or infinite values")


def project_tokens(projection: nn.Linear, states: Tensor, mask: Tensor) -> Tensor:
    """Keys and values ``[B, T, e]`` of token states ``[B, T, hidden]``, zero for padding.

    The attention mask alone is not enough: NaN in the padding would reach the output as zero
    times NaN.

    Raises:
        ValueError: The state of a real token is not finite.
    """
    tokens: Tensor = projection(states).masked_fill(~mask.unsqueeze(-1), 0.0)
    if not torch.isfinite(tokens).all():
        raise ValueError("token states contain NaN or infinite values")
    return tokens
