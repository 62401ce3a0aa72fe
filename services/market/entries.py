"""Write records as entries of a Redis stream, and read them back. Pure.

An entry is flat: each field of a record is a field of the entry, `sym` is its symbol, and a number is its
shortest text. Other programs write to these streams, too: each `parse_…` raises EntryError for an entry that
is not a record. Bars of massive have neither `timeframe` nor `asset`: they are minutes of stocks.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Final, TypeVar

from services.market.actions import find_action_fault
from services.market.fields import (
    SYMBOL,
    EntryError,
    Fields,
    read_flag,
    read_number,
    read_seconds,
    read_symbol,
    read_text,
    read_time,
    read_trading_time,
    require_day,
    require_number,
)
from services.market.records import (
    TIMEFRAME_SEC,
    ActionKind,
    Adjustment,
    AssetClass,
    Bar,
    CorporateAction,
    Observation,
    Provenance,
    Quote,
    Record,
    VolumeKind,
    settle_range,
)

MAX_RANK_DIGITS: Final = 2
R = TypeVar("R", Bar, Quote, Observation, CorporateAction)

_ORIGINS: Final = 1024  # the last answers of a market's sources
_ORIGIN: Final = (b"source", b"asked_at", b"digest", b"played_at", b"rank", b"adjustment", b"volume_kind")
_ADJUSTMENTS: Final[Mapping[str, Adjustment]] = {str(each): each for each in Adjustment}
_VOLUME_KINDS: Final[Mapping[str, VolumeKind]] = {str(each): each for each in VolumeKind}
_ASSETS: Final[Mapping[str, AssetClass]] = {str(each): each for each in AssetClass}
_ACTION_KINDS: Final[Mapping[str, ActionKind]] = {str(each): each for each in ActionKind}
_MASSIVE: Final = frozenset({"ws", "rest", "replay"})  # what massive calls its ways
_BAR_NUMBERS: Final = ("open", "high", "low", "close", "volume", "vwap", "trades")
_QUOTE_NUMBERS: Final = ("price", "bid", "ask", "volume", "open_interest", "implied_volatility")
_read_bar_numbers: Final = attrgetter(*_BAR_NUMBERS)
_read_quote_numbers: Final = attrgetter(*_QUOTE_NUMBERS)


def format_number(number: float) -> str:
    """Return the shortest text that is read as this number again."""
    return repr(number).removesuffix(".0")


def encode_entry(record: Record, asset: AssetClass, provenance: Provenance) -> dict[str, str]:
    """Return the fields of a record's entry, times as epoch milliseconds. What is None is left out."""
    fields = {"sym": record.symbol, "asset": str(asset)}
    names: tuple[str, ...]
    if isinstance(record, Bar):
        fields["timeframe"], fields["start"] = record.timeframe, str(record.start_ms)
        if record.timeframe != "1mo":  # a month's end is a matter of the calendar
            fields["end"] = str(record.start_ms + 1000 * TIMEFRAME_SEC[record.timeframe])
        names, numbers = _BAR_NUMBERS, _read_bar_numbers(record)
    elif isinstance(record, Quote):
        fields["at"] = str(record.at_ms)
        names, numbers = _QUOTE_NUMBERS, _read_quote_numbers(record)
    elif isinstance(record, CorporateAction):
        fields["kind"], fields["ex_day"] = str(record.kind), record.ex_day.isoformat()
        if record.new_symbol is not None:
            fields["new_symbol"] = record.new_symbol
        names, numbers = ("ratio", "amount"), (record.ratio, record.amount)
    else:
        fields["start"] = str(record.start_ms)
        if record.known_ms is not None:
            fields["known_at"] = str(record.known_ms)
        names, numbers = ("value",), (record.value,)
    for name, number in zip(names, numbers, strict=True):
        if number is not None:
            fields[name] = f"{number!r}".removesuffix(".0")  # as `format_number`, without a call
    fields.update(encode_provenance(provenance))
    return fields


@lru_cache(maxsize=_ORIGINS)  # one answer has many records, and a minute is in six bars
def encode_provenance(provenance: Provenance) -> tuple[tuple[str, str], ...]:
    """Return the fields of an entry that say which source its record is from, and when that was asked."""
    fields = {"source": provenance.source}
    if provenance.asked_at:
        fields["asked_at"] = format(provenance.asked_at, ".3f")
    if provenance.digest:
        fields["digest"] = provenance.digest
    if provenance.is_replay:
        fields["replay"] = "1"
    if provenance.played_at:
        fields["played_at"] = format(provenance.played_at, ".3f")
    if provenance.rank:
        fields["rank"] = str(provenance.rank)
    if provenance.adjustment is not Adjustment.RAW:
        fields["adjustment"] = str(provenance.adjustment)
    if provenance.volume_kind is not None:
        fields["volume_kind"] = str(provenance.volume_kind)
    return tuple(fields.items())


