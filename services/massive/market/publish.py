"""Publish each bar (symbol, start) once, and again if it was corrected; store how far symbols are complete.

All of it happens in one step on the bus, so that a process may be killed anywhere. While the bus is down, the
functions here wait, and the beats report it. `gaps.py` explains the marks.
"""

import time
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from marketswarm.agent import Agent, point_like
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage, retry
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream_length import BARS_READERS, StreamLength
from marketswarm.bus.stream_loss import read_loss, settle_loss
from marketswarm.keys import BARS_LOST, MARKET_BARS, bar_marks_key, bars_seen_key
from marketswarm.text import parse_digits
from marketswarm.truth import AccessPoint
from services.market.entries import encode_entry
from services.market.massive import MAX_AGE_SEC, MAX_AHEAD_MS
from services.market.records import DAY_MS, MINUTE_MS, AssetClass, Bar, Provenance, VolumeKind
from services.massive.market.gaps import Mark
from services.massive.market.status import MarketStatus, Way

PUBLISH: Final = Script.beside("services.massive.market", "publish.lua")
BATCH_SIZE: Final = 500
KEPT_SEC: Final = MAX_AGE_SEC + 2 * 86_400
"""The seconds for which it is kept what is on the stream: longer than a bar may still arrive."""
BITS_BYTES: Final = 180
"""A bit for each minute of a day; DIGEST_BYTES for each follow. `publish.lua` has both numbers, too."""
DIGEST_BYTES: Final = 4
LOST: Final = b"\xff" * DIGEST_BYTES
"""The digest of what is to be published again."""
WRITER: Final = "massive"
"""The name of this writer of the stream of bars, which has others."""
PUBLISHED_LATE_MS: Final = 30 * MINUTE_MS
"""How long after its beginning a bar is published at the latest: a delayed feed is 15 minutes late."""
FORGET_SEC: Final = 10.0


def bars_point(me: Agent[Any]) -> AccessPoint:
    """Return the bus and key of the bars in the truth in force."""
    return point_like(me.section.access_points.publish_to, "market-redis", MARKET_BARS)


def now_ms() -> float:
    return 1000 * time.time()


