"""Compute the features of all symbols when a day has ended or corrected, and publish those that are new.

A feature may depend on every symbol (how many rise, how they move together), so one instance computes all of
them, by a lease, from the days that all instances have committed. No feature looks ahead: once all are
published, only the days from the first one that changed are computed again.

With each symbol is stored what was published of its days, and, once all symbols are done, the marks of the
days that this was computed of. So an instance that takes the lease continues where the last one was,
publishes nothing twice, and knows a day that was forgotten from one that changed: a day that was computed of
a longer history than there is now is computed again only where no window reaches beyond what is left.
"""

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from itertools import groupby
from math import nan
from struct import Struct
from typing import Annotated, Any, Final, NamedTuple

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from marketswarm.agent import Agent
from marketswarm.agent.loops import lead
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import read_time
from marketswarm.bus.transaction import BusTransaction, commit_each
from marketswarm.keys import FEATURES, bars_state_key
from marketswarm.pages import split_pages
from services.bars.bar_table import CHUNK_BARS, EARLIEST_MS, LATEST_MS
from services.bars.calendars import compute_session
from services.bars.features import LONGEST_WINDOW, DailyBar, compute_features
from services.bars.indicators import Values
from services.bars.metrics import BarsMetrics
from services.bars.settings import BarsSettings, SymbolGroup, list_inputs, list_outputs
from services.bars.splits import read_final_days
from services.bars.state import DAILY, REST, VERSION
from services.bars.store import STATES_BYTES, count_unread
from services.market.fields import Fields
from services.market.intervals import count_minutes, find_utc_end
from services.market.records import DAY_MS
from services.market.sessions import OutsideCalendarError, Session, UnknownSessionError

LEASE: Final = "features"
_FORMER_LEASE: Final = FEATURES
LOOK_EVERY_SEC: Final = 1.0
LEASE_SEC: Final = 5.0
PATIENCE: Final = 10
"""The looks for which new days are waited for while more of them come: many end at the same time."""
SYMBOLS_PER_READ: Final = 50
DAILY_PER_READ: Final = 1000
READ_FIELD: Final = Script.beside("services.bars", "read_field.lua")
ENTRIES_PER_STEP: Final = 500
"""The entries that are published in one step at most, but those of one symbol are not divided."""
WITHIN_SEC: Final = 10.0
RECORD: Final = "features"
"""The field of a symbol's state that records what was published."""
MARKS: Final = "features marks"
"""The field of a symbol's state with the marks of the days whose features are all published."""
_ALWAYS: Final = frozenset({RECORD.encode(), MARKS.encode(), REST.encode()})
_FORMAT: Final = 3
"""Marks of another format don't count: all days are computed again."""
_CHUNK_MS: Final = CHUNK_BARS * DAY_MS
"""The time of a chunk, as in the state: old days are forgotten by whole chunks."""
# of a day what features are computed of: its ordinal, when it closed, four prices, the volume
_INPUT: Final = Struct("<2q5d")
# of a day since when it is known: its ordinal, when it closed, when it was corrected
_KNOWN: Final = Struct("<3q")

