"""Features of prompts, computed once and kept in a file."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vzero_server.model.layer_states import LAYERS, LayerBackbone
from vzero_server.model.text_columns import NAMES, text_columns

Features = npt.NDArray[np.float16]

_BATCH_TOKENS = 4096
_LARGEST = 6e4  # of float16


def prompt_features(
    texts: Sequence[str],
    backbone: LayerBackbone,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Layer means and text columns, ``[len(texts), columns]``, in the order the head wants.

    Args:
        texts: Prompts.
        backbone: The frozen encoder.
        cache: Folder to keep them in, under a hash of the texts and the backbone.
        progress: Called with the prompts done and their number.
    """
    digest = sha256(f"{backbone.fingerprint} {LAYERS} {NAMES}".encode())
    for text in texts:
        digest.update(sha256(text.encode("utf-8", "surrogatepass")).digest())
    kept = cache / f"features-{digest.hexdigest()[:16]}.npy" if cache else None
    if kept is not None and kept.is_file():
        loaded: Features = np.load(kept)
        return loaded
    states = _states(texts, backbone, progress)
    features: Features = np.concatenate(
        [states, text_columns(texts).clip(-_LARGEST, _LARGEST).astype(np.float16)], axis=1
    )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, features)
    return features


def _states(
    texts: Sequence[str],
    backbone: LayerBackbone,
    progress: Callable[[int, int], None] | None,
) -> Features:
    tokens = backbone.tokenize(texts)
    lengths = np.array([len(ids) for ids in tokens])
    order = np.argsort(lengths, kind="stable")
    states: Features = np.zeros((len(texts), len(LAYERS) * backbone.dimension), dtype=np.float16)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= _BATCH_TOKENS:
            stop += 1
        chosen = order[start:stop]
        states[chosen] = backbone.states([tokens[index] for index in chosen])
        start = stop
        if progress:
            progress(start, len(order))
    return states
