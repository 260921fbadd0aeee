"""Points and spans of time as messages."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def duration_message(seconds: float) -> Duration:
    """Return a duration, 0 if it is negative because the caller's clock is ahead."""
    seconds = max(0.0, seconds)
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def timestamp_message(seconds: float) -> Timestamp:
    """Return the point in time that is so many seconds after 1970."""
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
