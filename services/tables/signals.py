"""Describe the tables of signals and the entries of `signals:log`: signals adds them, the board reads. Pure.

A place is what a tick decided of one symbol, as canonical JSON; its id is the hash of that text in the log's
form. Everything goes by the tick: wall clocks go back, it never does. Times are epoch milliseconds, numbers
with a point are decimal texts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from marketswarm.keys import SIGNALS_LOG
from marketswarm.truth import MARKET, AccessPoint, Truth, point_like
from services.market.fields import (
    MAX_COUNT,
    EntryError,
    Fields,
    read_count,
    read_flag,
    read_symbol,
    read_text,
    read_time,
)
from services.tables.rows import Time, parse_storable_object

SIGNALS: Final = "signals"
"""The name of the service."""
SIGNAL_TABLES: Final = (
    *("signal_epochs", "signal_log", "signal_symbols", "signals", "signal_nodes"),
    *("signal_checkpoints", "signal_cosignatures", "signal_wordings", "signal_rules"),
)
"""The tables of signals: their rows are added by it alone, and never changed."""
ARCHIVE_TABLES: Final = ("bars", "source_bars", "actions", "symbols")
"""The tables of archive of which windows begin, and a place is recomputed."""
OUTCOMES: Final = ("signal", "unchanged", "closed", "abstained", "failed")
SIDES: Final = ("long", "short", "flat")
MAX_PLACE_BYTES: Final = 65_536
"""The longest place, and the longest entry of the log, that the database takes."""
MAX_ROWS: Final = 1000
"""The most signals of one page."""
_ID: Final = re.compile(r"[0-9a-f]{64}")
_SIGNED: Final = re.compile(rb"-?(?:0(?:\.[0-9]{1,12})?|1(?:\.0{1,12})?)")
_CURSOR: Final = re.compile(r"([1-9][0-9]{0,17}),(.{1,40})")

_DECIMALS: Final = ("score", "confidence", "conflict", "participation")
_SELECTED: Final[Mapping[str, str]] = {
    "id": "encode(found.hash, 'hex')",
    "n": "log.n",
    "at": "(extract(epoch from found.at) * 1000)::bigint",
    **{name: f"found.{name}::text" for name in _DECIMALS},
}
"""How a column of FoundSignal is selected, if not as it is."""
_MS: Final = "(extract(epoch from {}) * 1000)::bigint"
NEWEST_TICK: Final = f"""
select tick, n, {_MS.format("at")}, entry from signal_log where tick is not null order by tick desc limit 1
"""  # noqa: S608 - our own names
"""Selects a FoundTick; nothing of an empty log."""
LOG_STATE: Final = f"""
select coalesce((select max(n) from signal_log), -1) + 1, signed.size, {_MS.format("signed.at")},
  cosigned.size, {_MS.format("cosigned.at")}, cosigned.witness
