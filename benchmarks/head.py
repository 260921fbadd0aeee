"""Cost of the in-context head on one core: encoding a context, and predicting from it.

``python -m benchmarks.head [--quick] [--json]``. Headlines: ``encode_ms.256``,
``predict_ms.256`` (8 queries) and ``encoded_mb.256``. Reference in the same run: the backbone on 8
short prompts, which any estimator needs for new prompts.
"""

from collections.abc import Callable

import torch

from benchmarks import report
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import load_checkpoint
from vzero_server.model.head_state import HeadState
from vzero_server.model.in_context_head import InContextHead
from vzero_server.model.prompt_encoder import PromptEncoder

QUERIES = 8


def main() -> None:
    """Measure and report."""
    options = report.parser(__doc__).parse_args()
    out = report.Report("head", options)
    torch.set_num_threads(1)
    sizes, rounds = ((256,), 2) if options.quick else ((32, 128, 256, 512, 1024, 2048), 15)
    with out.status("loading the models"):
        checkpoint = load_checkpoint()
        encoder = PromptEncoder(Backbone.load(), checkpoint.backbone.layers)
        bench = HeadBench(checkpoint.head.eval(), encoder)
    values = report.rounds(rounds, *(bench.at(size) for size in sizes), bench.backbone)
    for name, measured in values.items():
        unit = "MB" if name.startswith("encoded") else "ms"
        out.add(name, name.replace(".", ", rows ").replace("_", " "), unit, measured)
    out.print()


class HeadBench:
    """The head on random features: its cost does not depend on their values."""

    def __init__(self, head: InContextHead, encoder: PromptEncoder) -> None:
        """Set up the benchmark."""
        self._head, self._encoder = head, encoder
        self._generator = torch.Generator().manual_seed(0)

    def at(self, size: int) -> Callable[[int], dict[str, float]]:
        """Measurement at one context size."""

        @torch.inference_mode()
        def measure(_: int) -> dict[str, float]:
            rows = self._rows(size)
            rewards = torch.rand(1, size, generator=self._generator)
            queries = self._rows(QUERIES)
            contexts: list[HeadState] = []
            encode = report.milliseconds(lambda: contexts.append(self._head.encode(rows, rewards)))
            predict = report.milliseconds(lambda: self._head.predict(contexts[0], queries))
            return {
                f"encode_ms.{size}": encode,
                f"predict_ms.{size}": predict,
                f"encoded_mb.{size}": contexts[0].nbytes / 1e6,
            }

        return measure

    def backbone(self, number: int) -> dict[str, float]:
        """Reference: 8 new prompts through the backbone."""
        prompts = [f"What is {number} plus {i}?" for i in range(QUERIES)]
        backbone_ms = report.milliseconds(
            lambda: self._encoder.embed(self._encoder.tokenize(prompts))
        )
        return {"backbone_ms": backbone_ms}

    def _rows(self, count: int) -> torch.Tensor:
        features = torch.randn(1, count, self._head.config.features, generator=self._generator)
        return self._head.rows(features)


if __name__ == "__main__":
    main()
