"""``vzero serve`` with parts that fail when a test says so: run by ``FaultyServer``.

Prompts and policies with these names make the part fail that comes across them.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import typer

from vzero_server.cli.serve import serve
from vzero_server.engine.estimators.knn import NearestNeighbours
from vzero_server.model.backbone import Backbone
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.storage.sql import log
from vzero_server.testing.local_server import LocalServer

POISON_TOKENISER, POISON_DEVICE, POISON_HEAD = "poison tokeniser", "poison device", "poison head"
HANG_TOKENISER, HANG_DEVICE, HANG_HEAD = "hang tokeniser", "hang device", "hang head"
# Followed by the path of a file: the device waits until it exists.
HOLD_DEVICE = "hold device until "
HANG_CONTEXT, HANG_WRITER, KILL_WRITER = "hang context", "hang writer", "kill writer"

# Names the environment variable with the path of a file: models are loaded once it exists.
HOLD_START = "HOLD_START"

# Rewards that identify a policy to parts that do not see its name.
REWARDS = {POISON_HEAD: 0.125, HANG_HEAD: 0.25, HANG_CONTEXT: 0.375}

_HANG_SECONDS = 3600.0

# A device with memory for so many queries of TabPFN at once. A context of ``CROWDED_ONCE`` rows
# fits at the second attempt, and one of ``CROWDED_ALWAYS`` rows never.
CROWDED_QUERIES, CROWDED_ONCE, CROWDED_ALWAYS = 16, 13, 14


class FaultyServer(LocalServer):
    """A server in a separate process that runs this module."""

    module = "tests.api.faulty_server"


def _before(owner: Any, name: str, check: Callable[..., None]) -> None:
    """Call a check with the arguments of a function before the function."""
    original = getattr(owner, name)

    def changed(*args: Any, **kwargs: Any) -> Any:
        check(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, changed)


def _fail(matches: bool, fault: str) -> None:
    if matches and fault.startswith("poison"):
        raise ArithmeticError(fault)
    if matches and fault.startswith("hang"):
        time.sleep(_HANG_SECONDS)
    if matches:
        raise SystemExit(fault)


_held: dict[tuple[int, ...], Path] = {}


def _tokenize(encoder: PromptEncoder, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if prompt.startswith(HOLD_DEVICE):
            tokens = encoder._backbone.tokenize([prompt])[0]
            _held[tuple(tokens)] = Path(prompt.removeprefix(HOLD_DEVICE))
    for fault in (POISON_TOKENISER, HANG_TOKENISER):
        _fail(fault in prompts, fault)


def _embed(encoder: PromptEncoder, prompts: Sequence[Any]) -> None:
    for prompt in prompts:
        held = _held.get(tuple(prompt.tokens))
        while held and not held.exists():
            time.sleep(0.01)
    for fault in (POISON_DEVICE, HANG_DEVICE):
        _fail(_tokens(encoder, fault) in [prompt.tokens for prompt in prompts], fault)


def _load(*_: Any, **__: Any) -> None:
    held = os.environ.get(HOLD_START)
    while held and not Path(held).exists():
        time.sleep(0.01)


def _tokens(encoder: PromptEncoder, prompt: str) -> list[int]:
    return encoder.tokenize([prompt])[0].tokens


def _fit(_: NearestNeighbours, window: Any) -> None:
    _fail(REWARDS[HANG_CONTEXT] in window.rewards, HANG_CONTEXT)


def _predict(_: NearestNeighbours, queries: Sequence[Any]) -> None:
    for fault in (POISON_HEAD, HANG_HEAD):
        _fail(any(REWARDS[fault] in query.context.window.rewards for query in queries), fault)


def _append(_: Any, __: str, policy_id: str, *___: Any) -> None:
    for fault in (HANG_WRITER, KILL_WRITER):
        _fail(policy_id == fault, fault)


def _out_of_memory(exceeded: bool) -> None:
    if exceeded:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


_crowded: set[int] = set()


def _encode_crowded(_: TabPFNHead, features: Any, __: Any) -> None:
    """Out of memory for a context of so many rows, the first time or always."""
    rows = len(features)
    first = rows == CROWDED_ONCE and rows not in _crowded
    _crowded.add(rows)
    _out_of_memory(first or rows == CROWDED_ALWAYS)


def _predict_crowded(_: TabPFNHead, __: Any, queries: Any) -> None:
    """Out of memory for more queries than fit."""
    _out_of_memory(queries.shape[0] * queries.shape[1] > CROWDED_QUERIES)


if __name__ == "__main__":
    _before(TabPFNHead, "encode", _encode_crowded)
    _before(TabPFNHead, "predict", _predict_crowded)
    _before(Backbone, "__init__", _load)
    _before(PromptEncoder, "tokenize", _tokenize)
    _before(PromptEncoder, "embed", _embed)
    _before(NearestNeighbours, "fit", _fit)
    _before(NearestNeighbours, "predict", _predict)
    _before(log, "append", _append)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    app()
