"""GRPO of TRL with a number of rollouts for each prompt that depends on its value.

TRL draws every prompt ``num_generations`` times. `BudgetedGRPOTrainer` draws the same prompts and
the same number of rollouts in total, but divides the rollouts by how likely the policy is to solve
each prompt (section 5.5 of the paper). It needs ``vzero[trl]``.

Rollouts are divided just before a batch is generated, not when the sampler draws it. The data
loader reads one or more batches ahead, and the rewards of the previous batch would not count.
"""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather, gather_object
from torch import Tensor
from trl import GRPOTrainer

from vzero.errors import InvalidArgument
from vzero.integrations.budget import Budget, Division
from vzero.integrations.groups import Groups, Scoring

_ROUNDING = 1e-6

Row = dict[str, Any]
"""A row of the dataset."""

Outcome = Callable[[Tensor], Tensor]
"""Function from the rewards [n, functions] of n rollouts, NaN if a function gave none, to their
outcomes in [0, 1], [n]; NaN for outcomes that are not reported."""


def prompt_text(prompt: Any) -> str:  # noqa: ANN401
    """Return the text of a prompt: the string, or the texts of its messages, one per paragraph."""
    if isinstance(prompt, str):
        return prompt
    texts = []
    for message in prompt:
        content = message["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        texts += [block["text"] for block in blocks if block.get("text")]
    return "\n\n".join(texts)


class BudgetedGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """A ``GRPOTrainer`` with groups of different sizes. Evaluation does not change.

    A generation batch has the same prompts and the same number of rollouts as with
    ``GRPOTrainer``. Advantages are computed as in TRL, over the rollouts of each prompt. The
    metric ``frac_reward_zero_std``, which assumes groups of equal size, is replaced. For each
    generation batch the trainer also logs:

    ===========================  =======================================================
    ``vzero/divided``            1, or 0 if rollouts were divided evenly
    ``vzero/group_size_min``     fewest rollouts of a prompt
    ``vzero/group_size_max``     most rollouts of a prompt
    ``vzero/silent_rollouts``    share of rollouts whose group has no variation in reward
    ``vzero/value_mean``         mean predicted success rate (if divided)
    ``vzero/value_error``        mean squared difference from the observed rates (if divided)
    ``vzero/seconds``            duration of the call
    ===========================  =======================================================
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        budget: Budget,
        outcome: Outcome | None = None,
        text_of: Callable[[Any], str] = prompt_text,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Make the trainer.

        Args:
            args: As for ``GRPOTrainer``.
            budget: Budget that divides rollouts and reports outcomes.
            outcome: Function from the rewards of rollouts to their outcomes. None: the weighted
                sum of the rewards, which must then be in [0, 1].
            text_of: Function from a prompt to the text that identifies it on the server.
            kwargs: As for ``GRPOTrainer``.

        Raises:
            InvalidArgument: ``num_generations`` is outside the minimum and maximum of the budget.
        """
        super().__init__(*args, **kwargs)
        if not budget.minimum <= self.num_generations <= budget.maximum:
            raise InvalidArgument.of(
                "num_generations",
                f"is {self.num_generations}, but a prompt gets {budget.minimum} to "
                f"{budget.maximum} rollouts; change it, or minimum and maximum of the budget",
            )
        self._budget = budget
        self._outcome = outcome
        self._text_of = text_of
        self._rewards = torch.empty(0)

    def train(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Train as ``GRPOTrainer`` does; on return all outcomes are delivered or spooled."""
        if not self.accelerator.is_main_process:
            return super().train(*args, **kwargs)
        with self._budget.reporting():
            return super().train(*args, **kwargs)

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,  # noqa: ANN401
        multimodal_fields: dict[str, Any],
        num_generations: int,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Generate one completion per row: vLLM would otherwise generate n for every n-th row."""
        if self.model.training:
            num_generations = 1
        return super()._generate_single_turn(
            prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
        )

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Keep the rewards of all processes, float [n, functions]."""
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        """Divide the rollouts, let TRL generate and score them, and correct the advantages."""
        if not self.model.training:
            scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
            return scored
        # Rows of all processes, in the order in which TRL slices gathered values.
        first_rows: list[Row] = gather_object(inputs)[:: self.num_generations]
        texts = [self._text_of(row["prompt"]) for row in first_rows]
        division = self._divided(texts)
        # Copies, because TRL writes into rows.
        rows = [
            dict(row)
            for row, size in zip(first_rows, division.rollouts, strict=True)
            for _ in range(size)
        ]
        local = slice(
            self.accelerator.process_index * len(inputs),
            (self.accelerator.process_index + 1) * len(inputs),
        )
        scored = super()._generate_and_score_completions(rows[local])
        groups = Groups.of(division.rollouts, self._rewards.device)
        scoring = Scoring(
            self.reward_weights.to(self._rewards.device),
            self.scale_rewards,
            self.multi_objective_aggregation,
        )
        advantages = scoring.advantages(self._rewards, groups)
        scored["advantages"] = advantages[local]
        self._correct_logs(advantages, scoring, groups)
        lengths = gather(scored["completion_mask"].sum(1)).double()
        self._report(texts, division, scoring, groups, groups.mean(lengths))
        return scored

    def _divided(self, texts: list[str]) -> Division:
        """Divide rollouts in the main process and broadcast the division to all."""
        divisions: list[Division | None] = [None]
        if self.accelerator.is_main_process:
            divisions = [self._budget.divide(texts, len(texts) * self.num_generations)]
        received: list[Division] = broadcast_object_list(divisions)
        return received[0]

    def _correct_logs(self, advantages: Tensor, scoring: Scoring, groups: Groups) -> None:
        metrics, logged = self._metrics["train"], self._logs["advantages"]
        # The deque may have dropped the oldest of this batch.
        kept = advantages.tolist()[-len(logged) :]
        for _ in kept:
            logged.pop()
        logged.extend(kept)
        silent = groups.std(scoring.total(self._rewards)).isclose(torch.zeros(()).to(advantages))
        silent_rollouts = float(silent[groups.index].float().mean())
        sum_first = scoring.multi_objective_aggregation == "sum_then_normalize"
        if (
            sum_first and scoring.scale_rewards != "batch"
        ):  # otherwise the metric does not use groups
            metrics["frac_reward_zero_std"][-1] = silent_rollouts
        metrics["vzero/silent_rollouts"].append(silent_rollouts)

    def _report(
        self,
        texts: list[str],
        division: Division,
        scoring: Scoring,
        groups: Groups,
        tokens: Tensor,
    ) -> None:
        """Report the outcomes and log the quality of the division."""
        rewards = self._rewards
        outcomes = self._outcome(rewards) if self._outcome else scoring.total(rewards)
        low, high = -_ROUNDING, 1.0 + _ROUNDING
        outside = outcomes[(outcomes < low) | (outcomes > high)]
        if len(outside):
            raise InvalidArgument.of(
                "outcome",
                f"of a rollout must be in [0, 1], not {float(outside[0]):g}: pass a function that "
                "maps rewards to success",
            )
        means = groups.mean(outcomes.double().clamp(0.0, 1.0))
        scored = groups.scored(outcomes).long().tolist()
        metrics = self._metrics["train"]
        metrics["vzero/divided"].append(float(division.values is not None))
        metrics["vzero/group_size_min"].append(float(min(division.rollouts)))
        metrics["vzero/group_size_max"].append(float(max(division.rollouts)))
        metrics["vzero/seconds"].append(division.seconds)
        if division.values is not None:
            values = torch.as_tensor(division.values, device=means.device)
            metrics["vzero/value_mean"].append(float(values.mean()))
            metrics["vzero/value_error"].append(float((values - means).square().nanmean()))
        if self.accelerator.is_main_process:
            columns = zip(texts, means.tolist(), scored, tokens.tolist(), strict=True)
            for text, mean, count, length in columns:
                if count:
                    self._budget.report(
                        text,
                        mean,
                        rollouts=count,
                        step=self.state.global_step,
                        tokens=length,
                        decision_id=division.decision_id,
                    )
