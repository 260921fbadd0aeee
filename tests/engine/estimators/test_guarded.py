"""Out of device memory: a fake estimator raises the errors of a GPU."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from vzero_server.api.errors import to_status
from vzero_server.engine.embedding.batch_budget import PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.guarded import GuardedEncoder
from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.guarded import GuardedEstimator
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.errors import DeviceMemoryError
from vzero_server.model.oom import OomGuard
from vzero_server.types import Features
from vzero_server.values.beta import Values

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory.\nFurther lines.")


class LimitedEstimator:
    """Fits so many prompts into device memory at once, and a context after ``free``.

    Attributes:
        capacity: Most prompts of one pass.
        full: Whether no context fits.
        error: Raised when memory runs out.
        freed: How often memory was freed.
        passes: Prompts of each pass.
    """

    rows_needed = None
    name = "tabpfn"
    corrections = Correction.NONE

    def __init__(
        self, capacity: int, *, full: bool = False, error: RuntimeError = OUT_OF_MEMORY
    ) -> None:
        self.capacity = capacity
        self.full = full
        self.error = error
        self.freed = 0
        self.passes: list[int] = []

    def free(self) -> None:
        self.freed += 1
        self.full = False

    def window_features(self, features: Features) -> None:
        return None

    def fit(self, window: ContextWindow) -> Any:
        if self.full or self.capacity == 0:
            raise self.error
        return "context"

    def runs_inline(self, query: Query) -> bool:
        return False

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        columns = [query.features[:, 0].astype(np.float64) for query in queries]
        self.passes.append(sum(map(len, columns)))
        if self.passes[-1] > self.capacity:
            raise self.error
        return [Values(column, column, column, "tabpfn") for column in columns]


def guarded(estimator: LimitedEstimator) -> GuardedEstimator:
    return GuardedEstimator(estimator, OomGuard(estimator.free))


def queries_of(*sizes: int) -> list[Query]:
    return [Query("context", np.arange(size)[:, None].astype(np.float16)) for size in sizes]


def test_no_memory_is_freed_while_passes_succeed() -> None:
    limited = LimitedEstimator(capacity=50)
    values = guarded(limited).predict(queries_of(20, 30))
    assert [len(query_values.mean) for query_values in values] == [20, 30]
    assert (limited.freed, limited.passes) == (0, [50])


def test_queries_run_in_small_pieces_after_memory_is_freed() -> None:
    limited = LimitedEstimator(capacity=16)
    values = guarded(limited).predict(queries_of(40, 3))
    np.testing.assert_array_equal(values[0].mean, np.arange(40))
    np.testing.assert_array_equal(values[1].mean, np.arange(3))
    assert (limited.freed, limited.passes) == (1, [43, 16, 16, 8, 3])


def test_a_context_is_fitted_after_memory_is_freed() -> None:
    limited = LimitedEstimator(capacity=16, full=True)
    window = ContextWindow.empty(3)
    assert guarded(limited).fit(window) == "context"
    assert limited.freed == 1


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously",
    ],
)
def test_memory_errors_of_cuda_libraries_are_recognised(text: str) -> None:
    limited = LimitedEstimator(capacity=16, error=RuntimeError(text))
    (values,) = guarded(limited).predict(queries_of(20))
    np.testing.assert_array_equal(values.mean, np.arange(20))
    assert (limited.freed, limited.passes) == (1, [20, 16, 4])


def test_other_errors_are_not_treated_as_out_of_memory() -> None:
    limited = LimitedEstimator(capacity=0, full=True, error=RuntimeError("shapes do not match"))
    estimator = guarded(limited)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        estimator.predict(queries_of(2))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        estimator.fit(ContextWindow.empty(3))
    assert limited.freed == 0


def test_a_call_that_does_not_fit_fails_with_a_retryable_status() -> None:
    limited = LimitedEstimator(capacity=0)
    estimator = guarded(limited)
    with pytest.raises(DeviceMemoryError, match="a context of 0 rows"):
        estimator.fit(ContextWindow.empty(3))
    with pytest.raises(DeviceMemoryError, match="16 prompts") as raised:
        estimator.predict(queries_of(1))
    assert limited.freed == 2
    status = to_status(raised.value)
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.details[0].reason == "DEVICE_MEMORY_FULL"  # type: ignore[attr-defined]
    assert status.retry_after is not None


class LimitedEncoder(LimitedEstimator):
    """Fits so many prompts into device memory at once."""

    def tokenize(self, prompts: Sequence[str]) -> list[str]:
        return list(prompts)

    def embed(self, prompts: Sequence[str]) -> Features:
        self.passes.append(len(prompts))
        if len(prompts) > self.capacity:
            raise self.error
        return np.array([[len(prompt)] for prompt in prompts], np.float16)


def test_prompts_are_embedded_one_by_one_after_memory_is_freed() -> None:
    limited = LimitedEncoder(capacity=1)
    encoder = GuardedEncoder(limited, OomGuard(limited.free))
    vectors = encoder.embed(encoder.tokenize(["a", "bcd"]))
    np.testing.assert_array_equal(vectors, [[1], [3]])
    assert (limited.freed, limited.passes) == (1, [2, 1, 1])


async def test_a_prompt_that_does_not_fit_fails_its_call() -> None:
    limited = LimitedEncoder(capacity=0)
    encoder = GuardedEncoder(limited, OomGuard(limited.free))
    batcher = EmbeddingBatcher(encoder, PaddedBudget(64), max_queued_prompts=10)
    with pytest.raises(DeviceMemoryError, match="a prompt of up to 3 tokens"):
        await batcher.embed({b"digest": "abc"})
    await batcher.close()
