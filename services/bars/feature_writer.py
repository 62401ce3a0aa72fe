"""Compute the features of all symbols when a day is over or corrected, and publish those that are new.

A feature may depend on every symbol (how many rise, how they move together), so one instance computes all of
them, by a lease, from the days that all instances have committed. No feature looks ahead: once all are
published, only the days from the first one that changed are computed again. What was published of each day is
recorded with the symbol: an instance that takes the lease computes all anew, and publishes nothing twice.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import Any, Final

import orjson

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.keys import FEATURES, bars_state_key
from marketswarm.market.entries import MIN_MS
from marketswarm.market.records import DAY_MS, Bar
from services.bars.features import compute_features
from services.bars.indicators import Values
from services.bars.metrics import BarsMetrics
from services.bars.settings import BarsSettings, list_inputs, list_outputs
from services.bars.state import CHUNK_BARS, DAILY, REST, VERSION, read_final_days
from services.bars.store import read_bus_time

COMMIT: Final = Script.beside("services.bars", "commit_features.lua")
LEASE: Final = FEATURES
LOOK_EVERY_SEC: Final = 1.0
LEASE_SEC: Final = 5.0
PATIENCE: Final = 10
"""The looks for which new days are waited for while more of them come: many end at the same time."""
SYMBOLS_AT_ONCE: Final = 50
ENTRIES_AT_ONCE: Final = 500
STATE_BYTES: Final = 64 * 1024 * 1024
WITHIN_SEC: Final = 10.0
RETRY_SEC: Final = 1.0
RECORD: Final = "features"
"""The field of a symbol's state that records what was published."""
_ALWAYS: Final = frozenset({RECORD.encode(), REST.encode()})

Rows = Sequence[tuple[int, Values]]
Marks = Mapping[str, Mapping[int, tuple[int, int]]]
"""Of each symbol: the number of a chunk of days -> how many are final, and a hash of them."""
_CHUNK_MS: Final = CHUNK_BARS * DAY_MS
"""The time of a chunk, as in the state: old days are forgotten by whole chunks."""
_NO_DAYS: Final = (0, hash(()))


