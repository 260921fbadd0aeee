from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.made_up import made_up_outcomes, visit
from vzero_train.data.earlier_steps import EarlierSteps
from vzero_train.data.splits import unseen_benchmarks, unseen_everything
from vzero_train.data.visits import visits


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), share=st.floats(0.0, 0.9))
def test_unseen_everything(seed: int, share: float) -> None:
    outcomes = made_up_outcomes(40, 4, 2, 3)
    split = unseen_everything(outcomes, ["b0"], share=share, seed=seed)
    for name in ("prompt", "policy", "benchmark"):
        assert not set(getattr(split.train, name)) & set(getattr(split.test, name))


def test_unseen_benchmarks_share_no_prompt() -> None:
    split = unseen_benchmarks(made_up_outcomes(), ["b1"])
    assert set(split.test.benchmark) == {"b1"}
    assert set(split.train.benchmark) == {"b0"}
    assert not set(split.train.prompt) & set(split.test.prompt)
    assert set(split.train.policy) == set(split.test.policy)


def test_earlier_steps_have_only_earlier_outcomes() -> None:
    earlier_steps = EarlierSteps(
        [visit(3, [1], [1.0]), visit(1, [0], [0.0]), visit(-1, [2], [0.5])]
    )
    assert [pool.step for pool in earlier_steps.of("p")] == [1, 3]
    assert [pool.step for pool in earlier_steps.before("p", 3)] == [1]
    assert not earlier_steps.of("another")


def test_visits_join_benchmarks() -> None:
    all_visits = visits(made_up_outcomes(40, 2, 3))
    assert len(all_visits) == 6
    assert all(len(pool) == 40 and pool.benchmark == "*" for pool in all_visits)
