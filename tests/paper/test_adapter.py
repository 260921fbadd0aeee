"""The adapter against its equations, computed in NumPy."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from vzero_server.paper.adapter import RELEASED, AdapterConfig, ResidualQueryAdapter

SMALL = AdapterConfig(hidden=10, queries=4, width=6, heads=3, bottleneck=8)

Array = npt.NDArray[np.float64]


def prompts(lengths: list[int], hidden: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    longest = max(lengths)
    states = torch.randn(len(lengths), longest, hidden, generator=generator)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return states, mask, torch.randn(len(lengths), hidden, generator=generator)


def trained_adapter(config: AdapterConfig = SMALL) -> ResidualQueryAdapter:
    """An adapter whose parameters all differ from their initial values."""
    torch.manual_seed(0)
    adapter = ResidualQueryAdapter(config).eval()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return adapter


def norm(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def reference_features(
    adapter: ResidualQueryAdapter, states: Array, real: int, pooled: Array
) -> Array:
    """Features of one prompt, in float64: Q = Q_static + G(h), z = MHA(LN(Q), LN(kv), kv)."""
    p = {name: value.double().numpy() for name, value in adapter.state_dict().items()}
    config = adapter.config
    inner = pooled @ p["generator.0.weight"].T + p["generator.0.bias"]
    inner = norm(inner, p["generator.1.weight"], p["generator.1.bias"])
    inner = inner * 0.5 * (1.0 + np.vectorize(math.erf)(inner / math.sqrt(2.0)))
    offsets = inner @ p["generator.4.weight"].T + p["generator.4.bias"]
    queries = p["static_queries"][0] + offsets.reshape(config.queries, config.width)
    tokens = states[:real] @ p["proj_kv.weight"].T + p["proj_kv.bias"]
    queries = norm(queries, p["ln_q.weight"], p["ln_q.bias"])
    keys = norm(tokens, p["ln_kv.weight"], p["ln_kv.bias"])
    sides = zip(
        (queries, keys, tokens),
        np.split(p["mha.in_proj_weight"], 3),
        np.split(p["mha.in_proj_bias"], 3),
        strict=True,
    )
    q, k, v = (side @ weight.T + bias for side, weight, bias in sides)
    size = config.width // config.heads
    attended = []
    for head in range(config.heads):
        columns = slice(head * size, (head + 1) * size)
        scores = q[:, columns] @ k[:, columns].T / math.sqrt(size)
        attention = np.exp(scores - scores.max(1, keepdims=True))
        attended.append(attention / attention.sum(1, keepdims=True) @ v[:, columns])
    z = np.concatenate(attended, 1) @ p["mha.out_proj.weight"].T + p["mha.out_proj.bias"]
    return z.ravel()


def test_features_follow_the_equations() -> None:
    adapter = trained_adapter().double()
    lengths = [5, 1, 3]
    states, mask, pooled = (
        part.double() if part.is_floating_point() else part for part in prompts(lengths)
    )
    features = adapter(states, mask, pooled).detach().numpy()
    assert features.shape == (3, 24)
    for row, real in enumerate(lengths):
        expected = reference_features(adapter, states[row].numpy(), real, pooled[row].numpy())
        np.testing.assert_allclose(features[row], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("filling", [0.0, 1e4, math.nan, math.inf])
def test_padding_does_not_change_features(filling: float) -> None:
    adapter = trained_adapter()
    states, mask, pooled = prompts([5, 3])
    single = adapter(states[1:, :3], mask[1:, :3], pooled[1:])
    states[1, 3:] = filling
    batched = adapter(states, mask, pooled)
    torch.testing.assert_close(batched[1:], single)
    padded_left = adapter(states.flip(1), mask.flip(1), pooled)
    torch.testing.assert_close(padded_left, batched)


def test_a_new_adapter_has_static_queries() -> None:
    torch.manual_seed(0)
    adapter = ResidualQueryAdapter(SMALL).eval()
    states, mask, pooled = prompts([5, 3])
    assert (adapter.generator(pooled) == 0.0).all()
    features = adapter(states, mask, pooled)
    torch.testing.assert_close(adapter(states, mask, pooled.flip(0) * 7.0), features)


def test_the_queries_of_a_trained_adapter_depend_on_the_prompt() -> None:
    adapter = trained_adapter()
    states, mask, pooled = prompts([5, 3])
    features, opposite = adapter(states, mask, pooled), adapter(states, mask, -pooled)
    assert (features - opposite).abs().max() > 1e-3


def test_the_released_configuration_has_the_published_names_and_shapes() -> None:
    adapter = ResidualQueryAdapter(RELEASED)
    shapes = {name: tuple(value.shape) for name, value in adapter.state_dict().items()}
    assert shapes == {
        "static_queries": (1, 168, 6),
        "generator.0.weight": (128, 1024),
        "generator.0.bias": (128,),
        "generator.1.weight": (128,),
        "generator.1.bias": (128,),
        "generator.4.weight": (1008, 128),
        "generator.4.bias": (1008,),
        "proj_kv.weight": (6, 1024),
        "proj_kv.bias": (6,),
        "mha.in_proj_weight": (18, 6),
        "mha.in_proj_bias": (18,),
        "mha.out_proj.weight": (6, 6),
        "mha.out_proj.bias": (6,),
        "ln_q.weight": (6,),
        "ln_q.bias": (6,),
        "ln_kv.weight": (6,),
        "ln_kv.bias": (6,),
    }
    assert adapter.features == 1008
    assert adapter.generator[3].p == 0.2


def test_gradients_reach_every_parameter() -> None:
    adapter = trained_adapter().train()
    states, mask, pooled = prompts([5, 3])
    adapter(states, mask, pooled).square().sum().backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None, name
    assert adapter.generator[0].weight.grad.abs().sum() > 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": torch.zeros(2, 10)}, "token states must be"),
        ({"states": torch.zeros(2, 5, 9)}, "token states must be"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, "mask must be"),
        ({"mask": torch.ones(2, 5)}, "mask must be boolean"),
        ({"mask": torch.zeros(2, 5, dtype=torch.bool)}, "no token"),
        ({"pooled": torch.zeros(1, 10)}, "pooled states must be"),
        ({"pooled": torch.full((2, 10), math.nan)}, "pooled states contain NaN"),
        ({"states": torch.full((2, 5, 10), math.inf)}, "token states contain NaN"),
    ],
)
def test_invalid_input_is_named_in_the_error(changes: dict[str, Tensor], message: str) -> None:
    states, mask, pooled = prompts([5, 3])
    arguments = {"states": states, "mask": mask, "pooled": pooled, **changes}
    with pytest.raises(ValueError, match=message):
        ResidualQueryAdapter(SMALL)(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": 0}, "queries must be"),
        ({"heads": 4}, "4 heads do not divide"),
        ({"dropout": 1.0}, "dropout must be"),
    ],
)
def test_an_invalid_configuration_is_named_in_the_error(
    changes: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
