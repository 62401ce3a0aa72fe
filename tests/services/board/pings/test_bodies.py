"""A body whose length no header says: its beginning is kept, one that is far too long is refused."""

import pytest

from services.board.pings.answers import TOO_LARGE, RefusedPingError
from services.board.pings.requests import MAX_BYTES, LostClientError, read_body

PIECE = b"x" * 65_536


def sends(pieces, *, ends="http.request"):
    """A client that sends pieces, and counts those that were read."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": ends})
    read = []

    async def receive():
        read.append(messages[len(read)])
        return read[-1]

    return receive, read


async def test_the_beginning_of_a_body_is_kept_and_all_of_it_is_counted():
    receive, _ = sends([b"abc", b"", b"defgh"])
    assert await read_body(receive, 5) == (b"abcde", 8)


async def test_a_body_without_a_length_is_read_no_further_than_what_a_ping_may_have():
    receive, read = sends([PIECE] * 100)
    with pytest.raises(RefusedPingError) as refused:
        await read_body(receive, 10)
    assert refused.value.args == RefusedPingError(TOO_LARGE).args
    assert len(read) == MAX_BYTES // len(PIECE) + 1


async def test_a_client_that_hangs_up_amid_its_body_is_no_ping():
    receive, _ = sends([PIECE], ends="http.disconnect")
    with pytest.raises(LostClientError):
        await read_body(receive, 10)
