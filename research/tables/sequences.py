"""GRPO sequences, divided for strict generalisation (section 5.2 of the paper)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from research.connectors.stages import TrainingStage
from vzero_server.types import BoolArray, FloatArray
from vzero_train.data.outcomes import Outcomes, Pool
from vzero_train.data.questions import Question, ask

_PARTS = ("context", "training", "validation", "test")
_CHANCES = (0.32, 0.32, 0.16, 0.2)


@dataclass(frozen=True)
class Sequences:
    """Checkpoints of policies, divided by prompt: each prompt is in one part.

    Attributes:
        texts: Distinct prompts, to which all indices refer.
        stages: Training outcomes.
        validation: Questions for early stopping.
        test: Questions of the evaluation.
        difficulty: Mean reward of every prompt over all checkpoints that were asked it
            (Definition B.2), ``[texts]``; 0 where there are none.
    """

    texts: tuple[str, ...]
    stages: tuple[TrainingStage, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    difficulty: FloatArray


def joined(several: Sequence[Outcomes]) -> Outcomes:
    """Concatenate outcomes of several files; shared prompts get one index."""
    several = [_without_unused_texts(outcomes) for outcomes in several]
    texts = tuple(dict.fromkeys(text for outcomes in several for text in outcomes.texts))
    index = {text: place for place, text in enumerate(texts)}
    columns: dict[str, Any] = {
        entry.name: _stacked([getattr(outcomes, entry.name) for outcomes in several])
        for entry in fields(Outcomes)
        if entry.name not in ("texts", "prompt")
    }
    prompts = [
        np.array([index[text] for text in outcomes.texts])[outcomes.prompt] for outcomes in several
    ]
    return Outcomes(texts=texts, prompt=np.concatenate(prompts), **columns)


def _stacked(columns: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    """Concatenate columns; None if one of them is missing."""
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def divide(outcomes: Outcomes, rows: int, *, seed: int = 11) -> Sequences:
    """Divide the prompts, and thereby the outcomes of every policy at every step.

    A fifth of all prompts is for test, 16 % are for validation; half of the rest is the context
    pool, half are training queries: strict generalisation (section 5.2) with a part more.
    Contexts of all questions come from the context pool: their prompts were contexts in training
    too, those of the queries were never seen.

    Args:
        outcomes: Outcomes; rows without a step are ignored. A policy of two sources counts as two.
        rows: Rows of a context, N. Checkpoints with fewer are left out.
        seed: Seed of the division and of the contexts.

    Raises:
        ValueError: No policy has enough outcomes at any step.
    """
    known = _without_unused_texts(outcomes.where(outcomes.step >= 0))
    rng = np.random.default_rng(seed)
    part = rng.choice(len(_PARTS), len(known.texts), p=_CHANCES)
    stages, validation, test = [], [], []
    for pool in _pools(known):
        context, training, watched, judged = (
            _kept(pool, part[pool.prompt] == number) for number in range(len(_PARTS))
        )
        if len(context) >= rows and min(len(training), len(watched), len(judged)) > 0:
            stages.append(TrainingStage(context, training))
            validation.append(ask(context, watched, rows, rng))
            # The same context: what stops the training and what is judged ask one policy.
            test.append(replace(validation[-1], queries=judged.prompt, rewards=judged.reward))
    if not stages:
        raise ValueError(f"no policy with steps has {rows} outcomes for a context")
    difficulty = known.difficulty()
    return Sequences(known.texts, tuple(stages), tuple(validation), tuple(test), difficulty)


def _without_unused_texts(outcomes: Outcomes) -> Outcomes:
    used, prompt = np.unique(outcomes.prompt, return_inverse=True)
    texts = tuple(outcomes.texts[index] for index in used)
    return replace(outcomes, texts=texts, prompt=prompt.astype(np.int64))


def _pools(outcomes: Outcomes) -> list[Pool]:
    """Return the outcomes of each policy and step by source, of all benchmarks."""
    pools = []
    for source in np.unique(outcomes.source):
        of_source = outcomes.source == source
        for policy in np.unique(outcomes.policy[of_source]):
            of_policy = of_source & (outcomes.policy == policy)
            for step in np.unique(outcomes.step[of_policy]):
                rows = np.flatnonzero(of_policy & (outcomes.step == step))
                prompts, first = np.unique(outcomes.prompt[rows], return_index=True)
                reward = outcomes.reward[rows[first]]
                pools.append(Pool(str(policy), int(step), str(source), prompts, reward))
    return pools


def _kept(pool: Pool, kept: BoolArray) -> Pool:
    return replace(pool, prompt=pool.prompt[kept], reward=pool.reward[kept])
