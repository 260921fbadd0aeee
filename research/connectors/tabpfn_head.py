"""TabPFN as the head behind a connector: frozen, as in the paper's best variant, or tuned."""

import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import TabPFNFile, read_tabpfn

_SUCCESS = 0.5


@dataclass(frozen=True)
class Shown:
    """A context that is read together with the queries.

    Attributes:
        rows: Features, ``[B, N, C]``.
        labels: 0 or 1, ``[B, N]``.
    """

    rows: Tensor
    labels: Tensor


class TabPFNConnectorHead(nn.Module):
    """What ``ConnectorTrainer`` asks of a head, answered by TabPFN.

    TabPFN reads context and queries in one pass, so that gradients reach the features of both,
    and its own weights if they are tuned (Table 6). Context labels are hard, success from ½ on;
    the objective sees the rewards of the queries as they are.
    """

    def __init__(self, file: TabPFNFile, *, columns: int, members: int = 4) -> None:
        """Make a head of a checkpoint, whose own network stays as it is.

        Args:
            file: The checkpoint.
            columns: What the connector makes.
            members: Passes that are averaged; a step costs as many times one pass.

        Raises:
            CheckpointError: The network was not trained for so many columns.
        """
        super().__init__()
        copied = replace(file, net=copy.deepcopy(file.net))
        self._file = copied
        self._head = TabPFNHead(copied, columns=columns, members=members)

    def rows(self, features: Tensor) -> Tensor:
        """Features as they are."""
        return features

    def encode(self, rows: Tensor, rewards: Tensor) -> Shown:
        """A context to ask about: rows ``[B, N, C]`` and their rewards ``[B, N]``."""
        return Shown(rows, (rewards >= _SUCCESS).to(rows.dtype))

    def predict(self, context: Shown, queries: Tensor) -> Tensor:
        """Logits ``[B, M]`` of queries ``[B, M, C]``: the difference of the classes' logits."""
        logits: Tensor = self._head(context.rows, context.labels, queries)
        return logits[..., 1] - logits[..., 0]

    def file(self) -> TabPFNFile:
        """The checkpoint with the weights as they are now, for ``save_tabpfn``."""
        return replace(self._file, net=self._head.net)


@dataclass(frozen=True)
class TabPFNStart:
    """Weights that heads of any number of columns begin with.

    Attributes:
        file: The checkpoint; it stays as it is.
        digest: SHA-256 of the checkpoint's file.
        members: Passes that are averaged.
    """

    file: TabPFNFile
    digest: str
    members: int

    @classmethod
    def read(cls, path: Path, *, members: int) -> Self:
        """Read a checkpoint.

        Raises:
            CheckpointError: The file cannot be used.
        """
        file = read_tabpfn(path)
        return cls(file, sha256(path.read_bytes()).hexdigest(), members)

    def check(self, rows: int, columns: int) -> None:
        """See that the network was trained for contexts of so many rows and columns.

        Raises:
            CheckpointError: It was not.
        """
        self.head(columns)
        if rows > self.file.most_rows:
            raise CheckpointError(
                f"{self.file.path}: the head reads contexts of at most {self.file.most_rows} rows, "
                f"not {rows}"
            )

    def head(self, columns: int) -> TabPFNConnectorHead:
        """A head of its own for so many columns.

        Raises:
            CheckpointError: The network was not trained for so many columns.
        """
        return TabPFNConnectorHead(self.file, columns=columns, members=self.members)
