"""Outcomes of one ``update`` call, until all of them are acknowledged."""

from collections import deque
from collections.abc import Sequence

from vzero._checks import check_name
from vzero._messages.batches import update_requests
from vzero._messages.policy_replies import read_ack
from vzero.errors import Internal, Unavailable
from vzero.v1 import value_pb2
from vzero.values import Ack


class PendingUpdate:
    """Requests of one update. Those without acknowledgement are sent again after an error.

    HTTP/2 flow control limits what is in flight, so all requests may be offered at once.
    """

    def __init__(self, policy_id: str, outcomes: Sequence[value_pb2.Outcome]) -> None:
        """Split the outcomes into requests.

        Args:
            policy_id: policy of the outcomes.
            outcomes: at least one.

        Raises:
            InvalidArgument: the name of the policy breaks a rule.
        """
        check_name("policy_id", policy_id)
        self._requests = deque(update_requests(policy_id, outcomes))
        self._ack: Ack | None = None

    def requests(self) -> list[value_pb2.UpdateContextRequest]:
        """Return the requests without acknowledgement, in order."""
        return list(self._requests)

    def acknowledge(self, reply: value_pb2.UpdateContextResponse) -> None:
        """Record that the oldest request is stored.

        Raises:
            Internal: all requests were acknowledged before.
        """
        if not self._requests:
            raise Internal("the server acknowledged more chunks than were sent")
        self._requests.popleft()
        ack = read_ack(reply)
        self._ack = ack if self._ack is None else self._ack.plus(ack)

    def result(self) -> Ack:
        """Return the sum of the acknowledgements.

        Raises:
            Unavailable: the server ended the call before it had stored everything.
        """
        if self._requests or self._ack is None:
            raise Unavailable("the server ended the stream early")
        return self._ack
