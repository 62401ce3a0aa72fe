"""Read the past that a backtest plays (bars, actions, rules of trading) from the archive or from a file.

Bars are raw: as they were traded. Those that a source gave adjusted are put back, because orders filled at
the prices of their day, and splits and dividends change positions.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from marketswarm.postgres.transaction import transaction
from marketswarm.truth import suggest_name
from services.market.adjust import AS_TRADED, Adjuster, GivenClose
from services.market.decimals import find_precision
from services.market.fields import SYMBOL
from services.market.intervals import Grid, list_period_dates, name_period
from services.market.records import PERIODS, ActionKind, AssetClass, CorporateAction, Timeframe
from services.market.sessions import (
    OutsideCalendarError,
    Session,
    TradingDay,
    UnknownSessionError,
    find_default_session,
    get_session,
)
from services.signals import cases
from services.signals.cases import DividendModel, SplitModel
from services.signals.engine.orders import (
    AccountAction,
    CashDividend,
    FeeSchedule,
    Instrument,
    PriceBar,
    ShareSplit,
)
from services.signals.engine.units import PRICE, QUANTITY
from services.tables.adjusted_bars import (
    SHARE_SQL,
    Adjust,
    adjust_closes,
    adjust_rows,
    find_row_day,
    make_adjusters,
)

WARMUP_BARS: Final = 500
"""How many bars before the first day a strategy sees, if they are there."""
MAX_BARS: Final = 2_000_000
"""The most bars of one backtest, of all symbols."""
ROWS_AT_ONCE: Final = 5000
_FIRST_BARS: Final = 20
"""By how many bars, the oldest ones, the tick of a symbol is found: no later one may change a fill."""
_CENT_DECIMALS: Final = 2
_SMALLEST_LOT: Final = 1
"""A lot of coins, in units of a quantity."""
_ACTIONS: Final = TypeAdapter(
    list[Annotated[SplitModel | DividendModel, Field(discriminator="kind")]],
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_OPENS_MS: Final = 14 * 3_600_000 + 1_800_000
"""When a day that is made up opens, after midnight in UTC, and how long it is."""
_OPEN_FOR_MS: Final = 6 * 3_600_000 + 1_800_000
_MAX_DENOMINATOR: Final = 1_000_000
_NAME_SESSION: Final = "name the right one in the truth, as `session` of its bars, or by --session"
_PLAYED: Final = frozenset({ActionKind.SPLIT, ActionKind.DIVIDEND})
"""The kinds of actions that change an account."""
_PRICES: Final = ("open", "high", "low", "close")
_COLUMNS: Final = (
    *("start", *_PRICES, "vwap", "volume"),
    *("day", "adjustment", "adjusted_to", "known_at", "replay"),
)
_BARS: Final = f"""
SELECT {", ".join(_COLUMNS)} FROM bars
WHERE symbol = $1 AND timeframe = $2 AND final AND start < $4 AND start >= coalesce((
    SELECT min(start) FROM (
        SELECT start FROM bars WHERE symbol = $1 AND timeframe = $2 AND final AND start < $3
        ORDER BY start DESC LIMIT {WARMUP_BARS}
    ) before
), $3)
ORDER BY start
"""  # noqa: S608 - our own names
_KNOWN: Final = """
SELECT timeframe, min(start), max(start) FROM bars WHERE symbol = $1 AND final GROUP BY timeframe
"""


class HistoryError(ValueError):
    """The past that is asked for can't be read; the message says of what, and why."""


@dataclass(frozen=True, slots=True)
class HistoryAction:
    """Hold a split or a dividend: as it changes an account, and as it changes prices."""

    account: AccountAction
    record: CorporateAction


