import pytest
import torch
from torch import Tensor

from research.connectors.modules import CONNECTORS, make_connector
from vzero_server.paper.adapter import AdapterConfig, ResidualQueryAdapter

CONFIG = AdapterConfig(hidden=12, queries=5, width=6, heads=3, bottleneck=8)
LENGTHS = [37, 1, 20, 9]


def prompts() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(len(LENGTHS), max(LENGTHS), CONFIG.hidden, generator=generator)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return states, mask, torch.randn(len(LENGTHS), CONFIG.hidden, generator=generator)


def made(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return make_connector(name, CONFIG).eval()


@pytest.mark.parametrize("name", CONNECTORS)
def test_features_have_the_promised_columns(name: str) -> None:
    connector = made(name)
    expected = CONFIG.hidden if name == "pooled" else CONFIG.features
    assert connector.features == expected
    assert connector(*prompts()).shape == (len(LENGTHS), expected)


@pytest.mark.parametrize("name", CONNECTORS)
def test_padding_and_batching_do_not_change_values(name: str) -> None:
    connector = made(name)
    states, mask, pooled = prompts()
    states = states.masked_fill(~mask.unsqueeze(-1), float("nan"))
    together = connector(states, mask, pooled)
    torch.testing.assert_close(connector(_rolled(states), _rolled(mask), pooled), together)
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1)
        alone = connector(states[one, :length], mask[one, :length], pooled[one])
        torch.testing.assert_close(alone, together[one], msg=f"row {row}")


@pytest.mark.parametrize("name", [name for name in CONNECTORS if name != "pooled"])
def test_gradients_reach_all_parameters(name: str) -> None:
    connector = made(name)
    # The generator starts at zero, and passes nothing on before its last layer has moved.
    if isinstance(connector, ResidualQueryAdapter):
        torch.nn.init.normal_(connector.generator[4].weight)
    features = connector(*prompts())
    (features * torch.randn_like(features)).sum().backward()
    for label, parameter in connector.named_parameters():
        assert parameter.grad is not None, label
        # A bias on all keys moves all scores of a query alike: its gradient is zero.
        if "ln_kv.bias" not in label and "in_proj_bias" not in label:
            assert parameter.grad.abs().max() > 0.0, label


def test_the_pooled_state_passes_as_it_is() -> None:
    states, mask, pooled = prompts()
    assert torch.equal(made("pooled")(states, mask, pooled), pooled)
    assert not list(made("pooled").parameters())


def test_a_fixed_query_equals_an_untrained_adapter() -> None:
    adapter, fixed = made("residual-dynamic-query"), made("fixed-query")
    own = {name: value for name, value in adapter.state_dict().items() if "generator" not in name}
    fixed.level.load_state_dict(own)
    torch.testing.assert_close(fixed(*prompts()), adapter(*prompts()))


@pytest.mark.parametrize("name", ["multi-scale", "pyramidal-fixed-query"])
def test_scales_see_the_order_of_tokens(name: str) -> None:
    connector = made(name)
    states, mask, pooled = prompts()
    one = connector(states[:1], mask[:1], pooled[:1])
    other = connector(states[:1].flip(1), mask[:1], pooled[:1])
    assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize("name", CONNECTORS)
def test_bad_input_is_named(name: str) -> None:
    states, mask, pooled = prompts()
    with pytest.raises(ValueError, match="pooled states must be"):
        made(name)(states, mask, pooled[:1])


def test_unknown_connectors_are_named() -> None:
    with pytest.raises(ValueError, match="no connector is called 'prism'"):
        make_connector("prism", CONFIG)


def test_a_pyramid_needs_a_query_for_each_level() -> None:
    with pytest.raises(ValueError, match="3 levels"):
        make_connector("pyramidal-fixed-query", AdapterConfig(8, 2, 6, 3))


def _rolled(padded: Tensor) -> Tensor:
    """The same rows with their padding on the left."""
    rows = [
        row.roll(padded.shape[1] - length, 0) for row, length in zip(padded, LENGTHS, strict=True)
    ]
    return torch.stack(rows)
