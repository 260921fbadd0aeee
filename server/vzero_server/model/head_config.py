"""Shape of the in-context head."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """A block of feature columns that share one kernel.

    Attributes:
        name: Content of the columns, for example ``layer4`` or ``text``.
        columns: Number of columns.
        components: Number of principal components that are kept; equal to ``columns`` if the
            columns are only scaled.
    """

    name: str
    columns: int
    components: int


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the head; stored in checkpoints.

    Attributes:
        groups: Blocks of feature columns, in the order of concatenation.
        skills: Number of learned linear features of a prompt.
        traits: Number of learned nonlinear features of a prompt.
        hidden: Width of the network that computes the traits.
        experts: Number of Gaussian processes that are blended.
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
        """Columns of a prompt's projected features."""
        return sum(group.components for group in self.groups)

    @property
    def row(self) -> int:
        """Columns of a row: projected features, skills and traits."""
        return self.components + self.skills + self.traits

    @property
    def kernels(self) -> int:
        """Number of kernels: one per group, and two on skills and traits."""
        return len(self.groups) + 2

    @property
    def blocks(self) -> list[int]:
        """Columns of the blocks of a row that share a kernel: each group, and skills and traits."""
        sizes = [group.components for group in self.groups]
        return [*sizes, self.skills + self.traits]


def initial_amplitudes(config: HeadConfig) -> Tensor:
    """Amplitudes of the kernels before training and softplus, ``[experts, kernels]``.

    The first expert uses all kernels, the second text alone, the third learned features alone,
    the fourth embeddings alone.
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
