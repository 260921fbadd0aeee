from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.tables.lineage_questions import lineages
from research.tables.stages import Stage, sequential_alignment, strict_generalisation
from tests.training.made_up import made_up_outcomes

SIZES = {
    "prompts": st.integers(4, 60),
    "policies": st.integers(1, 4),
    "steps": st.integers(1, 12),
    "benchmarks": st.integers(1, 4),
    "seed": st.integers(0, 5),
}


def disjoint(stage: Stage) -> None:
    context, training = set(stage.context.prompt), set(stage.training.prompt)
    held_out, test = set(stage.held_out.prompt), set(stage.test.prompt)
    assert context <= held_out
    assert training <= held_out
    assert not context & training
    assert not held_out & test


@settings(max_examples=40)
@given(**SIZES)
def test_sequential_alignment(
    prompts: int, policies: int, steps: int, benchmarks: int, seed: int
) -> None:
    outcomes = made_up_outcomes(prompts, policies, steps, benchmarks)
    stages = sequential_alignment(outcomes, seed=seed)
    assert len(stages) == policies * steps
    visited, held_out = set(), set()
    seen: dict[tuple[str, int], set[int]] = defaultdict(set)
    for stage in stages:
        disjoint(stage)
        visited |= set(stage.test.prompt)
        held_out |= set(stage.held_out.prompt)
        # Within an epoch every prompt is visited once.
        epoch = seen[stage.test.policy, stage.epoch]
        assert not epoch & set(stage.test.prompt)
        epoch |= set(stage.test.prompt)
    assert not visited & held_out


@settings(max_examples=40)
@given(**SIZES)
def test_strict_generalisation(
    prompts: int, policies: int, steps: int, benchmarks: int, seed: int
) -> None:
    outcomes = made_up_outcomes(prompts, policies, steps, benchmarks)
    stages = strict_generalisation(outcomes, seed=seed)
    assert len(stages) == policies * steps
    tested = {prompt for stage in stages for prompt in stage.test.prompt}
    used = {prompt for stage in stages for prompt in stage.held_out.prompt}
    assert not tested & used
    for stage in stages:
        disjoint(stage)
        assert set(stage.test.prompt) | set(stage.held_out.prompt) == set(range(prompts))


def test_training_is_balanced_and_contexts_are_not() -> None:
    outcomes = made_up_outcomes(1000, 1, 1)
    (stage,) = strict_generalisation(outcomes)
    assert stage.training.success_rate == 0.5
    natural = (outcomes.reward >= 0.5).mean()
    assert natural < 0.4
    assert stage.context.success_rate == pytest.approx(natural, abs=0.05)
    assert len(stage.context) == len(stage.held_out) // 2


def test_a_short_run_visits_all_its_prompts_at_every_step() -> None:
    stages = sequential_alignment(made_up_outcomes(60, 1, 3))
    assert [stage.epoch for stage in stages] == [0, 1, 2]
    assert len({tuple(sorted(stage.test.prompt)) for stage in stages}) == 1


def test_a_long_run_revisits_prompts_after_three_steps() -> None:
    stages = sequential_alignment(made_up_outcomes(60, 1, 9))
    assert [stage.epoch for stage in stages] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(stages[0].test.prompt, stages[3].test.prompt)


@settings(max_examples=20)
@given(**SIZES, per_step=st.integers(1, 30), window=st.integers(1, 90))
def test_lineages(
    prompts: int,
    policies: int,
    steps: int,
    benchmarks: int,
    seed: int,
    per_step: int,
    window: int,
) -> None:
    outcomes = made_up_outcomes(prompts, policies, steps, benchmarks)
    questions = lineages(outcomes, per_step, window=window, seed=seed)
    judged: dict[tuple[str, int], list[int]] = defaultdict(list)
    streams: dict[int, set[int]] = {}
    for question in questions:
        judged[question.policy, question.step] += question.queries.tolist()
        # A prompt is reserved in one stream, for all policies and steps.
        for prompt in question.queries.tolist():
            assert streams.setdefault(prompt, set(question.queries.tolist())) == set(
                question.queries.tolist()
            )
        assert not set(question.context) & set(question.queries)
        assert len(question.context) <= min(window, per_step * (question.step + 1))
        assert question.ages is not None
        # Oldest first; the step of the query is the current one.
        assert (np.diff(question.ages) <= 0).all()
        assert len(question.context) == 0 or question.ages[-1] == 0
    assert len(judged) == policies * steps
    assert all(sorted(found) == list(range(prompts)) for found in judged.values())
