"""Progress of a stream."""

from vzero._stream.core import StreamCore
from vzero.values import Ack


class StreamProgress:
    """Counters of a stream; base of both kinds of stream."""

    _core: StreamCore

    @property
    def ack(self) -> Ack | None:
        """The newest acknowledgement of the stream's policy; None before the first."""
        return self._core.ack

    @property
    def pending(self) -> int:
        """Outcomes without acknowledgement, those left in the spool folder included."""
        return self._core.buffer.pending

    @property
    def accepted(self) -> int:
        """Outcomes stored so far, those left by earlier streams included."""
        return self._core.accepted

    @property
    def duplicates(self) -> int:
        """Outcomes sent so far that the server had stored before."""
        return self._core.duplicates