from (values (0)) as one
left join (select * from signal_checkpoints order by size desc limit 1) as signed on true
left join (select * from signal_cosignatures order by size desc, at limit 1) as cosigned on true"""  # noqa: S608 - our own names
"""Selects the LogState."""
LOG_END: Final = f"""
select newest.tick, {_MS.format("newest.at")}, gap.entry, {_MS.format("gap.at")}
from (values (0)) as one
left join (
  select tick, at from signal_log where tick is not null order by tick desc limit 1
) as newest on true
left join (
  select entry, at from signal_log where at > now() - interval '1 hour' and kind = 'gap'
  order by at desc, n desc limit 1
) as gap on true"""  # noqa: S608 - our own names
"""Selects the LogEnd."""
FIRST_COSIGNATURE: Final = f"""
select size, witness, {_MS.format("at")} from signal_cosignatures where size > $1::bigint
order by size, at limit 1"""  # noqa: S608 - our own names
"""Selects the FoundCosignature of an entry by its number; nothing of one that is not witnessed yet."""
FIRST_COSIGNATURES: Final = f"""
select wanted.n, found.size, found.witness, {_MS.format("found.at")}
from unnest($1::bigint[]) as wanted(n) cross join lateral (
  select * from signal_cosignatures where size > wanted.n
  and ($2::bigint is null or at <= to_timestamp($2::bigint / 1000.0)) order by size, at limit 1
) as found"""  # noqa: S608 - our own names
"""Selects what was Witnessed by a time (None: by now), of entries by their numbers."""
LOG_ENTRY: Final = "select entry from signal_log where n = $1::bigint"
"""Selects the text of an entry by its number."""
_UNTIL: Final = """
tick <= coalesce((
  select tick from signal_log where at < to_timestamp(${}::bigint / 1000.0) and tick is not null
  order by at desc, n desc limit 1
), -1)"""
_SINCE: Final = """
tick >= coalesce((
  select tick from signal_log where at >= to_timestamp(${}::bigint / 1000.0) and tick is not null
  order by at, n limit 1
), 9223372036854775807)"""


class SignalRow(NamedTuple):
    """A row of `signals`: a place that does not follow from the tick before. `place` counts from 0."""

    tick: int
    symbol: str
    place: int
    at: Time
    outcome: str
    side: str | None
    score: str | None
    confidence: str | None
    conflict: str | None
    participation: str | None
    replay: bool
    hash: bytes
    content: str

    @property
    def ident(self) -> str:
        return self.hash.hex()


class FoundSignal(NamedTuple):
    """What a reader gets of a row of `signals`: the id in place of the hash, and the number of its entry.

    It is witnessed if a cosigned checkpoint has more entries than `n`.
    """

    id: str
    n: int
    tick: int
    symbol: str
    place: int
    at: Time
    outcome: str
    side: str | None
    score: str | None
    confidence: str | None
    conflict: str | None
    participation: str | None
    replay: bool
    content: str


class FoundTick(NamedTuple):
    """The newest tick: its number, the number and the text of its entry, and its time."""

    tick: int
    n: int
    at: Time
    entry: str


class LogState(NamedTuple):
    """How far the log is, and how much of it is signed and cosigned; None where nothing is yet.

    Sizes are numbers of entries from the first one on.
    """

    size: int
    signed_size: int | None
    signed_at: Time | None
    cosigned_size: int | None
    cosigned_at: Time | None
    witness: str | None


class LogEnd(NamedTuple):
    """The newest tick with its time, and the newest gap of the last hour with the time at which it ended.

    None where there is none; `gap` is the text of its entry.
    """

    tick: int | None
    at: Time | None
    gap: str | None
    gap_at: Time | None


class FoundCosignature(NamedTuple):
    """The first cosigned checkpoint that has an entry."""

    size: int
    witness: str
    at: Time


class Witnessed(NamedTuple):
    """The same of one entry of several, which `n` names."""

    n: int
    size: int
    witness: str
    at: Time


class PublishedSignal(NamedTuple):
    """An entry of `signals:log`: a place that was stored, with the class of its symbol."""

    id: str
    tick: int
    at: Time
    symbol: str
    outcome: str
    side: str | None
    score: str | None
    confidence: str | None
    conflict: str | None
    participation: str | None
    replay: bool
    asset: str
    content: str


class SignalCursor(NamedTuple):
    """The last signal of a page, after which the next one begins."""

    tick: int
    symbol: str

    def __str__(self) -> str:
        return f"{self.tick},{self.symbol}"


@dataclass(frozen=True, slots=True)
class SignalQuery:
    """Ask for signals, the newest tick first; None for no bound. The times are wall times.

    `until_ms` is the time after the last one. `before` is the last signal of the page before this one.
    """

    symbol: str | None = None
    side: str | None = None
    outcome: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    before: SignalCursor | None = None
    limit: int = 100


_CELLS: Final = ", ".join(_SELECTED.get(name, f"found.{name}") for name in FoundSignal._fields)

SIGNAL_BY_ID: Final = f"""
select {_CELLS} from (
  select * from signals where hash = decode($1::text, 'hex') order by tick limit 1
) as found join signal_log as log on log.tick = found.tick"""  # noqa: S608 - our own names
"""Selects a FoundSignal by its id; `parse_signal_id` says what is one."""
NEWEST_SIGNALS: Final = f"""
select {_CELLS} from unnest($1::text[]) as wanted(symbol) cross join lateral (
  select * from signals where symbol = wanted.symbol order by tick desc limit 1
) as found join signal_log as log on log.tick = found.tick"""  # noqa: S608 - our own names
"""Selects the newest FoundSignal of each symbol."""


def select_signals(query: SignalQuery) -> tuple[str, list[Any]]:
    """Return the SELECT of a page of FoundSignal, and its parameters: at most MAX_ROWS, the newest first."""
    values: list[Any] = []

    def bind(value: Any) -> int:
        values.append(value)
        return len(values)

    conditions = ["true"]
    if query.symbol is not None:
        conditions.append(f"symbol = ${bind(query.symbol)}::text")
    if query.side is not None:
        conditions.append(f"side = ${bind(query.side)}::text")
    if query.outcome is not None:
        conditions.append(f"outcome = ${bind(query.outcome)}::text")
        if query.outcome != "signal":
            conditions.append("outcome <> 'signal'")  # by the index of rare outcomes, whatever is bound
    if query.since_ms is not None:
        conditions.append(_SINCE.format(bind(query.since_ms)))
    if query.until_ms is not None:
        conditions.append(_UNTIL.format(bind(query.until_ms)))
    if query.before is not None:
        tick, symbol = map(bind, query.before)
        conditions.append(f"(tick, symbol) < (${tick}::bigint, ${symbol}::text)")
        conditions.append(f"tick <= ${tick}::bigint")  # by the index of a symbol, too
    limit = bind(max(1, min(query.limit, MAX_ROWS)))
    sql = f"""
