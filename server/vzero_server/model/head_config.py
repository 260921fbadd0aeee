"""The shape of the in-context head."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """A block of feature columns that share one kernel.

    Attributes:
        name: What the columns are, for example ``layer4`` or ``text``.
        columns: How many there are.
        components: How many principal components are kept of them; equal to ``columns``
            where they are only scaled.
    """

    name: str
    columns: int
    components: int


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the head.

    Attributes:
        groups: Blocks of feature columns, in the order they are concatenated.
        skills: Learned linear features of a prompt.
        traits: Learned nonlinear features of a prompt.
        hidden: Width of the network behind the traits.
        experts: Gaussian processes that are blended.
    """

    groups: tuple[Group, ...]
    skills: int = 48
    traits: int = 32
    hidden: int = 128
    experts: int = 4

    @property
    def features(self) -> int:
        """Columns of a prompt's features."""
        return sum(group.columns for group in self.groups)

    @property
    def components(self) -> int:
        """Columns left of them after projection."""
        return sum(group.components for group in self.groups)

    @property
    def row(self) -> int:
        """Columns of a row: projected features, skills and traits."""
        return self.components + self.skills + self.traits

    @property
    def kernels(self) -> int:
        """One per group, and two on skills and traits."""
        return len(self.groups) + 2

    @property
    def blocks(self) -> list[int]:
        """Columns of a row that share a kernel: of each group, and all learned ones."""
        sizes = [group.components for group in self.groups]
        return [*sizes, self.skills + self.traits]


def first_amplitudes(config: HeadConfig) -> Tensor:
    """Of each kernel in each expert before training, before softplus, ``[experts, kernels]``.

    All kernels; text alone; learned features alone; embeddings alone.
    """
    experts, kernels = config.experts, config.kernels
    amplitude = torch.full((experts, kernels), -4.0)
    text, learned = kernels - 3, slice(kernels - 2, kernels)
    amplitude[0] = -1.0
    amplitude[0, -1] = 0.0
    if experts > 1:
        amplitude[1, text] = 0.0
    if experts > 2:
        amplitude[2, learned] = 0.3
    if experts > 3:
        amplitude[3, :text] = -1.0
    return amplitude
