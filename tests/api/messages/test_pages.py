"""Page tokens."""

import pytest

from vzero_server.api.errors import InvalidRequestError
from vzero_server.api.messages.pages import name_before, next_token, page_size


def test_a_token_leads_to_the_page_after_a_name() -> None:
    names = ["a/b", "ä ö", "c"]
    assert name_before(next_token(names, 2)) == "ä ö"
    assert next_token(names, 3) == ""
    assert name_before("") == ""


def test_a_token_that_no_reply_contained_is_refused() -> None:
    for token in ("not base64!", "/w=="):
        with pytest.raises(InvalidRequestError, match="page_token"):
            name_before(token)


def test_a_page_has_a_default_size() -> None:
    assert (page_size(0), page_size(7)) == (100, 7)
