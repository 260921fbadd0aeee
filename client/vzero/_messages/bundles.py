"""Requests that carry a bundle, a file with the outcomes of one policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vzero._checks import check_name
from vzero._files import read_pieces
from vzero.v1 import policy_pb2


@contextmanager
def import_requests(
    path: str | Path, policy_id: str | None
) -> Iterator[Iterator[policy_pb2.ImportContextRequest]]:
    """Open a bundle as the requests of an ImportContext call.

    Args:
        path: the bundle.
        policy_id: policy to store the outcomes under; None: the name in the bundle.

    Raises:
        InvalidArgument: the name breaks a rule.
        OSError: the file cannot be read.
    """
    name = "" if policy_id is None else check_name("policy_id", policy_id)
    with Path(path).open("rb") as file:
        yield (
            policy_pb2.ImportContextRequest(data=piece, policy_id=name)
            for piece in read_pieces(file)
        )
