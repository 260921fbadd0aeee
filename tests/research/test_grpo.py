"""GRPO under budgets: its step, its arms, and a whole short run with a server."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from research.grpo import curves
from research.grpo.__main__ import main
from research.grpo.arms import Fixed, Lagged, Oracle
from research.grpo.chances import chances
from research.grpo.settings import ARMS, QUICK, Settings
from research.grpo.step import Groups, budgeted_step, group_advantages, split
from research.grpo.training import Record, batches, held_out, training_tasks
from research.policy_zoo.grpo import GrpoSettings, advantages, roll_out
from research.policy_zoo.model import CharacterModel, Shape
from research.policy_zoo.optimizer import grpo_optimizer, warm_start_optimizer
from research.policy_zoo.tasks import Task, draw
from research.policy_zoo.warmstart import demonstrations, warm_start_loss
from vzero_server.decisions.utility import Objective


def tasks_of(family: str, level: int, count: int) -> list[Task]:
    return [draw(Random(seed), family, level) for seed in range(count)]


@pytest.fixture(scope="module")
def policy() -> CharacterModel:
    """A model trained on some counting, so that it sometimes succeeds."""
    torch.manual_seed(0)
    model = CharacterModel(Shape(width=32, layers=2))
    optimizer, rng = warm_start_optimizer(model), Random(0)
    for step in range(25):
        shown = [draw(rng, "counting", 1 + step % 3) for _ in range(64)]
        optimizer.step(warm_start_loss(model, shown, demonstrations(shown, rng)))
    return model


def test_chances_are_those_of_sampling(policy: CharacterModel) -> None:
    tasks = tasks_of("counting", 1, 3)
    computed = chances(policy, tasks)
    rollouts = roll_out(policy, tasks, np.full(3, 4000), torch.Generator().manual_seed(0))
    assert computed == pytest.approx(rollouts.rewards.mean(1).numpy(), abs=0.03)
    assert computed.max() > 0.05


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_rows_hold_every_rollout_once(counts: list[int]) -> None:
    group, sizes = split(np.array(counts), size=8)
    assert ((sizes >= 1) & (sizes <= 8)).all()
    assert np.bincount(group, sizes, minlength=len(counts)).tolist() == counts


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=20), min_size=1, max_size=5)
)
def test_advantages_do_not_depend_on_the_rows(groups: list[list[float]]) -> None:
    """They equal those of the policy zoo, where a group is one row."""
    counts = np.array([len(rewards) for rewards in groups])
    whole = torch.zeros(len(groups), 20)
    for row, rewards in enumerate(groups):
        whole[row, : len(rewards)] = torch.tensor(rewards)
    wanted = advantages(whole, torch.as_tensor(counts))
    group, sizes = split(counts, size=8)
    present = torch.arange(8) < torch.as_tensor(sizes)[:, None]
    cut = torch.zeros(len(group), 8)
    for row, at in enumerate(group.tolist()):
        place = 8 * int((group[:row] == at).sum())
        cut[row, : sizes[row]] = whole[at, place : place + sizes[row]]
    found = group_advantages(cut, present, torch.as_tensor(group))
    for at, count in enumerate(counts):
        own = found[torch.as_tensor(group) == at][present[torch.as_tensor(group) == at]]
        torch.testing.assert_close(own, wanted[at, :count], atol=1e-4, rtol=1e-4)
    assert (found[~present] == 0.0).all()


def test_a_step_uses_its_budget_and_learns(policy: CharacterModel) -> None:
    model = CharacterModel(Shape(width=32, layers=2))
    model.load_state_dict(policy.state_dict())
    optimizer, generator = grpo_optimizer(model), torch.Generator().manual_seed(0)
    before = chances(model, tasks_of("counting", 1, 40)).mean()
    for step in range(25):
        tasks = tasks_of("counting", 1, 40)
        counts = np.array([2, 20] if step % 2 else [20, 2]).repeat(20)
        groups = budgeted_step(model, optimizer, tasks, counts, generator, GrpoSettings())
        assert groups.counts is counts
        assert ((groups.successes >= 0) & (groups.successes <= counts)).all()
        wanted = (groups.successes == 0) | (groups.successes == counts)
        assert groups.silent.tolist() == wanted.tolist()
    assert chances(model, tasks_of("counting", 1, 40)).mean() > before + 0.05


def test_arms_divide_the_whole_budget() -> None:
    tasks = training_tasks(QUICK)[: QUICK.prompts]
    truth = np.linspace(0.0, 1.0, QUICK.prompts)
    groups = Groups(np.full(QUICK.prompts, 8), np.round(8 * truth).astype(np.int64))
    lagged = Lagged(QUICK)
    assert lagged.divide(tasks, truth).believed is None
    lagged.learn(tasks, groups, step=1)
    for arm in (
        Fixed(QUICK),
        lagged,
        Oracle(QUICK, Objective.PAPER),
        Oracle(QUICK, Objective.NONZERO_GRADIENT),
    ):
        division = arm.divide(tasks, truth)
        assert division.counts.sum() == QUICK.total
        assert QUICK.minimum <= division.counts.min()
        assert division.counts.max() <= QUICK.maximum
    remembered = lagged.divide(tasks, truth).believed
    assert remembered is not None
    assert remembered.tolist() == groups.rates.tolist()


def test_every_epoch_visits_every_prompt() -> None:
    settings = Settings()
    tasks = training_tasks(settings)
    steps = batches(tasks, settings, seed=3)
    epoch = len(tasks) // settings.prompts
    assert len(steps) == settings.steps
    assert {task.prompt for step in steps[:epoch] for task in step} == {t.prompt for t in tasks}
    assert not {task.prompt for task in tasks} & {task.prompt for task in held_out(settings)}
    assert steps[:epoch] != batches(tasks, settings, seed=4)[:epoch]


def test_rollouts_to_reach_an_accuracy() -> None:
    settings = Settings(prompts=1, group=10, steps=4, every=2)

    def record(*accuracy: float) -> Record:
        return Record(list(accuracy), [0.0], [0.0], [1], [1.0], [None], 1.0)

    runs = {
        "fixed": [record(0.1, 0.2, 0.3), record(0.1, 0.2, 0.3)],
        "paper": [record(0.1, 0.3, 0.5), record(0.1, 0.3, 0.5)],
        "lagged": [record(0.1, 0.1, 0.2), record(0.1, 0.1, 0.1)],
    }
    assert curves.thresholds(runs) == [0.15, 0.2, 0.25, 0.28]
    paper = curves.reached(runs, "paper", 0.2, settings)
    assert paper.rollouts.estimate == pytest.approx(10.0)
    assert paper.saved is not None
    assert paper.saved.estimate == pytest.approx(0.5)
    lagged = curves.reached(runs, "lagged", 0.15, settings)
    assert (lagged.seeds, lagged.saved) == (1, None)
    assert lagged.rollouts.estimate == pytest.approx((30.0 + 40.0) / 2)
    assert curves.lead(runs, "paper", at_end=True).estimate == pytest.approx(0.2)
    assert curves.lead(runs, "paper", at_end=False).low == pytest.approx(0.1)


@pytest.mark.long
def test_a_quick_run_with_a_real_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--quick", "--seeds", "2", "--cache", str(tmp_path / "cache")]
    main([*command, "--out", str(tmp_path / "first")])
    # All results are cached: the same figures, without training.
    main([*command, "--out", str(tmp_path / "second")])
    first, second = (
        json.loads((tmp_path / name / "grpo.json").read_text()) for name in ("first", "second")
    )
    assert first == second
    assert list(first["arms"]) == list(ARMS)
    for arm, result in first["arms"].items():
        assert len(result["runs"]) == 2
        for run in result["runs"]:
            assert len(run["silent"]) == QUICK.steps
            assert len(run["accuracy"]) == len(first["rollouts"])
            # Queried from the second step on.
            if arm in ("paper", "expected", "nonzero_gradient"):
                assert run["error"][0] is None
                assert all(0.0 <= error <= 1.0 for error in run["error"][1:])
    assert first["arms"]["paper"]["runs"][0]["most"][1:] != [QUICK.group] * (QUICK.steps - 1)
    page = (tmp_path / "first" / "grpo.md").read_text()
    assert "nan" not in page
    assert (tmp_path / "first" / "grpo.png").stat().st_size > 10_000
    assert "fixed G" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [["--seeds", "0"], ["--arms", "paper"]])
def test_bad_options_are_named(
    bad: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *bad])
    assert bad[0] in capsys.readouterr().err