@dataclass(frozen=True, slots=True)
class NewFeatures:
    """Hold the entries to publish of one symbol, and the record of what is published from then on."""

    symbol: str
    before: bytes
    after: bytes
    entries: Sequence[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Computed:
    """Hold the new features of all symbols, and the marks of the days that they were computed of."""

    new: Sequence[NewFeatures]
    marks: Marks


def compute_new(
    stored: Mapping[str, Mapping[bytes, bytes]], benchmark: str, published: Marks | None = None
) -> Computed:
    """Compute the features that were not published yet.

    Args:
        stored: of each symbol the stored fields of its days and of the record of its features.
        benchmark: the symbol that others are compared with.
        published: the marks of the days whose features are published, of these very symbols and with this
            benchmark; None to compute all.
    """
    history = {symbol: read_final_days(symbol, fields) for symbol, fields in stored.items()}
    marks = {symbol: mark_days(bars) for symbol, bars in history.items()}
    since_ms = MIN_MS if published is None else find_first_change(published, history)
    if since_ms is None:
        return Computed([], marks)
    rows = compute_features(history, benchmark, since_ms)
    new = [
        found
        for symbol, bars in history.items()
        if (found := find_new(symbol, rows[symbol], stored[symbol].get(RECORD.encode(), b""), since_ms, bars))
        is not None
    ]
    return Computed(new, marks)


def mark_days(bars: Sequence[Bar]) -> dict[int, tuple[int, int]]:
    """Return the mark of each chunk of days."""
    return {number: (len(chunk), hash(chunk)) for number, chunk in _split_days(bars)}


def find_first_change(before: Marks, history: Mapping[str, Sequence[Bar]]) -> int | None:
    """Return the start of the first day of any symbol that may be new or another one; None if there is none.

    Chunks that are gone were forgotten since then, which changes nothing that is published.
    """
    changed = []
    for symbol, bars in history.items():
        marks = before.get(symbol, {})
        for number, chunk in _split_days(bars):
            count, mark = marks.get(number, _NO_DAYS)
            if hash(chunk[:count]) != mark:
                changed.append(chunk[0].start_ms)
            elif count < len(chunk):
                changed.append(chunk[count].start_ms)
    return min(changed, default=None)


def _split_days(bars: Sequence[Bar]) -> Iterator[tuple[int, tuple[Bar, ...]]]:
    """Yield each chunk of days, with its number."""
    for number, chunk in groupby(bars, lambda bar: bar.start_ms // _CHUNK_MS):
        yield number, tuple(chunk)


def find_new(
    symbol: str, rows: Rows, record: bytes, since_ms: int = MIN_MS, days: Sequence[Bar] = ()
) -> NewFeatures | None:
    """Return the features that differ from those that a record says were published; None if none do.

    The record is a JSON object: the start of a day -> its revision and a digest of its values. `rows` begin
    at `since_ms`; of the days before, the record keeps what it says of those that are still among `days`.
    """
    known = _read_record(record)
    oldest_ms = days[0].start_ms if days else since_ms
    after = {str(start): each for start, each in known.items() if oldest_ms <= start < since_ms}
    entries = []
    for start_ms, values in rows:
        text = orjson.dumps(values)
        digest = blake2b(text, digest_size=8).hexdigest()
        rev, published = known.get(start_ms, (-1, ""))
        if published != digest:
            rev += 1
            entries.append({"sym": symbol, "start": str(start_ms), "rev": str(rev), "values": text.decode()})
        after[str(start_ms)] = (rev, digest)
    if not entries:
        return None
    return NewFeatures(symbol, record, orjson.dumps(after), entries)


def _read_record(record: bytes) -> dict[int, tuple[int, str]]:
    """Return the revision and the digest of each day in a record; of one that can't be read nothing."""
    try:
        found = orjson.loads(record or b"{}")
        return {int(start): (int(rev), str(digest)) for start, (rev, digest) in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


class FeatureWriter:
    """Publish features while this instance holds the lease.

    Args:
        me: the agent.
        settings_now: returns the settings in force.
        metrics: counts what is published.
    """

    def __init__(
        self, me: Agent[Any], settings_now: Callable[[], BarsSettings], metrics: BarsMetrics
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics

    async def run(self) -> None:
        """Publish features until cancelled."""
        while True:
            try:
                async with self._me.lease(LEASE, life_sec=LEASE_SEC):
                    await self._lead()
            except LeaseLost:
                self._me.log.info("bars.features_lost")
            except BusError as error:
                self._me.log.warning("bars.features_failed", bus=error.bus, reason=error.reason)
            await asyncio.sleep(RETRY_SEC)

    async def _lead(self) -> None:
        """Publish what is new whenever the days of a symbol or the truth changed. Raises BusError."""
        published: tuple[BarsSettings, object] | None = None
        marks: Marks | None = None
        seen: object = None
        waited = 0
        while True:
            settings = self._settings_now()
            state = (settings, await self._read_daily(list(settings.find_groups())))
            is_quiet = state == seen or waited >= PATIENCE
            waited = 0 if is_quiet else waited + 1
            seen = state
            if is_quiet and state != published:
                is_same_truth = published is not None and published[0] == settings
                marks = await self._publish(settings, marks if is_same_truth else None)
                published = None if marks is None else state
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def _read_daily(self, symbols: Sequence[str]) -> list[Any]:
        """Return of each symbol what changes with its days. Raises BusError."""
        bus = self._find_bus()
        found: list[Any] = []
        for page in _paginate(symbols):
            pipe = bus.pipeline()
            for symbol in page:
                pipe.hget(bars_state_key(symbol), DAILY)
            found += await bus.ask(pipe.execute(), WITHIN_SEC)
        return found

    async def _publish(self, settings: BarsSettings, published: Marks | None) -> Marks | None:
        """Publish the features that are new since those of `published`; return the marks of all days.

        Return None if another instance has published some of them in the meantime. Raises BusError.
        """
        stored: dict[str, dict[bytes, bytes]] = {}
        for page in _paginate(list(settings.find_groups())):
            stored |= await self._read_days(page)
        epoch = await read_bus_time(self._find_bus())
        # seconds of arithmetic, for all days of five hundred symbols
        computed = await asyncio.to_thread(compute_new, stored, settings.settings.benchmark, published)
        are_done = [
            await self._commit(part, settings.settings.features, epoch) for part in _split(computed.new)
        ]
        return computed.marks if all(are_done) else None

    async def _read_days(self, symbols: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        """Return of each symbol the stored fields that hold its days and its features. Raises BusError."""
        bus = self._find_bus()
        pipe = bus.pipeline()
        for symbol in symbols:
            pipe.hkeys(bars_state_key(symbol))
        names = await bus.ask(pipe.execute(), WITHIN_SEC, max_bytes=STATE_BYTES)
        wanted = [
            [name for name in each if name.startswith(b"1d:") or name in _ALWAYS] or [VERSION.encode()]
            for each in names
        ]
        pipe = bus.pipeline()
        for symbol, fields in zip(symbols, wanted, strict=True):
            pipe.hmget(bars_state_key(symbol), fields)
        values = await bus.ask(pipe.execute(), WITHIN_SEC, max_bytes=STATE_BYTES)
        return {
            symbol: {name: raw for name, raw in zip(fields, found, strict=True) if raw is not None}
            for symbol, fields, found in zip(symbols, wanted, values, strict=True)
        }

    async def _commit(self, new: Sequence[NewFeatures], keep: int, epoch: int) -> bool:
        """Publish the new features of some symbols, on a stream of about `keep` entries.

        `epoch` is when the records were read that their revisions count on from, by the clock of the bus.
        Return False if the stored record of a symbol is not the one that its features were computed from:
        another instance has published, and nothing of that symbol is. Raise BusError.
        """
        stream = list_outputs(self._me.section)[FEATURES]
        keys = [stream, *(bars_state_key(each.symbol) for each in new)]
        args: list[str | bytes | float] = [keep]
        for each in new:
            entries = [
                [text for pair in (entry | {"epoch": str(epoch)}).items() for text in pair]
                for entry in each.entries
            ]
            args += [each.before, each.after, orjson.dumps(entries)]
        done = await self._find_bus().script(COMMIT, keys, args, WITHIN_SEC)
        self._metrics.features += sum(
            len(each.entries) for each, is_done in zip(new, done, strict=True) if is_done
        )
        return all(done)

    def _find_bus(self) -> Bus:
        """Return the bus of the streams. Raises BusError."""
        return self._me.bus(list_inputs(self._me.section)[0].bus)


def _paginate(symbols: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the symbols in pages."""
    for first in range(0, len(symbols), SYMBOLS_AT_ONCE):
        yield symbols[first : first + SYMBOLS_AT_ONCE]


def _split(new: Sequence[NewFeatures]) -> Iterator[list[NewFeatures]]:
    """Yield the new features in parts of about ENTRIES_AT_ONCE entries."""
    part: list[NewFeatures] = []
    for each in new:
        part.append(each)
        if sum(len(one.entries) for one in part) >= ENTRIES_AT_ONCE:
            yield part
            part = []
    if part:
        yield part