class BarStore:
    """Write the stream of bars, the marks, and which bars are on the stream, with a digest of each.

    `lost_marks` becomes True when the bus turns out to hold an older mark than we had stored, as after a
    crash of the server, so the marks must be read again.
    """

    def __init__(self, me: Agent[Any], status: MarketStatus) -> None:
        self._me, self._status = me, status
        self.lost_marks = False
        self._lengths: dict[str, StreamLength] = {}
        self.outage = Outage(
            me.log, "market.unpublished", "market.published", degrade=status.set_publish_error
        )

    async def publish(self, bars: Sequence[Bar], marks: Sequence[Mark], keep: int, way: Way = "ws") -> int:
        """Publish bars on a stream that keeps at least about `keep` entries, then move `marks`.

        Return how many were published: those that were not on the stream, or had other values there.

        This waits for the bus without a limit. If it is cancelled, some bars may be published and no mark has
        moved; publishing all of them again repeats nothing.
        """
        new = 0
        for at in range(0, len(bars) or min(1, len(marks)), BATCH_SIZE):
            batch = bars[at : at + BATCH_SIZE]
            moved = marks if at + BATCH_SIZE >= len(bars) else ()
            new += await retry(self.outage, partial(self._publish_batch, batch, way, moved, keep))
        self._status.record_published(bars, way, new, now_ms())
        return new

    async def find_changed(self, sym: str, bars: Sequence[Bar]) -> list[Bar]:
        """Return those of a symbol's bars that are not on the stream as they are.

        Bars before the first one that is there are left out: nothing of the symbol was wanted then.
        """
        days = sorted({bar.start_ms // DAY_MS for bar in bars})
        found = await retry(self.outage, partial(self._read_days, sym, days)) if days else []
        stored = {day: raw or b"" for day, raw in zip(days, found, strict=True)}
        first_ms = next(filter(None, (_find_first(day, raw) for day, raw in stored.items())), None)
        return [
            bar
            for bar in bars
            if first_ms is not None
            and bar.start_ms >= first_ms
            and _find_digest(stored[bar.start_ms // DAY_MS], bar.start_ms) != make_digest(bar)
        ]

    async def forget_lost(self, symbols: Sequence[str]) -> bool:
        """Have what bars lost unread published again when REST gives it; return whether it noted a loss.

        The digests of that time are overwritten by one that no bar has.
        """
        return await retry(self.outage, partial(self._forget_lost, symbols))

    async def _forget_lost(self, symbols: Sequence[str]) -> bool:
        bus, key = self._get_place()
        span = await read_loss(bus, BARS_LOST, key, WRITER)
        if span is None:
            return False
        last_ms = min(span.to_ms, round(now_ms()))
        first_ms = max(span.from_ms - PUBLISHED_LATE_MS, last_ms - 1000 * MAX_AGE_SEC)
        pipe = bus.pipeline()
        for day in range(first_ms // DAY_MS, last_ms // DAY_MS + 1):
            begins, ends = max(first_ms - day * DAY_MS, 0), min(last_ms - day * DAY_MS, DAY_MS - 1)
            first, last = begins // MINUTE_MS, ends // MINUTE_MS
            for sym in symbols:
                digests = LOST * (last - first + 1)
                stored = bars_seen_key(key, sym, day)
                pipe.setrange(stored, BITS_BYTES + DIGEST_BYTES * first, digests)
                pipe.expire(stored, KEPT_SEC)
        await bus.ask(pipe.execute(), FORGET_SEC)
        await settle_loss(bus, key, WRITER, span)
        return True

    async def read_marks(self, symbols: Sequence[str]) -> Mapping[str, int]:
        """Return the marks by symbol, in epoch milliseconds; leave out symbols without a mark."""
        stored = await retry(self.outage, partial(self._ask_marks, "hmget", list(symbols)))
        marks = zip(symbols, map(parse_digits, stored), strict=True)
        return {sym: mark for sym, mark in marks if mark is not None}

    async def prune_marks(self, before_ms: float) -> None:
        """Delete invalid marks and those before `before_ms`, whose symbols were not wanted for so long."""
        stored = await retry(self.outage, partial(self._ask_marks, "hgetall"))
        old = [sym for sym, raw in stored.items() if (parse_digits(raw) or 0) < before_ms]
        if old:
            await retry(self.outage, partial(self._ask_marks, "hdel", *old))

    async def _read_days(self, sym: str, days: Sequence[int]) -> list[bytes | None]:
        bus, key = self._get_place()
        found: list[bytes | None] = await bus.ask(
            bus.client.mget([bars_seen_key(key, sym, day) for day in days])
        )
        return found

    async def _ask_marks(self, command: str, *args: Any) -> Any:
        bus, key = self._get_place()
        return await bus.ask(getattr(bus.client, command)(bar_marks_key(key), *args))

    async def _publish_batch(self, bars: Sequence[Bar], way: Way, marks: Sequence[Mark], keep: int) -> int:
        """Publish bars and move marks by one script; return how many were published. Raises BusError."""
        bus, key = self._get_place()
        keys_of = [bars_seen_key(key, bar.symbol, bar.start_ms // DAY_MS) for bar in bars]
        day_keys = list(dict.fromkeys(keys_of))
        key_index = {name: n for n, name in enumerate(day_keys, 3)}
        length = self._lengths.setdefault(key, StreamLength(BARS_READERS, WRITER))
        trimmed_to = await length.compute(bus, key, keep)
        args: list[str | bytes | float] = [trimmed_to, KEPT_SEC, round(now_ms()) + MAX_AHEAD_MS, len(bars)]
        for bar, day_key in zip(bars, keys_of, strict=True):
            pairs = [text for pair in encode_bar(bar, way).items() for text in pair]
            minute = bar.start_ms % DAY_MS // MINUTE_MS
            args += [key_index[day_key], minute, make_digest(bar), orjson.dumps(pairs)]
        for mark in marks:
            args += [mark.sym, mark.previous, mark.upto]
        new, behind = await bus.script(PUBLISH, [key, bar_marks_key(key), *day_keys], args)
        self.lost_marks = self.lost_marks or bool(behind)
        return int(new)

    def _get_place(self) -> tuple[Bus, str]:
        point = bars_point(self._me)
        return self._me.bus(point.bus), point.key


def encode_bar(bar: Bar, way: Way) -> dict[str, str]:
    """Return the fields of a bar's entry, which names neither its timeframe nor its class."""
    # an aggregate counts the trades of all exchanges
    origin = Provenance(way, volume_kind=VolumeKind.CONSOLIDATED)
    fields = encode_entry(bar, AssetClass.STOCKS, origin)
    del fields["timeframe"], fields["asset"]
    return fields


def make_digest(bar: Bar) -> bytes:
    """Return DIGEST_BYTES that tell the values of a bar from others of its minute; never all 0, nor LOST."""
    values = orjson.dumps((bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap))
    return min(zlib.crc32(values) or 1, 2**32 - 2).to_bytes(DIGEST_BYTES, "big")


def _find_digest(day: bytes, start_ms: int) -> bytes:
    """Return the digest of a minute in what is stored of its day; less than DIGEST_BYTES without one."""
    at = BITS_BYTES + DIGEST_BYTES * (start_ms % DAY_MS // MINUTE_MS)
    return day[at : at + DIGEST_BYTES]


def _find_first(day: int, stored: bytes) -> int | None:
    """Return the start of the first bar of a day that is `stored` as published; None without any."""
    bits = int.from_bytes(stored[:BITS_BYTES].ljust(BITS_BYTES, b"\0"), "big")
    return day * DAY_MS + (8 * BITS_BYTES - bits.bit_length()) * MINUTE_MS if bits else None
