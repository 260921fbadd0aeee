"""Cost of the paper's configuration: 8 queries on a context of 256 rows.

``python -m benchmarks.paper_profile [--true-shapes] [--quick] [--json]``. Weights are random; the
cost does not depend on them. With CUDA the shapes are the paper's; without it they are scaled down
unless ``--true-shapes`` is options (minutes on a CPU). Headlines: ``cold_s`` (nothing cached),
``prompts_cached_s`` (features cached, context not encoded), ``context_cached_s`` (8 new prompts on
a cached context), ``all_cached_s``. Reference in the same run: ``joint_s``, one pass over context
and queries without a cache, as in the authors' code; the paper reports about 0.6 s on a GPU for
such a batch. ``context_mb`` is the size of a context; ``policies_per_80_gb`` is the number of
contexts of the paper's size that fit beside the weights.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabpfn.architectures import ARCHITECTURES
from tokenizers import Tokenizer, models
from transformers import Qwen3Config, Qwen3Model

from benchmarks import report
from vzero_server.paper.adapter import RELEASED, AdapterConfig, ResidualQueryAdapter
from vzero_server.paper.adapter_encoder import AdapterEncoder
from vzero_server.paper.adapter_file import AdapterFile
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_context import TabPFNContext
from vzero_server.paper.tabpfn_file import TabPFNFile
from vzero_server.paper.token_backbone import TokenBackbone

ROWS, QUERIES, TOKENS, MEMBERS = 256, 8, 128, 4


@dataclass(frozen=True)
class Shapes:
    """Shapes of backbone, adapter and TabPFN."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    adapter: AdapterConfig
    tabpfn: dict[str, Any]


TRUE = Shapes(
    hidden=1024,
    layers=28,
    heads=16,
    inner=3072,
    vocabulary=151_669,
    adapter=RELEASED,
    tabpfn={"max_num_classes": 10},
)
"""Shapes of the paper: Qwen3-Embedding-0.6B, the released adapter, TabPFN-v2.5 by default."""

SMALL = Shapes(
    hidden=128,
    layers=4,
    heads=4,
    inner=384,
    vocabulary=1000,
    adapter=AdapterConfig(hidden=128, queries=16, width=6, heads=3),
    tabpfn={"max_num_classes": 10, "emsize": 96, "nlayers": 4},
)
"""Shapes for a CPU: 96 columns, four layers each."""


def main() -> None:
    """Measure and report."""
    parser = report.parser(__doc__)
    parser.add_argument(
        "--true-shapes", action="store_true", help="use the paper's shapes on a CPU"
    )
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    out = report.Report("paper_profile", options)
    with out.status("creating the models"):
        bench = PaperBench(
            TRUE if cuda or options.true_shapes else SMALL, "cuda" if cuda else "cpu"
        )
    slow = options.quick or (options.true_shapes and not cuda)
    values = report.rounds(1 if slow else 5, bench.measure)
    units = {"mb": "MB", "s": "s"}
    for name, measured in values.items():
        out.add(name, name.replace("_", " "), units[name.rpartition("_")[2]], measured)
    out.add("policies_per_80_gb", "contexts of the paper's size in 80 GB", "", [policies_in(80e9)])
    out.print()


class PaperBench:
    """The parts of the profile, assembled as in the server."""

    def __init__(self, shapes: Shapes, device: str) -> None:
        """Create models with random weights."""
        torch.manual_seed(0)
        model = Qwen3Model(backbone_config(shapes)).to(device)
        tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        backbone = TokenBackbone("random", model, tokenizer, max_tokens=2048, fingerprint="")
        adapter = ResidualQueryAdapter(shapes.adapter).eval()
        self._encoder = AdapterEncoder(backbone, AdapterFile.of(adapter), device=device)
        self._head = TabPFNHead(
            random_tabpfn(shapes.tabpfn),
            columns=self._encoder.features,
            members=MEMBERS,
            device=device,
            store=torch.float16,
        )
        self._generator = torch.Generator().manual_seed(0)
        self._vocabulary = shapes.vocabulary

    def measure(self, _: int) -> dict[str, float]:
        """Run one round."""
        labels = torch.arange(ROWS) % 2
        contexts: list[TabPFNContext] = []
        features: list[torch.Tensor] = []

        def predict() -> torch.Tensor:
            return self._head.predict(contexts, features[-1][None]).cpu()

        def encode() -> None:
            context = self._head.encode(features[0], labels)
            assert context is not None
            contexts[:] = [context]

        @torch.inference_mode()
        def joint() -> torch.Tensor:
            device = self._head.device
            parts = (features[0], labels, features[-1])
            return self._head(*(part[None].to(device) for part in parts)).cpu()

        context_s = _seconds(lambda: features.append(self._embed(ROWS)))
        queries_s = _seconds(lambda: features.append(self._embed(QUERIES)))
        encode_s = _seconds(encode)
        predict_s = _seconds(predict)
        joint_s = _seconds(joint)
        return {
            "cold_s": context_s + queries_s + encode_s + predict_s,
            "prompts_cached_s": encode_s + predict_s,
            "context_cached_s": queries_s + predict_s,
            "all_cached_s": predict_s,
            "joint_s": joint_s,
            "context_mb": contexts[0].nbytes / 1e6,
        }

    def _embed(self, count: int) -> torch.Tensor:
        shape = (count, TOKENS)
        tokens = torch.randint(0, self._vocabulary, shape, generator=self._generator).tolist()
        batches = [self._encoder.embed(tokens[at : at + 64]) for at in range(0, count, 64)]
        vectors = torch.cat([torch.from_numpy(batch) for batch in batches])
        return vectors[:, self._encoder.pooled :].float()


def random_tabpfn(sizes: dict[str, Any]) -> TabPFNFile:
    """TabPFN-v2.5 with random weights."""
    config, _ = ARCHITECTURES["tabpfn_v2_5"].parse_config(sizes)
    net = ARCHITECTURES["tabpfn_v2_5"].get_architecture(config).eval().requires_grad_(False)
    return TabPFNFile(Path("random"), net, "tabpfn_v2_5", sizes, "none", 0.9, 50_000, 2000)


def context_bytes(shapes: Shapes) -> int:
    """Size of the cached keys and values of one context of 256 rows, in bytes."""
    config, _ = ARCHITECTURES["tabpfn_v2_5"].parse_config(shapes.tabpfn)
    groups = -(-shapes.adapter.features // config.features_per_group) + 1
    rows = ROWS + config.num_thinking_rows
    width = config.emsize // config.nhead
    values = MEMBERS * config.nlayers * groups * rows * 2 * width
    return int(values * torch.float16.itemsize)


def policies_in(memory: float) -> int:
    """Number of contexts of the paper's size that fit beside the weights in ``memory`` bytes."""
    with torch.device("meta"):
        backbone = Qwen3Model(backbone_config(TRUE))
    parts = (backbone, random_tabpfn(TRUE.tabpfn).net, ResidualQueryAdapter(TRUE.adapter))
    weights = sum(parameter.nbytes for part in parts for parameter in part.parameters())
    return int((memory - weights) / context_bytes(TRUE))


def backbone_config(shapes: Shapes) -> Qwen3Config:
    """Configuration of a backbone with some shapes."""
    return Qwen3Config(
        vocab_size=shapes.vocabulary,
        hidden_size=shapes.hidden,
        intermediate_size=shapes.inner,
        num_hidden_layers=shapes.layers,
        num_attention_heads=shapes.heads,
        num_key_value_heads=shapes.heads // 2,
        head_dim=128 if shapes is TRUE else 32,
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
