"""Have the writers of a stream publish again what one of its readers has lost.

The reader notes by stream, in a hash of its own, when the entries were written that it lost. Each writer
notes in the hash `<stream>:settled` which of these notes it has published again. Writers are those that say
how long they keep the stream (`stream_length.py`).
"""

from typing import Final, NamedTuple

from marketswarm.bus.bus import Bus
from marketswarm.bus.stored_values import read_fields
from marketswarm.bus.stream import find_entry_time
from marketswarm.bus.stream_length import keep_key
from marketswarm.text import parse_digits

MAX_NOTE_BYTES: Final = 40


class LostSpan(NamedTuple):
    """Hold when the entries were written that a reader lost, by the clock of the bus (epoch milliseconds)."""

    from_ms: int
    to_ms: int


async def note_loss(bus: Bus, notes: str, stream: str, after: bytes, upto: bytes) -> None:
    """Note that the entries of a stream between two ids were lost. Raises BusError.

    A note that some writer has not settled becomes longer.
    """
    lost = LostSpan(*(round(1000 * find_entry_time(ident)) for ident in (after, upto)))
    pipe = bus.pipeline()
    pipe.hget(notes, stream)
    pipe.hkeys(keep_key(stream))
    pipe.hgetall(settled_key(stream))
    stored, writers, settled = await bus.ask(pipe.execute())
    known = _parse_span(stored or b"")
    if known is not None and any(settled.get(writer) != stored for writer in writers):
        lost = LostSpan(min(known.from_ms, lost.from_ms), max(known.to_ms, lost.to_ms))
    await bus.ask(bus.client.hset(notes, stream, _encode(lost)))


async def read_loss(bus: Bus, notes: str, stream: str, writer: str) -> LostSpan | None:
    """Return what a writer is to publish again; None for nothing, or if it has done so. Raises BusError."""
    (found,) = await read_fields(bus, [notes], [stream], MAX_NOTE_BYTES)
    span = _parse_span(found.get(stream.encode(), b""))
    if span is None:
        return None
    (settled,) = await read_fields(bus, [settled_key(stream)], [writer], MAX_NOTE_BYTES)
    return None if settled.get(writer.encode()) == _encode(span).encode() else span


async def settle_loss(bus: Bus, stream: str, writer: str, span: LostSpan) -> None:
    """Note that a writer has published this again, or will with what it is given next. Raises BusError."""
    await bus.ask(bus.client.hset(settled_key(stream), writer, _encode(span)))


def settled_key(stream: str) -> str:
    """Return the key of which loss each writer of a stream has settled last."""
    return f"{stream}:settled"


def _parse_span(note: bytes) -> LostSpan | None:
    start, _, end = note.partition(b" ")
    from_ms, to_ms = parse_digits(start), parse_digits(end)
    return None if from_ms is None or to_ms is None or to_ms < from_ms else LostSpan(from_ms, to_ms)


def _encode(span: LostSpan) -> str:
    return f"{span.from_ms} {span.to_ms}"
