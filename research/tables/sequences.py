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
    """Checkpoints of policies, divided by prompt: no prompt has two parts.

    Attributes:
        texts: Distinct prompts; everything else points to them.
        stages: To train on.
        validation: Questions that decide when to stop.
        test: Questions that are judged by.
        difficulty: Mean reward of every prompt over all checkpoints that were asked it
            (Definition B.2), ``[texts]``; 0 where there are none.
    """

    texts: tuple[str, ...]
    stages: tuple[TrainingStage, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    difficulty: FloatArray


def joined(several: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of several files as one; prompts they share count once."""
    several = [_without_unused_texts(one) for one in several]
    texts = tuple(dict.fromkeys(text for one in several for text in one.texts))
    index = {text: place for place, text in enumerate(texts)}
    columns: dict[str, Any] = {
        entry.name: _stacked([getattr(one, entry.name) for one in several])
        for entry in fields(Outcomes)
        if entry.name not in ("texts", "prompt")
    }
    prompts = [np.array([index[text] for text in one.texts])[one.prompt] for one in several]
    return Outcomes(texts=texts, prompt=np.concatenate(prompts), **columns)


def _stacked(columns: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    """One column of several; None where one of them does not have it."""
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def divide(outcomes: Outcomes, rows: int, *, seed: int = 11) -> Sequences:
    """Divide the prompts, and with them the outcomes of every policy at every step.

    A fifth of all prompts is for test, 16 % are for validation; half of the rest is the context
    pool, half are training queries: strict generalisation (section 5.2) with a part more.
    Contexts of all questions come from the context pool: their prompts were contexts in training
    too, those of the queries were never seen.

    Args:
        outcomes: Only rows with a step count. A policy of two sources is two.
        rows: Rows of a context, N. Checkpoints that cannot fill one are left out.
        seed: Of the division and of the contexts of the questions.

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
    """All outcomes of a policy at a step, whatever the benchmark: a source is one here."""
    pools = []
    for source in np.unique(outcomes.source):
        theirs = outcomes.source == source
        for policy in np.unique(outcomes.policy[theirs]):
            his = theirs & (outcomes.policy == policy)
            for step in np.unique(outcomes.step[his]):
                rows = np.flatnonzero(his & (outcomes.step == step))
                prompts, first = np.unique(outcomes.prompt[rows], return_index=True)
                reward = outcomes.reward[rows[first]]
                pools.append(Pool(str(policy), int(step), str(source), prompts, reward))
    return pools


def _kept(pool: Pool, kept: BoolArray) -> Pool:
    return replace(pool, prompt=pool.prompt[kept], reward=pool.reward[kept])
