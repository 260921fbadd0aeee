"""Baselines that follow a policy along its steps (section 5.3 of the paper)."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from vzero_server.types import AnyFloatArray
from vzero_train.data.earlier_steps import EarlierSteps
from vzero_train.data.outcomes import Pool
from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import Neighbours, context_mean
from vzero_train.evaluation.value_network import ValueNetwork


class PreviousEpoch:
    """The reward of the same prompt at its last step under the policy.

    A prompt without earlier outcomes gets the mean of the context; the paper excludes it.
    """

    def __init__(self, earlier_steps: EarlierSteps) -> None:
        self._earlier_steps = earlier_steps

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        last: dict[int, float] = {}
        for pool in self._earlier_steps.before(question.policy, question.step):
            last.update(zip(pool.prompt.tolist(), pool.reward.tolist(), strict=True))
        mean = context_mean(question)
        return np.array([last.get(prompt, mean) for prompt in question.queries.tolist()])


class BufferedNeighbours:
    """kNN-contextual: the k nearest among the newest outcomes of any step.

    The buffer is first in, first out (Eq. 52). The newest outcomes are those of the context of
    the question; those of earlier steps precede them.
    """

    def __init__(
        self,
        embeddings: AnyFloatArray,
        earlier_steps: EarlierSteps,
        *,
        k: int = 64,
        window: int = 2048,
    ) -> None:
        self._neighbours = Neighbours(embeddings, k)
        self._earlier_steps, self._window = earlier_steps, window

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        known = self._earlier_steps.before(question.policy, question.step)
        prompts = np.concatenate([*(pool.prompt for pool in known), question.context])
        rewards = np.concatenate([*(pool.reward for pool in known), question.context_rewards])
        buffer = Question(
            policy=question.policy,
            step=question.step,
            benchmark=question.benchmark,
            context=prompts[-self._window :].astype(np.int64),
            context_rewards=rewards[-self._window :].astype(np.float32),
            queries=question.queries,
            rewards=question.rewards,
        )
        return self._neighbours(buffer)


class VanillaValueModel:
    """A value model coupled to one policy and trained incrementally along its steps.

    It is trained on a cold start before the first step of the policy, and for some epochs on the
    outcomes of each step. So the values of a step come from the steps before: they lag behind
    the policy, as in PPO. For a policy without earlier outcomes it learns from the context.
    """

    def __init__(
        self,
        columns: AnyFloatArray,
        earlier_steps: EarlierSteps,
        *,
        cold_start: Mapping[str, Pool] | None = None,
        epochs: int = 5,
        seed: int = 0,
    ) -> None:
        """Initialize; the model of a policy is trained on first use.

        Args:
            columns: Features of all prompts, ``[prompts, columns]``.
            earlier_steps: Outcomes of policies by step.
            cold_start: Outcomes of each policy at its first step.
            epochs: Epochs on the cold start and on each step.
            seed: Seed of every model.
        """
        self._columns, self._earlier_steps = columns, earlier_steps
        self._cold_start = cold_start or {}
        self._epochs, self._seed = epochs, seed
        self._values: dict[str, list[AnyFloatArray]] = defaultdict(list)

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``."""
        known = len(self._earlier_steps.before(question.policy, question.step))
        if not known and question.policy not in self._cold_start:
            return StepwiseRetrain(self._columns, epochs=self._epochs, seed=self._seed)(question)
        if question.policy not in self._values:
            self._train(question.policy)
        return self._values[question.policy][known][question.queries]

    def _train(self, policy: str) -> None:
        """Compute values of all prompts after the cold start, and after each step."""
        network = ValueNetwork(self._columns, seed=self._seed)
        everything = np.arange(len(self._columns))
        if policy in self._cold_start:
            network.train(self._cold_start[policy], self._epochs)
        self._values[policy].append(network(everything))
        for pool in self._earlier_steps.of(policy):
            network.train(pool, self._epochs)
            self._values[policy].append(network(everything))


class StepwiseRetrain:
    """A fresh value model for every step, trained on that step's held-out outcomes.

    Where none are given it learns from the question's context.
    """

    def __init__(
        self,
        columns: AnyFloatArray,
        held_out: Mapping[tuple[str, int], Pool] | None = None,
        *,
        epochs: int = 20,
        seed: int = 0,
    ) -> None:
        """Prepare.

        Args:
            columns: Of all prompts, ``[prompts, columns]``.
            held_out: Outcomes by policy and step.
            epochs: Of each training. More than the incremental model's 5, since there is no
                earlier step to build on.
            seed: Of every model.
        """
        self._columns, self._held_out = columns, held_out or {}
        self._epochs, self._seed = epochs, seed

    def __call__(self, question: Question) -> AnyFloatArray:
        """See ``Estimator``; one half for an empty context."""
        context = Pool(
            question.policy,
            question.step,
            question.benchmark,
            question.context,
            question.context_rewards,
        )
        pool = self._held_out.get((question.policy, question.step), context)
        if not len(pool):
            return np.full(len(question.queries), context_mean(question))
        network = ValueNetwork(self._columns, seed=self._seed)
        network.train(pool, self._epochs)
        return network(question.queries)
