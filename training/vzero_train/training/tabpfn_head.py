"""TabPFN as the frozen head behind a connector, as in the paper (Table 6, best variant)."""

from dataclasses import dataclass

from torch import Tensor, nn

from vzero_server.model.tabpfn import TabPFNHead

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


class FrozenTabPFN(nn.Module):
    """What ``ConnectorTrainer`` asks of a head, answered by TabPFN.

    TabPFN reads context and queries in one pass, so that gradients reach the features of both.
    Its own weights have none. Context labels are hard, success from ½ on; the objective sees
    the rewards of the queries as they are.
    """

    def __init__(self, head: TabPFNHead) -> None:
        """Take a head for as many columns as the connector makes."""
        super().__init__()
        self._head = head

    def requires_grad_(self, requires_grad: bool = True) -> "FrozenTabPFN":
        """Refuses to be tuned.

        Raises:
            ValueError: It was asked to be; the recipe's ``tune_head`` must be false.
        """
        if requires_grad:
            raise ValueError("tune_head: TabPFN is trained frozen here")
        super().requires_grad_(False)
        return self

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
