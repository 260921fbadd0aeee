"""Estimators, answers and pages of the tables along GRPO runs."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from research.tables.stages import Stage
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import SHIPPED, Checkpoint, load_checkpoint
from vzero_server.model.in_context_head import MAX_ROWS
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.types import AnyFloatArray
from vzero_train.data.columns import Columns
from vzero_train.data.features import prompt_features
from vzero_train.data.outcomes import Outcomes
from vzero_train.data.questions import Question, ask
from vzero_train.evaluation.baselines import Estimator, Head, PromptDifficulty
from vzero_train.evaluation.evaluate import Answers, Report, judge
from vzero_train.evaluation.judgement import cell
from vzero_train.reports import pages

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""

CONTEXT = 256
"""Rows of a context in the paper's tables."""

V0 = "**V0** (`icl`), one context"
RETRAIN = "step-wise retrain"
V0_WHOLE = "**V0** (`icl`), all held-out rollouts"


@dataclass(frozen=True)
class Trial:
    """Encoded outcomes of policies along their steps, and a head to evaluate on them.

    Attributes:
        outcomes: Outcomes of policies with at least two steps.
        columns: Features of all prompts.
        checkpoint: The head.
        weights: Its file; None for the shipped one.
        label: Name of the outcomes; empty for the policy zoo.
        seed: Seed of all draws.
        progress: Called along the way, if given.
        started: Time of creation, by ``time.monotonic``.
    """

    outcomes: Outcomes
    columns: Columns
    checkpoint: Checkpoint
    weights: Path | None = None
    label: str = ""
    seed: int = 0
    progress: Progress | None = None
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(
        cls,
        outcomes: Outcomes,
        backbone: Backbone,
        *,
        checkpoint: Path | None,
        cache: Path | None,
        label: str,
        seed: int,
        progress: Progress | None,
    ) -> "Trial":
        """Load the head and encode the prompts.

        Raises:
            CheckpointError: The head cannot be used with this backbone.
            ValueError: No policy has two steps.
        """
        started = time.monotonic()
        loaded = load_checkpoint(checkpoint or SHIPPED, backbone_sha256=backbone.weights)
        kept = _along_steps(outcomes)
        encoder = PromptEncoder(backbone, loaded.backbone.layers)

        def encoded(done: int, total: int) -> None:
            if progress:
                progress("prompts encoded", done, total)

        vectors = prompt_features(outcomes.texts, encoder, cache=cache, progress=encoded)
        columns = Columns.of(vectors, encoder)
        return cls(kept, columns, loaded, checkpoint, label, seed, progress, started)

    def reported(self, what: str) -> Callable[[int, int], None] | None:
        """Return a progress function for one part of the work; None without ``progress``."""
        progress = self.progress
        if progress is None:
            return None

        def report_on(done: int, total: int) -> None:
            progress(what, done, total)

        return report_on

    def questions(self, stages: Sequence[Stage], size: int = CONTEXT) -> list[Question]:
        """One question per stage: a context from its pool, all of its test prompts."""
        rng = np.random.default_rng([self.seed, size])
        return [ask(stage.context, stage.test, size, rng) for stage in stages if len(stage.test)]

    def difficulty(self, stages: Sequence[Stage]) -> Estimator:
        """Prompt difficulty, learned from the held-out outcomes of all policies and steps."""
        pools = [stage.held_out for stage in stages]
        prompts = np.concatenate([pool.prompt for pool in pools])
        rewards = np.concatenate([pool.reward for pool in pools])
        return PromptDifficulty.fit(self.columns.wide, prompts, rewards)

    def reader(self, stages: Sequence[Stage]) -> Estimator:
        """The head with all held-out outcomes of a step as its context, 2,048 at most."""
        head = Head(self.checkpoint.head, self.columns.features)
        pools = {(stage.test.policy, stage.test.step): stage.held_out for stage in stages}

        def read(question: Question) -> AnyFloatArray:
            pool = pools[question.policy, question.step]
            return head(
                replace(
                    question,
                    context=pool.prompt[:MAX_ROWS],
                    context_rewards=pool.reward[:MAX_ROWS],
                )
            )

        return read

    def command(self, name: str) -> str:
        """Return the command that regenerates a page."""
        file = f" {self.label}.parquet" if self.label else ""
        head = f" --checkpoint {self.weights.name}" if self.weights else ""
        return f"python -m research.tables{file} --only {name}{head}"

    def write(self, out: Path, name: str, text: str, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write the page and its JSON; the label is appended to their names."""
        seconds = time.monotonic() - self.started
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        foot = (
            f"Outcomes: {self._described()}. {self._head()}\n\n"
            f"`{self.command(name)}`, seed {self.seed}, {seconds:.0f} s of wall time ({machine})."
        )
        stem = f"{name}-{self.label}" if self.label else name
        result = {
            "command": self.command(name),
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "machine": machine,
            "head": self.checkpoint.fingerprint,
            **figures,
        }
        pages.write(out, stem, f"{text}\n\n{foot}", result)
        return result

    def _described(self) -> str:
        outcomes = self.outcomes
        checkpoints = len(set(zip(outcomes.policy.tolist(), outcomes.step.tolist(), strict=True)))
        return (
            f"{self.label or 'the policy zoo'}, {len(np.unique(outcomes.policy))} policies, "
            f"{checkpoints} checkpoints, {len(np.unique(outcomes.prompt)):,} prompts, mean reward "
            f"{outcomes.reward.mean():.2f}, MSE of the exact chances {outcomes.noise():.3f}"
        )

    def _head(self) -> str:
        training = self.checkpoint.training
        sources = ", ".join(str(name) for name in training.get("data", ())) or "unknown outcomes"
        left = training.get("left_out")
        without = f", but on no benchmark, prompt or policy of its fold {left}" if left else ""
        name = f"`{self.checkpoint.fingerprint[:12]}`"
        return f"V0 is the head {name}, trained on {sources}{without}."


def on_equal_terms(answers: Answers, seed: int) -> str:
    """Compare V0 and the retrained model, both with all outcomes of the step, in a sentence."""
    both = {name: answers.values[name] for name in (RETRAIN, V0_WHOLE)}
    retrained, _ = judge(Answers(answers.questions, both), V0_WHOLE, by_prompt=True, seed=seed)
    leads = {name: cell(retrained.leads[name]) for name in ("auc", "pairwise", "mse")}
    return (
        "On equal terms, with all held-out outcomes of the step, V0's paired lead over step-wise "
        f"retrain is {leads['auc']} in AUC, {leads['pairwise']} in pairwise accuracy and "
        f"{leads['mse']} in MSE."
    )


def rows_of(questions: Sequence[Question]) -> str:
    """Describe the numbers of rows of the contexts."""
    sizes = [len(question.context) for question in questions]
    least, most = min(sizes), max(sizes)
    return f"N = {most}" if least == most else f"N from {least} to {most}"


def compared(reports: Sequence[Report], figures: Mapping[str, str]) -> list[list[str]]:
    """Return rows of a table: the method, its figures, and V0's paired leads in AUC and MSE."""
    body = []
    for one in reports:
        cells = [cell(getattr(one, name)) for name in figures.values()]
        leads = [cell(one.leads.get(name)) if one.leads else "" for name in ("auc", "mse")]
        body.append([one.name, *cells, *leads])
    return body


def _along_steps(outcomes: Outcomes) -> Outcomes:
    stepping = outcomes.where(outcomes.step >= 0)
    several = [
        policy
        for policy in np.unique(stepping.policy)
        if len(np.unique(stepping.step[stepping.policy == policy])) > 1
    ]
    if not several:
        raise ValueError("no policy has outcomes at two steps")
    return stepping.where(np.isin(stepping.policy, several))
