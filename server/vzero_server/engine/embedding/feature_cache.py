"""Feature vectors of prompts: from memory, from the log, or computed now."""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Sequence

import numpy as np
from cachetools import LRUCache

from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.errors import OverloadedError, StorageError
from vzero_server.observability.liveness import Monitored, MonitoredTask
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Row, prompt_digest
from vzero_server.types import Features

logger = logging.getLogger(__name__)


# Memory of a cached vector beside its numbers, in bytes: key, array header, entry.
_ENTRY_BYTES = 300
# Prompts embedded in the background at a time, and most characters that may be queued for that.
_WARM_PIECE = 128
_WARM_CHARACTERS = 32 << 20


class FeatureCache:
    """Feature vectors of prompts, shared by all policies.

    A vector depends on the text and the model alone. Memory holds recent vectors, the log those
    of every prompt with an outcome; the backbone computes the others.

    Attributes:
        monitored: What must be alive for it to answer.
    """

    def __init__(
        self,
        store: OutcomeStore,
        batcher: EmbeddingBatcher,
        *,
        model_key: int,
        columns: int,
        max_bytes: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._store = store
        self._batcher = batcher
        self._model_key = model_key
        self._columns = columns
        self._memory: LRUCache[bytes, Features] = LRUCache(
            max_bytes, getsizeof=lambda vector: vector.nbytes + _ENTRY_BYTES
        )
        self._queued: dict[bytes, str] = {}
        self._queued_characters = 0
        self._prompts_arrived = asyncio.Event()
        self._warmer = asyncio.get_running_loop().create_task(self._warm())
        warmer = MonitoredTask("background embedding", self._warmer)
        self.monitored: tuple[Monitored, ...] = (*batcher.monitored, warmer)
        self._metrics.read("feature_cache_bytes", "Memory of feature vectors.", self._bytes)

    async def close(self) -> None:
        """Stop the background work."""
        self._warmer.cancel()
        await asyncio.gather(self._warmer, return_exceptions=True)

    async def of_prompts(self, prompts: Sequence[str]) -> Features:
        """Return the feature vectors of prompts, ``[len(prompts), columns]``.

        Raises:
            OverloadedError: Too many prompts wait for the backbone.
        """
        digests = [prompt_digest(prompt) for prompt in prompts]
        texts = dict(zip(digests, prompts, strict=True))
        vectors = self._cached(texts)
        self._metrics.features.hit(len(vectors))
        if missing := [digest for digest in texts if digest not in vectors]:
            # Before the log is queried: a refusal must cost nothing, or overload feeds itself.
            self._batcher.check_delay()
            stored = await self._store.embeddings(self._model_key, missing)
            self._metrics.features.miss(len(missing))
            self._metrics.stored_features.hit(len(stored))
            self._metrics.stored_features.miss(len(missing) - len(stored))
            self._cache(stored)
            vectors |= stored
        if missing := [digest for digest in texts if digest not in vectors]:
            computed = await self._batcher.embed({digest: texts[digest] for digest in missing})
            self._cache(computed)
            vectors |= computed
        return np.stack([vectors[digest] for digest in digests])

    async def of_rows(self, rows: Sequence[Row]) -> Features:
        """Return the vectors of the prompts of rows, ``[len(rows), columns]``.

        Vectors that are computed are stored. A prompt that the model cannot embed gets NaN, so
        that it does not make its policy unanswerable.

        Raises:
            OverloadedError: Too many prompts wait for the backbone.
        """
        missing: dict[int, list[int]] = {}
        for position, row in enumerate(rows):
            if row.vector is None:
                missing.setdefault(row.prompt_key, []).append(position)
        # Not bytes: torch warns of arrays that cannot be written to.
        stored = bytearray().join([row.vector for row in rows if row.vector is not None])
        vectors = np.frombuffer(stored, "<f2").reshape(-1, self._columns)
        if missing:
            missing_rows = [position for positions in missing.values() for position in positions]
            stored_vectors = vectors
            vectors = np.empty((len(rows), self._columns), np.float16)
            vectors[np.setdiff1d(np.arange(len(rows)), missing_rows)] = stored_vectors
            texts = await self._store.prompt_texts(list(missing))
            # The prompts of a policy that was deleted meanwhile are gone; its rows are not used.
            keys = [key for key in missing if key in texts]
            prompts = [texts[key] for key in keys]
            computed = await self._of_stored(prompts) if keys else np.empty((0, self._columns))
            for key, vector in zip(keys, computed, strict=True):
                vectors[missing[key]] = vector
            digests = map(prompt_digest, prompts)
            await self._save(
                {
                    digest: vector
                    for digest, vector in zip(digests, computed, strict=True)
                    if np.isfinite(vector).all()
                }
            )
        return vectors

    async def _of_stored(self, prompts: Sequence[str]) -> Features:
        try:
            return await self.of_prompts(prompts)
        except OverloadedError:
            raise
        except Exception:
            logger.exception("a stored prompt cannot be embedded; its outcomes are left out")
        # One of them failed; the others are in memory by now, or about to be.
        return np.concatenate([await self._of_stored_prompt(prompt) for prompt in prompts])

    async def _of_stored_prompt(self, prompt: str) -> Features:
        try:
            return await self.of_prompts([prompt])
        except OverloadedError:
            raise
        except Exception:
            return np.full((1, self._columns), np.nan, np.float16)

    def warm(self, prompts: Iterable[str]) -> None:
        """Embed and store newly reported prompts while the backbone is idle.

        Best effort: a vector that is left out is computed when a value first needs it.
        """
        for prompt in prompts:
            if self._queued_characters + len(prompt) > _WARM_CHARACTERS:
                break
            digest = prompt_digest(prompt)
            if digest not in self._queued:
                self._queued[digest] = prompt
                self._queued_characters += len(prompt)
        self._prompts_arrived.set()

    async def _warm(self) -> None:
        while True:
            await self._prompts_arrived.wait()
            self._prompts_arrived.clear()
            while self._queued:
                digests = list(itertools.islice(self._queued, _WARM_PIECE))
                piece = {digest: self._queued.pop(digest) for digest in digests}
                self._queued_characters -= sum(map(len, piece.values()))
                vectors = self._cached(piece)
                rest = {digest: text for digest, text in piece.items() if digest not in vectors}
                try:
                    if rest:
                        computed = await self._batcher.embed(rest, background=True)
                        self._cache(computed)
                        vectors |= computed
                except OverloadedError:
                    await asyncio.sleep(1.0)
                except Exception:
                    logger.exception("embedding in the background failed")
                await self._save(vectors)

    async def _save(self, vectors: dict[bytes, Features]) -> None:
        """Store vectors; one that cannot be stored is computed again when it is needed."""
        if not vectors:
            return
        try:
            await self._store.save_embeddings(self._model_key, vectors)
        except StorageError as error:
            logger.warning("embeddings were not stored: %s", error)
        except Exception:
            # Neither values nor the background work depend on it.
            logger.exception("embeddings were not stored")

    def _bytes(self) -> float:
        return float(self._memory.currsize)

    def _cached(self, digests: Iterable[bytes]) -> dict[bytes, Features]:
        vectors = {digest: self._memory.get(digest) for digest in digests}
        return {digest: vector for digest, vector in vectors.items() if vector is not None}

    def _cache(self, vectors: dict[bytes, Features]) -> None:
        for digest, vector in vectors.items():
            if vector.nbytes + _ENTRY_BYTES <= self._memory.maxsize:
                # A copy, since a row of a batch would keep the whole batch in memory.
                self._memory[digest] = np.array(vector)
