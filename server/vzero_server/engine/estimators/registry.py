"""The estimators that this server knows, by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from vzero_server.engine.estimators.base import Estimator
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.options import AUTO
from vzero_server.errors import EstimatorNotLoadedError, UnknownEstimatorError
from vzero_server.model.loading import Models
from vzero_server.model.oom import OomGuard
from vzero_server.settings import Settings


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What an estimator can be made from.

    Attributes:
        settings: All settings.
        models: The encoder of prompts, and the weights loaded with it.
        guard: Handles a device that is out of memory.
    """

    settings: Settings
    models: Models
    guard: OomGuard


@dataclass(frozen=True, slots=True)
class EstimatorEntry:
    """One estimator in the registry.

    Attributes:
        name: Under which callers ask for it; lower case.
        preference: ``AUTO`` stands for the loaded estimator with the highest.
        load: Makes the estimator; returns None if the settings do not name what it needs.
        answers_small_contexts: Whether it also answers from contexts of fewer rows than
            ``min_context_rows``, whichever estimator was asked for. The preferred one does so.
    """

    name: str
    preference: int
    load: Callable[[LoadContext], Estimator | None]
    answers_small_contexts: bool = False


_entries: dict[str, EstimatorEntry] = {}


def register(entry: EstimatorEntry) -> None:
    """Add an estimator to the registry.

    Raises:
        ValueError: The name is taken, reserved, or not lower case.
    """
    if entry.name in _entries or entry.name == AUTO or entry.name != entry.name.lower():
        raise ValueError(f"estimator name {entry.name!r} is taken, reserved, or not lower case")
    _entries[entry.name] = entry


def names() -> list[str]:
    """Return the names that callers may use, ``AUTO`` first."""
    return [AUTO, *sorted(_entries)]


class LoadedEstimators(Mapping[str, Estimator]):
    """The estimators that a server has loaded, by name.

    Attributes:
        default: Name of the estimator that ``AUTO`` stands for.
        small: Answers from contexts of fewer rows than ``min_context_rows``.
    """

    def __init__(self, estimators: Mapping[str, Estimator], default: str, small: Estimator) -> None:
        self._estimators = dict(estimators)
        self.default = default
        self.small = small

    @classmethod
    def load(cls, context: LoadContext) -> "LoadedEstimators":
        """Load every registered estimator that the settings have weights for."""
        by_preference = sorted(_entries.values(), key=lambda entry: -entry.preference)
        loaded = {entry.name: entry.load(context) for entry in by_preference}
        estimators = {name: one for name, one in loaded.items() if one is not None}
        small: Estimator = Prior()
        for entry in reversed(by_preference):
            if entry.answers_small_contexts:
                small = estimators.get(entry.name, small)
        return cls(estimators, next(iter(estimators)), small)

    def __getitem__(self, name: str) -> Estimator:
        return self._estimators[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimators)

    def __len__(self) -> int:
        return len(self._estimators)

    def resolve(self, name: str) -> Estimator:
        """Return the estimator that a caller asks for.

        Args:
            name: In any case; empty or ``AUTO`` for the default.

        Raises:
            UnknownEstimatorError: No estimator has this name.
            EstimatorNotLoadedError: It is registered, but this server has not loaded it.
        """
        canonical = name.lower()
        if canonical in ("", AUTO):
            canonical = self.default
        if canonical in self._estimators:
            return self._estimators[canonical]
        if canonical in _entries:
            raise EstimatorNotLoadedError(
                f"estimator {canonical!r} is not loaded on this server; "
                f"loaded: {', '.join(sorted(self._estimators))}"
            )
        raise UnknownEstimatorError(name, names())
