"""What a stream tells about itself."""

from vzero.courier import Courier
from vzero.values import Ack


class Progress:
    """How far the outcomes of a stream have come; base of both kinds of stream."""

    _courier: Courier

    @property
    def ack(self) -> Ack | None:
        """The newest acknowledgement of the stream's policy; None before the first."""
        return self._courier.ack

    @property
    def pending(self) -> int:
        """Outcomes not acknowledged, leftovers in the spool folder included."""
        return self._courier.backlog.pending

    @property
    def accepted(self) -> int:
        """Outcomes stored so far, leftovers of earlier streams included."""
        return self._courier.accepted

    @property
    def duplicates(self) -> int:
        """Outcomes sent so far that the server had stored before."""
        return self._courier.duplicates
