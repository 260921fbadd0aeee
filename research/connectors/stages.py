"""What a connector is trained on: contexts and queries of policies along their steps."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from research.connectors.config import ConnectorConfig
from vzero_server.types import Float32Array, IntArray
from vzero_train.data.outcomes import Pool


@dataclass(frozen=True)
class TrainingStage:
    """The training outcomes of one policy at one step.

    Attributes:
        context: Where contexts are drawn from, with the natural share of successes.
        training: Where queries are drawn from, balanced; shares no prompt with ``context``.
    """

    context: Pool
    training: Pool


def usable_stages(stages: Sequence[TrainingStage], rows: int) -> dict[str, list[TrainingStage]]:
    """Stages by source (``benchmark``) that can fill a context and have both kinds of queries.

    Raises:
        ValueError: There is none.
    """
    usable: dict[str, list[TrainingStage]] = defaultdict(list)
    for stage in stages:
        if len(stage.context) >= rows and 0.0 < stage.training.success_rate < 1.0:
            usable[stage.context.benchmark].append(stage)
    if not usable:
        raise ValueError(
            f"no stage has {rows} rows of context, and successes and failures to ask for"
        )
    return dict(usable)


def draw_contexts(
    stages: dict[str, list[TrainingStage]], config: ConnectorConfig, rng: np.random.Generator
) -> tuple[IntArray, Float32Array]:
    """Prompts and rewards ``[contexts, rows + asked]`` of stages of one source.

    Half of the queries are successes; of the rarer kind some are drawn twice if need be.
    """
    source = sorted(stages)[rng.integers(len(stages))]
    of_source = stages[source]
    prompts, rewards = [], []
    for index in rng.choice(
        len(of_source), config.contexts, replace=len(of_source) < config.contexts
    ):
        context, queries = of_source[index].context, of_source[index].training
        read = rng.permutation(len(context))[: config.rows]
        success = queries.reward >= 0.5
        halves = (np.flatnonzero(success), np.flatnonzero(~success))
        each = config.asked // 2
        asked = np.concatenate([rng.choice(half, each, len(half) < each) for half in halves])
        prompts.append(np.concatenate([context.prompt[read], queries.prompt[asked]]))
        rewards.append(np.concatenate([context.reward[read], queries.reward[asked]]))
    return np.stack(prompts), np.stack(rewards)
