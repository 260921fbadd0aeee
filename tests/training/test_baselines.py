"""The baselines of the paper, and their evaluation."""

import numpy as np
import pytest

from tests.training.made_up import made_up_outcomes, visit
from vzero_server.model.head_config import Group, HeadConfig
from vzero_server.model.in_context_head import InContextHead
from vzero_train.data.columns import Columns
from vzero_train.data.earlier_steps import EarlierSteps
from vzero_train.data.questions import Question, ask
from vzero_train.data.visits import visits
from vzero_train.evaluation.baselines import (
    ContextMean,
    LogisticRegression,
    Neighbours,
    PromptDifficulty,
)
from vzero_train.evaluation.evaluate import Answers, ask_all, evaluate, judge
from vzero_train.evaluation.lineup import NAMES, Lineup
from vzero_train.evaluation.metrics import auc
from vzero_train.evaluation.sequential import (
    BufferedNeighbours,
    PreviousEpoch,
    StepwiseRetrain,
    VanillaValueModel,
)


def question(
    context: list[int],
    rewards: list[float],
    queries: list[int],
    step: int = 3,
    true: list[float] | None = None,
    policy: str = "p",
) -> Question:
    return Question(
        policy=policy,
        step=step,
        benchmark="b",
        context=np.array(context, dtype=np.int64),
        context_rewards=np.array(rewards, dtype=np.float32),
        queries=np.array(queries),
        rewards=np.array(true or [0.0] * len(queries), dtype=np.float32),
    )


def test_previous_epoch_is_the_last_visit_or_else_the_mean() -> None:
    earlier_steps = EarlierSteps(
        [
            visit(0, [1, 2], [0.1, 0.2]),
            visit(2, [2], [0.9]),
            visit(3, [4], [1.0]),
            visit(2, [4], [0.7], policy="another"),
        ]
    )
    values = PreviousEpoch(earlier_steps)(question([7, 8], [0.0, 0.5], [1, 2, 4]))
    np.testing.assert_allclose(values, [0.1, 0.9, 0.25], rtol=1e-6)


def test_neighbours_give_the_mean_reward_of_the_nearest() -> None:
    embeddings = np.array([[0.0], [1.0], [10.0], [11.0], [0.4]])
    example = question([0, 1, 2, 3], [1.0, 0.0, 0.5, 0.3], [4])
    np.testing.assert_allclose(Neighbours(embeddings, k=2)(example), [0.5])
    # If k exceeds the rows of the context, a quarter of its four rows are neighbours.
    np.testing.assert_allclose(Neighbours(embeddings, k=64)(example), [1.0])


def test_the_buffer_drops_the_oldest() -> None:
    embeddings = np.array([[0.0], [0.1], [5.0], [6.0]])
    earlier_steps = EarlierSteps([visit(0, [0], [1.0]), visit(1, [1], [0.4])])
    example = question([2, 3], [0.0, 0.0], [0])
    everything = BufferedNeighbours(embeddings, earlier_steps, k=1)(example)
    np.testing.assert_allclose(everything, [1.0])
    newest = BufferedNeighbours(embeddings, earlier_steps, k=1, window=3)(example)
    np.testing.assert_allclose(newest, [0.4])


def learnable(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(count, 6)).astype(np.float32)
    return columns, (columns[:, 0] > 0).astype(np.float32)


def test_the_vanilla_value_model_learns_from_steps_before_and_lags() -> None:
    columns, rewards = learnable()
    first, second, queries = np.split(np.arange(400), [150, 300])
    earlier_steps = EarlierSteps(
        [
            visit(0, list(first), list(rewards[first])),
            # The policy now fails the prompts that it solved before.
            *(visit(step, list(second), list(1 - rewards[second])) for step in (1, 2, 3, 4)),
        ]
    )
    model = VanillaValueModel(columns, earlier_steps)
    auc_by_step = {
        step: auc(rewards[queries], model(question([0], [0.5], list(queries), step=step)))
        for step in (1, 5)
    }
    assert auc_by_step[1] > 0.8
    assert auc_by_step[5] < 0.2


def test_the_vanilla_value_model_has_a_cold_start() -> None:
    columns, rewards = learnable()
    context, queries = np.split(np.arange(400), [300])
    cold = {"p": visit(0, list(context), list(rewards[context]))}
    model = VanillaValueModel(columns, EarlierSteps([]), cold_start=cold)
    values = model(question([], [], list(queries), step=0))
    assert auc(rewards[queries], values) > 0.8
    assert ((values >= 0.0) & (values <= 1.0)).all()


