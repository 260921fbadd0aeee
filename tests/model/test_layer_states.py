from pathlib import Path

import numpy as np
import pytest

from tests.tiny_model import DIMENSION, save_tiny_model
from vzero_server.model.layer_states import LayerBackbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> LayerBackbone:
    folder: Path = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder)
    return LayerBackbone.load(str(folder))


def test_one_block_of_columns_per_layer(backbone: LayerBackbone) -> None:
    states = backbone.states(backbone.tokenize(["one", "another prompt"]), layers=(0, 1))
    assert states.shape == (2, 2 * DIMENSION)
    assert states.dtype == np.float32
    assert np.isfinite(states).all()


def test_the_last_layer_is_the_pooled_embedding(backbone: LayerBackbone) -> None:
    tokens = backbone.tokenize(["one", "another prompt"])
    np.testing.assert_allclose(
        backbone.states(tokens, layers=(1,)), backbone.embed(tokens), atol=1e-5
    )


def test_padding_does_not_matter(backbone: LayerBackbone) -> None:
    tokens = backbone.tokenize(["a", "a much longer prompt"])
    together = backbone.states(tokens, layers=(0, 1))
    np.testing.assert_allclose(together[:1], backbone.states(tokens[:1], layers=(0, 1)), atol=1e-5)