def parse_provenance(fields: Fields) -> Provenance:
    # what is cached must be short, and the length of `replay` is not checked
    return _parse_origin(fields.get(b"replay") == b"1", *map(fields.get, _ORIGIN))


def parse_bar(fields: Fields) -> Bar:
    timeframe = read_text(fields, b"timeframe", "1m")
    if timeframe not in TIMEFRAME_SEC:
        raise EntryError("timeframe: unknown")
    is_within_day = TIMEFRAME_SEC[timeframe] < TIMEFRAME_SEC["1d"]
    bar = Bar(
        read_symbol(fields),
        timeframe,
        (read_trading_time if is_within_day else read_time)(fields, b"start"),
        require_number(fields, b"open"),
        require_number(fields, b"high"),
        require_number(fields, b"low"),
        require_number(fields, b"close"),
        volume=read_number(fields, b"volume"),
        vwap=read_number(fields, b"vwap"),
        trades=_read_trades(fields),
    )
    return settle_range(bar)


def parse_quote(fields: Fields) -> Quote:
    return Quote(
        read_symbol(fields),
        read_trading_time(fields, b"at"),
        require_number(fields, b"price"),
        bid=read_number(fields, b"bid"),
        ask=read_number(fields, b"ask"),
        volume=read_number(fields, b"volume"),
        open_interest=read_number(fields, b"open_interest"),
        implied_volatility=read_number(fields, b"implied_volatility"),
    )


def parse_observation(fields: Fields) -> Observation:
    known_ms = read_time(fields, b"known_at") if b"known_at" in fields else None
    value = require_number(fields, b"value")
    return Observation(read_symbol(fields), read_time(fields, b"start"), value, known_ms)


def parse_action(fields: Fields) -> CorporateAction:
    """Return the action of an entry; one that is `withdrawn` has no value, and must not count.

    Its source does not name it any more.
    """
    kind = _ACTION_KINDS.get(read_text(fields, b"kind", ""))
    if kind is None:
        raise EntryError("kind: unknown")
    symbol, ex_day = read_symbol(fields), require_day(fields, b"ex_day")
    if read_flag(fields, b"withdrawn"):
        return CorporateAction(symbol, kind, ex_day)
    new_symbol = read_text(fields, b"new_symbol", "") or None
    if new_symbol is not None and SYMBOL.fullmatch(new_symbol) is None:
        raise EntryError("new_symbol: no symbol")
    ratio, amount = read_number(fields, b"ratio"), read_number(fields, b"amount")
    action = CorporateAction(symbol, kind, ex_day, ratio, amount, new_symbol)
    if (fault := find_action_fault(action)) is not None:
        raise EntryError(fault)
    return action


def parse_entry(parse_record: Callable[[Fields], R], fields: Fields) -> tuple[R, AssetClass, Provenance]:
    """Return the record of an entry, by one of the functions above, its asset class and its provenance."""
    record = parse_record(fields)
    provenance = parse_provenance(fields)
    named = read_text(fields, b"asset", AssetClass.STOCKS if provenance.source in _MASSIVE else "")
    asset = _ASSETS.get(named)
    if asset is None:
        raise EntryError("asset: unknown")
    return record, asset, provenance


@lru_cache(maxsize=_ORIGINS)  # one answer has many records
def _parse_origin(is_replay: bool, *values: bytes | None) -> Provenance:
    fields = {name: value for name, value in zip(_ORIGIN, values, strict=True) if value is not None}
    source = read_text(fields, b"source", "")
    rank = fields.get(b"rank", b"0")
    if not rank.isdigit() or len(rank) > MAX_RANK_DIGITS:
        raise EntryError("rank: no place in a cascade")
    adjustment, volume_kind = read_adjustment(fields), read_volume_kind(fields)
    return Provenance(
        source or "unknown",
        read_seconds(fields, b"asked_at"),
        read_text(fields, b"digest", ""),
        is_replay=is_replay or source == "replay",
        played_at=read_seconds(fields, b"played_at"),
        rank=int(rank),
        adjustment=adjustment,
        volume_kind=volume_kind,
    )


def read_adjustment(fields: Fields) -> Adjustment:
    """Return for which actions the bar of an entry is adjusted: for none unless it says so."""
    adjustment = _ADJUSTMENTS.get(read_text(fields, b"adjustment", Adjustment.RAW))
    if adjustment is None:
        raise EntryError("adjustment: unknown")
    return adjustment


def read_volume_kind(fields: Fields) -> VolumeKind | None:
    """Return whose trades the volume of an entry counts; None if the entry does not say it."""
    text = read_text(fields, b"volume_kind", "")
    kind = _VOLUME_KINDS.get(text)
    if text and kind is None:
        raise EntryError("volume_kind: unknown")
    return kind


def _read_trades(fields: Fields) -> int | None:
    """Return the number of trades exactly, without a fraction."""
    number = read_number(fields, b"trades")
    if number is None:
        return None
    text = fields[b"trades"]
    return int(text) if text.isdigit() else int(number)  # a float holds no more than 53 bits
