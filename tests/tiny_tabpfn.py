"""Small TabPFN networks of random weights, saved as the package tabpfn saves them."""

from pathlib import Path
from typing import Any

import torch
from tabpfn.architectures import ARCHITECTURES

SMALL: dict[str, dict[str, Any]] = {
    "tabpfn_v2": {"emsize": 24, "nlayers": 2, "nhead": 3},
    "tabpfn_v2_5": {"emsize": 24, "nlayers": 2, "nhead": 3, "num_thinking_rows": 4},
    "tabpfn_v2_6": {"emsize": 24, "nlayers": 2, "nhead": 3, "num_thinking_rows": 4},
    "tabpfn_v3": {
        "embed_dim": 16,
        "dist_embed_num_blocks": 1,
        "dist_embed_num_heads": 2,
        "dist_embed_num_inducing_points": 4,
        "feat_agg_num_blocks": 1,
        "feat_agg_num_heads": 2,
        "feat_agg_num_cls_tokens": 2,
        "nlayers": 2,
        "icl_num_heads": 2,
        "decoder_head_dim": 8,
        "decoder_num_heads": 2,
    },
}
SMALL["tabpfn_v3_5"] = {**SMALL["tabpfn_v3"], "num_buckets": 8}


def save_tiny_tabpfn(path: Path, architecture: str = "tabpfn_v2_5", **further: Any) -> Path:
    """Save a classifier, with further entries beside its weights."""
    config = {"max_num_classes": 10, **SMALL[architecture]}
    parsed, _ = ARCHITECTURES[architecture].parse_config(config)
    torch.manual_seed(0)
    net = ARCHITECTURES[architecture].get_architecture(parsed)
    # Some layers are initialised to zero, and would hide the layers before them.
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.7 / parameter.shape[-1] ** 0.5)
        elif "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    content = {"state_dict": net.state_dict(), "config": config, "architecture_name": architecture}
    torch.save(content | further, path)
    return path
