"""When it is read again how a policy moves."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_predictor import running
from tests.outcomes import outcome
from tests.tiny_head import save_tiny_head
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor
from vzero_server.model.backbone import Backbone


async def report(engine: Predictor, first: int, count: int) -> None:
    rows = range(first, first + count)
    await engine.update(
        "p", [outcome(str(i), f"prompt {i % 7}", reward=i % 2, step=i // 7) for i in rows]
    )


async def test_a_policy_is_fitted_again_when_its_context_has_grown_a_lot(
    tmp_path: Path, tiny_model: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = tmp_path / "head.safetensors"
    save_tiny_head(head, tiny_backbone)
    monkeypatch.setattr("vzero_server.engine.adjust.history._SHARE", 1e-6)
    async with running(tmp_path, tiny_model, head=str(head)) as engine:
        fits = []
        original = engine._store.histories_by_key

        async def counted(*args: Any) -> Any:
            fits.append(args)
            return await original(*args)

        monkeypatch.setattr(engine._store, "histories_by_key", counted)
        await report(engine, 0, 28)
        assert (await engine.values("p", ["prompt 1"])).values.history is not None
        for chunk in range(3):
            await report(engine, 28 + chunk, 1)
            assert (await engine.values("p", ["prompt 1"])).context.rows == 29 + chunk
        assert len(fits) == 1
        # Another estimator's context is not read for it, nor stands for one that is.
        await engine.values("p", ["prompt 1"], ReadOptions(estimator="knn"))
        await report(engine, 31, 28)
        await engine.values("p", ["prompt 1"])
        assert len(fits) == 2
