from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import expit

from tests.tiny_head import tiny_head
from vzero_server.engine.estimators.base import Query
from vzero_server.engine.estimators.icl import InContext
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.storage.records import Row
from vzero_server.values.beta import Values
from vzero_server.values.peer_correction import fit_to_context

HEAD = tiny_head()
POOLED = 3


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Feature vectors as an encoder would make them."""
    columns = POOLED + HEAD.config.features
    return np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float16)


def window_of(
    estimator: InContext,
    features: np.ndarray,
    rewards: np.ndarray,
    rollouts: int = 1,
    steps: np.ndarray | None = None,
) -> ContextWindow:
    rows = [
        Row(i, i, float(r), rollouts, None if steps is None else int(steps[i]), 0.0, None)
        for i, r in enumerate(rewards)
    ]
    kept = {estimator.name: estimator.window_features(features[:, POOLED:])}
    empty = ContextWindow.empty(POOLED)
    return empty.extended(len(rows), rows, features[:, :POOLED], 2048, kept)


def ask(estimator: InContext, window: ContextWindow, queries: np.ndarray) -> Values:
    return estimator.predict([Query(estimator.fit(window), queries)])[0]


def test_values_are_those_of_the_head() -> None:
    estimator, features = InContext(HEAD), vectors(60)
    rewards = np.random.default_rng(1).random(40).astype(np.float32)
    values = ask(estimator, window_of(estimator, features[:40], rewards), features[40:])
    own = torch.from_numpy(features[:, POOLED:]).float().unsqueeze(0)
    with torch.inference_mode():
        logits = HEAD(own[:, :40], torch.from_numpy(rewards).unsqueeze(0), own[:, 40:])
    # Rows are kept in half precision.
    np.testing.assert_allclose(values.mean, torch.sigmoid(logits)[0].numpy(), atol=2e-3)
    assert values.basis == "icl"


def learner(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and steps of a policy that learns along ten steps, from .2 to .8."""
    steps = np.arange(count) * 10 // count
    generator = np.random.default_rng(seed)
    rewards = (generator.random(count) < 0.2 + 0.6 * steps / 9).astype(np.float32)
    return rewards, steps


def test_values_of_a_policy_in_training_are_those_of_the_head_given_ages() -> None:
    estimator, features = InContext(HEAD), vectors(340)
    rewards, steps = learner(300)
    queries = features[300:]
    values = ask(estimator, window_of(estimator, features[:300], rewards, 1, steps), features[300:])
    own = torch.from_numpy(estimator.window_features(features[:, POOLED:])).float().unsqueeze(0)
    ages = torch.tensor([[float((steps > step).sum()) for step in steps]])
    with torch.inference_mode():
        exact = HEAD.rows(torch.from_numpy(queries[:, POOLED:]).float().unsqueeze(0))
        encoded = HEAD.encode(own[:, :300], torch.from_numpy(rewards).unsqueeze(0), ages=ages)
        logits = HEAD.predict(encoded, exact)
    np.testing.assert_allclose(values.mean, torch.sigmoid(logits)[0].numpy(), atol=1e-5)
    timeless = ask(estimator, window_of(estimator, features[:300], rewards), queries)
    assert (values.mean - timeless.mean).mean() > 0.05
    assert abs(values.mean.mean() - 0.8) < abs(timeless.mean.mean() - 0.8)


def test_the_order_of_outcomes_is_not_their_age() -> None:
    """Steps say how old outcomes are; those of one step, or of none, may come in any order."""
    estimator, features = InContext(HEAD), vectors(305)
    rewards, steps = learner(300)
    queries, order = features[300:], np.random.default_rng(1).permutation(300)
    for given in (steps, np.full(300, 7), None):
        expected, found = (
            ask(
                estimator,
                window_of(
                    estimator,
                    features[:300][kept],
                    rewards[kept],
                    1,
                    None if given is None else given[kept],
                ),
                queries,
            )
            for kept in (np.arange(300), order)
        )
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)


def test_the_newest_rows_keep_their_ages() -> None:
    estimator, features = InContext(HEAD, rows=200), vectors(305)
    rewards, steps = learner(300)
    window = window_of(estimator, features[:300], rewards, 1, steps)
    queries = features[300:]
    kept = np.arange(100, 300)
    own = torch.from_numpy(window.features["icl"][kept]).float().unsqueeze(0)
    ages = torch.tensor([[float((steps > step).sum()) for step in steps[kept]]])
    with torch.inference_mode():
        encoded = HEAD.encode(own, torch.from_numpy(rewards[kept]).unsqueeze(0), ages=ages)
        exact = HEAD.rows(torch.from_numpy(queries[:, POOLED:]).float().unsqueeze(0))
        logits = HEAD.predict(encoded, exact)
    assert float(encoded.drift[0]) > 0.02
    values = estimator.predict([Query(estimator.fit(window), queries)])[0]
    np.testing.assert_allclose(values.mean, torch.sigmoid(logits)[0].numpy(), atol=1e-5)


