"""Outcomes of one ``update`` call, until all of them are acknowledged."""

from collections import deque
from collections.abc import Sequence

from vzero import replies, requests
from vzero.errors import Internal, Unavailable
from vzero.v1 import value_pb2
from vzero.values import Ack


class Delivery:
    """Chunks of one policy. A connection that breaks leaves those that must be sent again.

    HTTP/2 flow control bounds what is under way, so all chunks may be offered at once.
    """

    def __init__(self, policy_id: str, outcomes: Sequence[value_pb2.Outcome]) -> None:
        """Cut the outcomes into chunks.

        Args:
            policy_id: their policy.
            outcomes: at least one.

        Raises:
            InvalidArgument: the name of the policy breaks a rule.
        """
        requests.check_policy(policy_id)
        self._unacked = deque(requests.chunks(policy_id, outcomes))
        self._ack: Ack | None = None

    def unacked(self) -> list[value_pb2.UpdateContextRequest]:
        """Chunks to send, in order."""
        return list(self._unacked)

    def acked(self, response: value_pb2.UpdateContextResponse) -> None:
        """Take note that the oldest chunk is stored.

        Raises:
            Internal: nothing was sent.
        """
        if not self._unacked:
            raise Internal("the server acknowledged more chunks than were sent")
        self._unacked.popleft()
        ack = replies.ack(response)
        self._ack = ack if self._ack is None else self._ack.plus(ack)

    def result(self) -> Ack:
        """Return the sum of the acknowledgements.

        Raises:
            Unavailable: the server ended the call before it stored everything.
        """
        if self._unacked or self._ack is None:
            raise Unavailable("the server ended the stream early")
        return self._ack