@dataclass(frozen=True, slots=True)
class SymbolHistory:
    """Hold the past of one symbol, in the order of time.

    Attributes:
        session: the code of its session.
        known_ms: when each bar was known: its end, or later if it was corrected.
        days: the trading day of each bar, as an ordinal.
        unplayed: the spin-offs, mergers and rights, by their ex-day. They change no account: no source says
            what all of them were worth.
        is_replay: whether some of it was played from a recording.
        timeframe: that of the bars; those of a file are taken for no weeks or months.
    """

    symbol: str
    session: str
    instrument: Instrument
    bars: Sequence[PriceBar]
    known_ms: Sequence[int]
    days: Sequence[int]
    actions: Sequence[HistoryAction] = ()
    unplayed: Sequence[CorporateAction] = ()
    is_replay: bool = False
    timeframe: Timeframe = "1d"

    @property
    def has_weekends(self) -> bool:
        """Whether it trades on Saturdays and Sundays, as coins do.

        It has bars on half or more of the Saturdays, and of the Sundays, from its first to its last day.
        Single sessions at weekends, and markets that are open on one of these days, have fewer.
        """
        traded, shares = set(self.days), []
        for weekday in (5, 6) if self.days else ():
            first = self.days[0] + (weekday - date.fromordinal(self.days[0]).weekday()) % 7
            dates = range(first, self.days[-1] + 1, 7)
            if dates:
                shares.append(2 * sum(day in traded for day in dates) >= len(dates))
        return bool(shares) and all(shares)

    def list_basis_days(self) -> list[int]:
        """Return of each bar the day on which its prices are those as traded (`date.toordinal`).

        That is its trading day; of a week or month its last date, so it holds the splits of all its days.
        """
        if self.timeframe not in PERIODS:
            return list(self.days)
        return [find_row_day(0, date.fromordinal(day), self.timeframe).toordinal() for day in self.days]

    def list_given_closes(self) -> list[GivenClose]:
        """Return the last close before each dividend.

        That of the week or month before stands for the close of the day before, on the basis of that day.
        """
        days = self.list_basis_days()
        splits = Adjuster(each.record for each in self.actions if each.record.kind is ActionKind.SPLIT)
        found: set[GivenClose] = set()
        for each in self.actions:
            ex_day = each.record.ex_day
            place = bisect_left(days, ex_day.toordinal()) - 1
            if each.record.kind is not ActionKind.DIVIDEND or place < 0:
                continue
            given = GivenClose(date.fromordinal(days[place]), self.bars[place].close / PRICE)
            if self.timeframe in PERIODS and given.day == name_period(ex_day, self.timeframe) - _DAY:
                before = ex_day - _DAY
                (close,) = adjust_closes([given], splits, Adjust.SPLITS.make_basis(before))
                given = GivenClose(before, close)
            found.add(given)
        return sorted(found)

    def find_days(self, first_day: date, last_day: date) -> tuple[date, date]:
        """Return the first and the last trading day with a bar, of those from one day to another."""
        found = [day for day in self.days if first_day.toordinal() <= day <= last_day.toordinal()]
        return date.fromordinal(found[0]), date.fromordinal(found[-1])

    def cut(self, at_ms: int) -> "SymbolHistory":
        """Return what was there at an instant: bars that had closed, and actions that had taken place."""
        count = sum(1 for bar in self.bars if bar.end_ms <= at_ms)
        actions = tuple(each for each in self.actions if each.account.at_ms <= at_ms)
        return replace(
            self,
            bars=self.bars[:count],
            known_ms=self.known_ms[:count],
            days=self.days[:count],
            actions=actions,
        )