Rows = Sequence[tuple[int, Values]]
History = Mapping[str, Sequence[DailyBar]]
Marks = Mapping[int, tuple[int, str, str]]
"""The number of a chunk of days -> how many are final, a digest of them, one of since when they are known."""


Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A number that can be written as JSON again."""


class PublishedFeatures(NamedTuple):
    """Record what was published of a day: its revision, a digest of the values, and the days that they cover.

    `begin_ms` is the start of the first day that they were computed of, in epoch milliseconds; `corrected_ms`
    when a day was corrected that they were computed of, 0 if none was.
    """

    rev: Whole
    digest: str
    begin_ms: Whole
    corrected_ms: Whole = 0


_RECORD: Final = TypeAdapter(dict[Whole, PublishedFeatures])


class FeatureChange(NamedTuple):
    """Say from which days on features may have changed since they were published, by the close of the first.

    `since_ms` is that of the first day that is new or another one, `corrected_ms` that of the first one that
    was there before and is another one now.
    """

    since_ms: int
    corrected_ms: int = LATEST_MS


@dataclass(frozen=True, slots=True)
class NewFeatures:
    """Hold the entries to publish of one symbol, and the record of what is published from then on."""

    symbol: str
    before: bytes
    after: bytes
    entries: Sequence[dict[str, str]]


def compute_new(
    stored: Mapping[str, Fields],
    sessions: Mapping[str, Session],
    groups: Mapping[str, SymbolGroup],
    benchmark: str,
    now_ms: int,
) -> tuple[list[NewFeatures], dict[str, bytes]]:
    """Return the features that were not published yet, and the marks to store once they are, by symbol.

    Args:
        stored: of each symbol the stored fields of its days, and of the record and marks of its features.
        groups: of each symbol the group that the truth has it in.
        now_ms: since when a correction in these days is known.
    """
    history = {
        symbol: list_daily(symbol, fields, sessions[symbol], groups[symbol].day_share)
        for symbol, fields in stored.items()
    }
    assets = {symbol: groups[symbol].asset for symbol in stored}
    named = sorted(
        (symbol, each.code, groups[symbol].asset, groups[symbol].day_share)
        for symbol, each in sessions.items()
    )
    truth = _digest(orjson.dumps([_FORMAT, benchmark, named]))
    before = {
        symbol: _read_marks(fields.get(MARKS.encode(), b""), truth) for symbol, fields in stored.items()
    }
    after = {
        symbol: {
            number: (len(chunk), _digest_days(chunk), _digest_known(chunk))
            for number, chunk in _split_days(daily)
        }
        for symbol, daily in history.items()
    }
    change = find_first_change(before, after, history)
    if change is None:
        return [], {}
    rows = compute_features(history, assets, benchmark, change.since_ms)
    played = find_replayed(history.get(benchmark, ()))
    new = []
    for symbol, daily in history.items():
        record = stored[symbol].get(RECORD.encode(), b"")
        replayed = played | find_replayed(daily)
        found = find_new(
            symbol, daily, rows[symbol], record, replayed, correction=(change.corrected_ms, now_ms)
        )
        if found is not None:
            new.append(found)
    packed = {
        symbol: orjson.dumps({"truth": truth, "days": {str(number): mark for number, mark in marks.items()}})
        for symbol, marks in after.items()
        if marks
    }
    return new, packed


def list_daily(symbol: str, fields: Fields, session: Session, least_share: float = 0.0) -> list[DailyBar]:
    """Return the final days of a symbol with their dates, in order, adjusted for splits.

    Days of another session, which the symbol had before, are left out, and so are days that were built of
    less than `least_share` of their minutes.
    """
    daily = []
    for held, corrected_ms in read_final_days(symbol, fields, session):
        start_ms = held.bar.start_ms
        try:
            day = session.find_day(start_ms)
        except OutsideCalendarError:
            continue
        if day is None or day.open_ms != start_ms:
            continue
        least = least_share * count_minutes(day, day.open_ms, day.close_ms)
        if not held.minutes or held.minutes >= least:
            close_ms = find_utc_end(day.close_ms) if held.is_other_hours else day.close_ms
            daily.append(DailyBar(day.date, close_ms, held.bar, held.is_replay, corrected_ms))
    return daily


def find_first_change(
    before: Mapping[str, Marks | None], after: Mapping[str, Marks], history: History
) -> FeatureChange | None:
    """Return since when days of any symbol may be new or others; None if none are.

    Chunks that are gone were forgotten since the marks were stored, which changes nothing that is published.
    A split changes the prices of all days before it, and corrects none: for that counts since when they are
    known.

    Args:
        before: the stored marks of each symbol; None if they are missing or don't count.
        after: the marks of its days as they are now.
    """
    changed, corrected = [], []
    for symbol, daily in history.items():
        marks = before[symbol]
        if daily and marks is None:
            return FeatureChange(EARLIEST_MS)
        for number, chunk in _split_days(daily):
            mark = (marks or {}).get(number, (0, _digest_days(()), _digest_known(())))
            if mark == after[symbol][number]:
                continue
            count, digest, known = mark
            is_longer = count < len(chunk) and _digest_days(chunk[:count]) == digest
            changed.append(chunk[count if is_longer else 0].close_ms)
            # an older history that came later corrects nothing: all that was there ends the chunk
            if known not in (_digest_known(chunk[:count]), _digest_known(chunk[-count:])):
                corrected.append(chunk[0].close_ms)
    return FeatureChange(min(changed), min(corrected, default=LATEST_MS)) if changed else None


def find_replayed(daily: Iterable[DailyBar]) -> frozenset[date]:
    """Return the days whose features are computed of a recording: a day of one is in their longest window."""
    found, days_left = set(), 0
    for each in daily:
        days_left = LONGEST_WINDOW if each.is_replay else days_left - 1
        if days_left > 0:
            found.add(each.day)
    return frozenset(found)


def find_new(
    symbol: str,
    daily: Sequence[DailyBar],
    rows: Rows,
    record: bytes,
    replayed: Container[date] = (),
    *,
    correction: tuple[int, int] = (LATEST_MS, 0),
) -> NewFeatures | None:
    """Return the features that differ from those that a record says were published; None if none do.

    Args:
        rows: the features of some of these days, by the start of their bars.
        record: what was published: a JSON object, the start of a day -> its revision, a digest of its values,
            and the start of the first day that these were computed of. If that day is forgotten by now, they
            are published again only if no window reaches beyond the days that are left.
        replayed: the days whose features are computed of a recording, also in part: they are marked, and
            a day whose mark changes is published again.
        correction: when the first day of any symbol closed that was corrected, and when that was known. If
            features of that day or a later one were published before, and change, they are known since then.
    """
    known, values = _read_record(record), dict(rows)
    begin_ms = daily[0].bar.start_ms if daily else 0
    after: dict[str, tuple[int | str, ...]] = {}
    entries = []
    for count, each in enumerate(daily, 1):
        start_ms = each.bar.start_ms
        before = known.get(start_ms, PublishedFeatures(-1, "", begin_ms))
        is_whole = before.begin_ms >= begin_ms or count >= LONGEST_WINDOW
        if start_ms in values and is_whole:
            text = orjson.dumps(values[start_ms])
            mark = {"replay": "1"} if each.day in replayed else {}
            # only a mark changes the digest, so that nothing else is published again
            if (digest := _digest(text + b" replay" if mark else text)) != before.digest:
                is_corrected = before.rev >= 0 and each.close_ms >= correction[0]
                corrected_ms = correction[1] if is_corrected else before.corrected_ms
                before = PublishedFeatures(before.rev + 1, digest, begin_ms, corrected_ms)
                names = {"sym": symbol, "start": str(start_ms), "day": each.day.isoformat()}
                names["known_at"] = str(max(each.close_ms, corrected_ms))
                entries.append(names | {"rev": str(before.rev), "values": text.decode()} | mark)
        if before.rev >= 0:
            after[str(start_ms)] = tuple(before)
    return NewFeatures(symbol, record, orjson.dumps(after), entries) if entries else None


def _split_days(daily: Iterable[DailyBar]) -> Iterator[tuple[int, list[DailyBar]]]:
    """Yield each chunk of days with its number. Chunks are those in which the state forgets days."""
    for number, chunk in groupby(daily, lambda each: each.bar.start_ms // _CHUNK_MS):
        yield number, list(chunk)


def _digest_days(chunk: Iterable[DailyBar]) -> str:
    """Return a digest of all that features are computed of."""
    found = bytearray()
    for each in chunk:
        bar = each.bar
        volume = nan if bar.volume is None else bar.volume
        found += _INPUT.pack(
            each.day.toordinal(), each.close_ms, bar.open, bar.high, bar.low, bar.close, volume
        )
        found += b"replay" if each.is_replay else b""
    return _digest(found)


def _digest_known(chunk: Iterable[DailyBar]) -> str:
    """Return a digest of which days there are, and since when each is known."""
    found = bytearray()
    for each in chunk:
        found += _KNOWN.pack(each.day.toordinal(), each.close_ms, each.corrected_ms)
        found += b"replay" if each.is_replay else b""
    return _digest(found)


def _digest(raw: bytes | bytearray) -> str:
    return blake2b(raw, digest_size=8).hexdigest()


def _read_marks(packed: bytes, truth: str) -> Marks | None:
    """Return stored marks; None if they are missing, unreadable, or of another truth."""
    try:
        found = orjson.loads(packed or b"null")
        if found["truth"] != truth:
            return None
        return {
            int(number): (int(count), str(digest), str(known))
            for number, (count, digest, known) in found["days"].items()
        }
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def _read_record(record: bytes) -> dict[int, PublishedFeatures]:
    """Return what a record says of each day; nothing if the record can't be read, or written again."""
    try:
        return _RECORD.validate_json(record or b"{}")
    except ValidationError:
        return {}


