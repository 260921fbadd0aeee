"""The estimators that ``vzero eval outcomes`` compares, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from vzero_server.model.in_context_head import InContextHead
from vzero_train.data.columns import Columns
from vzero_train.data.earlier_steps import EarlierSteps
from vzero_train.data.outcomes import Outcomes
from vzero_train.evaluation.baselines import (
    ContextMean,
    Estimator,
    Head,
    LogisticRegression,
    Neighbours,
    PromptDifficulty,
)
from vzero_train.evaluation.sequential import PreviousEpoch, StepwiseRetrain, VanillaValueModel

NAMES = (
    "icl",
    "context-mean",
    "prompt-length",
    "knn",
    "logistic-regression",
    "prompt-difficulty",
    "previous-epoch",
    "vanilla-value-model",
    "step-wise-retrain",
)
"""Names of the estimators, the judged one first."""

JUDGED = NAMES[0]


@dataclass(frozen=True)
class Lineup:
    """The parts that estimators are built from.

    Attributes:
        columns: Features of all prompts.
        head: The in-context head, in evaluation mode.
        earlier_steps: Outcomes of policies by step.
        training: Outcomes for estimators that learn across policies; None if none are set aside.
        judged: Outcomes of the evaluation.
        seed: Seed of all draws.
    """

    columns: Columns
    head: InContextHead
    earlier_steps: EarlierSteps
    judged: Outcomes
    training: Outcomes | None = None
    seed: int = 0

    def estimators(self, names: Sequence[str] = NAMES) -> dict[str, Estimator]:
        """Return the estimators of these names, in this order.

        Raises:
            ValueError: A name that is not in ``NAMES``.
        """
        return {name: self._estimator(name) for name in names}

    def _estimator(self, name: str) -> Estimator:
        columns = self.columns
        match name:
            case "icl":
                return Head(self.head, columns.features)
            case "context-mean":
                return ContextMean()
            case "prompt-length":
                return LogisticRegression(columns.lengths)
            case "knn":
                return Neighbours(columns.embeddings)
            case "logistic-regression":
                return LogisticRegression(columns.embeddings)
            case "prompt-difficulty":
                return self._difficulty()
            case "previous-epoch":
                return PreviousEpoch(self.earlier_steps)
            case "vanilla-value-model":
                return VanillaValueModel(columns.wide, self.earlier_steps, seed=self.seed)
            case "step-wise-retrain":
                return StepwiseRetrain(columns.wide, seed=self.seed)
        raise ValueError(f"no estimator {name!r}; there are {', '.join(NAMES)}")

    def _difficulty(self) -> PromptDifficulty:
        wide, training = self.columns.wide, self.training
        if training is not None:
            return PromptDifficulty.fit(wide, training.prompt, training.reward)
        judged = self.judged
        return PromptDifficulty.cross_fit(wide, judged.prompt, judged.reward, seed=self.seed)