@dataclass(frozen=True)
class BacktestHistory:
    """Hold the past of some symbols; `source` says in words where it came from."""

    symbols: Mapping[str, SymbolHistory]
    source: str

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all bars, actions and rules of trading."""
        found = hashlib.sha256()
        for symbol, each in sorted(self.symbols.items()):
            found.update(f"{symbol}\n{each.session}\n{each.instrument}\n".encode())
            for bar, known_ms, day in zip(each.bars, each.known_ms, each.days, strict=True):
                cells = (bar.start_ms, bar.end_ms, bar.open, bar.high, bar.low, bar.close, bar.volume)
                found.update(f"{cells} {known_ms} {day}\n".encode())
            found.update("".join(f"{action.account}\n" for action in each.actions).encode())
            for record in each.unplayed:
                found.update(f"{record.kind} {record.ex_day} {record.ratio} {record.amount}\n".encode())
        return found.hexdigest()


# -- made up, for tests


def make_daily_history(closes: Mapping[str, Sequence[float]], first_day: date) -> BacktestHistory:
    """Return days with these closes, from Monday to Friday, for the test of a strategy.

    Each day opens at the close before, and its range is from the one to the other.
    """
    days: list[date] = []
    day = first_day
    while len(days) < max(map(len, closes.values())):
        if day.weekday() < 5:
            days.append(day)
        day += timedelta(days=1)
    return BacktestHistory(
        {symbol: _make_daily(symbol, values, days) for symbol, values in closes.items()}, "a test"
    )


def _make_daily(symbol: str, closes: Sequence[float], days: Sequence[date]) -> SymbolHistory:
    prices = [_to_units(close, PRICE) for close in closes]
    bars: list[PriceBar] = []
    for day, opened, close in zip(days, [prices[0], *prices], prices, strict=False):
        open_ms = _midnight_ms(day) + _OPENS_MS
        low, high = sorted((opened, close))
        bars.append(
            PriceBar(symbol, open_ms, open_ms + _OPEN_FOR_MS, opened, high, low, close, 10**6 * QUANTITY)
        )
    return SymbolHistory(
        symbol,
        "24x7",
        Instrument(PRICE // 100, QUANTITY),
        bars,
        [bar.end_ms for bar in bars],
        [day.toordinal() for day in days[: len(bars)]],
    )


# -- a file


@dataclass(frozen=True, slots=True)
class TradingRules:
    """Hold rules that replace those of every symbol; None leaves what is found. Prices and quantities.

    Attributes:
        sessions: by symbol the session of its bars in the archive, where that is not the one of its class.
    """

    tick: Decimal | None = None
    lot: Decimal | None = None
    session: str | None = None
    sessions: Mapping[str, str] = field(default_factory=dict)


class _AnySymbol(dict[str, Instrument]):
    """Stand for the instruments of a file that may have any symbol."""

    def __contains__(self, symbol: object) -> bool:
        return isinstance(symbol, str) and SYMBOL.fullmatch(symbol) is not None


def read_files(
    file: Path, symbols: Sequence[str], rules: TradingRules, actions: Path | None = None
) -> BacktestHistory:
    """Read the bars of some symbols from a file of the neutral form, and actions from a list in JSON.

    Raises HistoryError or CaseError, which name file, line and field.
    """
    known = [] if actions is None else _read_actions(actions)
    session = rules.session or "24x7"
    _find_session(session)
    bars: dict[str, list[PriceBar]] = {}
    for bar in cases.read_bars(file, _AnySymbol()):
        bars.setdefault(bar.symbol, []).append(bar)
    return BacktestHistory(
        {
            symbol: replace(
                _make_from_file(symbol, bars, session, rules, file),
                actions=tuple(each for each in known if each.account.symbol == symbol),
            )
            for symbol in symbols
        },
        file.name,
    )


def _read_actions(file: Path) -> list[HistoryAction]:
    """Return the actions of a file in the form of `actions` of a case, in the order of their time."""
    try:
        if file.stat().st_size > cases.MAX_CASE_BYTES:
            raise HistoryError(f"{file.name}: is larger than {cases.MAX_CASE_BYTES:,} bytes")
        models = _ACTIONS.validate_python(json.loads(file.read_bytes(), parse_float=Decimal))
    except OSError as error:
        raise HistoryError(f"{file.name}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HistoryError(f"{file.name}: {where or 'the list'}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{file.name}: no JSON: {error}") from None
    found = [_make_listed_action(file, number, model) for number, model in enumerate(models)]
    return sorted(found, key=lambda each: each.account.at_ms)


def _make_listed_action(file: Path, number: int, model: SplitModel | DividendModel) -> HistoryAction:
    try:
        at_ms = cases.parse_time(model.at)
    except ValueError as error:
        raise HistoryError(f"{file.name}: {number}.at: {error}") from None
    day = find_row_day(at_ms, None)
    if isinstance(model, SplitModel):
        split = ShareSplit(model.symbol, at_ms, model.new, model.old)
        ratio = model.new / model.old
        return HistoryAction(split, CorporateAction(model.symbol, ActionKind.SPLIT, day, ratio=ratio))
    dividend = CashDividend(model.symbol, at_ms, int(model.per_share * PRICE))
    amount = float(model.per_share)
    return HistoryAction(dividend, CorporateAction(model.symbol, ActionKind.DIVIDEND, day, amount=amount))


def _make_from_file(
    symbol: str, bars: Mapping[str, list[PriceBar]], session: str, rules: TradingRules, file: Path
) -> SymbolHistory:
    found = bars.get(symbol)
    if not found:
        hint = suggest_name(symbol, list(bars), "there are")
        raise HistoryError(f"{file.name}: symbol: no bar of {symbol}; {hint}")
    instrument = make_instrument(found, AssetClass.STOCKS, rules)
    days = [find_row_day(bar.start_ms, None).toordinal() for bar in found]
    return SymbolHistory(symbol, session, instrument, found, [bar.end_ms for bar in found], days)


def make_instrument(bars: Sequence[PriceBar], asset: str, rules: TradingRules) -> Instrument:
    """Return the rules of trading a symbol: its tick by its oldest prices, its lot by its class.

    The tick is the last decimal of those prices, a cent at the most. A lot is a share, a contract or a unit
    of a currency; of a coin it is a hundred-millionth.
    """
    if rules.tick is not None:
        tick = int(rules.tick * PRICE)
    else:
        prices = [
            price / PRICE for bar in bars[:_FIRST_BARS] for price in (bar.open, bar.high, bar.low, bar.close)
        ]
        decimals = find_precision(prices)
        tick = PRICE // 10 ** max(decimals, _CENT_DECIMALS)
    own = _SMALLEST_LOT if asset == AssetClass.CRYPTO else QUANTITY
    return Instrument(tick, own if rules.lot is None else int(rules.lot * QUANTITY), FeeSchedule())


def _find_session(code: str) -> Session:
    try:
        return get_session(code)
    except UnknownSessionError as error:
        raise HistoryError(str(error)) from None


# -- the archive


async def read_archive(
    connection: Any,
    symbols: Sequence[str],
    timeframe: Timeframe,
    days: tuple[date, date],
    rules: TradingRules,
) -> BacktestHistory:
    """Read the final bars of some symbols, of trading days from the first to the last one, and before.

    Before the first day come up to WARMUP_BARS bars, so that a strategy knows enough on it.

    Raises:
        HistoryError: the archive lacks a symbol or its bars, or they don't fit to its session.
    """
    assets = {
        row["symbol"]: row["asset"]
        for row in await connection.fetch("SELECT symbol, asset FROM symbols ORDER BY symbol")
    }
    for symbol in symbols:
        if symbol not in assets:
            hint = suggest_name(symbol, list(assets), "there are")
            raise HistoryError(f"the archive has no symbol {symbol}; {hint}")
    actions = [tuple(row) for row in await connection.fetch(SHARE_SQL, list(symbols), None, None)]
    adjusters = make_adjusters(actions)
    found: dict[str, SymbolHistory] = {}
    async with transaction(connection, readonly=True):
        for symbol in symbols:
            room = MAX_BARS - sum(len(each.bars) for each in found.values())
            reader = _SymbolReader(symbol, assets[symbol], timeframe, rules, adjusters.get(symbol))
            await reader.read(connection, days, room)
            if not reader.bars:
                raise HistoryError(await _explain_none(connection, symbol, timeframe, days))
            found[symbol] = reader.finish(row for row in actions if row[0] == symbol)
    return BacktestHistory(found, "the archive")


async def _explain_none(connection: Any, symbol: str, timeframe: str, days: tuple[date, date]) -> str:
    known = {row[0]: (row[1], row[2]) for row in await connection.fetch(_KNOWN, symbol)}
    first, last = days
    missing = f"the archive has no final bar of {symbol} in {timeframe} from {first} to {last}"
    if timeframe in known:
        since, until = known[timeframe]
        return f"{missing}; it has those from {since:%Y-%m-%d} to {until:%Y-%m-%d}"
    return f"{missing}; it has {', '.join(sorted(known)) or 'no other timeframe'}"


class _SymbolReader:
    """Read the past of one symbol, page by page."""

    def __init__(
        self, symbol: str, asset: str, timeframe: Timeframe, rules: TradingRules, adjuster: Adjuster | None
    ) -> None:
        code = rules.session or rules.sessions.get(symbol) or find_default_session(asset, symbol)
        if code is None:
            raise HistoryError(f"{symbol}: its class {asset} has no session; {_NAME_SESSION}")
        self._grid = Grid(_find_session(code))
        self._symbol, self._asset, self._timeframe = symbol, asset, timeframe
        self._rules, self._adjuster = rules, adjuster
        self.bars: list[PriceBar] = []
        self._known: list[int] = []
        self._days: list[int] = []
        self._is_replay = False

    async def read(self, connection: Any, days: tuple[date, date], most: int) -> None:
        first, last = days
        bounds = _midnight(first) - timedelta(days=1), _midnight(last) + timedelta(days=2)
        last_day = last.toordinal()
        async for rows in _iterate(connection, self._symbol, self._timeframe, *bounds):
            raw = adjust_rows(rows, _COLUMNS, self._adjuster, AS_TRADED, self._timeframe)
            for row in raw:
                self._take(dict(zip(_COLUMNS, row, strict=True)), last_day)
            if len(self.bars) > most:
                raise HistoryError(f"more than {MAX_BARS:,} bars: ask for fewer symbols, or a shorter time")

    def _take(self, row: Mapping[str, Any], last_day: int) -> None:
        start_ms = (row["start"] - _EPOCH) // timedelta(milliseconds=1)
        interval = self._place(start_ms)
        day = self._find_day(start_ms).toordinal()
        if day > last_day:
            return
        known = row["known_at"]
        known_ms = 0 if known is None else (known - _EPOCH) // timedelta(milliseconds=1)
        volume = row["volume"]
        opened, high, low, close = (_to_units(row[name], PRICE) for name in _PRICES)
        self.bars.append(
            PriceBar(
                self._symbol,
                start_ms,
                interval,
                opened,
                high,
                low,
                close,
                None if volume is None else _to_units(volume, QUANTITY),
            )
        )
        self._known.append(max(known_ms, interval))
        self._days.append(day)
        self._is_replay |= row["replay"]

    def _place(self, start_ms: int) -> int:
        """Return when the bar that begins at a time ends."""
        interval = self._grid.place(start_ms, self._timeframe)
        if interval is None:
            session = self._grid.session.code
            raise HistoryError(
                f"{self._symbol}: no interval of {self._timeframe} of the session {session} begins at "
                f"{cases.format_time(start_ms)}; {_NAME_SESSION}"
            )
        return interval.close_ms

    def _find_day(self, start_ms: int) -> date:
        day = self._grid.find_day(start_ms)
        return find_row_day(start_ms, None) if day is None else day.date

    def finish(self, rows: Iterable[Sequence[Any]]) -> SymbolHistory:
        records = [
            CorporateAction(symbol, ActionKind(kind), ex_day, ratio=ratio, amount=amount)
            for symbol, kind, ex_day, ratio, amount, *_ in rows
        ]
        actions = self._lower_dividends(
            [each for record in records if (each := self._make_action(record)) is not None]
        )
        return SymbolHistory(
            self._symbol,
            self._grid.session.code,
            make_instrument(self.bars, self._asset, self._rules),
            self.bars,
            self._known,
            self._days,
            sorted(actions, key=lambda each: each.account.at_ms),
            tuple(each for each in records if each.kind not in _PLAYED),
            self._is_replay,
            self._timeframe,
        )

    def _make_action(self, record: CorporateAction) -> HistoryAction | None:
        """Return a split or dividend before the open of its ex-day; None for one outside of the calendar.

        A split is before the week or month of its ex-day, as its prices are those after it. None for every
        other kind, too.
        """
        session = self._grid.session
        try:
            day = session.find_date(record.ex_day) or session.next_day(_midnight_ms(record.ex_day))
        except OutsideCalendarError:
            return None
        if record.kind is ActionKind.SPLIT and record.ratio is not None:
            exact = Fraction(record.ratio).limit_denominator(_MAX_DENOMINATOR)
            at_ms = self._open_period(record.ex_day, day).open_ms
            split = ShareSplit(self._symbol, at_ms, exact.numerator, exact.denominator)
            return HistoryAction(split, record)
        if record.kind is ActionKind.DIVIDEND and record.amount is not None:
            dividend = CashDividend(self._symbol, day.open_ms, _to_units(record.amount, PRICE))
            return HistoryAction(dividend, record)
        return None

    def _open_period(self, ex_day: date, day: TradingDay) -> TradingDay:
        """Return the first trading day of the week or month of a date; `day` for bars that are shorter."""
        if self._timeframe not in PERIODS:
            return day
        dates, _ = list_period_dates(ex_day, self._timeframe)
        found = (self._grid.session.find_date(each) for each in dates)
        return next((each for each in found if each is not None), day)

    def _lower_dividends(self, actions: Sequence[HistoryAction]) -> list[HistoryAction]:
        """Divide dividends, which are for a share of their day, by the splits that now come before them."""
        splits: dict[date, list[tuple[CorporateAction, ShareSplit]]] = {}
        if self._timeframe in PERIODS:
            for each in actions:
                if isinstance(each.account, ShareSplit):
                    period = name_period(each.record.ex_day, self._timeframe)
                    splits.setdefault(period, []).append((each.record, each.account))
        found: list[HistoryAction] = []
        for each in actions:
            account, ex_day = each.account, each.record.ex_day
            if isinstance(account, CashDividend) and splits:
                exact = Fraction(account.per_share)
                for record, split in splits.get(name_period(ex_day, self._timeframe), ()):
                    if record.ex_day >= ex_day and split.at_ms < account.at_ms:
                        exact /= split.ratio
                account = replace(account, per_share=round(exact))
            found.append(HistoryAction(account, each.record))
        return found


async def _iterate(
    connection: Any, symbol: str, timeframe: str, since: datetime, until: datetime
) -> AsyncIterator[list[tuple[Any, ...]]]:
    cursor = await connection.cursor(_BARS, symbol, timeframe, since, until)
    while rows := await cursor.fetch(ROWS_AT_ONCE):
        yield [tuple(row) for row in rows]


def _to_units(number: float, unit: int) -> int:
    """Return a number as its shortest text says it, in whole units; what is smaller than one is rounded."""
    return round(Decimal(repr(number)) * unit)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _midnight_ms(day: date) -> int:
    return (_midnight(day) - _EPOCH) // timedelta(milliseconds=1)
