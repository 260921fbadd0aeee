"""Features of prompts, computed once and cached in a file."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from vzero_server.model.length_batches import length_batches
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.types import Features

_BATCH_TOKENS = 4096


def prompt_features(
    texts: Sequence[str],
    encoder: PromptEncoder,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Compute the features of prompts as a server does, ``[len(texts), encoder.columns]``.

    The first ``encoder.pooled`` columns are the embedding; the others are features of the head.

    Args:
        texts: Prompts.
        encoder: The frozen encoder.
        cache: Folder that keeps the features under a hash of texts and encoder.
        progress: Called with the number of encoded prompts and of all prompts.
    """
    digest = sha256(encoder.fingerprint.encode())
    for text in texts:
        digest.update(sha256(text.encode("utf-8", "surrogatepass")).digest())
    cached = cache / f"features-{digest.hexdigest()[:16]}.npy" if cache else None
    if cached is not None and cached.is_file():
        loaded: Features = np.load(cached)
        return loaded
    features = _computed(texts, encoder, progress)
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        np.save(cached, features)
    return features


def _computed(
    texts: Sequence[str], encoder: PromptEncoder, progress: Callable[[int, int], None] | None
) -> Features:
    prompts = encoder.tokenize(texts)
    features: Features = np.empty((len(texts), encoder.columns), np.float16)
    done = 0
    for batch in length_batches([len(prompt) for prompt in prompts], _BATCH_TOKENS):
        features[batch] = encoder.embed([prompts[index] for index in batch])
        done += len(batch)
        if progress:
            progress(done, len(prompts))
    return features
