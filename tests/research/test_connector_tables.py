"""The tables about connectors, on a small backbone and simulated policies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from research.connectors.config import ConnectorConfig
from research.connectors.modules import CONNECTORS
from research.connectors.objectives import Objective
from research.connectors.trainer import intra_auc
from research.tables import figure6, table4, table5, table6
from research.tables.judging import Judge
from research.tables.sequences import divide, joined
from tests.tiny_model import DIMENSION, save_tiny_model
from tests.tiny_tabpfn import save_tiny_tabpfn
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import CheckpointError
from vzero_train.data.outcomes import Outcomes
from vzero_train.evaluation.metrics import pairwise_accuracy

PROMPTS, STEPS = 120, 3
SMALL = ConnectorConfig(queries=3, width=6, rows=16, asked=8, pretraining=2, steps=2, check_every=1)


def made_up(source: str, seed: int) -> Outcomes:
    """An improving policy, for which longer prompts are harder."""
    rng = np.random.default_rng(seed)
    texts = tuple(f"{source} {'x' * (i % 9)} {i}" for i in range(PROMPTS))
    prompt = np.tile(np.arange(PROMPTS), STEPS)
    step = np.repeat(np.arange(STEPS), PROMPTS)
    chance = 1.0 / (1.0 + np.exp(prompt % 9 - 4.0 - step))
    count = len(prompt)
    return Outcomes(
        texts=texts,
        prompt=prompt,
        policy=np.full(count, "learner"),
        benchmark=np.full(count, "b"),
        source=np.full(count, source),
        step=step,
        reward=(rng.binomial(10, chance) / 10).astype(np.float32),
        rollouts=np.full(count, 10),
    )


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return joined([made_up("one", 0), made_up("two", 1)])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder)
    return Backbone.load(str(folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_joined_outcomes_share_prompts() -> None:
    one = made_up("one", 0)
    twice = joined([one, one.where(one.step > 0)])
    assert len(twice) == PROMPTS * (2 * STEPS - 1)
    assert twice.texts == one.texts
    np.testing.assert_array_equal(twice.prompt[: len(one)], one.prompt)


def test_no_prompt_is_in_two_parts(outcomes: Outcomes) -> None:
    sequences = divide(outcomes, 16)
    parts: list[set[int]] = [set(), set(), set(), set()]
    for stage, watched, judged in zip(
        sequences.stages, sequences.validation, sequences.test, strict=True
    ):
        assert len({(q.benchmark, q.policy, q.step) for q in (watched, judged)}) == 1
        assert set(watched.context) == set(judged.context) <= set(stage.context.prompt)
        found = (stage.context, stage.training, watched, judged)
        for part, pool in zip(parts, found, strict=True):
            part.update(getattr(pool, "queries", getattr(pool, "prompt", None)).tolist())
    assert sum(map(len, parts)) == len(set.union(*parts)) == 2 * PROMPTS
    assert len(sequences.stages) == 2 * STEPS


def test_outcomes_without_steps_are_refused(outcomes: Outcomes) -> None:
    with pytest.raises(ValueError, match="has 16 outcomes"):
        divide(outcomes.where(outcomes.step < 0), 16)


def test_figures_are_those_of_the_metrics(outcomes: Outcomes) -> None:
    questions = [q for q in divide(outcomes, 16).test if q.benchmark == "one"]
    rng = np.random.default_rng(0)
    values = [rng.random(len(q.queries)) for q in questions]
    judge = Judge(questions, 50)
    prompts = np.concatenate([q.queries for q in questions])
    rewards = np.concatenate([q.rewards for q in questions]).astype(np.float64)
    given = np.concatenate(values)
    areas, pairs = judge.intra_auc(values), judge.pair_accuracy(values)
    assert areas.shape == pairs.shape == (51,)
    assert areas[0] == pytest.approx(intra_auc(questions, values))
    assert pairs[0] == pytest.approx(pairwise_accuracy(prompts, rewards, given))
    lengths = prompts.astype(np.float64)
    correlation = judge.residual_correlation(values, [q.queries for q in questions])[0]
    assert correlation == pytest.approx(spearmanr(given - rewards, lengths).statistic)


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (table4, list(CONNECTORS)),
        (table5, [str(objective) for objective in Objective]),
        (table6, list(table6.VARIANTS)),
        (figure6, list(figure6.PANELS)),
    ],
)
def test_a_run_writes_its_page(
    table: Any,
    rows: list[str],
    outcomes: Outcomes,
    backbone: Backbone,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "load_connector_config", lambda: SMALL)
    name = table.__name__.rsplit(".", 1)[1]
    told: list[tuple[str, int, int]] = []

    def run(**options: Any) -> dict[str, Any]:
        result: dict[str, Any] = table.run(
            outcomes, backbone, tmp_path, steps=2, seed=0, cache=cache, **options
        )
        return result

    result = run(progress=lambda *at: told.append(at))
    assert list(result["rows"]) == rows
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written == json.loads(json.dumps(result))
    page = (tmp_path / f"{name}.md").read_text()
    assert page.startswith("# ")
    assert "nan" not in page
    assert all(done <= total for _, done, total in told)
    if name == "figure6":
        assert (tmp_path / "figure6.png").read_bytes().startswith(b"\x89PNG")
    else:
        figures = next(iter(result["rows"].values()))["intra_auc/one"]
        assert figures["low"] <= figures["estimate"] <= figures["high"]
        assert len(figures["seeds"]) == 2
    # Finished training runs are not repeated.
    told.clear()
    again = run(progress=lambda *at: told.append(at), label="mine")
    assert not told
    assert list(again["rows"]) == rows
    assert (tmp_path / f"{name}-mine.md").is_file()


def test_table_6_includes_a_tabpfn(
    outcomes: Outcomes,
    backbone: Backbone,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table6, "load_connector_config", lambda: SMALL)
    path = save_tiny_tabpfn(tmp_path / "head.ckpt")

    def run(tabpfn: Path | None, **options: Any) -> dict[str, Any]:
        return table6.run(
            outcomes, backbone, tmp_path, steps=2, cache=cache, tabpfn=tabpfn, **options
        )

    result = run(path)
    assert list(result["tabpfn"]["rows"]) == list(result["rows"]) == list(table6.VARIANTS)
    assert json.loads((tmp_path / "table6.json").read_text()) == json.loads(json.dumps(result))
    page = (tmp_path / "table6.md").read_text()
    assert "## Before TabPFN" in page
    assert "`head.ckpt` (tabpfn_v2_5, " in page
    assert page.count("| random connector | tune |") == 2
    assert "nan" not in page
    # The kinds of heads are trained separately, and do not use each other's results.
    areas = [rows["residual-dynamic-query"]["intra_auc/one"]["estimate"]
             for rows in (result["rows"], result["tabpfn"]["rows"])]  # fmt: skip
    assert areas[0] != areas[1]
    assert run(None)["rows"] == result["rows"]
    told: list[int] = []
    run(path, progress=lambda *_: told.append(1))
    assert not told
    # With other weights, training is repeated.
    other = save_tiny_tabpfn(tmp_path / "other.ckpt", inference_config={"SOFTMAX_TEMPERATURE": 0.5})
    run(other, progress=lambda *_: told.append(1))
    assert told


def test_a_tabpfn_of_too_few_columns_is_refused_before_anything_is_trained(
    outcomes: Outcomes, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table6, "load_connector_config", lambda: SMALL)
    limits = {"MAX_NUMBER_OF_FEATURES": DIMENSION - 1}
    path = save_tiny_tabpfn(tmp_path / "small.ckpt", inference_config=limits)
    with pytest.raises(CheckpointError, match=f"at most {DIMENSION - 1} feature columns"):
        table6.run(outcomes, backbone, tmp_path, cache=tmp_path, tabpfn=path)
    assert not list(tmp_path.glob("training-*"))
    limits = {"MAX_NUMBER_OF_SAMPLES": SMALL.rows - 1}
    path = save_tiny_tabpfn(tmp_path / "short.ckpt", inference_config=limits)
    with pytest.raises(CheckpointError, match=f"at most {SMALL.rows - 1} rows"):
        table6.run(outcomes, backbone, tmp_path, cache=tmp_path, tabpfn=path)
