"""Files of outcomes on their way into a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vzero.files import pieces
from vzero.requests import check_policy
from vzero.v1 import policy_pb2


@contextmanager
def opened(
    path: str | Path, policy_id: str | None
) -> Iterator[Iterator[policy_pb2.ImportContextRequest]]:
    """Open a bundle as the requests of an ImportContext call.

    Args:
        path: the file.
        policy_id: name to store the outcomes under; None: the name in the bundle.

    Raises:
        InvalidArgument: the name breaks a rule.
        OSError: the file cannot be read.
    """
    name = "" if policy_id is None else check_policy(policy_id)
    with Path(path).open("rb") as file:
        yield (
            policy_pb2.ImportContextRequest(data=piece, policy_id=name) for piece in pieces(file)
        )
