from pathlib import Path

import numpy as np
import pytest

from research.connectors.token_states import token_states
from tests.tiny_model import DIMENSION, save_tiny_model
from vzero_server.model import packing
from vzero_server.model.backbone import Backbone

TEXTS = ("ab", "a much longer prompt, beyond the window of the model", "xyz", "b")


@pytest.fixture(scope="module", params=["packed", "padded"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Without padding, as on a CPU, and with padding."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "padded":
            patch.setattr(packing, "can_pack", lambda *_: False)
        loaded = Backbone.load(str(folder))
    assert loaded.packs == (request.param == "packed")
    return loaded


def test_states_are_those_of_each_prompt_alone(backbone: Backbone, tmp_path: Path) -> None:
    states = token_states(TEXTS, backbone, tmp_path)
    lengths = [len(ids) for ids in backbone.tokenize(TEXTS)]
    assert states.lengths.tolist() == lengths
    assert (len(states), states.hidden) == (len(TEXTS), DIMENSION)
    assert states.tokens.shape == (sum(lengths), DIMENSION)
    for index, text in enumerate(TEXTS):
        alone = token_states((text,), backbone, tmp_path)
        part = states.tokens[states.offsets[index] : states.offsets[index + 1]]
        np.testing.assert_allclose(part, alone.tokens, atol=2e-3)
        # The tiny model pools by the mean and does not normalise.
        np.testing.assert_allclose(states.pooled[index], part.mean(0), atol=2e-3)
        embedding = backbone.embed(backbone.tokenize([text]))[0]
        np.testing.assert_allclose(states.pooled[index], embedding, atol=2e-3)


def test_a_batch_is_padded_on_the_right(backbone: Backbone, tmp_path: Path) -> None:
    states = token_states(TEXTS, backbone, tmp_path)
    read, mask, pooled = states.batch(np.array([2, 0]))
    assert mask.sum(1).tolist() == states.lengths[[2, 0]].tolist()
    assert read.shape == (2, int(states.lengths[2]), DIMENSION)
    assert (read[~mask] == 0.0).all()
    start = int(states.offsets[0])
    np.testing.assert_array_equal(read[1, 0].numpy(), states.tokens[start].astype(np.float32))
    np.testing.assert_array_equal(pooled[0].numpy(), states.pooled[2].astype(np.float32))


def test_they_are_computed_once(backbone: Backbone, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    token_states(TEXTS, backbone, tmp_path, progress=lambda *at: done.append(at))
    assert done[-1] == (4, 4)
    done.clear()
    token_states(TEXTS, backbone, tmp_path, progress=lambda *at: done.append(at))
    assert not done
    token_states(TEXTS[::-1], backbone, tmp_path, progress=lambda *at: done.append(at))
    assert done


def test_an_unfinished_file_is_computed_again(backbone: Backbone, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        token_states(TEXTS, backbone, tmp_path, progress=stop)
    states = token_states(TEXTS, backbone, tmp_path)
    assert (np.abs(states.tokens).sum(1) > 0).all()
