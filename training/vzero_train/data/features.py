"""Features of prompts, computed once and kept in a file."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from vzero_server.model.prompt_encoder import Features, PromptEncoder

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
    lengths = np.array([len(prompt) for prompt in prompts])
    order = np.argsort(lengths, kind="stable")
    features: Features = np.empty((len(texts), encoder.columns), np.float16)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= _BATCH_TOKENS:
            stop += 1
        chosen = order[start:stop]
        features[chosen] = encoder.embed([prompts[index] for index in chosen])
        start = stop
        if progress:
            progress(start, len(order))
    return features
