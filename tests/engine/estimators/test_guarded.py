"""Out of memory on a device this machine does not have: the estimator is a double."""

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

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory.\nA long tale.")


class Crowded:
    """Has room for so many queries at once, and for a context once contexts were dropped."""

    rows_needed = None
    name = "tabpfn"
    corrections = Correction.NONE

    def __init__(
        self, room: int, *, full: bool = False, error: RuntimeError = OUT_OF_MEMORY
    ) -> None:
        self.room = room
        self.full = full
        self.error = error
        self.dropped = 0
        self.passes: list[int] = []

    def free(self) -> None:
        self.dropped += 1
        self.full = False

    def window_features(self, features: Features) -> None:
        return None

    def fit(self, window: ContextWindow) -> Any:
        if self.full or self.room == 0:
            raise self.error
        return "context"

    def runs_inline(self, query: Query) -> bool:
        return False

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        columns = [query.features[:, 0].astype(np.float64) for query in queries]
        self.passes.append(sum(map(len, columns)))
        if self.passes[-1] > self.room:
            raise self.error
        return [Values(column, column, column, "tabpfn") for column in columns]


def guarded(crowded: Crowded) -> GuardedEstimator:
    return GuardedEstimator(crowded, OomGuard(crowded.free))


def questions(*sizes: int) -> list[Query]:
    return [Query("context", np.arange(size)[:, None].astype(np.float16)) for size in sizes]


def test_nothing_is_dropped_while_there_is_room() -> None:
    crowded = Crowded(room=50)
    answers = guarded(crowded).predict(questions(20, 30))
    assert [len(values.mean) for values in answers] == [20, 30]
    assert (crowded.dropped, crowded.passes) == (0, [50])


def test_questions_are_answered_in_small_pieces_once_room_was_made() -> None:
    crowded = Crowded(room=16)
    answers = guarded(crowded).predict(questions(40, 3))
    np.testing.assert_array_equal(answers[0].mean, np.arange(40))
    np.testing.assert_array_equal(answers[1].mean, np.arange(3))
    assert (crowded.dropped, crowded.passes) == (1, [43, 16, 16, 8, 3])


def test_a_context_is_read_once_room_was_made() -> None:
    crowded = Crowded(room=16, full=True)
    window = ContextWindow.empty(3)
    assert guarded(crowded).fit(window) == "context"
    assert crowded.dropped == 1


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously",
    ],
)
def test_libraries_that_find_no_memory_are_heard(text: str) -> None:
    crowded = Crowded(room=16, error=RuntimeError(text))
    (values,) = guarded(crowded).predict(questions(20))
    np.testing.assert_array_equal(values.mean, np.arange(20))
    assert (crowded.dropped, crowded.passes) == (1, [20, 16, 4])


def test_other_errors_are_not_taken_for_it() -> None:
    crowded = Crowded(room=0, full=True, error=RuntimeError("shapes do not match"))
    estimator = guarded(crowded)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        estimator.predict(questions(2))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        estimator.fit(ContextWindow.empty(3))
    assert crowded.dropped == 0


def test_what_does_not_fit_is_refused_and_may_be_sent_again() -> None:
    crowded = Crowded(room=0)
    estimator = guarded(crowded)
    with pytest.raises(DeviceMemoryError, match="a context of 0 rows"):
        estimator.fit(ContextWindow.empty(3))
    with pytest.raises(DeviceMemoryError, match="16 prompts") as refused:
        estimator.predict(questions(1))
    assert crowded.dropped == 2
    status = to_status(refused.value)
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.details[0].reason == "DEVICE_MEMORY_FULL"  # type: ignore[attr-defined]
    assert status.retry_after is not None


class CrowdedEncoder(Crowded):
    """Has room for so many prompts at once."""

    def tokenize(self, prompts: Sequence[str]) -> list[str]:
        return list(prompts)

    def embed(self, prompts: Sequence[str]) -> Features:
        self.passes.append(len(prompts))
        if len(prompts) > self.room:
            raise self.error
        return np.array([[len(prompt)] for prompt in prompts], np.float16)


def test_prompts_are_embedded_one_by_one_once_room_was_made() -> None:
    crowded = CrowdedEncoder(room=1)
    encoder = GuardedEncoder(crowded, OomGuard(crowded.free))
    vectors = encoder.embed(encoder.tokenize(["a", "bcd"]))
    np.testing.assert_array_equal(vectors, [[1], [3]])
    assert (crowded.dropped, crowded.passes) == (1, [2, 1, 1])


async def test_a_prompt_that_does_not_fit_is_refused() -> None:
    crowded = CrowdedEncoder(room=0)
    encoder = GuardedEncoder(crowded, OomGuard(crowded.free))
    batcher = EmbeddingBatcher(encoder, PaddedBudget(64), max_queued_prompts=10)
    with pytest.raises(DeviceMemoryError, match="a prompt of up to 3 tokens"):
        await batcher.embed({b"digest": "abc"})
    await batcher.close()
