"""A tiny character-level prefix language model, with sampling from a key-value cache.

The prompt is read once, in both directions; each answer is then written one character at a time.
All rollouts of one prompt share the cache of that prompt, in sampling and in training alike.
Shapes: P prompts, T prompt characters, G rollouts per prompt, A answer characters, H heads, K
numbers per head, D = H * K.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.policy_zoo.tasks import MAX_ANSWER

PAD, START, END = 0, 1, 2
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 '.,:?+-*"
VOCABULARY = 3 + len(ALPHABET)
"""Number of tokens: padding, start and end of an answer, then the characters."""

_CODES = {character: code for code, character in enumerate(ALPHABET, start=3)}

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a model: ``width`` numbers per character, ``layers`` blocks, ``heads`` heads."""

    width: int
    layers: int
    heads: int = 4


@dataclass(frozen=True, slots=True)
class Prefix:
    """Prompts read by the model: ``hidden`` keys and values per layer (P, H, T, K), and padding.

    Attributes:
        layers: Key and value tensors of each layer.
        bias: 0 at characters and -inf at padding, (P, 1, 1, T).
    """

    layers: list[Pair]
    bias: Tensor


def encode_prompts(prompts: list[str]) -> Tensor:
    """Encode prompts in lower case, padded on the left: int64 tokens (P, T)."""
    rows = [[_CODES[character] for character in prompt.lower()] for prompt in prompts]
    width = max(map(len, rows))
    return torch.tensor([[PAD] * (width - len(row)) + row for row in rows])


def encode_answers(answers: list[str]) -> Tensor:
    """Encode answers closed by END and padded on the right: int64 tokens (P, A)."""
    rows = [[_CODES[character] for character in answer] + [END] for answer in answers]
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def decode(tokens: list[int]) -> str | None:
    """Text of an answer up to END; None where it never ends or holds a special token."""
    if END not in tokens:
        return None
    body = tokens[: tokens.index(END)]
    return None if any(token < 3 for token in body) else "".join(ALPHABET[t - 3] for t in body)


