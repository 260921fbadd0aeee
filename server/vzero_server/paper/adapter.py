"""The Residual Query Adapter: token states of a prompt in, fixed feature columns out."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

_SPREAD = 0.02  # standard deviation of queries at the start; the norm on them takes it out


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of an adapter or of one of its alternatives.

    Attributes:
        hidden: Columns of a token state.
        queries: Static queries, K.
        width: Columns of a query, e; a multiple of ``heads``.
        heads: Attention heads.
        bottleneck: Width inside the generator of query offsets.
        dropout: Share of the bottleneck that is dropped while training, in [0, 1).

    Raises:
        ValueError: A size that is no whole number or not positive, heads that do not divide
            the width, or a dropout outside [0, 1).
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
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")

    @property
    def features(self) -> int:
        """Columns of the output, K * e."""
        return self.queries * self.width


RELEASED = AdapterConfig(hidden=1024, queries=168, width=6, heads=3)
"""Shape of the checkpoint that the paper's authors released: 1,008 columns (section 5.1)."""


class ResidualQueryAdapter(nn.Module):
    """Learned queries, shifted for each prompt, read the prompt's tokens (section 4.2, Eq. 4).

    ``Q = Q_static + G(h)``, ``z = MHA(norm(Q), norm(kv), kv)`` with ``kv`` a linear map of the
    token states. Column k of z always answers query k, so that columns mean the same for every
    prompt. The generator's last layer starts at zero: training begins with static queries.
    Parameters are named as in the released checkpoint, below its ``adapter_layer.``.

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
            mask: True where a token is real, ``[B, T]``; padding may stand on either side.
            pooled: The state that stands for the whole prompt, ``[B, hidden]``.

        Raises:
            ValueError: Shapes that do not match, a mask that is not boolean, a prompt without
                a token, or a real token or pooled state that is not finite.
        """
        check_prompts(self.config.hidden, states, mask, pooled)
        offsets = self.generator(pooled).view(-1, self.config.queries, self.config.width)
        tokens = project_tokens(self.proj_kv, states, mask)
        read, _ = self.mha(
            self.ln_q(self.static_queries + offsets),
            self.ln_kv(tokens),
            tokens,
            key_padding_mask=~mask,
            need_weights=False,
        )
        features: Tensor = read.flatten(1)
        return features


def new_queries(queries: int, width: int) -> nn.Parameter:
    """Static queries ``[1, queries, width]`` before any training."""
    return nn.Parameter(_SPREAD * torch.randn(1, queries, width))


def check_prompts(hidden: int, states: Tensor, mask: Tensor, pooled: Tensor) -> None:
    """See that the input of an adapter has its shape.

    Raises:
        ValueError: It has not; the message names what is wrong.
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
        raise ValueError("pooled states hold NaN or infinite values")


def project_tokens(projection: nn.Linear, states: Tensor, mask: Tensor) -> Tensor:
    """Keys and values ``[B, T, e]`` of token states ``[B, T, hidden]``, zero for padding.

    Padding is zeroed, and not only masked in the attention: whatever stands there, NaN
    included, would else reach the output as zero times NaN.

    Raises:
        ValueError: A real token's state is not finite.
    """
    tokens: Tensor = projection(states).masked_fill(~mask.unsqueeze(-1), 0.0)
    if not torch.isfinite(tokens).all():
        raise ValueError("token states hold NaN or infinite values")
    return tokens
