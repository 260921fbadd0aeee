"""A small TabPFN of one's own: the architecture of TabPFN-v2.5, pre-trained on synthetic tables.

It stands in where the weights of Prior Labs cannot be had or may not be used, and lets all that
is built around TabPFN run as it is. It is no match for them: it has a fraction of their
parameters and has seen some ten thousand small tables.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabpfn.architectures import ARCHITECTURES
from torch import Tensor, nn

from research.connectors.head import parameter_groups, schedule
from research.connectors.objectives import soft_entropy_loss
from research.tabpfn.recipe import FEWEST_COLUMNS, FEWEST_ROWS, TabPFNRecipe
from research.tabpfn.synthetic_tables import synthetic_tables
from vzero_server.paper.tabpfn_file import TabPFNFile
from vzero_train.training.state import write_state

ARCHITECTURE = "tabpfn_v2_5"
LICENCE = "Apache-2.0"
"""Of the weights: they were trained on nothing but random numbers."""


class TabPFNPretraining:
    """Pre-trains one network; can be stopped and resumed.

    Attributes:
        net: The network, changed in place.
        step: Optimiser steps done.
    """

    def __init__(self, recipe: TabPFNRecipe, *, device: str = "cpu") -> None:
        """Make the network.

        Args:
            recipe: What it is and how it is trained.
            device: Torch device.
        """
        torch.manual_seed(recipe.seed)
        config, _ = ARCHITECTURES[ARCHITECTURE].parse_config(network_config(recipe))
        self.net: nn.Module = ARCHITECTURES[ARCHITECTURE].get_architecture(config).to(device)
        self.step = 0
        self._recipe, self._device = recipe, device
        self._rng = np.random.default_rng([recipe.seed, 0])
        self._parameters = list(self.net.parameters())
        groups = parameter_groups(self._parameters, recipe.decay)
        self._optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))

    def train(
        self,
        *,
        state: Path | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train to the end of the recipe.

        Args:
            state: File that is written every ``save_every`` steps and read on start, if it
                is there.
            on_step: Called after every step with the step and its loss.

        Raises:
            ValueError: The state is of another recipe.
        """
        if state is not None and state.is_file():
            self._restore(torch.load(state, weights_only=True))
        self.net.train()
        while self.step < self._recipe.steps:
            loss = self._one_step()
            self.step += 1
            if on_step:
                on_step(self.step, loss)
            if state is not None and self.step % self._recipe.save_every == 0:
                write_state(state, self._state())
        self.net.eval()

    def file(self, path: Path) -> TabPFNFile:
        """What is to be written, and served, of the network as it is."""
        recipe = self._recipe
        return TabPFNFile(
            path=path,
            net=self.net.eval().requires_grad_(False),
            architecture=ARCHITECTURE,
            config=network_config(recipe),
            licence=LICENCE,
            temperature=1.0,
            most_rows=recipe.rows,
            most_columns=recipe.columns,
        )

    def _one_step(self) -> float:
        recipe = self._recipe
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate * schedule(self.step, recipe.steps, recipe.warmup)
        rows = _between(self._rng, FEWEST_ROWS, recipe.rows)
        columns = _between(self._rng, FEWEST_COLUMNS, recipe.columns)
        drawn = synthetic_tables(self._rng, recipe.tables, rows, recipe.asked, columns)
        features, rewards = (torch.from_numpy(part).to(self._device) for part in drawn)
        loss = soft_entropy_loss(_logits(self.net, features, rewards, rows), rewards[:, rows:])
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, recipe.clip)
        self._optimiser.step()
        return loss.item()

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self._recipe),
            "step": self.step,
            "net": self.net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "numpy": self._rng.bit_generator.state,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["recipe"] != asdict(self._recipe):
            raise ValueError("the saved state was made by another recipe")
        self.step = state["step"]
        self.net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = state["numpy"]


def network_config(recipe: TabPFNRecipe) -> dict[str, int]:
    """What the package ``tabpfn`` makes a network of."""
    return {
        "max_num_classes": 2,
        "emsize": recipe.width,
        "nlayers": recipe.layers,
        "nhead": recipe.heads,
        "features_per_group": recipe.group,
        "num_thinking_rows": recipe.thinking,
    }


def _logits(net: nn.Module, features: Tensor, rewards: Tensor, rows: int) -> Tensor:
    """Logits ``[B, asked]`` of tables ``[B, rows + asked, C]``."""
    labels = (rewards[:, :rows] >= 0.5).to(features.dtype)
    out: Tensor = net(features.transpose(0, 1), labels.T, task_type="multiclass")
    return (out[..., 1] - out[..., 0]).T


def _between(rng: np.random.Generator, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``, small ones as likely as large in the log."""
    return round(math.exp2(rng.uniform(math.log2(least), math.log2(most))))
