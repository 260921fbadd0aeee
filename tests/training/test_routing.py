"""Metrics of routing against manual calculations, routers, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from vzero.cli import main
from vzero_train.data.fleet import Fleet, FleetError, fleet_of
from vzero_train.data.outcomes import OutcomesError, load_outcomes
from vzero_train.evaluation.factorisation import Factorisation
from vzero_train.evaluation.frontier import Frontier
from vzero_train.evaluation.routers import (
    BestSingle,
    Clusters,
    NearestPrompts,
    Oracle,
    Regressions,
    Task,
)
from vzero_train.evaluation.routing import decomposed, judge, route, splits_of

COLOURS, NUMBERS = "name a colour of the sky", "what is the sum of the numbers"


def two_skills(prompts: int = 160) -> Fleet:
    """A cheap policy good at colours, an expensive one good at everything, and a useless one."""
    kinds = np.arange(prompts) % 2
    rewards = np.stack([kinds == 0, np.ones(prompts), np.zeros(prompts)], axis=1)
    return Fleet(
        texts=tuple(f"{(COLOURS, NUMBERS)[kind]} {i}" for i, kind in enumerate(kinds)),
        benchmarks=np.array(["colours", "numbers"])[kinds],
        policies=("cheap", "dear", "useless"),
        rewards=rewards.astype(np.float64),
        costs=np.tile([1.0, 10.0, 20.0], (prompts, 1)),
        unit="tokens",
    )


def embeddings(fleet: Fleet) -> np.ndarray:
    rng = np.random.default_rng(0)
    kinds = np.array([text.startswith(COLOURS) for text in fleet.texts])
    near = np.stack([kinds, ~kinds], axis=1) + 0.05 * rng.normal(size=(len(fleet), 2))
    return near / np.linalg.norm(near, axis=1, keepdims=True)


# (2, .6) is on the envelope; (4, .5) is worse and dearer; (2.5, .6) is below the chord to (3, .8)
POINTS = ([1, 2, 4, 2.5, 3], [0.2, 0.6, 0.5, 0.6, 0.8])


def test_the_frontier() -> None:
    frontier = Frontier.of(*POINTS)
    assert frontier.costs.tolist() == [1, 2, 3]
    assert frontier.rewards.tolist() == [0.2, 0.6, 0.8]
    # Trapezia of .4 and .7, then .8 over two units of cost.
    assert frontier.mean_reward(1.0, 5.0) == pytest.approx((0.4 + 0.7 + 2 * 0.8) / 4)
    assert frontier.mean_reward(1.5, 1.5) == pytest.approx(0.4)
    assert frontier.reward_at(2.5) == pytest.approx(0.7)
    assert frontier.cost_of(0.7) == pytest.approx(2.5)
    assert np.isnan(frontier.cost_of(0.9))


def test_recovery_is_the_share_of_the_gap_that_is_closed() -> None:
    frontier = Frontier.of(*POINTS)
    # Half of the gap from .2 to .7 is at .45, reached at a cost of 1.625: .625 of 4.
    assert frontier.threshold(0.5, (1.0, 0.2), (5.0, 0.7)) == pytest.approx(0.625 / 4)
    assert np.isnan(frontier.threshold(0.5, (1.0, 0.7), (5.0, 0.7)))
    line = Frontier.of([0, 1], [0.4, 0.9])
    assert line.threshold(0.8, (0.0, 0.4), (1.0, 0.9)) == pytest.approx(0.8)


_POINT = st.tuples(st.floats(0, 10, width=16), st.floats(0, 1, width=16))


@given(st.lists(_POINT, min_size=1, max_size=20))
def test_no_point_lies_above_the_frontier(points: list[tuple[float, float]]) -> None:
    frontier = Frontier.of(*zip(*points, strict=True))
    assert all(frontier.reward_at(cost) >= reward - 1e-9 for cost, reward in points)
    slopes = np.diff(frontier.rewards) / np.diff(frontier.costs)
    assert (slopes > 0).all()
    assert (np.diff(slopes) <= 1e-9).all()
    corners = zip(frontier.costs.tolist(), frontier.rewards.tolist(), strict=True)
    assert set(corners) <= set(points)


@pytest.mark.parametrize("router", [NearestPrompts, Clusters, Regressions, Factorisation])
def test_a_router_that_reads_prompts_routes_by_kind(router: Any) -> None:
    fleet = two_skills()
    task = splits_of(fleet, 80, 1)[0]
    values = router(embeddings(fleet))(task)
    assert values.shape == (80, 3)
    assert (values >= 0).all()
    assert (values <= 1).all()
    colours = task.asked % 2 == 0
    assert values[colours, 0].min() > 0.7
    assert values[~colours, 0].max() < 0.3
    assert values[:, 1].min() > 0.7
    assert values[:, 2].max() < 0.3


def test_figures_of_routers() -> None:
    fleet = two_skills()
    tasks = splits_of(fleet, 80, 2)
    routers = {
        "near": decomposed(NearestPrompts(embeddings(fleet))),
        "single": decomposed(BestSingle()),
        "oracle": decomposed(Oracle(fleet.rewards)),
    }
    near, single, oracle = judge(
        fleet, route(fleet, tasks, routers), ["near"], "oracle", resamples=50
    )
    # With the share c of colours it takes 1 c + 10 (1 - c) to be right always.
    share = np.mean([(task.asked % 2 == 0).mean() for task in tasks])
    assert oracle.figures["accuracy"].estimate == pytest.approx(1.0)
    assert oracle.figures["cost"].estimate == pytest.approx((10 - 9 * share) / 10)
    for figure in ("aiq", "accuracy", "cpt50", "cpt80", "cost"):
        assert near.figures[figure] == oracle.figures[figure]
    assert near.leads["near"].high == 0.0
    assert near.figures["to_oracle"].estimate == 0.0
    # The line from the cheap to the dear one, then flat: halves of the gap cost half.
    assert single.figures["cpt50"].estimate == pytest.approx(0.5)
    assert single.figures["accuracy"].estimate == pytest.approx(1.0)
    expected = ((share + 1) / 2 * 9 + 10) / 19
    assert single.figures["aiq"].estimate == pytest.approx(expected, abs=1e-3)
    assert single.leads["near"].low > 0
    assert near.curve[0] == pytest.approx((1.0, share))


def test_splits_share_no_prompt() -> None:
    fleet = two_skills()
    for task in splits_of(fleet, 100, 3, seed=4):
        assert not set(task.known) & set(task.asked)
        assert len(task.asked) == 60
    again = splits_of(fleet, 100, 3, seed=4)
    assert (again[2].known == splits_of(fleet, 100, 3, seed=4)[2].known).all()
    assert (again[0].known != again[1].known).any()


def rows(fleet: Fleet, **columns: Any) -> dict[str, Any]:
    count, policies = fleet.rewards.shape
    return {
        "prompt": np.repeat(fleet.texts, policies).tolist(),
        "policy": list(fleet.policies) * count,
        "source": ["made up"] * (count * policies),
        "reward": fleet.rewards.ravel(),
        "cost_tokens": fleet.costs.ravel(),
        **columns,
    }


def written(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "outcomes.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


def test_the_fleet_of_a_file(tmp_path: Path) -> None:
    fleet = two_skills(80)
    loaded = fleet_of(load_outcomes(written(tmp_path, rows(fleet))))
    assert loaded.policies == fleet.policies
    assert loaded.unit == "tokens"
    order = [fleet.texts.index(text) for text in loaded.texts]
    assert (loaded.rewards == fleet.rewards[order]).all()
    assert (loaded.costs == fleet.costs[order]).all()
    sample = loaded.sample(20, np.random.default_rng(0))
    assert (len(sample), sample.rewards.shape) == (20, (20, 3))


def test_sizes_make_costs_where_all_are_known(tmp_path: Path) -> None:
    fleet = two_skills(80)
    sizes = [7.0, 70.0, 2.0] * 80
    loaded = fleet_of(load_outcomes(written(tmp_path, rows(fleet, params_b=sizes))))
    assert loaded.unit == "params_b x tokens"
    assert loaded.costs[0].tolist() == [7.0, 700.0, 40.0]
    some = [7.0, None, 2.0] * 80
    outcomes = load_outcomes(written(tmp_path, rows(fleet, params_b=some)))
    assert fleet_of(outcomes).unit == "tokens"
    assert fleet_of(outcomes, sized=True).policies == ("cheap", "useless")
    without_tokens = rows(fleet, params_b=sizes, cost_tokens=[None] * 240)
    loaded = fleet_of(load_outcomes(written(tmp_path, without_tokens)))
    assert (loaded.unit, loaded.costs[3].tolist()) == ("params_b", [7.0, 70.0, 2.0])
    loaded = fleet_of(load_outcomes(written(tmp_path, rows(fleet, cost_tokens=[None] * 240))))
    assert (loaded.unit, loaded.costs.max()) == ("unknown", 0.0)


def test_missing_tokens_are_those_of_the_policy(tmp_path: Path) -> None:
    fleet = two_skills(80)
    tokens: list[float | None] = [None, None, 20.0] * 80
    tokens[0], tokens[1], tokens[3] = 2.0, 5.0, 4.0
    loaded = fleet_of(load_outcomes(written(tmp_path, rows(fleet, cost_tokens=tokens))))
    assert loaded.costs[7].tolist() == [3.0, 5.0, 20.0]


def test_the_last_step_counts(tmp_path: Path) -> None:
    fleet = two_skills(80)
    early = rows(fleet, step=[0] * 240, reward=np.full(240, 0.5))
    late = rows(fleet, step=[3] * 240)
    both = {name: [*early[name], *late[name]] for name in early}
    loaded = fleet_of(load_outcomes(written(tmp_path, both)))
    assert set(loaded.rewards.ravel().tolist()) == {0.0, 1.0}


def test_policies_with_few_prompts_are_left_out(tmp_path: Path) -> None:
    fleet = two_skills(100)
    columns = rows(fleet)
    policy = np.array(columns["policy"])
    prompt = np.repeat(np.arange(100), 3)
    kept = ~((policy == "useless") & (prompt < 20)) & ~((policy == "cheap") & (prompt == 3))
    some = {name: np.asarray(values)[kept] for name, values in columns.items()}
    loaded = fleet_of(load_outcomes(written(tmp_path, some)))
    assert loaded.policies == ("cheap", "dear")
    assert len(loaded) == 99
    with pytest.raises(FleetError, match="1 policies"):
        fleet_of(load_outcomes(tmp_path / "outcomes.parquet").where(policy[kept] == "dear"))


def test_costs_must_be_amounts(tmp_path: Path) -> None:
    path = written(tmp_path, rows(two_skills(80), params_b=[7.0, 70.0, -1.0] * 80))
    with pytest.raises(OutcomesError, match="params_b -1 of row 2"):
        load_outcomes(path)


def ran(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.long
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, rows(two_skills()))
    arguments = (
        "eval", "routing", path, "--source", "made up", "--sizes", 64, "--splits", 2,
        "--prompts", 150, "--cache", tmp_path, "--out", tmp_path / "pages",
    )  # fmt: skip
    assert ran(*arguments, "--json") == 0
    printed = capsys.readouterr()
    assert not printed.err
    (size,) = json.loads(printed.out)["sizes"]
    assert (size["rows"], size["asked"], size["splits"]) == (64, 86, 2)
    assert size["fleet"]["cost"] == "tokens"
    routers = {one["name"]: one for one in size["routers"]}
    assert len(routers) == 11
    assert routers["oracle"]["to_oracle"]["estimate"] == 0.0
    for name in ("vzero", "icl", "icl-paper", "icl-weighted"):
        lead = routers[name]["aiq"]["estimate"] - routers["best-single"]["aiq"]["estimate"]
        assert lead > 0.02, name
        assert routers[name]["aiq"]["estimate"] <= routers["oracle"]["aiq"]["estimate"]
    lead = routers["icl"]["aiq"]["estimate"] - routers["random"]["aiq"]["estimate"]
    assert routers["random"]["aiq_leads"]["icl"]["estimate"] == pytest.approx(lead, abs=1e-5)
    kept = json.loads((tmp_path / "pages" / "routing-made-up.json").read_text())
    assert kept == size
    assert (tmp_path / "pages" / "routing-made-up.png").read_bytes()[1:4] == b"PNG"
    page = (tmp_path / "pages" / "routing-made-up.md").read_text()
    assert "trained on mmlu_pro" in page
    assert "`vzero` is what `RankModels` serves" in page
    assert COLOURS not in page
    assert ran(*arguments[:-2], "--estimators", "knn") == 0
    assert "knn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--source", "elsewhere"), "--source: no 'elsewhere'"),
        (("--sizes", "100"), "--sizes: 100 of 160"),
        (("--sizes", "1"), "--sizes: 1 of 160"),
        (("--estimators", "dice"), "--estimators: no 'dice'"),
        (("--only", "table1"), "No such option: --only"),
        (("--sized",), "0 policies"),
    ],
)
def test_what_cannot_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str
) -> None:
    path = written(tmp_path, rows(two_skills()))
    assert ran("eval", "routing", path, *arguments) == 2
    assert named in capsys.readouterr().err


def test_routing_options_are_for_routing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, rows(two_skills()))
    assert ran("eval", "outcomes", path, "--splits", "3") == 2
    assert "No such option: --splits" in capsys.readouterr().err


def test_a_task_contains_what_routers_read() -> None:
    task = Task(np.array([0]), np.array([[0.25, 0.5]]), np.array([1, 2]))
    assert BestSingle()(task).tolist() == [[0.25, 0.5]] * 2
