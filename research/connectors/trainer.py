"""Training of a connector in front of an in-context head, on cached token states.

The head's Gaussian processes are closed forms: gradients reach the features of context rows and
of queries alike, and through them the connector. ``connector_head`` tells which head it is;
``tabpfn_head`` puts the paper's own in its place.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from research.connectors.config import ConnectorConfig
from research.connectors.head import (
    ConnectorHead,
    objective_loss,
    parameter_groups,
    pretrain_head,
    schedule,
)
from research.connectors.modules import make_connector
from research.connectors.stages import TrainingStage, draw_contexts, usable_stages
from research.connectors.tabpfn_head import TabPFNConnectorHead
from research.connectors.token_states import TokenStates
from vzero_server.model.in_context_head import InContextHead
from vzero_server.paper.adapter import AdapterConfig
from vzero_server.types import FloatArray, IntArray
from vzero_train.data.questions import Question
from vzero_train.evaluation.metrics import auc
from vzero_train.training.state import write_state

_CHUNK = 64  # prompts of similar length that a connector reads together


@dataclass(frozen=True)
class Check:
    """One look at the validation questions.

    Attributes:
        step: Optimiser steps done.
        auc: Intra-context AUC: of each source the mean over contexts weighted by queries,
            and of these the mean.
        values: Probabilities given to every question's queries.
    """

    step: int
    auc: float
    values: tuple[FloatArray, ...]


class ConnectorTrainer:
    """Trains one connector, its head, or both; can be stopped and resumed.

    Attributes:
        connector: The connector, changed in place.
        head: The head, changed in place if it is tuned.
        step: Optimiser steps done.
        curve: Step and validation AUC of every check; the first is at step 0.
        best_step: The overfit point: where the validation AUC peaked.
    """

    def __init__(
        self,
        stages: Sequence[TrainingStage],
        validation: Sequence[Question],
        states: TokenStates,
        config: ConnectorConfig,
        *,
        head: InContextHead | TabPFNConnectorHead | None = None,
        device: str = "cpu",
    ) -> None:
        """Prepare.

        Args:
            stages: To learn from.
            validation: Questions on prompts that are in no stage.
            states: Of all prompts that are pointed to.
            config: The recipe.
            head: A pre-trained head, which is copied; one is pre-trained by default.
            device: Torch device; on CUDA the connector runs in mixed precision.

        Raises:
            ValueError: No stage is large enough, or none has successes and failures.
        """
        self._config, self._states, self._device = config, states, device
        self._stages = usable_stages(stages, config.rows)
        self._validation = list(validation)
        torch.manual_seed(config.seed)
        shape = AdapterConfig(states.hidden, config.queries, config.width, config.heads)
        self.connector = make_connector(config.connector, shape).to(device)
        if head is None:
            head = pretrain_head(stages, states, config)
        self.head: InContextHead | TabPFNConnectorHead = copy.deepcopy(head).to(device)
        self.step = 0
        self.curve: list[tuple[int, float]] = []
        self.best_step = 0
        self._best = self._weights()
        self._rng = np.random.default_rng(config.seed)
        self._trained = _trained(self.connector, self.head, config)
        self._optimiser = (
            torch.optim.AdamW(parameter_groups(self._trained, config.decay), lr=config.rate)
            if self._trained
            else None
        )

    def train(
        self,
        *,
        state: Path | None = None,
        on_step: Callable[[int, float], None] | None = None,
        on_check: Callable[[Check], None] | None = None,
    ) -> None:
        """Train to the end of the recipe, or until patience ends; then take the best weights.

        With nothing to train, only the first check is made.

        Args:
            state: File that is written after every check and read on start, if it is there.
            on_step: Called after every step with the step and its loss.
            on_check: Called after every check.
        """
        if state is not None and state.is_file():
            self._restore(torch.load(state, weights_only=False))
        if not self.curve:
            # Dropout draws from torch's global source, which others may have used meanwhile.
            torch.manual_seed(self._config.seed)
            self._check(on_check)
        while self._optimiser is not None and self._goes_on():
            loss = self._one_step(self._optimiser)
            self.step += 1
            if on_step:
                on_step(self.step, loss)
            if self.step % self._config.check_every == 0 or self.step == self._config.steps:
                self._check(on_check)
                if state is not None:
                    write_state(state, self._state())
        self._load_weights(self._best)
        self._train_mode(False)

    def values(self, questions: Sequence[Question]) -> list[FloatArray]:
        """Probabilities in [0, 1] for every question's queries, one array ``[Q]`` each."""
        self._train_mode(False)
        needed = [part for q in questions for part in (q.context, q.queries)]
        prompts = np.unique(np.concatenate(needed))
        values: list[FloatArray] = []
        head: ConnectorHead = self.head
        with torch.inference_mode():
            rows = head.rows(self._features(prompts))
            for question in questions:
                context, asked = (
                    rows[torch.from_numpy(np.searchsorted(prompts, part)).to(rows.device)][None]
                    for part in (question.context, question.queries)
                )
                rewards = torch.from_numpy(question.context_rewards).float()[None]
                encoded = head.encode(context, rewards.to(rows.device))
                logits = head.predict(encoded, asked)
                values.append(torch.sigmoid(logits)[0].double().cpu().numpy())
        return values

    def _goes_on(self) -> bool:
        patience, every = self._config.patience, self._config.check_every
        tired = patience > 0 and self.step - self.best_step >= patience * every
        return self.step < self._config.steps and not tired

    def _one_step(self, optimiser: torch.optim.Optimizer) -> float:
        config = self._config
        self._train_mode(True)
        for group in optimiser.param_groups:
            group["lr"] = config.rate * schedule(self.step, config.steps, config.warmup)
        prompts, rewards = draw_contexts(self._stages, config, self._rng)
        distinct, place = np.unique(prompts, return_inverse=True)
        features = self._features(distinct)[torch.from_numpy(place.ravel()).to(self._device)]
        features = features.reshape(*prompts.shape, -1)
        loss = objective_loss(
            self.head, features, torch.from_numpy(rewards).to(self._device), config
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._trained, config.clip)
        optimiser.step()
        return loss.item()

    def _features(self, prompts: IntArray) -> Tensor:
        """Features ``[n, features]`` of prompts ``[n]``, read in chunks of similar length."""
        order = np.argsort(self._states.lengths[prompts], kind="stable")
        parts = []
        for start in range(0, len(order), _CHUNK):
            chunk = prompts[order[start : start + _CHUNK]]
            states, mask, pooled = self._states.batch(chunk, self._device)
            with torch.autocast("cuda", torch.bfloat16, enabled=self._device.startswith("cuda")):
                parts.append(self.connector(states, mask, pooled))
        # The head solves linear systems: it wants full precision.
        back = torch.from_numpy(np.argsort(order)).to(self._device)
        return torch.cat(parts).float()[back]

    def _check(self, on_check: Callable[[Check], None] | None) -> None:
        values = self.values(self._validation)
        area = intra_auc(self._validation, values)
        if not self.curve or area > max(past for _, past in self.curve):
            self.best_step, self._best = self.step, self._weights()
        self.curve.append((self.step, area))
        if on_check:
            on_check(Check(self.step, area, tuple(values)))

    def _train_mode(self, on: bool) -> None:
        self.connector.train(on and self._config.tune_connector)
        self.head.train(on and self._config.tune_head)

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        modules = {"connector": self.connector, "head": self.head}
        return {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}

    def _load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.connector.load_state_dict(weights["connector"])
        self.head.load_state_dict(weights["head"])

    def _state(self) -> dict[str, Any]:
        return {
            "config": asdict(self._config),
            "step": self.step,
            "curve": self.curve,
            "best_step": self.best_step,
            "best": self._best,
            "weights": self._weights(),
            "optimiser": self._optimiser.state_dict() if self._optimiser else None,
            "numpy": self._rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["config"] != asdict(self._config):
            raise ValueError("the saved state was made by another recipe")
        self.step, self.curve = state["step"], state["curve"]
        self.best_step, self._best = state["best_step"], state["best"]
        self._load_weights(state["weights"])
        if self._optimiser is not None:
            self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = state["numpy"]
        torch.set_rng_state(state["torch"])
        torch.cuda.set_rng_state_all(state["cuda"])


def intra_auc(questions: Sequence[Question], values: Sequence[FloatArray]) -> float:
    """Intra-context AUC in [0, 1]: of each source (``benchmark``) the mean over contexts.

    Contexts are weighted by their queries (section 5.4), sources are equal. Contexts whose
    queries all succeed or all fail have none.
    """
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for question, given in zip(questions, values, strict=True):
        area = auc(question.rewards, given)
        if not math.isnan(area):
            found[question.benchmark].append((area, len(given)))
    means = []
    for pairs in found.values():
        areas, sizes = zip(*pairs, strict=True)
        means.append(float(np.average(areas, weights=sizes)))
    return float(np.mean(means)) if means else float("nan")


def _trained(connector: nn.Module, head: nn.Module, config: ConnectorConfig) -> list[nn.Parameter]:
    connector.requires_grad_(config.tune_connector)
    head.requires_grad_(config.tune_head)
    return [p for module in (connector, head) for p in module.parameters() if p.requires_grad]
