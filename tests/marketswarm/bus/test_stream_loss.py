"""What a reader has lost, and its writers publish again, on a real bus."""

from marketswarm.bus.stream_length import keep_key
from marketswarm.bus.stream_loss import LostSpan, note_loss, read_loss, settle_loss

STREAM, NOTES = "some:bars", "reader:lost"


async def test_a_note_becomes_longer_until_each_writer_has_settled_it(bus):
    await bus.client.hset(keep_key(STREAM), mapping={"one": "5 1", "two": "5 1"})
    assert await read_loss(bus, NOTES, STREAM, "one") is None
    await note_loss(bus, NOTES, STREAM, b"5000-1", b"9000-0")
    span = await read_loss(bus, NOTES, STREAM, "one")
    assert span == LostSpan(5000, 9000)
    await settle_loss(bus, STREAM, "one", span)
    assert await read_loss(bus, NOTES, STREAM, "one") is None
    await note_loss(bus, NOTES, STREAM, b"7000-0", b"9500-0")
    assert await read_loss(bus, NOTES, STREAM, "one") == LostSpan(5000, 9500), "two has not settled the first"
    assert await read_loss(bus, NOTES, STREAM, "two") == LostSpan(5000, 9500)
    for writer in ("one", "two"):
        await settle_loss(bus, STREAM, writer, LostSpan(5000, 9500))
    await note_loss(bus, NOTES, STREAM, b"9700-0", b"9900-0")
    assert await read_loss(bus, NOTES, STREAM, "one") == LostSpan(9700, 9900)


async def test_what_makes_no_sense_is_no_note_and_settles_nothing(bus):
    for value in ("", "x", "5", "9 5", "-1 5", "1 " + "9" * 100):
        await bus.client.hset(NOTES, STREAM, value)
        assert await read_loss(bus, NOTES, STREAM, "one") is None
    await bus.client.hset(f"{STREAM}:settled", "one", "odd")
    await note_loss(bus, NOTES, STREAM, b"5000-1", b"9000-0")
    assert await read_loss(bus, NOTES, STREAM, "one") == LostSpan(5000, 9000)
