"""Threads of the edge."""

from vzero_server.observability.liveness import Monitored, Worker


class EdgeWorkers:
    """The threads that do what would halt the event loop for too long.

    Attributes:
        replies: Writes long replies, bundles and the metrics page; jobs take milliseconds.
        allocations: Computes allocations. A job that has to find the optimum takes up to a
            minute, more on a busy machine, so that its duration is no sign of a fault.
    """

    def __init__(self) -> None:
        self.replies = Worker("replies", threads=2)
        self.allocations = Worker("allocations", threads=4, has_long_jobs=True)

    @property
    def monitored(self) -> tuple[Monitored, ...]:
        """The threads, for the watchdog."""
        return self.replies, self.allocations

    def close(self) -> None:
        """Stop the threads; running jobs are not waited for."""
        self.replies.shutdown(wait=False)
        self.allocations.shutdown(wait=False, cancel_futures=True)