@pytest.mark.parametrize("estimator", ["vanilla", "retrain", "logistic"])
def test_prompts_without_a_history_are_predicted_from_the_context(estimator: str) -> None:
    columns, rewards = learnable()
    context, queries = np.split(np.arange(400), [300])
    baseline = {
        "vanilla": VanillaValueModel(columns, EarlierSteps([]), epochs=20),
        "retrain": StepwiseRetrain(columns),
        "logistic": LogisticRegression(columns),
    }[estimator]
    example = question(list(context), list(rewards[context]), list(queries))
    assert auc(rewards[queries], baseline(example)) > 0.9
    empty = baseline(question([], [], [1, 2]))
    np.testing.assert_allclose(empty, [0.5, 0.5])


def test_step_wise_retraining_uses_the_outcomes_held_out_at_that_step() -> None:
    columns, rewards = learnable()
    context, queries = np.split(np.arange(400), [300])
    held_out = {("p", 3): visit(3, list(context), list(1 - rewards[context]))}
    values = StepwiseRetrain(columns, held_out)(question([0], [0.5], list(queries), step=3))
    assert auc(rewards[queries], values) < 0.1


def test_a_cross_fitted_difficulty_does_not_use_rewards_of_its_prompts() -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(300, 5))
    noise = rng.random(300)
    prompts = np.arange(300)
    blind = PromptDifficulty.cross_fit(columns, prompts, noise)
    example = question([], [], list(prompts), true=list(noise))
    assert abs(np.corrcoef(blind(example), noise)[0, 1]) < 0.2
    learned = PromptDifficulty.cross_fit(columns, prompts, (columns[:, 0] > 0) * 1.0)
    assert auc(columns[:, 0] > 0, learned(example)) > 0.95


def test_leads_are_paired_differences_with_a_sign() -> None:
    outcomes = made_up_outcomes(200, 2, 3)
    rng = np.random.default_rng(0)
    pools = visits(outcomes)
    questions = [ask(pool, pool, 50, rng) for pool in pools]

    def exact(example: Question) -> np.ndarray:
        return example.rewards

    reports = evaluate({"exact": exact, "mean": ContextMean()}, questions, "exact", resamples=50)
    best, mean = reports
    assert (best.auc.estimate, best.mse.estimate) == (1.0, 0.0)
    assert best.pairwise.estimate == best.pairwise_lineage.estimate == 1.0
    assert mean.auc.estimate == 0.5
    assert not best.leads
    assert mean.leads["auc"].estimate == pytest.approx(0.5)
    assert mean.leads["mse"].estimate == pytest.approx(mean.mse.estimate)
    assert best.document()["with_difficulty"]["estimate"] is None


def test_answers_are_chosen_and_joined() -> None:
    questions = [question([0], [0.5], [1, 2], step=step, true=[1.0, 0.0]) for step in range(3)]
    answers = ask_all({"mean": ContextMean()}, questions)
    late = answers.where(lambda example: example.step > 0)
    assert [example.step for example in late.questions] == [1, 2]
    joined = Answers.joined([late, answers.where(lambda example: example.step == 0)])
    assert len(joined.values["mean"]) == 3
    (report,) = judge(joined, "mean", difficulty=np.array([0.0, 0.2, 0.7]), resamples=5)
    assert report.auc.estimate == 0.5


def test_every_name_has_an_estimator() -> None:
    outcomes = made_up_outcomes(80, 2, 3)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 8)).astype(np.float16)
    columns = Columns(
        embeddings=features[:, :4].astype(np.float32),
        text=features[:, 4:].astype(np.float32),
        features=features,
    )
    head = InContextHead(HeadConfig((Group("all", 8, 8),), skills=2, traits=2, hidden=4)).eval()
    lineup = Lineup(columns, head, EarlierSteps(visits(outcomes)), outcomes)
    made = lineup.estimators()
    assert tuple(made) == NAMES
    pool = visits(outcomes)[-1]
    for name, estimator in made.items():
        values = estimator(ask(pool, pool, 40, rng))
        assert values.shape == (80,), name
        assert ((values >= 0.0) & (values <= 1.0)).all(), name
    with pytest.raises(ValueError, match="no estimator 'oracle'"):
        lineup.estimators(["oracle"])
