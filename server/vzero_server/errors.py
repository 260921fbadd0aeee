"""Errors of storage and engine; the edge maps them to status codes."""

from collections.abc import Sequence


class StorageError(Exception):
    """Base of the errors of the storage package."""


class UnknownPolicyError(StorageError):
    """The policy is unknown."""

    def __init__(self, policy_id: str) -> None:
        super().__init__(f"policy {policy_id!r} is unknown")
        self.policy_id = policy_id


class UnknownFleetError(StorageError):
    """The fleet is unknown."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no fleet {name!r} is stored")
        self.name = name


class StorageFullError(StorageError):
    """The disk is full, or the database has reached its size limit; nothing was stored."""


class BundleError(StorageError):
    """A bundle is truncated or damaged, or has a newer format."""


class DataFolderError(StorageError):
    """The data folder cannot be used: it is locked or unreadable, or has a newer schema."""


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
    """The estimator exists, but this server has not loaded it."""


class DeviceMemoryError(EngineError):
    """The device that holds the models has too little memory."""
