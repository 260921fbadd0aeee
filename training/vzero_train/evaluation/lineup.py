"""Every estimator by the name people type, made for one outcomes file."""

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
from vzero_train.evaluation.sequential import (
    PreviousEpoch,
    StepwiseRetrain,
    VanillaValueModel,
)

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
"""What can be asked for, the judged one first."""

JUDGED = NAMES[0]


@dataclass(frozen=True)
class Lineup:
    """What estimators are made of.

    Attributes:
        columns: Of all prompts.
        head: The in-context head, in evaluation mode.
        earlier_steps: What is known of policies at earlier steps.
        training: Outcomes for what learns across policies; None where none are set aside.
        judged: Outcomes that are judged.
        seed: Of what is random.
    """

    columns: Columns
    head: InContextHead
    earlier_steps: EarlierSteps
    judged: Outcomes
    training: Outcomes | None = None
    seed: int = 0

    def estimators(self, names: Sequence[str] = NAMES) -> dict[str, Estimator]:
        """The estimators of these names, in this order.

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
        wide, given = self.columns.wide, self.training
        if given is not None:
            return PromptDifficulty.fit(wide, given.prompt, given.reward)
        judged = self.judged
        return PromptDifficulty.cross_fit(wide, judged.prompt, judged.reward, seed=self.seed)
