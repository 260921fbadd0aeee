"""Speed and accuracy of number formats and runtimes of the backbone.

``python -m benchmarks.precision [--quick] [--json]``. Each is measured on the policy zoo, with
prompts and contexts embedded in that format: ``prompts_per_s`` in full batches and ``lone_ms`` of
a single prompt, both on one thread; ``auc`` within a context and ``mse`` of the values of the
in-context head; and the largest (``largest_change``) and mean difference of the values from those
in float32. The fastest format depends on the processor's instructions: bfloat16 needs AMX, int8
VNNI or AMX.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from benchmarks import report
from vzero_server.model import openvino
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import Checkpoint, load_checkpoint
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_train.data.features import prompt_features
from vzero_train.data.outcomes import (
    Outcomes,
    load_outcomes,
)
from vzero_train.data.questions import Question
from vzero_train.demo.command import zoo
from vzero_train.evaluation.baselines import Head
from vzero_train.evaluation.judgement import questions_of
from vzero_train.evaluation.metrics import (
    auc,
    mse,
)

ROWS = 256
"""Rows of a context."""
LONE = 64
"""Number of prompts that are embedded one at a time."""

_ALL = (
    ("float32", "torch"),
    ("bfloat16", "torch"),
    ("float32", "openvino"),
    ("bfloat16", "openvino"),
    ("int8", "openvino"),
)


def main() -> None:
    """Measure and report."""
    options = report.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    out = report.Report("precision", options)
    bench = Precision(load_outcomes(zoo()), load_checkpoint(), 200 if options.quick else None)
    reference: list[np.ndarray] | None = None
    for dtype, runtime in _ALL:
        if runtime == "openvino" and not openvino.available():
            continue
        name = f"{runtime}.{dtype}"
        with out.status(name):
            figures, values = bench.measure(dtype, runtime)
        reference = reference or values
        changes = [np.abs(value - exact) for value, exact in zip(values, reference, strict=True)]
        figures["largest_change"] = max(change.max() for change in changes)
        figures["mean_change"] = float(np.mean([change.mean() for change in changes]))
        for figure, value in figures.items():
            unit = {"prompts_per_s": "prompts/s", "lone_ms": "ms", "load_s": "s"}.get(figure, "")
            out.add(f"{name}.{figure}", f"{dtype} {runtime}, {figure}", unit, [value])
    out.print()


@dataclass(frozen=True)
class Precision:
    """The measurements.

    Attributes:
        outcomes: Outcomes to evaluate values on.
        checkpoint: Checkpoint of the head.
        prompts: Number of prompts to use, the first ones; None for all.
    """

    outcomes: Outcomes
    checkpoint: Checkpoint
    prompts: int | None

    def measure(self, dtype: str, runtime: str) -> tuple[dict[str, float], list[np.ndarray]]:
        """Figures of one format, and its values for every question."""
        began = time.perf_counter()
        backbone = Backbone.load(device="cpu", dtype=dtype, runtime=runtime)
        encoder = PromptEncoder(backbone, self.checkpoint.backbone.layers)
        encoder.embed(encoder.tokenize(["compiles the model"]))
        loaded = time.perf_counter() - began
        outcomes = self.outcomes
        if self.prompts:
            outcomes = outcomes.where(outcomes.prompt < self.prompts)
        texts = outcomes.texts[: self.prompts]
        began = time.perf_counter()
        features = prompt_features(texts, encoder)
        seconds = time.perf_counter() - began
        head = Head(self.checkpoint.head.eval(), features[:, encoder.pooled :])
        questions = questions_of(outcomes, 64 if self.prompts else ROWS)
        values = [np.asarray(head(question)) for question in questions]
        return {
            "load_s": loaded,
            "prompts_per_s": len(texts) / seconds,
            "lone_ms": _lone_ms(encoder, texts[:: max(1, len(texts) // LONE)]),
            **_quality(questions, values),
        }, values


def _lone_ms(encoder: PromptEncoder, texts: Sequence[str]) -> float:
    durations = []
    for text in texts:
        prompts = encoder.tokenize([text])
        began = time.perf_counter()
        encoder.embed(prompts)
        durations.append(1000 * (time.perf_counter() - began))
    return median(durations)


def _quality(questions: Sequence[Question], values: Sequence[np.ndarray]) -> dict[str, float]:
    pairs = list(zip(questions, values, strict=True))
    return {
        "auc": float(np.mean([auc(question.rewards, value) for question, value in pairs])),
        "mse": float(np.mean([mse(question.rewards, value) for question, value in pairs])),
    }


if __name__ == "__main__":
    main()
