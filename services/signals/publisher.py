"""Publish places that are committed, each once and in their order, for all who follow the stream."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_fields, report_unusable
from marketswarm.bus.stream_length import StreamLength
from marketswarm.bus.transaction import BusTransaction, commit
from marketswarm.keys import places_published_key
from marketswarm.pages import split_pages
from marketswarm.text import parse_digits
from services.market.universe import LoadedSymbol
from services.signals.settings import SignalsSettings, find_log
from services.tables.signals import SignalRow, make_signal_fields

ROWS_AT_ONCE: Final = 200
"""The places that are published in one step; each has about 2 kB."""
SUPERSEDED: Final = "another leader publishes"
_LAST_PLACE: Final = 2**31
"""Greater than the place of any row."""
_UPTO: Final = "upto"
_LOG: Final = "log"
_EPOCH: Final = "epoch"

Position = tuple[int, int]
"""The tick and the place of a row."""


class PlacePublisher:
    """Add rows to the stream of places, and note up to which one of which log it has them, in one step.

    A stream that was deleted, one with another name, and one with places of another log go on with the next
    tick.
    """

    def __init__(self, me: Agent[Any], settings_now: Callable[[], SignalsSettings]) -> None:
        self._me, self._settings_now = me, settings_now
        self._length = StreamLength()
        self._place: tuple[Bus, str] | None = None
        self._stored, self._log = b"", ""
        self.upto: Position = (0, _LAST_PLACE)
        """The last row that was published, as far as this leader knows."""

    async def begin(self, epoch: int, last_tick: int, log: bytes) -> Position:
        """Return the last row that was published; note `last_tick` where none of this log is stored.

        `log` is the hash of the log's first entry. The ticks of another log, as of a database that was empty
        until a backup was restored, have the same numbers: what comes after one of them in this log was
        published long ago. A position of an older release names no log, and counts.

        Raises BusError, and LeaseLost if a newer leader publishes.
        """
        point = find_log(self._me.section)
        self._place = self._me.bus(point.bus), point.key
        bus, key = self._place[0], places_published_key(point.key)
        (found,) = await read_fields(bus, [key], [_UPTO, _LOG])
        self._stored, self._log = found.get(_UPTO.encode(), b""), log.hex()
        position = parse_position(self._stored)
        is_ours = found.get(_LOG.encode(), b"") in (b"", self._log.encode())
        if self._stored and (position is None or position[0] > last_tick or not is_ours):
            report_unusable(bus.name, key, _UPTO)
            position = None
        self.upto = position or (last_tick, _LAST_PLACE)
        await self._write(epoch, [], {})
        return self.upto

    async def publish(
        self, epoch: int, rows: Sequence[SignalRow], symbols: Mapping[str, LoadedSymbol]
    ) -> None:
        """Publish rows of one tick that come after the last one published. `epoch` is that of the lease.

        Raises BusError, after which some may be published, and LeaseLost if a newer leader publishes.
        """
        wanted = [row for row in rows if (row.tick, row.place) > self.upto]
        for page in split_pages(wanted, ROWS_AT_ONCE):
            await self._write(epoch, page, symbols)

    async def publish_stored(
        self, epoch: int, rows: AsyncIterator[SignalRow], symbols: Mapping[str, LoadedSymbol]
    ) -> int:
        """Publish rows that are stored, which come by their ticks; return how many it were."""
        count, tick = 0, list[SignalRow]()
        async for row in rows:
            if tick and tick[0].tick != row.tick:
                await self.publish(epoch, sorted(tick, key=_find_place), symbols)
                tick = []
            if (row.tick, row.place) > self.upto:
                count += 1
            tick.append(row)
        await self.publish(epoch, sorted(tick, key=_find_place), symbols)
        return count

    def has_moved(self) -> bool:
        """Return whether the truth names another stream by now, or another bus."""
        point = find_log(self._me.section)
        return self._place is None or self._place != (self._me.bus(point.bus), point.key)

    async def _write(
        self, epoch: int, rows: Sequence[SignalRow], symbols: Mapping[str, LoadedSymbol]
    ) -> None:
        assert self._place is not None  # noqa: S101 - begin is called first
        bus, stream = self._place
        key, upto = places_published_key(stream), self.upto
        move = BusTransaction()
        move.require_epoch(key, _EPOCH, epoch)
        move.require(key, _UPTO, self._stored)
        length = await self._length.compute(bus, stream, self._settings_now().settings.keep) if rows else 0
        for row in rows:
            loaded = symbols.get(row.symbol)
            asset = "stocks" if loaded is None else str(loaded.asset)
            move.add_entry(stream, make_signal_fields(row, asset), length, begin_anew=True)
            upto = row.tick, row.place
        written = b"%d %d" % upto
        move.write_hash(key, {_UPTO: written, _LOG: self._log, _EPOCH: str(epoch)})
        if not await commit(bus, move):
            raise LeaseLost(SUPERSEDED)
        self._stored, self.upto = written, upto


def parse_position(raw: bytes) -> Position | None:
    """Return the position that is stored as `<tick> <place>`; None for anything else."""
    words = raw.partition(b" ")
    tick, place = parse_digits(words[0]), parse_digits(words[2])
    return None if tick is None or place is None else (tick, place)


def _find_place(row: SignalRow) -> int:
    return row.place