class FeatureWriter:
    """Publish features while this instance holds the lease."""

    def __init__(
        self, me: Agent[Any], settings_now: Callable[[], BarsSettings], metrics: BarsMetrics
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._outage = Outage(me.log, "bars.features_failed", "bars.features_back")
        self.problem: str | None = None
        """Why features wait, None if they do not."""

    async def run(self) -> None:
        """Publish features until cancelled, while this instance holds the lease."""
        await lead(
            self._me,
            LEASE,
            lambda _lease: self._publish_changes(),
            self._outage,
            former=_FORMER_LEASE,
            life_sec=LEASE_SEC,
        )

    async def _publish_changes(self) -> None:
        """Publish what is new whenever the days of a symbol or the truth changed. Raises BusError."""
        published: object = None
        seen: object = None
        waited = 0
        try:
            while True:
                settings = self._settings_now()
                # `daily` of a symbol's state changes with its days
                daily = await self._read_daily(list(settings.find_groups()))
                state = (settings, daily)
                self._outage.end()
                is_quiet = state == seen or waited >= PATIENCE
                waited = 0 if is_quiet else waited + 1
                seen = state
                if is_quiet and state != published and await self._publish(settings):
                    published = state
                await asyncio.sleep(LOOK_EVERY_SEC)
        finally:
            self.problem = None  # the next holder of the lease reports what is wrong

    async def _publish(self, settings: BarsSettings) -> bool:
        """Publish the features that are new of symbols with a known session, and store the marks of all days.

        Return False if another instance has published some of them in the meantime. Raises BusError.
        """
        sessions: dict[str, Session] = {}
        for symbol, group in settings.find_groups().items():
            with contextlib.suppress(UnknownSessionError):
                sessions[symbol] = await compute_session(group.find_session(symbol))
        stored: dict[str, dict[bytes, bytes]] = {}
        for page in split_pages(sessions, SYMBOLS_PER_READ):
            stored |= await self._read_days(page)
        epoch = round(1000 * await read_time(self._find_bus()))
        benchmark = settings.settings.benchmark
        # seconds of arithmetic, for all days of five hundred symbols
        groups = settings.find_groups()
        new, marks = await asyncio.to_thread(compute_new, stored, sessions, groups, benchmark, epoch)
        are_done = []
        for part in split_pages(new, len(new), ENTRIES_PER_STEP, lambda each: len(each.entries)):
            await self._wait_for_room(sum(len(each.entries) for each in part), settings.settings.features)
            are_done.append(await self._commit(part, settings.settings.features, epoch))
        if not all(are_done):
            return False
        await self._ask_states("hset", {symbol: (MARKS, packed) for symbol, packed in marks.items()})
        return True

    async def _wait_for_room(self, count: int, keep: int) -> None:
        """Wait until so many more entries trim none off the stream that a group has not acknowledged.

        Raises BusError.
        """
        stream = list_outputs(self._me.section)[FEATURES]
        while True:
            unread, group = await count_unread(self._find_bus(), stream)
            if not unread or unread + count <= keep:
                self.problem = None
                return
            self.problem = f"features wait: the group {group} of {stream} has {unread:,} entries to read"
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def _read_days(self, symbols: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        """Return of each symbol the stored fields that hold its days and its features. Raises BusError."""
        names = await self._ask_states("hkeys", dict.fromkeys(symbols, ()))
        wanted = [
            [name for name in each if name.startswith(b"1d:") or name in _ALWAYS] or [VERSION.encode()]
            for each in names
        ]
        asked = {symbol: (fields,) for symbol, fields in zip(symbols, wanted, strict=True)}
        values = await self._ask_states("hmget", asked)
        return {
            symbol: {name: raw for name, raw in zip(fields, found, strict=True) if raw is not None}
            for symbol, fields, found in zip(symbols, wanted, values, strict=True)
        }

    async def _read_daily(self, symbols: Sequence[str]) -> list[bytes | None]:
        """Return the field `daily` of each symbol. Raises BusError."""
        bus, found = self._find_bus(), list[bytes | None]()
        for page in split_pages(symbols, DAILY_PER_READ):
            found += await bus.script(READ_FIELD, list(map(bars_state_key, page)), [DAILY], WITHIN_SEC)
        return found

    async def _ask_states(self, command: str, args: Mapping[str, tuple[Any, ...]]) -> list[Any]:
        """Send a command with arguments for the state of each symbol; return the replies. Raises BusError."""
        bus, found = self._find_bus(), list[Any]()
        for page in split_pages(args.items(), SYMBOLS_PER_READ):
            pipe = bus.pipeline()
            for symbol, more in page:
                getattr(pipe, command)(bars_state_key(symbol), *more)
            found += await bus.ask(pipe.execute(), WITHIN_SEC, max_bytes=STATES_BYTES)
        return found

    async def _commit(self, new: Sequence[NewFeatures], keep: int, epoch: int) -> bool:
        """Publish the new features of some symbols, on a stream of about `keep` entries.

        `epoch` is when the records were read that their revisions count on from, by the clock of the bus.
        Return False if the stored record of a symbol is not the one that its features were computed from:
        another instance has published, and nothing of that symbol is. Raise BusError.
        """
        stream = list_outputs(self._me.section)[FEATURES]
        transactions = []
        for each in new:
            publish, state = BusTransaction(), bars_state_key(each.symbol)
            publish.require(state, RECORD, each.before)
            for entry in each.entries:
                publish.add_entry(stream, entry | {"epoch": str(epoch)}, keep)
            publish.write_hash(state, {RECORD: each.after})
            transactions.append(publish)
        done = await commit_each(self._find_bus(), transactions, WITHIN_SEC)
        self._metrics.features_total += sum(
            len(each.entries) for each, is_done in zip(new, done, strict=True) if is_done
        )
        return all(done)

    def _find_bus(self) -> Bus:
        return self._me.bus(list_inputs(self._me.section)[0].bus)
