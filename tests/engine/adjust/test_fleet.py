"""Fleet calibration in the whole server except its gRPC edge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from tests.engine.predictors import report, tiny_predictor
from tests.outcomes import outcome
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import load_checkpoint
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_train.data.columns import Columns
from vzero_train.data.features import prompt_features
from vzero_train.evaluation.routers import Task
from vzero_train.evaluation.value_routers import Contexts, Jointly

KINDS = ("count to {}", "what is the capital of country number {}, please", "prove that {} is odd")
PROMPTS = [KINDS[i % 3].format(i) for i in range(96)]
UNKNOWN_PROMPTS = [KINDS[i % 3].format(i) for i in range(200, 212)]
NAMES = ("first", "second", "third")
# Each policy is good at another kind of prompt.
RATES = np.where(np.arange(96)[:, None] % 3 == np.arange(3), 0.9, 0.4)
REWARDS = np.random.default_rng(0).random((96, 3)) < RATES


@asynccontextmanager
async def fleet(
    tmp_path: Path,
    model: Path,
    head: Path,
    *,
    shared: bool = True,
    rewards: np.ndarray = REWARDS,
    step: int | None = None,
    **settings: object,
) -> AsyncIterator[Predictor]:
    """Three policies with outcomes of the same prompts, or each of different ones."""
    fleet_settings = {"head": str(head), "peer_refresh": 0, **settings}
    async with tiny_predictor(tmp_path, model, **fleet_settings) as predictor:
        for column, name in enumerate(NAMES):
            suffix = "" if shared else f" {name}"
            await report_policy(predictor, name, rewards[:, column], suffix, step)
        yield predictor


async def report_policy(
    predictor: Predictor,
    name: str,
    rewards: np.ndarray,
    suffix: str = "",
    step: int | None = None,
) -> None:
    """Append one outcome for each of the first prompts, whose texts get a suffix."""
    prompts = [prompt + suffix for prompt in PROMPTS[: len(rewards)]]
    await report(predictor, name, prompts, rewards, step=step)


async def fleet_values(predictor: Predictor, prompts: list[str], **fields: object) -> np.ndarray:
    """Values of the policies predicted in one call, ``[P, n]``."""
    options = ReadOptions(**fields)  # type: ignore[arg-type]
    predictions = await predictor.values_of_many(NAMES, prompts, options)
    return np.stack([prediction.values.mean for prediction in predictions])


async def single_values(predictor: Predictor, prompts: list[str]) -> np.ndarray:
    """Values of the policies predicted one by one, ``[P, n]``."""
    return np.stack([(await predictor.values(name, prompts)).values.mean for name in NAMES])


async def test_served_values_equal_those_of_the_offline_evaluation(
    tmp_path: Path, tiny_model: Path, tiny_backbone: Backbone, head: Path
) -> None:
    encoder = PromptEncoder(tiny_backbone, (1,))
    columns = Columns.of(prompt_features([*PROMPTS, *UNKNOWN_PROMPTS], encoder), encoder)
    contexts = Contexts(load_checkpoint(head).head, columns.features)
    task = Task(np.arange(96), REWARDS.astype(float), np.arange(96, 96 + len(UNKNOWN_PROMPTS)))
    expected = Jointly(contexts, columns.embeddings)(task)
    async with fleet(tmp_path, tiny_model, head) as predictor:
        predictions = await predictor.values_of_many(NAMES, UNKNOWN_PROMPTS)
        served = np.stack([prediction.values.mean for prediction in predictions], axis=1)
        uncalibrated = (await single_values(predictor, UNKNOWN_PROMPTS)).T
    assert abs(expected - uncalibrated).max() > 0.05, "calibration must change values here"
    np.testing.assert_allclose(served, expected, atol=5e-3)
    for prediction in predictions:
        values = prediction.values
        assert (values.lower <= values.mean).all()
        assert (values.mean <= values.upper).all()
        assert (values.lower < values.upper).all()
        assert values.basis == "icl"


async def test_without_peers_values_are_not_calibrated(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        expected = await single_values(predictor, UNKNOWN_PROMPTS)
        np.testing.assert_allclose(
            await fleet_values(predictor, UNKNOWN_PROMPTS, with_peers=False), expected, atol=1e-6
        )
        assert abs(await fleet_values(predictor, UNKNOWN_PROMPTS) - expected).max() > 0.05
        # A single policy is no fleet.
        (prediction,) = await predictor.values_of_many(NAMES[:1], UNKNOWN_PROMPTS)
        np.testing.assert_allclose(prediction.values.mean, expected[0], atol=1e-6)


async def test_as_of_step_values_are_not_calibrated(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, step=3) as predictor:
        expected = await single_values(predictor, UNKNOWN_PROMPTS)
        as_of = await fleet_values(predictor, UNKNOWN_PROMPTS, as_of_step=3)
        np.testing.assert_allclose(as_of, expected, atol=1e-6)
        assert abs(await fleet_values(predictor, UNKNOWN_PROMPTS) - expected).max() > 0.05


async def test_a_server_without_peers_does_not_calibrate(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, peers=0) as predictor:
        np.testing.assert_allclose(
            await fleet_values(predictor, UNKNOWN_PROMPTS),
            await single_values(predictor, UNKNOWN_PROMPTS),
            atol=1e-6,
        )


async def test_policies_that_share_no_prompts_are_not_calibrated(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, shared=False) as predictor:
        np.testing.assert_allclose(
            await fleet_values(predictor, UNKNOWN_PROMPTS),
            await single_values(predictor, UNKNOWN_PROMPTS),
            atol=1e-6,
        )


async def test_prompts_known_to_peers_are_not_calibrated(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    """Prompts are equally hard for all policies; their texts do not tell which are hard."""
    hard = np.random.default_rng(1).random((96, 1)) < 0.5
    rewards = np.where(np.random.default_rng(2).random((96, 3)) < 0.1, hard, ~hard)
    prompts = [*UNKNOWN_PROMPTS, *PROMPTS[:6]]
    async with fleet(tmp_path, tiny_model, head, rewards=rewards) as predictor:
        expected = await single_values(predictor, prompts)
        changes = abs(await fleet_values(predictor, prompts) - expected).max(0)
    assert changes[: len(UNKNOWN_PROMPTS)].min() > 1e-3
    assert changes[len(UNKNOWN_PROMPTS) :].max() < 1e-6


async def test_calibration_on_the_worker_equals_calibration_on_the_event_loop(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    many_prompts = [*UNKNOWN_PROMPTS, *(f"say {i}" for i in range(400))]
    async with fleet(tmp_path, tiny_model, head) as predictor:
        few = await fleet_values(predictor, UNKNOWN_PROMPTS)
        np.testing.assert_allclose(
            (await fleet_values(predictor, many_prompts))[:, : len(UNKNOWN_PROMPTS)], few, atol=1e-5
        )


async def test_priors_and_estimators_without_evidence_are_not_calibrated(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        await report_policy(predictor, "new", np.ones(3))
        predictions = await predictor.values_of_many([*NAMES, "new"], UNKNOWN_PROMPTS)
        single = await predictor.values("new", UNKNOWN_PROMPTS)
        assert predictions[3].values.basis == "prior"
        np.testing.assert_allclose(predictions[3].values.mean, single.values.mean, atol=1e-6)
        np.testing.assert_allclose(
            np.stack([prediction.values.mean for prediction in predictions[:3]]),
            await fleet_values(predictor, UNKNOWN_PROMPTS),
            atol=1e-6,
        )
        knn = await predictor.values("first", UNKNOWN_PROMPTS, ReadOptions(estimator="knn"))
        ranked = await predictor.values_of_many(
            NAMES, UNKNOWN_PROMPTS, ReadOptions(estimator="knn")
        )
        np.testing.assert_allclose(ranked[0].values.mean, knn.values.mean, atol=1e-6)


async def test_prompts_with_several_outcomes_are_no_evidence(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    """Leaving out one outcome of a prompt would leave the others in."""
    async with fleet(tmp_path, tiny_model, head) as predictor:
        for column, name in enumerate(NAMES):
            await predictor.update(
                name,
                [
                    outcome(f"again {prompt}", prompt, reward=float(reward), rollouts=1)
                    for prompt, reward in zip(PROMPTS, REWARDS[:, column], strict=True)
                ],
            )
        np.testing.assert_allclose(
            await fleet_values(predictor, UNKNOWN_PROMPTS),
            await single_values(predictor, UNKNOWN_PROMPTS),
            atol=1e-6,
        )


async def test_a_first_call_does_not_wait_for_the_calibration_that_later_calls_use(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, peer_refresh=60.0) as predictor:
        expected = await single_values(predictor, UNKNOWN_PROMPTS)
        while abs(await fleet_values(predictor, UNKNOWN_PROMPTS) - expected).max() < 0.05:
            await asyncio.sleep(0.01)
        # A calibration is used for some time, whatever is reported in the meantime.
        for name in NAMES:
            await report_policy(predictor, name, np.ones(1), " again")
        changed = await single_values(predictor, UNKNOWN_PROMPTS)
        assert abs(await fleet_values(predictor, UNKNOWN_PROMPTS) - changed).max() > 0.05
