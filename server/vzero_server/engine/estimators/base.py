"""What every estimator does, in the two steps the engine schedules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vzero_server.engine.context.window import ContextWindow
from vzero_server.types import Features
from vzero_server.values.values import Values


@dataclass(frozen=True, slots=True)
class Question:
    """Some prompts under one context.

    Attributes:
        context: What ``Estimator.encode`` made of it.
        queries: Feature vectors of the prompts, ``[m, columns]``, m at least 1.
        hearsay: What other policies say of the prompts, if anything.
    """

    context: Any
    queries: Features
    hearsay: Any = None


class Estimator(Protocol):
    """Computes values; both steps run on worker threads, each on its own, unless quick.

    Attributes:
        depth: Of how many rows of a window, the newest, it must know the prompts; None for all.
    """

    @property
    def depth(self) -> int | None:
        """See the class."""

    def encode(self, window: ContextWindow) -> Any:  # noqa: ANN401
        """Read a context once; the result is kept, and its ``nbytes`` are counted."""

    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """Answer questions about any contexts together, one ``Values`` each, in order."""

    def quick(self, question: Question) -> bool:
        """Whether an answer takes about a millisecond at most: less than waking a thread may."""
