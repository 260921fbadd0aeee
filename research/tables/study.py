"""Variants of a training, evaluated on unseen prompts; shared by several tables."""

import hashlib
import json
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from research.connectors.config import ConnectorConfig
from research.connectors.head import pretrain_head
from research.connectors.modules import make_connector
from research.connectors.tabpfn_head import TabPFNConnectorHead, TabPFNStart
from research.connectors.token_states import TokenStates, token_states
from research.connectors.trainer import Check, ConnectorTrainer
from research.tables.sequences import Sequences, divide
from vzero_server.model.backbone import Backbone
from vzero_server.model.in_context_head import InContextHead
from vzero_server.paper.adapter import AdapterConfig
from vzero_server.types import FloatArray
from vzero_train.data.outcomes import Outcomes

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""

CACHE = Path.home() / ".cache" / "vzero" / "experiments"
"""Default folder of token states and finished trainings. Delete it after a change of the code: its
keys are outcomes, backbone and recipe only."""

SEEDS = 2
_TIMED_PROMPTS, _TIMED_TOKENS = 64, 128


@dataclass(frozen=True)
class Training:
    """The results of a training.

    Attributes:
        curve: Step and validation AUC of every check.
        best_step: Step of the best check; its weights are evaluated.
        watched: Values of the validation queries at every check.
        values: Values of the test queries.
        seconds: Wall time.
    """

    curve: tuple[tuple[int, float], ...]
    best_step: int
    watched: tuple[tuple[FloatArray, ...], ...]
    values: tuple[FloatArray, ...]
    seconds: float


class Study:
    """Trains variants on the same division of the same outcomes, each once.

    Attributes:
        sequences: The outcomes, divided.
        config: Settings that variants change.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        backbone: Backbone,
        config: ConnectorConfig,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Divide the outcomes and compute the token states, if they are not in the cache.

        Args:
            outcomes: Policies along their steps; rows without a step are left out.
            backbone: The frozen encoder.
            config: What variants are changes of; its seed is the first.
            cache: Folder for token states and finished trainings; ``CACHE`` by default.
            progress: Called along the way.
        """
        self.config = config
        self._cache, self._progress = cache or CACHE, progress
        self.sequences: Sequences = divide(outcomes, config.rows)
        self._states: TokenStates = token_states(
            self.sequences.texts,
            backbone,
            self._cache,
            progress=self._reported("prompts encoded"),
        )
        digest = hashlib.sha256(backbone.fingerprint.encode())
        for question in (*self.sequences.validation, *self.sequences.test):
            digest.update(question.queries.tobytes() + question.rewards.tobytes())
        self._digest = digest.hexdigest()
        self._heads: dict[tuple[int, int], InContextHead] = {}

    def trained(
        self,
        variants: Mapping[str, Mapping[str, object]],
        *,
        seeds: int = SEEDS,
        tabpfn: TabPFNStart | None = None,
    ) -> dict[str, list[Training]]:
        """Return the trainings of every variant, one per seed.

        Args:
            variants: Fields of the config that differ, by name of the variant.
            seeds: Number of seeds.
            tabpfn: Initial head; by default a pre-trained ``InContextHead``.
        """
        total = len(variants) * seeds * self.config.steps
        report = self._reported("connectors trained")
        trainings: dict[str, list[Training]] = {name: [] for name in variants}
        done = 0
        # All variants with the first seed, then with the next: what is stopped can be compared.
        for seed in range(self.config.seed, self.config.seed + seeds):
            for name, changes in variants.items():
                config = replace(self.config, seed=seed, **changes)  # type: ignore[arg-type]

                def on_step(step: int, _: float, done: int = done) -> None:
                    if report:
                        report(done + step, total)

                trainings[name].append(self._trained(config, tabpfn, on_step))
                done += config.steps
        return trainings

    def complexity(self, connector: str) -> tuple[int, float]:
        """Return the parameters of a connector, and its milliseconds for 64 prompts of 128 tokens.

        The fastest of ten passes on one thread: other work on the machine only ever adds.
        """
        config = self.config
        shape = AdapterConfig(self._states.hidden, config.queries, config.width, config.heads)
        module = make_connector(connector, shape).eval()
        states = torch.randn(_TIMED_PROMPTS, _TIMED_TOKENS, shape.hidden)
        mask = torch.ones(states.shape[:2], dtype=torch.bool)
        times, threads = [], torch.get_num_threads()
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(10):
                start = time.perf_counter()
                module(states, mask, states[:, -1])
                times.append(time.perf_counter() - start)
        torch.set_num_threads(threads)
        return sum(p.numel() for p in module.parameters()), 1e3 * min(times)

    def _reported(self, what: str) -> Callable[[int, int], None] | None:
        return partial(self._progress, what) if self._progress else None

    def _trained(
        self,
        config: ConnectorConfig,
        tabpfn: TabPFNStart | None,
        on_step: Callable[[int, float], None],
    ) -> Training:
        head = [] if tabpfn is None else [tabpfn.digest, tabpfn.members]
        key = json.dumps([self._digest, asdict(config), *head], sort_keys=True)
        stem = f"training-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        kept = self._cache / f"{stem}.pickle"
        if kept.is_file():
            finished: Training = pickle.loads(kept.read_bytes())
            return finished
        start = time.perf_counter()
        trainer = ConnectorTrainer(
            self.sequences.stages,
            self.sequences.validation,
            self._states,
            config,
            head=self._head(config, tabpfn),
        )
        watched: list[tuple[FloatArray, ...]] = []

        def on_check(check: Check) -> None:
            watched.append(check.values)

        trainer.train(on_step=on_step, on_check=on_check)
        training = Training(
            curve=tuple(trainer.curve),
            best_step=trainer.best_step,
            watched=tuple(watched),
            values=tuple(trainer.values(self.sequences.test)),
            seconds=time.perf_counter() - start,
        )
        unfinished = kept.with_suffix(".partial")
        unfinished.write_bytes(pickle.dumps(training))
        unfinished.replace(kept)
        return training

    def _head(
        self, config: ConnectorConfig, tabpfn: TabPFNStart | None
    ) -> InContextHead | TabPFNConnectorHead:
        """Return the pre-trained initial head of all variants of one width and seed."""
        columns = self._states.hidden
        if config.connector != "pooled":
            columns = config.queries * config.width
        if tabpfn is not None:
            return tabpfn.head(columns)
        key = (columns, config.seed)
        if key not in self._heads:
            basis = replace(self.config, seed=config.seed, connector=config.connector)
            self._heads[key] = pretrain_head(self.sequences.stages, self._states, basis)
        return self._heads[key]
