"""Features of prompts, computed once and kept in a file."""

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
    """What a server would know of prompts: ``[len(texts), encoder.columns]``.

    The first ``encoder.pooled`` columns are the embedding; a head reads the others.

    Args:
        texts: Prompts.
        encoder: The frozen encoder.
        cache: Folder to keep them in, under a hash of the texts and the encoder.
        progress: Called with the prompts done and their number.
    """
    digest = sha256(encoder.fingerprint.encode())
    for text in texts:
        digest.update(sha256(text.encode("utf-8", "surrogatepass")).digest())
    kept = cache / f"features-{digest.hexdigest()[:16]}.npy" if cache else None
    if kept is not None and kept.is_file():
        loaded: Features = np.load(kept)
        return loaded
    features = _computed(texts, encoder, progress)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, features)
    return features


def _computed(
    texts: Sequence[str], encoder: PromptEncoder, progress: Callable[[int, int], None] | None
) -> Features:
    prompts = encoder.tokenize(texts)
    features: Features = np.empty((len(texts), encoder.columns), np.float16)
    done = 0
    for chosen in length_batches([len(prompt) for prompt in prompts], _BATCH_TOKENS):
        features[chosen] = encoder.embed([prompts[index] for index in chosen])
        done += len(chosen)
        if progress:
            progress(done, len(prompts))
    return features