def _turns(positions: Tensor, size: int) -> Pair:
    """Cosines and sines (N, size) of the rotary embedding at ``positions`` (N,)."""
    rates = 100.0 ** (-torch.arange(size // 2) / (size // 2))
    angles = (positions[:, None] * rates).repeat(1, 2)
    return angles.cos(), angles.sin() * torch.tensor([-1.0, 1.0]).repeat_interleave(size // 2)


def _rotate(x: Tensor, turns: Pair) -> Tensor:
    """Rotary position embedding of ``x`` (..., N, K)."""
    return x * turns[0] + x.roll(x.shape[-1] // 2, dims=-1) * turns[1]


class Block(nn.Module):
    """One transformer block, applied to prompts (``read``) or to answers (``write``)."""

    def __init__(self, shape: Shape) -> None:
        """Make the block's layers."""
        super().__init__()
        d = shape.width
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values (..., H, N, K) of ``x`` (..., N, D), not rotated yet."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        return tuple(part.transpose(-3, -2) for part in qkv.unbind(-3))

    def _mix(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add attention output (..., H, N, K) and the feed-forward layer to ``x`` (..., N, D)."""
        x = x + self.out(attended.transpose(-3, -2).flatten(-2))
        mixed: Tensor = x + self.down(functional.relu(self.up(self.norm2(x))))
        return mixed

    def read(self, x: Tensor, turns: Pair, bias: Tensor) -> tuple[Tensor, Pair]:
        """Read prompts ``x`` (P, T, D); also returns their keys and values (P, H, T, K)."""
        q, k, v = self._split(x)
        q, k = _rotate(q, turns), _rotate(k, turns)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self._mix(x, attended), (k, v)

    def write(
        self, x: Tensor, turns: Pair, prefix: Pair, bias: Tensor, past: Pair | None
    ) -> tuple[Tensor, Pair]:
        """Write answers ``x`` (P, G, A, D) after ``prefix`` and ``past`` answer characters.

        Returns the new ``x`` and the keys and values of all answer characters so far, each of
        shape (P, G, H, past + A, K).
        """
        q, k, v = self._split(x)
        q, k = _rotate(q, turns), _rotate(k, turns)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=-2), torch.cat((past[1], v), dim=-2)
        p, g, h, a, w = q.shape
        total = k.shape[-2]
        # Queries of all rollouts of a prompt meet its keys in one product: (P, H, G * A, T).
        grouped = q.transpose(1, 2).reshape(p, h, g * a, w)
        far = grouped @ prefix[0].transpose(-1, -2) * w**-0.5 + bias
        far = far.view(p, h, g, a, -1).transpose(1, 2)
        near = q @ k.transpose(-1, -2) * w**-0.5
        if a > 1:
            future = torch.ones(a, total, dtype=torch.bool).triu(total - a + 1)
            near = near.masked_fill(future, -torch.inf)
        weights = torch.cat((far, near), dim=-1).softmax(dim=-1)
        far, near = weights[..., :-total], weights[..., -total:]
        grouped = far.transpose(1, 2).reshape(p, h, g * a, -1) @ prefix[1]
        attended = grouped.view(p, h, g, a, w).transpose(1, 2) + near @ v
        return self._mix(x, attended), (k, v)


class CharacterModel(nn.Module):
    """The policy: a transformer over characters with tied input and output embeddings."""

    def __init__(self, shape: Shape) -> None:
        """Initialise weights from the global torch generator."""
        super().__init__()
        self.head_size = shape.width // shape.heads
        self.embedding = nn.Embedding(VOCABULARY, shape.width, padding_idx=PAD)
        self.nearby = nn.Conv1d(
            shape.width, shape.width, 3, padding=1, groups=shape.width, bias=False
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        self.head = nn.Linear(shape.width, VOCABULARY, bias=False)
        # An answer is made of characters and END; finite, so that an entropy stays defined.
        unwritable = torch.zeros(VOCABULARY).index_fill(0, torch.tensor([PAD, START]), -1e9)
        self.register_buffer("unwritable", unwritable, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.5 * weight.shape[1] ** -0.5
                if name.endswith(("out.weight", "down.weight")):
                    std *= (2 / shape.layers) ** 0.5
                nn.init.normal_(weight, std=std)
        with torch.no_grad():
            self.embedding.weight[PAD] = 0.0  # so that padding is silent in the convolution

    def parameter_count(self) -> int:
        """Number of trained parameters."""
        return sum(weight.numel() for weight in self.parameters())

    def read(self, prompts: Tensor) -> Prefix:
        """Read prompts (P, T), padded on the left with PAD."""
        bias = torch.zeros(prompts.shape).masked_fill(prompts == PAD, -torch.inf)[:, None, None]
        turns = _turns(torch.arange(-prompts.shape[1], 0), self.head_size)
        x, layers = self.embedding(prompts), list[Pair]()
        x = x + self.nearby(x.transpose(1, 2)).transpose(1, 2)
        # A padding query still sees the real characters, so no row of the softmax is empty.
        for block in self.blocks:
            assert isinstance(block, Block)
            x, pair = block.read(x, turns, bias)
            layers.append(pair)
        return Prefix(layers, bias)

    def write(
        self, prefix: Prefix, tokens: Tensor, past: list[Pair] | None = None
    ) -> tuple[Tensor, list[Pair]]:
        """Logits (P, G, A, VOCABULARY) after each of ``tokens`` (P, G, A), and the new cache."""
        start = 0 if past is None else past[0][0].shape[-2]
        turns = _turns(torch.arange(start, start + tokens.shape[-1]), self.head_size)
        x, cache = self.embedding(tokens), list[Pair]()
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            old = None if past is None else past[index]
            x, pair = block.write(x, turns, prefix.layers[index], prefix.bias, old)
            cache.append(pair)
        return self.head(self.norm(x)) + self.unwritable, cache

    def forward(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Logits (P, G, A, VOCABULARY) of each token of ``answers`` (P, G, A) given ``prompts``."""
        start = torch.full_like(answers[..., :1], START)
        logits, _ = self.write(self.read(prompts), torch.cat((start, answers[..., :-1]), dim=-1))
        return logits

    @torch.no_grad()
    def sample(
        self, prompts: Tensor, rollouts: int, generator: torch.Generator, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Sample answers for prompts (P, T): tokens (P, rollouts, A) and their log-probabilities.

        Log-probabilities, in nats, are those of the sampling temperature (> 0); tokens after END
        are PAD. A is at most ``MAX_ANSWER`` + 1; an answer without END by then stays open.
        """
        prefix, cache = self.read(prompts), None
        token = torch.full((prompts.shape[0], rollouts, 1), START)
        done = torch.zeros(token.shape, dtype=torch.bool)
        tokens, logs = list[Tensor](), list[Tensor]()
        for _ in range(MAX_ANSWER + 1):
            logits, cache = self.write(prefix, token, cache)
            log = (logits[:, :, 0] / temperature).log_softmax(dim=-1)
            token = torch.multinomial(log.exp().flatten(0, 1), 1, generator=generator)
            token = token.view(done.shape)
            logs.append(log.gather(-1, token))
            token = token.masked_fill(done, PAD)
            tokens.append(token)
            done |= token == END
            if bool(done.all()):
                break
        return torch.cat(tokens, dim=-1), torch.cat(logs, dim=-1)