select {_CELLS} from (
  select * from signals where {" and ".join(conditions)}
  order by tick desc, symbol desc limit ${limit}::bigint
) as found join signal_log as log on log.tick = found.tick
order by found.tick desc, found.symbol desc"""  # noqa: S608 - our own names
    return sql, values


def find_signal_log(truth: Truth) -> AccessPoint | None:
    """Return the stream to which signals are published; None if the truth has no service `signals`."""
    section = truth.services.get(SIGNALS)
    return None if section is None else point_like(section.access_points.publish_to, MARKET, SIGNALS_LOG)


def parse_signal_id(text: str) -> str | None:
    """Return the text if it is an id of a signal; no symbol is so long."""
    return text if _ID.fullmatch(text) else None


def parse_signal_cursor(text: str) -> SignalCursor | None:
    match = _CURSOR.fullmatch(text)
    return None if match is None else SignalCursor(int(match[1]), match[2])


def find_signal_id(content: bytes) -> str:
    """Return the id of a place: its hash as a leaf of a tree of RFC 6962, in hexadecimal digits."""
    return sha256(b"\x00" + content).hexdigest()


def make_signal_fields(row: SignalRow, asset: str) -> dict[str, str]:
    """Return the fields of a row's entry in `signals:log`; `asset` is the class of its symbol.

    What a place does not have, its entry does not have either.
    """
    written: dict[str, Any] = {
        "id": row.ident,
        "tick": row.tick,
        "at": row.at,
        "sym": row.symbol,
        "outcome": row.outcome,
        "side": row.side,
        **{name: getattr(row, name) for name in _DECIMALS},
        "replay": "1" if row.replay else "0",
        "asset": asset,
        "content": row.content,
    }
    return {name: str(value) for name, value in written.items() if value is not None}


def parse_signal_fields(fields: Fields) -> PublishedSignal:
    """Return what an entry of `signals:log` says.

    Raises EntryError if a field is wrong, or the id is not that of the content.
    """
    content = fields.get(b"content", b"")
    parse_storable_object("content", content, MAX_PLACE_BYTES)
    ident = find_signal_id(content)
    if fields.get(b"id") != ident.encode():
        raise EntryError("id: not that of the content")
    tick = read_count(fields, b"tick", MAX_COUNT)
    if not tick:
        raise EntryError("tick: no number of a tick")
    outcome, side = read_text(fields, b"outcome", ""), read_text(fields, b"side", "") or None
    if outcome not in OUTCOMES:
        raise EntryError("outcome: none of ours")
    if (side is not None) != (outcome == "signal") or side not in (None, *SIDES):
        raise EntryError("side: none of ours, or not that of a signal")
    return PublishedSignal(
        ident,
        tick,
        read_time(fields, b"at"),
        read_symbol(fields),
        outcome,
        side,
        _read_decimal(fields, "score", signed=True),
        _read_decimal(fields, "confidence"),
        _read_decimal(fields, "conflict"),
        _read_decimal(fields, "participation"),
        read_flag(fields, b"replay"),
        read_text(fields, b"asset", ""),
        content.decode(),
    )


def _read_decimal(fields: Fields, name: str, *, signed: bool = False) -> str | None:
    value = fields.get(name.encode())
    if value is None:
        return None
    if _SIGNED.fullmatch(value) is None or (value.startswith(b"-") and not signed):
        raise EntryError(f"{name}: no decimal from {-1 if signed else 0} to 1")
    return value.decode()
