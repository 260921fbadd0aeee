"""Scalars of a training for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Scalars:
    """Writes scalars to a folder that ``tensorboard --logdir`` reads; a context manager.

    ``Scalars.loss`` fits every trainer's ``on_step``.
    """

    def __init__(self, folder: Path) -> None:
        """Open a log.

        Args:
            folder: Folder of the event files, created if missing. A resumed training adds to it.
        """
        # Imported here: it takes a second, and the package is optional.
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def loss(self, step: int, loss: float) -> None:
        """Write the loss of one optimiser step."""
        self.add(step, {"train/loss": loss})

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures of one step by tag; a slash in a tag groups them."""
        for tag, figure in figures.items():
            self._writer.add_scalar(tag, figure, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
