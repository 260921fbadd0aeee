"""Errors of the domain; the edge makes a status of each (``api/errors.py``)."""

from collections.abc import Sequence


class StorageError(Exception):
    """Base of the errors of storage."""


class UnknownPolicyError(StorageError):
    """No policy of this name is stored.

    Attributes:
        policy_id: The name.
    """

    def __init__(self, policy_id: str) -> None:
        super().__init__(f"policy {policy_id!r} is unknown")
        self.policy_id = policy_id


class UnknownFleetError(StorageError):
    """No fleet of this name is stored.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"no fleet {name!r} is stored")
        self.name = name


class StorageFullError(StorageError):
    """The disk, or the database's share of it, is full; nothing was stored."""


class BundleError(StorageError):
    """A bundle is truncated, damaged, or of a newer format."""


class DataFolderError(StorageError):
    """The data folder cannot be used: locked, unreadable, or of a newer schema."""


class EngineError(Exception):
    """Base of the errors of the engine."""


class OverloadedError(EngineError):
    """The queue is full.

    Attributes:
        retry_after: Seconds after which there should be room again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after:.1f} s")
        self.retry_after = retry_after


class UnknownEstimatorError(EngineError):
    """No estimator has this name.

    Attributes:
        name: The name.
        known: Names of all estimators.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"must be one of {', '.join(known)}, not {name!r}")
        self.name = name
        self.known = tuple(known)


class EstimatorNotLoadedError(EngineError):
    """The estimator is known, but this server has not loaded it."""


class DeviceMemoryError(EngineError):
    """The device that holds the models has no memory left for the work."""
