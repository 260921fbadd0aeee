import numpy as np
import pytest

import vzero
from tests.api.calls import Stubs
from tests.outcomes import chunk, outcome, sums
from vzero.v1 import value_pb2
from vzero_server.testing.local_server import LocalServer

ASKED = "What is 3 plus 3?"


def visited(rewards: list[float], first_step: int = 0) -> list[object]:
    """Outcomes of one prompt, one at each step."""
    return [
        outcome(f"visit-{step}", ASKED, reward=reward, step=step)
        for step, reward in enumerate(rewards, first_step)
    ]


def value(stubs: Stubs, policy: str, prompt: str = ASKED, **fields: object) -> value_pb2.Value:
    return stubs.predict(policy, [prompt], **fields).values[0]


def test_a_value_is_combined_with_the_history_of_its_prompt(stubs: Stubs, policy: str) -> None:
    others = [row for row in sums(40) if row.prompt != ASKED]
    stubs.update(chunk(policy, others))
    # Peers would correct the value too.
    before = value(stubs, policy, with_peers=False)
    assert not before.HasField("history")
    stubs.update(chunk(policy, visited([1.0, 1.0], first_step=4)))
    after = value(stubs, policy, with_peers=False)
    without = value(stubs, policy, with_peers=False, with_history=False)
    assert after.mean > without.mean
    assert after.mean > before.mean
    assert after.upper - after.lower < before.upper - before.lower
    assert after.effective_sample_size > without.effective_sample_size
    assert after.basis == "icl"
    assert 0 <= after.lower <= after.mean <= after.upper <= 1
    assert (after.history.rollouts, after.history.newest_step) == (20, 5)
    assert 0 < after.history.weight <= 20
    assert 0 <= after.history.age.seconds < 60
    assert not without.HasField("history")


def test_prompts_without_a_history_keep_their_value(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(40)))
    new = ["What is 100 plus 6?", "Name a river."]
    together = stubs.predict(policy, [ASKED, *new]).values
    plain = stubs.predict(policy, [ASKED, *new], with_history=False).values
    assert together[1:] == plain[1:]
    assert together[0] != plain[0]


def test_acknowledged_outcomes_are_part_of_histories_at_once(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(40)))
    for reported in range(1, 6):
        stubs.update(chunk(policy, visited([0.0] * reported, first_step=10)))
        predicted = value(stubs, policy)
        # This prompt is one of the forty sums.
        assert predicted.history.rollouts == 10 * (reported + 1)
        assert predicted.history.newest_step == 9 + reported
    assert predicted.mean < 0.3


def test_outcomes_of_later_steps_are_not_used(stubs: Stubs, policy: str) -> None:
    others = [row for row in sums(60) if row.prompt != ASKED]
    stubs.update(chunk(policy, others), chunk(policy, visited([1.0, 1.0, 0.0, 0.0])))
    early = value(stubs, policy, as_of_step=1)
    assert (early.history.rollouts, early.history.newest_step) == (20, 1)
    late = value(stubs, policy)
    assert (late.history.rollouts, late.history.newest_step) == (40, 3)
    assert early.mean > late.mean
    # In any order of calls, and after outcomes without a step.
    nameless = outcome("no-step", ASKED, reward=1.0)
    stubs.update(chunk(policy, [nameless]))
    assert value(stubs, policy).history.rollouts == 50
    again = value(stubs, policy, as_of_step=1)
    assert (again.history.rollouts, again.history.newest_step) == (20, 1)
    assert again.mean == early.mean


def test_the_histories_of_policies_are_separate(stubs: Stubs, policy: str) -> None:
    other = policy + "-other"
    rows = [row for row in sums(40) if row.prompt != ASKED]
    stubs.update(chunk(policy, rows), chunk(other, rows), chunk(policy, visited([1.0])))
    assert value(stubs, policy).history.rollouts == 10
    assert not value(stubs, other).HasField("history")


def test_priors_and_knn_values_are_combined_with_histories(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, visited([0.0, 0.0, 0.0])))
    prior = value(stubs, policy)
    assert prior.basis == "prior"
    assert prior.history.rollouts == 30
    assert prior.mean < value(stubs, policy, with_history=False).mean
    stubs.update(chunk(policy, [row for row in sums(40) if row.prompt != ASKED]))
    near = value(stubs, policy, estimator="knn")
    assert near.basis == "knn"
    assert near.history.rollouts == 30


def test_allocations_and_rankings_use_histories(stubs: Stubs, policy: str) -> None:
    rows = [row for row in sums(40) if row.prompt != ASKED]
    stubs.update(chunk(policy, rows), chunk(policy, visited([1.0, 1.0], first_step=4)))
    allocated = stubs.values.AllocateBudget(
        value_pb2.AllocateBudgetRequest(policy_id=policy, prompts=[ASKED], total=8), timeout=60
    )
    assert allocated.values[0].history.rollouts == 20
    for mode in (value_pb2.RANK_MODE_DECOMPOSED, value_pb2.RANK_MODE_PAPER):
        request = value_pb2.RankModelsRequest(prompts=[ASKED], policy_ids=[policy], mode=mode)
        ranked = stubs.values.RankModels(request, timeout=60).rankings[0].candidates[0]
        assert ranked.value.history.rollouts == 20
        request.with_history = False
        plain = stubs.values.RankModels(request, timeout=60).rankings[0].candidates[0]
        assert not plain.value.HasField("history")
        # Scores of PAPER are predictions of labels, and histories contain rewards.
        same = ranked.score == pytest.approx(plain.score, abs=1e-9)
        assert same == (mode == value_pb2.RANK_MODE_PAPER)


def test_only_the_newest_outcomes_of_a_prompt_are_used(stubs: Stubs, policy: str) -> None:
    rows = [outcome(f"v-{i}", ASKED, reward=0.0, rollouts=1, step=i) for i in range(100)]
    stubs.update(chunk(policy, rows))
    assert value(stubs, policy).history.rollouts == 64


def test_histories_outlive_a_restart(server: LocalServer) -> None:
    with vzero.Client(server.address) as client:
        prompts = [row.prompt for row in sums(40)]
        client.update("run", prompts, [row.reward for row in sums(40)], rollouts=8, step=3)
        before = client.predict("run", [ASKED, "Name a river."])
    server.kill()
    server.start()
    with vzero.Client(server.address) as client:
        after = client.predict("run", [ASKED, "Name a river."])
        plain = client.predict("run", [ASKED, "Name a river."], with_history=False)
    assert np.allclose(before.mean, after.mean, atol=1e-5)
    assert after.history is not None and plain.history is not None
    assert after.history.rollouts.tolist() == [8, 0]
    assert after.history.newest_step.tolist() == [3, -1]
    assert after.history.weight[0] > 0.0
    assert np.isnan(after.history.age_seconds).tolist() == [False, True]
    assert plain.history.rollouts.tolist() == [0, 0]
    assert after.mean[1] == plain.mean[1]
