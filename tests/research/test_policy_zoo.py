"""The policy zoo: its tasks, its model, GRPO, and its dataset."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from research.policy_zoo import card
from research.policy_zoo.build import main
from research.policy_zoo.evaluation import TrainingStream, evaluation_tasks
from research.policy_zoo.grpo import GrpoSettings, advantages, grpo_loss, grpo_step, roll_out
from research.policy_zoo.model import (
    ALPHABET,
    END,
    PAD,
    CharacterModel,
    Shape,
    decode,
    encode_answers,
    encode_prompts,
)
from research.policy_zoo.optimizer import grpo_optimizer, warm_start_optimizer
from research.policy_zoo.table import SCHEMA
from research.policy_zoo.tasks import FAMILIES, LEVELS, MAX_ANSWER, Task, draw, verify
from research.policy_zoo.warmstart import demonstrations, spoil, warm_start_loss
from research.policy_zoo.words import word

DATASET = Path(__file__).parents[2] / "datasets" / "policy_zoo.parquet"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")

families = st.sampled_from(sorted(FAMILIES))
levels = st.sampled_from(LEVELS)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows() -> card.Rows:
    return card.Rows.read(DATASET)


@pytest.fixture
def model() -> CharacterModel:
    torch.manual_seed(0)
    return CharacterModel(Shape(width=32, layers=2))


def solve(task: Task) -> str:
    """Solve a prompt from its text, independently of the code that generated it."""
    prompt = task.prompt
    numbers = [int(text) for text in re.findall(r"\d+", prompt)]
    quoted = "".join(re.findall(r"'(\w+)'", prompt))
    match task.family:
        case "addition":
            return str(sum(numbers))
        case "subtraction":
            return str(max(numbers) - min(numbers))
        case "multiplication":
            return str(numbers[0] * numbers[1])
        case "remainder":
            return str(numbers[0] - numbers[0] // numbers[1] * numbers[1])
        case "comparison":
            large = re.search(r"\b(larg|bigg)(er|est)\b", prompt)
            return str(sorted(numbers)[-1 if large else 0])
        case "sorting":
            return "".join(sorted(quoted))
        case "counting":
            found = re.search(r"(?<!\w)(?:letter |is |does |many )([a-z])s?\b", prompt)
            assert found is not None, prompt
            return str(Counter(quoted)[found[1]])
        case "reversal":
            return "".join(reversed(quoted))
        case "position":
            place = next(i for i, name in enumerate(ORDINALS) if f" {name} " in prompt)
            return quoted[place]
        case "consonants":
            return re.sub("[aeiou]", "", quoted)
    raise AssertionError(task.family)


@given(families, levels, seeds)
@settings(max_examples=400)
def test_answers_are_right_and_verified(family: str, level: int, seed: int) -> None:
    task = draw(Random(seed), family, level)
    assert task.answer == solve(task)
    assert verify(task, task.answer) == 1.0
    assert 1 <= len(task.answer) <= MAX_ANSWER
    assert set(task.prompt.lower()) <= set(ALPHABET)
    assert set(task.answer) <= set(ALPHABET)


@given(families, levels, seeds)
def test_spoilt_answers_are_rejected(family: str, level: int, seed: int) -> None:
    task = draw(Random(seed), family, level)
    wrong = spoil(task, Random(seed))
    assert verify(task, wrong) == 0.0
    assert 1 <= len(wrong) <= MAX_ANSWER
    assert verify(task, "") == verify(task, task.answer + " ") == 0.0


@given(st.integers(2, 12), seeds)
def test_words_have_the_wanted_length(length: int, seed: int) -> None:
    text = word(Random(seed), length)
    assert re.fullmatch("[a-z]+", text)
    assert len(text) == length


def test_share_of_wrong_demonstrations() -> None:
    tasks = [draw(Random(seed), "addition", 3) for seed in range(2000)]
    shown = demonstrations(tasks, Random(0), wrong_share=0.25)
    wrong = np.mean([text != task.answer for text, task in zip(shown, tasks, strict=True)])
    assert 0.2 < wrong < 0.3


def test_evaluation_prompts() -> None:
    tasks = evaluation_tasks()
    assert len({task.prompt for task in tasks}) == len(tasks) >= 1500
    cells = Counter((task.family, task.level) for task in tasks)
    assert len({family for family, _ in cells}) >= 8
    assert set(cells) == {(family, level) for family in FAMILIES for level in LEVELS}
    assert len(set(cells.values())) == 1
    assert tasks == evaluation_tasks()


def test_training_never_meets_evaluation_prompts() -> None:
    excluded = frozenset(task.prompt for task in evaluation_tasks())
    stream = TrainingStream(0, dict.fromkeys(FAMILIES, 1.0), (1, 0, 0, 0, 0), excluded)
    tasks = stream.take(3000)
    assert not excluded & {task.prompt for task in tasks}
    assert {task.level for task in tasks} == {1}
    assert {task.family for task in tasks} == set(FAMILIES)


def test_training_stream_follows_success() -> None:
    stream = TrainingStream(0, {"addition": 1.0, "sorting": 1.0}, (1, 0, 0, 0, 0), frozenset())
    for _ in range(30):
        tasks = stream.take(50)
        stream.learn(tasks, [0.5 if task.family == "sorting" else 1.0 for task in tasks])
    drawn = Counter(task.family for task in stream.take(500))
    assert drawn["sorting"] > 4 * drawn["addition"] > 0


@given(st.text(ALPHABET, min_size=1, max_size=MAX_ANSWER))
def test_answers_survive_encoding(text: str) -> None:
    assert decode(encode_answers([text])[0].tolist()) == text


def test_open_or_malformed_answers_have_no_text() -> None:
    assert decode([5, 6]) is None
    assert decode([5, PAD, END]) is None
    assert decode([END]) == ""


def test_cached_sampling_equals_full_forward(model: CharacterModel) -> None:
    prompts = encode_prompts(["What is 27 plus 48?", "Write 'stone' backwards.", "Add 1 and 2."])
    tokens, logs = model.sample(prompts, 5, torch.Generator().manual_seed(1), temperature=0.7)
    with torch.no_grad():
        full = (model(prompts, tokens) / 0.7).log_softmax(-1)
    chosen = full.gather(-1, tokens[..., None])[..., 0]
    written = tokens != PAD
    torch.testing.assert_close(logs[written], chosen[written], atol=1e-5, rtol=1e-5)


def test_padding_and_batching_do_not_change_logits(model: CharacterModel) -> None:
    answers = encode_answers(["75"])[:, None]
    with torch.no_grad():
        alone = model(encode_prompts(["Add 27 and 48."]), answers)
        batch = encode_prompts(["Add 27 and 48.", "Put 'window' in alphabetical order."])
        together = model(batch, answers.expand(2, 3, -1))
    torch.testing.assert_close(together[0, 2], alone[0, 0], atol=1e-5, rtol=1e-5)


def test_attention_is_causal(model: CharacterModel) -> None:
    prompts = encode_prompts(["Add 27 and 48."])
    with torch.no_grad():
        first = model(prompts, encode_answers(["75"])[:, None])
        second = model(prompts, encode_answers(["79"])[:, None])
    torch.testing.assert_close(first[..., :2, :], second[..., :2, :])
    assert not torch.allclose(first[..., 2, :], second[..., 2, :])


def test_sampling_follows_the_distribution(model: CharacterModel) -> None:
    prompts = encode_prompts(["Add 1 and 2."])
    tokens, _ = model.sample(prompts, 8000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(prompts, tokens[:, :1])[0, 0, 0].softmax(-1)
    seen = torch.bincount(tokens[0, :, 0], minlength=len(expected)) / 8000
    assert (seen - expected).abs().max() < 0.025


def test_advantages_of_groups_of_any_size() -> None:
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 0, 9, 9], [1, 1, 1, 9], [1, 9, 9, 9], [9, 9, 9, 9]])
    counts = torch.tensor([4, 2, 3, 1, 0])
    gains = advantages(rewards, counts, eps=1e-6)
    root3 = 3**0.5
    expected = torch.zeros(5, 4)
    expected[0] = torch.tensor([root3, -1 / root3, -1 / root3, -1 / root3])
    expected[1, :2] = torch.tensor([1.0, -1.0])
    torch.testing.assert_close(gains, expected, atol=1e-4, rtol=1e-4)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), max_size=8), min_size=1, max_size=6))
def test_advantages_are_centred(groups: list[list[float]]) -> None:
    counts = torch.tensor([len(group) for group in groups])
    rewards = torch.tensor([group + [0.5] * (8 - len(group)) for group in groups])
    gains = advantages(rewards, counts)
    assert torch.isfinite(gains).all()
    assert gains.sum(1).abs().max() < 1e-4
    for row, group in zip(gains, groups, strict=True):
        assert (row[len(group) :] == 0).all()
        assert (row.abs().sum() > 0) == (len(set(group)) > 1)


def test_gradient_is_that_of_the_policy_gradient(model: CharacterModel) -> None:
    tasks = [draw(Random(seed), "counting", 1) for seed in range(4)]
    counts = np.array([3, 0, 5, 2])
    rollouts = roll_out(model, tasks, counts, torch.Generator().manual_seed(0))
    assert rollouts.lengths()[1].sum() == 0
    gains = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    loss = grpo_loss(model, rollouts, gains, GrpoSettings())
    (got,) = torch.autograd.grad(loss, [model.head.weight])
    terms, characters = [], 0
    for row, column in rollouts.present.nonzero().tolist():
        tokens = rollouts.tokens[row, column][None, None]
        logs = model(rollouts.prompts[row : row + 1], tokens).log_softmax(-1)
        chosen = logs.gather(-1, tokens[..., None])[..., 0][tokens != PAD]
        terms.append(chosen.sum() * gains[row, column])
        characters += len(chosen)
    assert len(terms) == counts.sum()
    (want,) = torch.autograd.grad(-torch.stack(terms).sum() / characters, [model.head.weight])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_ratio_is_clipped(model: CharacterModel) -> None:
    tasks = [draw(Random(0), "counting", 1)]
    rollouts = roll_out(model, tasks, np.array([4]), torch.Generator().manual_seed(0))
    rollouts.logs.sub_(1.0)  # every ratio is e, far above the trust region
    up = grpo_loss(model, rollouts, torch.ones(1, 4), GrpoSettings(clip=0.2))
    down = grpo_loss(model, rollouts, -torch.ones(1, 4), GrpoSettings(clip=0.2))
    assert up.item() == pytest.approx(-1.2, abs=1e-4)
    assert down.item() == pytest.approx(np.e, abs=1e-3)


def test_grpo_learns_a_simple_task(model: CharacterModel) -> None:
    rng = Random(0)
    warm, generator = warm_start_optimizer(model), torch.Generator().manual_seed(0)
    for _ in range(30):
        tasks = [draw(rng, "counting", 1) for _ in range(64)]
        warm.step(warm_start_loss(model, tasks, demonstrations(tasks, rng)))
    optimizer, means = grpo_optimizer(model), []
    for _ in range(30):
        tasks = [draw(rng, "counting", 1) for _ in range(32)]
        counts = np.array([rng.randrange(2, 12) for _ in tasks])
        rollouts = grpo_step(model, optimizer, tasks, counts, generator, GrpoSettings())
        means.append(float(rollouts.rewards.sum() / counts.sum()))
    assert np.mean(means[-5:]) > np.mean(means[:5]) + 0.1


def test_step_without_variation_changes_nothing(model: CharacterModel) -> None:
    before = [weight.clone() for weight in model.parameters()]
    tasks = [draw(Random(0), "sorting", 5)] * 3
    generator = torch.Generator().manual_seed(0)
    grpo_step(model, grpo_optimizer(model), tasks, np.array([1, 1, 0]), generator, GrpoSettings())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.long
def test_quick_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet", "c.parquet")]
    for path, seed in zip(paths, ("0", "0", "1"), strict=True):
        main(["--out", str(path), "--quick", "--workers", "1", "--seed", seed])
    first, second, other = (pq.read_table(path) for path in paths)
    assert first.equals(second)
    assert not first.equals(other)
    assert first.column_names == SCHEMA.names
    assert first["prompt"].combine_chunks().equals(other["prompt"].combine_chunks())
    rows = card.Rows.read(paths[0])
    prompts = 2 * len(FAMILIES) * len(LEVELS)
    for policy in rows.names("policy"):
        part = rows.where(policy=policy)
        assert part["step"].tolist() == [0] * prompts + [2] * prompts + [4] * prompts
    assert len(rows.names("policy")) == 2
    assert 1 <= rows["cost_tokens"].min() <= rows["cost_tokens"].max() <= MAX_ANSWER + 1
    capsys.readouterr()
    card.main([str(paths[0])])
    printed = capsys.readouterr().out
    assert "zoo-tiny-s0" in printed
    assert " nan" not in printed


class TestCommittedDataset:
    """The dataset in the repository agrees with its data card."""

    def test_size(self, rows: card.Rows) -> None:
        assert DATASET.stat().st_size <= 3_000_000
        assert list(rows.columns) == SCHEMA.names
        assert len(rows.names("policy")) >= 4
        assert len(rows.names("prompt")) >= 1500
        assert all(len(rows.where(policy=p).names("step")) >= 8 for p in rows.names("policy"))

    def test_prompts_are_the_evaluation_prompts(self, rows: card.Rows) -> None:
        expected = [task.prompt for task in evaluation_tasks()]
        assert rows["prompt"].tolist() == expected * (len(rows) // len(expected))
        order = list(zip(rows["policy"].tolist(), rows["step"].tolist(), strict=True))
        assert order == sorted(order)

    def test_rewards_are_averages_of_ten(self, rows: card.Rows) -> None:
        reward = rows["reward"].astype(np.float64)
        assert (rows["n_rollouts"] == 10).all()
        assert np.abs(reward * 10 - (reward * 10).round()).max() < 1e-5
        assert 0 <= reward.min() < reward.max() <= 1
        assert 1 <= rows["cost_tokens"].min() <= rows["cost_tokens"].max() <= MAX_ANSWER + 1

    def test_success_grows_with_training(self, rows: card.Rows) -> None:
        for policy in rows.names("policy"):
            part = rows.where(policy=policy)
            means = [part.where(step=step).mean() for step in part.names("step")]
            assert 0.05 < means[0] < means[-1] - 0.1
            assert max(means) - means[-1] < 0.03
            assert np.corrcoef(np.arange(len(means)), means)[0, 1] > 0.7

    def test_prompts_differ_in_difficulty(self, rows: card.Rows) -> None:
        last = rows.last()
        for policy in rows.names("policy"):
            part = last.where(policy=policy)
            assert part.mixed() > 0.15
            assert part["reward"].astype(np.float64).std() > 0.25
            families = [part.where(benchmark=family).mean() for family in FAMILIES]
            assert max(families) - min(families) > 0.2
        levels = [last.where(level=level).mean() for level in LEVELS]
        assert levels == sorted(levels, reverse=True)
