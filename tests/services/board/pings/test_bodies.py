"""A body whose length no header says: its ends are kept, one that is far too long is refused."""

import pytest

from marketswarm.tail_buffer import TAIL_BYTES
from services.board.pings.answers import TOO_LARGE, RefusedPingError
from services.board.pings.requests import (
    MAX_BYTES,
    LostClientError,
    PingBody,
    cut_body,
    read_body,
    read_ping_body,
)

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


async def test_the_beginning_of_a_body_is_kept_and_all_of_it_is_read():
    receive, read = sends([b"abc", b"", b"defgh"])
    assert await read_body(receive, 5) == b"abcde"
    assert len(read) == 4


async def test_both_ends_of_a_ping_s_body_are_kept_and_a_short_one_once():
    receive, _ = sends([b"abc", b"def"])
    assert await read_ping_body(receive) == PingBody(b"abcdef", b"", 6) == cut_body(b"abcdef")
    whole = b"".join(b"%07d\n" % n for n in range(20_000))
    receive, _ = sends([whole[at : at + 60_000] for at in range(0, len(whole), 60_000)])
    found = await read_ping_body(receive)
    assert found == cut_body(whole)
    assert (found.head[:8], found.tail[-8:], found.size) == (b"0000000\n", b"0019999\n", 160_000)
    assert len(found.head) == len(found.tail) == TAIL_BYTES


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
