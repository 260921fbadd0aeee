"""Array types that all packages share, named by what their numbers are."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
"""Numbers computed with: rewards, means, logits."""
Float32Array = npt.NDArray[np.float32]
"""Embeddings, as FAISS takes them."""
AnyFloatArray = npt.NDArray[np.floating]
"""Floating-point numbers of any width, as arguments."""
Features = npt.NDArray[np.float16]
"""Feature vectors of prompts, as they are stored: ``[n, columns]``, or one of them."""
IntArray = npt.NDArray[np.int64]
"""Keys, steps, positions and counts."""
BoolArray = npt.NDArray[np.bool_]
"""Masks."""
