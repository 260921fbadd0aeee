"""Page tokens of listings: the last name of the page before, encoded."""

import base64
import binascii
from collections.abc import Sequence

from vzero_server.api.errors import InvalidRequestError

_DEFAULT_SIZE = 100


def page_size(requested: int) -> int:
    """Return the size of a page; 0 requests the default."""
    return requested or _DEFAULT_SIZE


def name_before(token: str) -> str:
    """Return the name that a page comes after; empty for the first page.

    Raises:
        InvalidRequestError: The token is not from an earlier reply.
    """
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise InvalidRequestError.of("page_token", "must come from an earlier reply") from None


def next_token(names: Sequence[str], size: int) -> str:
    """Return the token of the next page; empty if there is none.

    Args:
        names: Names of the page in order, and one more if there is a next page.
        size: Size of the page.
    """
    if len(names) <= size:
        return ""
    return base64.urlsafe_b64encode(names[size - 1].encode()).decode()
