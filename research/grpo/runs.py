"""All trainings, each kept in a file so that an interrupted experiment can go on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from research.grpo.arms import Arm, Fixed, Lagged, Oracle
from research.grpo.service import OBJECTIVES, Asked
from research.grpo.settings import Settings
from research.grpo.training import Record, train, warm_started
from vzero import Client
from vzero.errors import NotFound
from vzero_server.decisions.utility import Objective
from vzero_server.testing.local_server import LocalServer

Report = Callable[[str, int, int], None]
"""Called with the arm, the seed, and the steps done."""

Runs = dict[str, list[Record]]
"""Trainings of each arm, in the order of their seeds."""


def run_all(
    arms: Sequence[str], seeds: int, settings: Settings, cache: Path, report: Report
) -> Runs:
    """Train every arm with seeds 0, 1, ..., on one thread; what is in ``cache`` is not repeated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = cache / _digest(asdict(settings))
    folder.mkdir(parents=True, exist_ok=True)
    warm = cache / f"warm-{_digest(settings.warm_start)}.pt"
    try:
        missing = [
            (arm, seed)
            for seed in range(seeds)
            for arm in arms
            if not _file(folder, arm, seed).exists()
        ]
        asking = any(arm in OBJECTIVES for arm, _ in missing)
        with _client(cache / "server" if asking else None) as client:
            for name, seed in missing:
                model = warm_started(settings, warm)
                arm = _arm(name, seed, settings, client)
                record = train(model, arm, settings, seed, partial(report, name, seed))
                _file(folder, name, seed).write_text(json.dumps(asdict(record)))
    finally:
        torch.set_num_threads(threads)
    return {
        arm: [Record(**json.loads(_file(folder, arm, seed).read_text())) for seed in range(seeds)]
        for arm in arms
    }


@contextmanager
def _client(data: Path | None) -> Iterator[Client | None]:
    """A client of a server on a data folder; None where no arm asks one.

    The folder is kept because of the embeddings of the prompts.
    """
    if data is None:
        yield None
        return
    with LocalServer(data) as server, Client(server.address) as client:
        yield client


def _arm(name: str, seed: int, settings: Settings, client: Client | None) -> Arm:
    if name in OBJECTIVES:
        assert client is not None
        policy_id = f"{_digest(asdict(settings))}/{name}/{seed}"
        with suppress(NotFound):  # there is one if an earlier training was interrupted
            client.delete(policy_id)
        return Asked(settings, client, policy_id, OBJECTIVES[name])
    if name.startswith("oracle_"):
        return Oracle(settings, Objective(name.removeprefix("oracle_")))
    return Lagged(settings) if name == "lagged" else Fixed(settings)


def _digest(settings: object) -> str:
    """Settings as a part of a file name: other settings never meet these files."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _file(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-{seed}.json"
