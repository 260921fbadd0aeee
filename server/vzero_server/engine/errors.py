"""Why the engine does not answer."""


class EngineError(Exception):
    """Base of the errors of this package."""


class OverloadedError(EngineError):
    """The queue is full.

    Attributes:
        retry_after: Seconds after which there should be room again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after:.1f} s")
        self.retry_after = retry_after


class EstimatorNotLoadedError(EngineError):
    """The estimator exists, but this server has not loaded it."""


class DeviceMemoryError(EngineError):
    """The device that holds the models has no memory left for the work."""
