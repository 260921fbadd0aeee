"""When the dynamics of a policy are fitted again."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.predictors import tiny_predictor
from tests.outcomes import outcome
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor


async def report_range(predictor: Predictor, first: int, count: int) -> None:
    numbers = range(first, first + count)
    await predictor.update(
        "p", [outcome(str(i), f"prompt {i % 7}", reward=i % 2, step=i // 7) for i in numbers]
    )


async def test_dynamics_are_fitted_again_when_the_context_has_grown_by_a_quarter(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vzero_server.engine.adjust.history._SHARE", 1e-6)
    async with tiny_predictor(tmp_path, tiny_model, head=str(head)) as predictor:
        fits: list[Any] = []
        original = predictor._store.histories_by_key

        async def counting_histories(*args: Any) -> Any:
            fits.append(args)
            return await original(*args)

        monkeypatch.setattr(predictor._store, "histories_by_key", counting_histories)
        await report_range(predictor, 0, 28)
        assert (await predictor.values("p", ["prompt 1"])).values.history is not None
        for chunk in range(3):
            await report_range(predictor, 28 + chunk, 1)
            assert (await predictor.values("p", ["prompt 1"])).context.rows == 29 + chunk
        assert len(fits) == 1
        # A context of an estimator without evidence has no fit.
        await predictor.values("p", ["prompt 1"], ReadOptions(estimator="knn"))
        await report_range(predictor, 31, 28)
        await predictor.values("p", ["prompt 1"])
        assert len(fits) == 2
