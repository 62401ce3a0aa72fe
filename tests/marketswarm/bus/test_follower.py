"""A stream that is followed on a real server: deleted, trimmed, too large, with ids of the far future."""

import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import AWAY_SEC, StreamFollower, StreamLoss, read_streams

pytestmark = pytest.mark.live
STREAM = "s"
LAST_ID = b"18446744073709551615-18446744073709551615"


def add(server, *idents, value="x"):
    for ident in idents:
        server.cmd("XADD", STREAM, ident, "a", value)


async def read(follower, count=10):
    entries, loss = await follower.read(count)
    return [each.id for each in entries], loss


async def test_each_entry_comes_once_and_in_order(server, bus):
    follower = StreamFollower(bus, STREAM)
    assert await read(follower) == ([], None)
    add(server, "1-1", "2-1", "3-1")
    assert await read(follower, 2) == ([b"1-1", b"2-1"], None)
    assert await read(follower, 2) == ([b"3-1"], None)
    assert await read(follower, 2) == ([], None)
    assert follower.position == b"3-1"


@pytest.mark.parametrize("position", [b"9-2", LAST_ID])
async def test_a_stream_that_was_begun_anew_is_read_from_its_beginning(server, bus, position):
    add(server, position)
    follower = StreamFollower(bus, STREAM)
    await read(follower)
    assert await read(follower) == ([], None)
    server.cmd("DEL", STREAM)
    add(server, "9-0", "9-1")
    assert await read(follower) == ([b"9-0", b"9-1"], StreamLoss(position, None))
    assert await read(follower) == ([], None)


async def test_a_stream_that_was_deleted_and_goes_on_with_newer_ids_is_read_on(server, bus):
    add(server, "5-1")
    follower = StreamFollower(bus, STREAM, b"5-1")
    server.cmd("DEL", STREAM)
    assert await read(follower) == ([], StreamLoss(b"5-1", None))
    add(server, "9-1")
    assert await read(follower) == ([b"9-1"], None)


@pytest.mark.parametrize("count", [10, 3])
async def test_what_was_trimmed_off_after_the_position_is_a_loss(server, bus, count):
    add(server, *(f"{number}-1" for number in range(1, 9)))
    server.cmd("XTRIM", STREAM, "MAXLEN", "4")
    follower = StreamFollower(bus, STREAM, b"2-1")
    assert await read(follower, count) == (
        [b"5-1", b"6-1", b"7-1", b"8-1"][:count],
        StreamLoss(b"2-1", b"5-1"),
    )


async def test_a_reader_that_is_behind_learns_what_was_trimmed_off_before_it(server, bus):
    add(server, *(f"{number}-1" for number in range(1, 9)))
    follower = StreamFollower(bus, STREAM)
    assert await read(follower, 2) == ([b"1-1", b"2-1"], None)
    assert await read(follower, 2) == ([b"3-1", b"4-1"], None)
    server.cmd("XTRIM", STREAM, "MAXLEN", "2")
    assert await read(follower, 2) == ([b"7-1", b"8-1"], StreamLoss(b"4-1", b"7-1"))
    assert await read(follower, 2) == ([], None)


async def test_who_begins_at_the_start_has_lost_nothing(server, bus):
    add(server, "1-1", "2-1", "3-1")
    server.cmd("XTRIM", STREAM, "MAXLEN", "2")
    assert await read(StreamFollower(bus, STREAM), 2) == ([b"2-1", b"3-1"], None)


async def test_after_a_failure_it_goes_on_where_it_was_and_looks_for_losses(server, bus):
    add(server, "1-1", "2-1", "3-1", "4-1")
    follower = StreamFollower(bus, STREAM)
    await read(follower, 2)
    follower.bus = Bus("bus", "redis://127.0.0.1:1")
    with pytest.raises(BusError):
        await read(follower)
    await follower.bus.aclose()
    follower.bus = bus
    server.cmd("XTRIM", STREAM, "MAXLEN", "1")
    assert await read(follower) == ([b"4-1"], StreamLoss(b"2-1", b"4-1"))


async def test_a_loss_that_a_check_found_is_told_by_the_next_read_if_the_one_after_it_failed(
    server, bus, monkeypatch
):
    add(server, "9-1")
    follower = StreamFollower(bus, STREAM, b"9-1")
    server.cmd("DEL", STREAM)
    add(server, "9-0")

    async def fail(*_args, **_kwargs):
        raise BusError("bus", "timeout")

    with monkeypatch.context() as patch:
        patch.setattr("marketswarm.bus.follower.read_streams_after", fail)
        with pytest.raises(BusError):
            await follower.read(10)
    assert await read(follower) == ([b"9-0"], StreamLoss(b"9-1", None))
    assert await read(follower) == ([], None)


async def test_entries_that_fit_no_reply_come_in_smaller_pages_without_the_largest_ones_fields(
    server, bus, monkeypatch
):
    monkeypatch.setattr("marketswarm.bus.stream.REPLY_BYTES", 100_000)
    add(server, "1-1", "2-1", value="x" * 45_000)
    add(server, "3-1", value="x" * 200_000)
    add(server, "4-1")
    follower, found = StreamFollower(bus, STREAM), []
    while entries := (await follower.read(10))[0]:
        found += [(each.id, each.fields is not None) for each in entries]
    assert found == [(b"1-1", True), (b"2-1", True), (b"3-1", False), (b"4-1", True)]


async def test_a_reader_that_was_away_looks_for_losses_although_it_gets_fewer_entries_than_it_asks_for(
    server, bus
):
    now = [0.0]
    add(server, *(f"{number}-1" for number in range(1, 5)))
    follower = StreamFollower(bus, STREAM, monotonic=lambda: now[0])
    assert await read(follower) == ([b"1-1", b"2-1", b"3-1", b"4-1"], None)
    add(server, "5-1", "6-1")
    server.cmd("XTRIM", STREAM, "MAXLEN", "1")
    now[0] += AWAY_SEC
    assert await read(follower) == ([b"6-1"], StreamLoss(b"4-1", b"6-1"))


async def test_several_streams_are_read_by_one_request_and_no_position_moves_if_it_fails(server, bus):
    followers = [StreamFollower(bus, stream) for stream in (STREAM, "other")]
    add(server, "1-1", "2-1")
    server.cmd("XADD", "other", "9-1", "a", "b")
    pages = await read_streams(followers, 1)
    assert [[each.id for each in entries] for entries, _ in pages] == [[b"1-1"], [b"9-1"]]
    server.cmd("SET", "other", "no stream")
    with pytest.raises(BusError, match="WRONGTYPE"):
        await read_streams(followers, 1)
    assert [each.position for each in followers] == [b"1-1", b"9-1"]
    server.cmd("DEL", "other")
    pages = await read_streams(followers, 2)
    assert [([each.id for each in entries], loss) for entries, loss in pages] == [
        ([b"2-1"], None),
        ([], StreamLoss(b"9-1", None)),
    ]


async def test_a_stream_without_new_entries_is_checked_no_more_often_than_its_reader_wants(server, bus):
    now = [0.0]
    add(server, "5-1")
    follower = StreamFollower(bus, STREAM, check_sec=1.0, monotonic=lambda: now[0])
    await read(follower)
    now[0] += 0.9
    assert await read(follower) == ([], None)
    server.cmd("DEL", STREAM)
    assert await read(follower) == ([], None)
    now[0] += 0.1
    assert await read(follower) == ([], StreamLoss(b"5-1", None))
