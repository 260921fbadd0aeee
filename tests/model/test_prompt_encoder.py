import numpy as np
import pytest

from tests.tiny_model import DIMENSION
from vzero_server.model.backbone import Backbone
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.model.text_columns import NAMES, text_columns

PROMPTS = ["one", "What is 12 + 30?", "a much longer prompt of many words"]


@pytest.fixture(scope="module")
def encoder(tiny_backbone: Backbone) -> PromptEncoder:
    return PromptEncoder(tiny_backbone, (0, 1))


def test_a_vector_is_embedding_then_layers_then_text(
    encoder: PromptEncoder, tiny_backbone: Backbone
) -> None:
    vectors = encoder.embed(encoder.tokenize(PROMPTS))
    assert vectors.shape == (3, encoder.columns) == (3, 3 * DIMENSION + len(NAMES))
    assert vectors.dtype == np.float16
    embeddings = tiny_backbone.embed(tiny_backbone.tokenize(PROMPTS))
    np.testing.assert_allclose(vectors[:, : encoder.pooled], embeddings, atol=2e-3)
    # This model pools the mean of its last layer, without normalising it.
    last = slice(2 * DIMENSION, 3 * DIMENSION)
    np.testing.assert_allclose(vectors[:, last], embeddings, atol=2e-3)
    np.testing.assert_allclose(vectors[:, -len(NAMES) :], text_columns(PROMPTS), rtol=1e-3)


def test_a_vector_does_not_depend_on_its_batch(encoder: PromptEncoder) -> None:
    together = encoder.embed(encoder.tokenize(PROMPTS))
    alone = np.concatenate([encoder.embed(encoder.tokenize([prompt])) for prompt in PROMPTS])
    np.testing.assert_allclose(together, alone, atol=2e-3)


def test_without_layers_a_vector_is_the_embedding(tiny_backbone: Backbone) -> None:
    encoder = PromptEncoder(tiny_backbone)
    assert encoder.embed(encoder.tokenize(PROMPTS)).shape == (3, DIMENSION)


def test_extreme_texts_stay_finite(encoder: PromptEncoder) -> None:
    vectors = encoder.embed(encoder.tokenize(["9" * 60_000, "\x00", "🙂" * 10_000]))
    assert np.isfinite(vectors).all()


def test_the_fingerprint_depends_on_layers_and_backbone(
    encoder: PromptEncoder, tiny_backbone: Backbone
) -> None:
    assert PromptEncoder(tiny_backbone, (0, 1)).fingerprint == encoder.fingerprint
    assert PromptEncoder(tiny_backbone, (1,)).fingerprint != encoder.fingerprint
    assert PromptEncoder(tiny_backbone).fingerprint != encoder.fingerprint
