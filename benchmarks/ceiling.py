"""Throughput of the backbones, as a share of the device's matrix-product throughput.

``python -m benchmarks.ceiling [--qwen] [--quick] [--json]``. The ceiling is measured in the same
run: a product of two large square matrices in the backbone's number format. MiniLM runs as in the
server, on mixed prompts in full batches (``minilm.share`` of the ceiling,
``minilm.prompts_per_s``). With CUDA or ``--qwen``, so does a model with random weights in the
shape of Qwen3-Embedding-0.6B, on 16 prompts of 128 tokens (``qwen.share``,
``qwen.prompts_per_s``). Torch counts the operations: products and attention, without padding. One
thread on a CPU.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Model

from benchmarks import report
from benchmarks.model import InProcessModel
from benchmarks.paper_profile import TRUE, backbone_config
from benchmarks.zoo_prompts import mixed_prompts
from vzero_server.model.dtypes import AUTO, DTYPES, resolve_dtype
from vzero_server.paper.token_backbone import TokenBackbone

PROMPTS = 512
TOKENS, BATCH = 128, 16


def main() -> None:
    """Measure and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--qwen", action="store_true", help="run the large model on a CPU too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Ceiling("cuda" if torch.cuda.is_available() else "cpu")
    out = report.Report("ceiling", options)
    passes = {"minilm": bench.minilm(64 if options.quick else PROMPTS)}
    if options.qwen or bench.device == "cuda":
        with out.status("creating the large model"):
            passes["qwen"] = bench.qwen()
    for name, (work, prompts, operations) in passes.items():
        with out.status(name):
            rounds = [bench.one_round(work, operations) for _ in range(1 if options.quick else 7)]
        seconds, shares, ceilings = zip(*rounds, strict=True)
        speeds = [prompts / round_seconds for round_seconds in seconds]
        out.add(f"{name}.prompts_per_s", f"{name}", "prompts/s", speeds)
        out.add(f"{name}.share", f"{name}, of the ceiling", "ratio", shares)
        out.add(f"{name}.ceiling_gflops", "large product", "GFLOP/s", ceilings)
    out.print()


class Ceiling:
    """The measurements, on one device.

    Attributes:
        device: Torch device.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._dtype = DTYPES[resolve_dtype(AUTO, device)]
        size = 8192 if device == "cuda" else 1024
        self._left, self._right = torch.randn(2, size, size, device=device, dtype=self._dtype)

    def one_round(self, work: Callable[[], object], operations: int) -> tuple[float, float, float]:
        """Seconds of a pass, its share of the ceiling, and the ceiling in GFLOP/s."""
        product = self._seconds(lambda: self._left @ self._right)
        ceiling = 2 * len(self._left) ** 3 / product
        seconds = self._seconds(work)
        return seconds, operations / seconds / ceiling, ceiling / 1e9

    def minilm(self, count: int) -> tuple[Callable[[], object], int, int]:
        """A pass over mixed prompts, the number of prompts, and that of operations."""
        model = InProcessModel()
        batches = model.batches(mixed_prompts(count, "ceiling"))

        def work() -> None:
            for batch in batches:
                model.encoder.embed(batch)

        # One prompt at a time, to count no padding.
        def without_padding() -> None:
            for batch in batches:
                for prompt in batch:
                    model.encoder.embed([prompt])

        return work, count, _operations(without_padding)

    def qwen(self) -> tuple[Callable[[], object], int, int]:
        """The same for the large model, on random tokens, with prompts of equal length."""
        torch.manual_seed(0)
        with torch.device(self.device):
            model = Qwen3Model(backbone_config(TRUE)).to(self._dtype)
        tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        backbone = TokenBackbone("random", model, tokenizer, max_tokens=2048, fingerprint="")
        generator = np.random.default_rng(0)
        tokens = generator.integers(0, TRUE.vocabulary, (BATCH, TOKENS)).tolist()

        def work() -> object:
            return backbone.states(tokens)

        return work, BATCH, _operations(work)

    def _seconds(self, work: Callable[[], object]) -> float:
        """Median duration of three runs."""
        durations = []
        for _ in range(3):
            began = time.perf_counter()
            work()
            if self.device == "cuda":
                torch.cuda.synchronize()
            durations.append(time.perf_counter() - began)
        return float(np.median(durations))


def _operations(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
