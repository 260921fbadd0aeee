"""Values with prompt history, at each step of a run from everything before the step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit

from vzero_server.model.in_context_head import InContextHead
from vzero_server.types import AnyFloatArray, FloatArray, IntArray
from vzero_server.values.ages import ages_of
from vzero_server.values.dispersion import concentration
from vzero_server.values.history import Dynamics, combine, fit
from vzero_server.values.visits import Visits, earlier_visits, visits_of_outcomes
from vzero_train.data.outcomes import Outcomes
from vzero_train.progress import Progress

CONTEXT = 512
"""Number of newest log rows that the head reads."""


@dataclass(frozen=True)
class Turn:
    """One step of a policy, predicted from everything before it; n prompts.

    Attributes:
        policy: Its name.
        step: The step.
        prompts: Prompts of the step that had been visited before, ``[n]``.
        rewards: Observed rewards, ``[n]``.
        rollouts: Attempts behind each reward, ``[n]``.
        values: Values of the head, ``[n]``, from the newest rows of the log.
        loo_values: The same, but leave-one-out for prompts in the context: without their newest
            row.
        size: Effective sample size of the values.
        past: Earlier outcomes of the policy on these prompts.
        mean: Mean reward of the policy's last step.
        dynamics: Fits to the newest outcomes and the earlier ones of their prompts, with the drift
            shift and without.
    """

    policy: str
    step: int
    prompts: IntArray
    rewards: FloatArray
    rollouts: IntArray
    values: FloatArray
    loo_values: FloatArray
    size: float
    past: Visits
    mean: float
    dynamics: tuple[Dynamics, Dynamics]

    @property
    def last(self) -> FloatArray:
        """Newest earlier reward of each prompt, ``[n]``."""
        rewards = np.empty(len(self.prompts))
        newest = self.past.ages == 1.0
        rewards[self.past.owner[newest]] = self.past.rewards[newest]
        return rewards

    def decayed(self, worth: float, decay: float) -> FloatArray:
        """Return means of Beta(worth/2 + sum decay^age s, worth/2 + sum decay^age f), ``[n]``."""
        counts = self.past.rollouts * decay**self.past.ages
        good = np.bincount(self.past.owner, counts * self.past.rewards, len(self.prompts))
        every = np.bincount(self.past.owner, counts, len(self.prompts))
        mean: FloatArray = (0.5 * worth + good) / (worth + every)
        return mean

    def fused(
        self, *, shift: bool = True, loo_values: bool = False, dynamics: Dynamics | None = None
    ) -> FloatArray:
        """Return values with history, ``[n]``.

        Args:
            shift: Use the fit with the drift shift.
            loo_values: Combine ``loo_values`` instead of ``values``.
            dynamics: Dynamics to use instead of the fitted ones.
        """
        values = self.loo_values if loo_values else self.values
        size = np.full(len(values), self.size)
        fitted = self.dynamics[0 if shift else 1]
        return combine(values, size, self.past, dynamics or fitted).mean


def turns(
    outcomes: Outcomes,
    head: InContextHead,
    features: AnyFloatArray,
    *,
    share: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[Turn]:
    """Predict every step of every policy from the steps before it.

    Args:
        outcomes: Outcomes; rows without a step are ignored.
        head: The head, in evaluation mode.
        features: Features of all prompts, ``[prompts, columns]``.
        share: Share of the prompts of a step that are kept, drawn at each step.
        seed: Seed of the order of outcomes within a step, and of the kept prompts.
        progress: Called with the number of finished steps and of all.
    """
    rng = np.random.default_rng(seed)
    kept = outcomes.where(outcomes.step >= 0)
    runs = np.unique(np.stack([kept.policy, kept.step.astype(np.str_)]), axis=1).shape[1]
    done = 0
    for policy in np.unique(kept.policy):
        rows = np.flatnonzero(kept.policy == policy)
        log = np.empty(0, np.int64)
        for step in np.unique(kept.step[rows]):
            visited = rng.permutation(rows[kept.step[rows] == step])
            _, first = np.unique(kept.prompt[visited], return_index=True)
            visited = visited[np.sort(first)]
            visited = visited[rng.random(len(visited)) < share]
            known = visited[np.isin(kept.prompt[visited], kept.prompt[log])]
            if len(known):
                yield _turn(kept, log, known, head, features)
            log = np.concatenate([log, visited])
            done += 1
            if progress:
                progress(done, runs)


@torch.inference_mode()
def _turn(
    outcomes: Outcomes,
    log: IntArray,
    asked: IntArray,
    head: InContextHead,
    features: AnyFloatArray,
) -> Turn:
    context = log[-CONTEXT:]

    def rows(prompts: IntArray) -> torch.Tensor:
        return head.rows(torch.from_numpy(features[prompts].astype(np.float32))).unsqueeze(0)

    prompts, rewards = outcomes.prompt[asked], outcomes.reward.astype(np.float64)
    given = torch.from_numpy(outcomes.reward[context]).float().unsqueeze(0)
    ages = torch.from_numpy(ages_of(outcomes.step[context])).float().unsqueeze(0)
    encoded = head.encode(rows(outcomes.prompt[context]), given, ages=ages if ages.any() else None)
    values = torch.sigmoid(head.predict(encoded, rows(prompts)))[0].double().numpy()
    context_loo_values = expit(encoded.loo_logits[0].double().numpy())
    newest = {int(prompt): place for place, prompt in enumerate(outcomes.prompt[context])}
    loo_values_of_prompts = [
        context_loo_values[newest[prompt]] if prompt in newest else value
        for prompt, value in zip(prompts.tolist(), values, strict=True)
    ]
    rollouts = outcomes.rollouts
    size = concentration(rewards[None, context], rollouts[None, context], context_loo_values[None])
    # The last row of each prompt.
    last = np.array(sorted(newest.values()))
    repeated = earlier_visits(
        outcomes.prompt[log], outcomes.step[log], rewards[log], _floats(rollouts[log])
    ).of(last + len(log) - len(context))
    sizes = np.full(len(last), size[0])
    seen = context[last]
    fits = [
        fit(context_loo_values[last], sizes, repeated, rewards[seen], rollouts[seen], shift=shift)
        for shift in (True, False)
    ]
    return Turn(
        policy=str(outcomes.policy[asked[0]]),
        step=int(outcomes.step[asked[0]]),
        prompts=prompts,
        rewards=rewards[asked],
        rollouts=rollouts[asked],
        values=values,
        loo_values=np.array(loo_values_of_prompts),
        size=float(size[0]),
        past=_past(outcomes, log, prompts),
        mean=float(rewards[log[outcomes.step[log] == outcomes.step[log[-1]]]].mean()),
        dynamics=(fits[0], fits[1]),
    )


def _past(outcomes: Outcomes, log: IntArray, prompts: IntArray) -> Visits:
    place = np.full(len(outcomes.texts), -1)
    place[prompts] = np.arange(len(prompts))
    rows = log[place[outcomes.prompt[log]] >= 0]
    return visits_of_outcomes(
        place[outcomes.prompt[rows]],
        outcomes.step[rows],
        outcomes.reward[rows].astype(np.float64),
        _floats(outcomes.rollouts[rows]),
        len(prompts),
    )


def _floats(numbers: IntArray) -> FloatArray:
    return numbers.astype(np.float64)