def test_how_far_a_policy_has_come_does_not_make_prompts_easier_for_others() -> None:
    """Others that do not drift correct values around the policy's level now."""
    estimator, generator = InContext(HEAD), np.random.default_rng(3)
    difficulty = 1.5 * generator.normal(size=400)
    steps = np.arange(400) * 10 // 400
    level = 3.0 * (steps / 9 - 0.5)
    rewards = (generator.random(400) < expit(difficulty + level)).astype(np.float32)
    others = (generator.random((6, 400)) < expit(difficulty)).astype(np.float64)
    known = estimator.fit(window_of(estimator, vectors(400), rewards, 1, steps))
    found = fit_to_context(known.evidence, others, others.mean(1))
    assert found is not None
    assert known.evidence.drift > 0.3
    # A prompt that is as easy for the others as they are good on average, 50 %.
    average = np.full((6, 1), np.nan)
    average[:, 0] = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    now = np.array([found.offset])
    assert abs(float((found.correct(now, average) - now)[0])) < 0.3


def test_questions_of_many_policies_are_answered_as_alone() -> None:
    """Contexts of 0 to 300 rows, calls of 1 to 20 prompts, more than one batch holds."""
    estimator, generator = InContext(HEAD), np.random.default_rng(2)
    questions = []
    for number in range(40):
        size = int(generator.integers(0, 300))
        steps = np.arange(size) // 20 if number % 2 else None
        window = window_of(estimator, vectors(size, number), generator.random(size), 1, steps)
        queries = vectors(int(generator.integers(1, 20)), 1000 + number)
        questions.append(Query(estimator.fit(window), queries))
    # Some contexts are asked more than once.
    questions += [
        Query(questions[number].context, vectors(3 + number, 2000 + number))
        for number in (0, 5, 5, 17)
    ]
    check_against_each_alone(estimator, questions)


@pytest.mark.parametrize("prompts", [1, 20])
def test_a_ranking_is_answered_as_each_of_its_policies_alone(prompts: int) -> None:
    estimator, queries = InContext(HEAD), vectors(prompts, 7)
    windows = [window_of(estimator, vectors(n, n), np.full(n, 0.5)) for n in (0, 9, 30)]
    questions = [Query(estimator.fit(window), queries) for window in windows]
    check_against_each_alone(estimator, questions)


def check_against_each_alone(estimator: InContext, questions: Sequence[Query]) -> None:
    together = estimator.predict(questions)
    for question, values in zip(questions, together, strict=True):
        alone = estimator.predict([question])[0]
        assert values.mean.shape == (len(question),)
        np.testing.assert_allclose(values.mean, alone.mean, atol=1e-5)
        np.testing.assert_allclose(values.upper, alone.upper, atol=1e-4)


def test_the_head_becomes_a_program(caplog: pytest.LogCaptureFixture) -> None:
    InContext(HEAD)
    assert "cannot be traced" not in caplog.text


@pytest.mark.parametrize("size", [0, 1, 7])
def test_few_rows_give_a_wide_prior(size: int) -> None:
    estimator = InContext(HEAD, min_rows=8)
    values = ask(estimator, window_of(estimator, vectors(size), np.ones(size)), vectors(5, 9))
    assert values.basis == "prior"
    np.testing.assert_array_equal(values.effective_sample_size, 2.0)
    assert ((values.lower >= 0) & (values.upper <= 1)).all()


@pytest.mark.parametrize("reward", [0.0, 0.5, 1.0])
def test_equal_labels_are_answered(reward: float) -> None:
    estimator = InContext(HEAD)
    values = ask(
        estimator, window_of(estimator, vectors(50), np.full(50, reward)), vectors(9, seed=3)
    )
    assert np.isfinite(values.mean).all()
    assert (np.abs(values.mean - reward) < 0.1).all()


def test_a_prompt_of_the_context_may_be_asked_for_and_stand_there_twice() -> None:
    estimator, features = InContext(HEAD), vectors(30)
    doubled = np.concatenate([features, features])
    rewards = np.tile(np.random.default_rng(5).random(30), 2)
    values = ask(estimator, window_of(estimator, doubled, rewards), features)
    assert np.isfinite(values.mean).all()
    assert ((values.lower <= values.mean) & (values.mean <= values.upper)).all()


def test_only_the_chosen_rows_are_read() -> None:
    features, rewards = vectors(50), np.random.default_rng(6).random(50)
    recent = InContext(HEAD, rows=20)
    all_rows = InContext(HEAD)
    expected = ask(all_rows, window_of(all_rows, features[30:], rewards[30:]), vectors(4, 7))
    found = ask(recent, window_of(recent, features, rewards), vectors(4, 7))
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)


@pytest.mark.parametrize("kappa", [2.0, 20.0])
def test_intervals_cover_what_they_say(kappa: float) -> None:
    """Success rates that spread around a common mean: 90 % of new ones lie inside."""
    estimator, generator, inside = InContext(HEAD), np.random.default_rng(4), []
    for number in range(40):
        features = vectors(160, number)
        rates = generator.beta(0.4 * kappa, 0.6 * kappa, size=160)
        rewards = generator.binomial(10, rates[:128]) / 10
        values = ask(estimator, window_of(estimator, features[:128], rewards, 10), features[128:])
        inside.append((values.lower <= rates[128:]) & (rates[128:] <= values.upper))
    assert 0.84 <= np.mean(inside) <= 0.95


def test_features_that_are_not_finite_are_refused() -> None:
    estimator, features = InContext(HEAD), vectors(3)
    features[1, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        estimator.window_features(features[:, POOLED:])
