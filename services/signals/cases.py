"""Read a case of a backtest (account, bars, orders) from a folder, play it, and write what came of it.

The form is neutral: programs of others can read and write it. docs/services/engine.md describes the three
files and the answer. All that is wrong in a file is a CaseError that names file, line and field.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.market.fields import SYMBOL
from services.market.sessions import OutsideCalendarError, Session, UnknownSessionError, get_session
from services.signals.engine.orders import (
    AccountAction,
    AccountRules,
    CashDividend,
    FeeSchedule,
    Instrument,
    LimitFill,
    Order,
    OrderType,
    PriceBar,
    ShareSplit,
    Side,
    TimeInForce,
)
from services.signals.engine.units import MONEY, PRICE, PRICE_DIGITS, QUANTITY_DIGITS, parse_units

CASE_FILE: Final = "case.json"
BARS_FILE: Final = "bars.csv"
ORDERS_FILE: Final = "orders.csv"
MAX_FILE_BYTES: Final = 1_000_000_000
MAX_CASE_BYTES: Final = 10_000_000
MAX_CELL: Final = 200
_BAR_COLUMNS: Final = ("symbol", "start", "end", "open", "high", "low", "close", "volume")
_ORDER_COLUMNS: Final = (
    *("decided_at", "symbol", "id", "side", "qty", "target_percent", "type"),
    *("limit", "stop", "tif", "parent", "oco"),
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?Z", re.ASCII)
_COMMENTS: Final = ("case", "what", "timeframe", "conventions")
"""The keys of a case that are comments."""
T = TypeVar("T")


class CaseError(ValueError):
    """A case can't be played; the message names file, line and field."""


def parse_time(text: str) -> int:
    """Return a time in UTC such as `2026-01-05T14:30:00Z` as epoch milliseconds. Raises ValueError."""
    if _TIME.fullmatch(text) is None:
        raise ValueError("must be a time in UTC such as 2026-01-05T14:30:00Z")
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def format_time(at_ms: int) -> str:
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(
        timespec="milliseconds" if at_ms % 1000 else "seconds"
    )
    return text.removesuffix("+00:00") + "Z"


# -- case.json

Amount = Annotated[Decimal, Field(max_digits=30, decimal_places=PRICE_DIGITS, allow_inf_nan=False)]
Positive = Annotated[Amount, Field(gt=0)]
NotNegative = Annotated[Amount, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccountModel(_Strict):
    """The account of a case; `borrow_rate`, `volume_share` are shares of one, `leverage` a multiple."""

    cash: Positive
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3,10}$")] = "USD"
    type: Literal["cash", "margin"] = "cash"
    leverage: Positive = Decimal(1)
    limit_fill: LimitFill = LimitFill.THROUGH
    volume_share: Positive | None = None
    borrow_rate: NotNegative = Decimal(0)
    periods_per_year: Positive | None = None

    def make_rules(self) -> AccountRules:
        return AccountRules(
            cash=int(self.cash * MONEY),
            leverage=Fraction(self.leverage) if self.type == "margin" else None,
            limit_fill=self.limit_fill,
            volume_share=None if self.volume_share is None else Fraction(self.volume_share),
            borrow_rate=Fraction(self.borrow_rate),
        )


class FeeModel(_Strict):
    """The fees of an instrument: `percent` is per hundred of what is traded."""

    per_share: NotNegative = Decimal(0)
    percent: NotNegative = Decimal(0)
    min_per_order: NotNegative = Decimal(0)


class InstrumentModel(_Strict):
    """An instrument of a case; `session` is a code of services/market/sessions.py."""

    tick: Positive
    lot: Annotated[Positive, Field(decimal_places=QUANTITY_DIGITS)]
    session: str = "24x7"
    fee: FeeModel = FeeModel()

    def make_instrument(self) -> Instrument:
        fee = FeeSchedule(
            per_share=int(self.fee.per_share * PRICE),
            rate=Fraction(self.fee.percent) / 100,
            min_per_order=int(self.fee.min_per_order * MONEY),
        )
        return Instrument(int(self.tick * PRICE), int(self.lot * 10**QUANTITY_DIGITS), fee)


class SplitModel(_Strict):
    """A split: `old` shares become `new` ones before the open at `at`."""

    kind: Literal["split"]
    symbol: str
    at: str
    new: Annotated[int, Field(gt=0, le=1_000_000)]
    old: Annotated[int, Field(gt=0, le=1_000_000)]


class DividendModel(_Strict):
    """A dividend of each share that is held before the open at `at`."""

    kind: Literal["dividend"]
    symbol: str
    at: str
    per_share: Positive


class VariantModel(_Strict):
    """Other values of the account, by name."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    account: dict[str, Any]


class CaseModel(_Strict):
    """The document of a case, without its comments."""

    account: AccountModel
    instruments: Annotated[dict[str, InstrumentModel], Field(min_length=1)]
    actions: list[Annotated[SplitModel | DividendModel, Field(discriminator="kind")]] = []
    variants: list[VariantModel] = []


@dataclass(frozen=True, slots=True)
class BacktestCase:
    """Hold all that a case plays: the account, its instruments and their sessions, and what happens.

    `bars` are in the order of their symbols' time, `orders` in that of their submission.
    """

    account: AccountModel
    instruments: Mapping[str, Instrument]
    bars: list[PriceBar]
    orders: list[Order]
    actions: list[AccountAction]


def read_case(folder: Path, variant: str | None = None) -> BacktestCase:
    """Read the three files of a folder; `variant` names other values of its account.

    Raises CaseError.
    """
    document = _read_document(folder / CASE_FILE)
    model = _check_document(document)
    for each in model.variants:  # one that is wrong is named, though another one is asked for
        changed = _check_document({**document, "account": {**document["account"], **each.account}})
        if each.name == variant:
            model = changed
            break
    else:
        if variant is not None:
            names = ", ".join(each.name for each in model.variants) or "none"
            raise CaseError(f"{CASE_FILE}: variants: no {variant!r}; there are: {names}")
    instruments = {symbol: each.make_instrument() for symbol, each in model.instruments.items()}
    actions = [_make_action(each, number, instruments) for number, each in enumerate(model.actions)]
    sessions = {symbol: _find_session(symbol, each.session) for symbol, each in model.instruments.items()}
    bars = read_bars(folder / BARS_FILE, instruments)
    orders = _read_orders(folder / ORDERS_FILE, sessions)
    return BacktestCase(model.account, instruments, bars, orders, actions)


def _read_document(path: Path) -> dict[str, Any]:
    raw = _read_bytes(path, MAX_CASE_BYTES)
    try:
        document = json.loads(raw, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{CASE_FILE}: no JSON: {error}") from None
    if not isinstance(document, dict):
        raise CaseError(f"{CASE_FILE}: must be an object")
    return {name: value for name, value in document.items() if name not in _COMMENTS}


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _check_document(document: Mapping[str, Any]) -> CaseModel:
    try:
        return CaseModel.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CaseError(f"{CASE_FILE}: {where}: {first['msg']}") from None


def _find_session(symbol: str, code: str) -> Session:
    if SYMBOL.fullmatch(symbol) is None:
        raise CaseError(f"{CASE_FILE}: instruments.{symbol[:40]}: no symbol")
    try:
        return get_session(code)
    except UnknownSessionError as error:
        raise CaseError(f"{CASE_FILE}: instruments.{symbol}.{error}") from None


def _make_action(
    model: SplitModel | DividendModel, number: int, instruments: Mapping[str, Instrument]
) -> AccountAction:
    where = f"{CASE_FILE}: actions.{number}"
    if model.symbol not in instruments:
        raise CaseError(f"{where}.symbol: not in instruments")
    try:
        at_ms = parse_time(model.at)
    except ValueError as error:
        raise CaseError(f"{where}.at: {error}") from None
    if isinstance(model, SplitModel):
        return ShareSplit(model.symbol, at_ms, model.new, model.old)
    return CashDividend(model.symbol, at_ms, int(model.per_share * PRICE))


# -- the files of lines


class _Line:
    """Read the cells of one line; what is wrong is named with file, line and column."""

    def __init__(self, where: str, cells: Mapping[str, str]) -> None:
        self.where, self._cells = where, cells

    def text(self, column: str) -> str:
        return self._cells.get(column, "")

    def read(self, column: str, parse: Callable[[str], T]) -> T:
        """Return a cell as `parse` reads it."""
        try:
            return parse(self.text(column))
        except ValueError as error:
            raise self.error(column, str(error)) from None

    def read_or_none(self, column: str, parse: Callable[[str], T]) -> T | None:
        return self.read(column, parse) if self.text(column) else None

    def error(self, column: str, what: str) -> CaseError:
        return CaseError(f"{self.where}: {column}: {what}")


def _read_lines(path: Path, columns: tuple[str, ...], required: tuple[str, ...]) -> Iterator[_Line]:
    raw = _read_bytes(path, MAX_FILE_BYTES)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaseError(f"{path.name}: byte {error.start + 1} is not UTF-8") from None
    rows = csv.reader(text.splitlines(), strict=True)
    header: list[str] = []
    try:
        for cells in rows:
            where = f"{path.name}: line {rows.line_num}"
            if not header:
                header = cells
                _check_header(where, header, columns, required)
                continue
            if len(cells) != len(header):
                raise CaseError(f"{where}: has {len(cells)} cells, the first line {len(header)}")
            yield _Line(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise CaseError(f"{path.name}: line {rows.line_num}: {error}") from None
    if not header:
        raise CaseError(f"{path.name}: is empty: the first line names the columns")


def _check_header(where: str, header: list[str], columns: tuple[str, ...], required: tuple[str, ...]) -> None:
    for name in header:
        if name not in columns:
            raise CaseError(f"{where}: unknown column {name[:MAX_CELL]!r}; known are {', '.join(columns)}")
    if len(set(header)) != len(header):
        raise CaseError(f"{where}: a column is there twice")
    for name in required:
        if name not in header:
            raise CaseError(f"{where}: the column {name} is missing")


def _read_bytes(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise CaseError(f"{path.name}: is larger than {most:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path.name}: {error.strerror}") from None


def _parse_price(text: str) -> int:
    return parse_units(text, PRICE_DIGITS)


def _parse_quantity(text: str) -> int:
    units = parse_units(text, QUANTITY_DIGITS)
    if units < 0:
        raise ValueError("must not be below 0")
    return units


def read_bars(path: Path, instruments: Mapping[str, Instrument]) -> list[PriceBar]:
    """Return the bars of a file, in its order. Raises CaseError, also for a symbol that is no instrument."""
    bars: list[PriceBar] = []
    last: dict[str, PriceBar] = {}
    for line in _read_lines(path, _BAR_COLUMNS, _BAR_COLUMNS):
        symbol = line.text("symbol")
        if symbol not in instruments:
            raise line.error("symbol", f"{symbol[:40]!r} is not in the instruments of {CASE_FILE}")
        start_ms, end_ms = line.read("start", parse_time), line.read("end", parse_time)
        opened, high, low, close = (
            line.read(name, _parse_price) for name in ("open", "high", "low", "close")
        )
        bar = PriceBar(
            symbol, start_ms, end_ms, opened, high, low, close, line.read_or_none("volume", _parse_quantity)
        )
        if end_ms <= start_ms:
            raise line.error("end", "must be after start")
        for name, price in (("open", opened), ("close", close)):
            if not low <= price <= high:
                raise line.error(name, "is not between low and high")
        before = last.get(symbol)
        if bar == before:
            continue
        if before is not None and start_ms < before.end_ms:
            twice = start_ms == before.start_ms
            what = "is there twice, with other numbers" if twice else "begins before the bar above it ends"
            raise line.error("start", what)
        last[symbol] = bar
        bars.append(bar)
    return bars


def _read_orders(path: Path, sessions: Mapping[str, Session]) -> list[Order]:
    orders: dict[str, Order] = {}
    parents: list[tuple[_Line, str, str]] = []
    for line in _read_lines(path, _ORDER_COLUMNS, ("decided_at", "symbol", "id", "type")):
        order = _make_order(line, sessions)
        if order.id in orders:
            raise line.error("id", "is there twice")
        if order.parent is not None:
            parents.append((line, order.id, order.parent))
        orders[order.id] = order
    for line, ident, parent in parents:
        if parent not in orders:
            raise line.error("parent", "no order has this id")
        seen = {ident}
        above: str | None = parent
        while above is not None:
            if above in seen:
                raise line.error("parent", "goes round in a circle")
            seen.add(above)
            above = orders[above].parent
    # an order of the same instant is submitted by its line
    return sorted(orders.values(), key=lambda order: order.decided_ms)


def _make_order(line: _Line, sessions: Mapping[str, Session]) -> Order:
    ident, symbol = line.text("id"), line.text("symbol")
    if not 0 < len(ident) <= MAX_CELL:
        raise line.error("id", f"must have 1 to {MAX_CELL} characters")
    if symbol not in sessions:
        raise line.error("symbol", f"{symbol[:40]!r} is not in the instruments of {CASE_FILE}")
    decided_ms = line.read("decided_at", parse_time)
    kind = line.read("type", _one_of(OrderType))
    tif = line.read_or_none("tif", _one_of(TimeInForce)) or TimeInForce.GTC
    side, quantity, target = _read_size(line)
    price = _read_order_price(line, kind)
    expires_ms = _find_expiry(line, sessions[symbol], decided_ms) if tif is TimeInForce.DAY else None
    return Order(
        ident,
        symbol,
        decided_ms,
        side,
        kind,
        quantity=quantity,
        target=target,
        price=price,
        tif=tif,
        expires_ms=expires_ms,
        parent=line.text("parent") or None,
        oco=line.text("oco") or None,
    )


def _read_size(line: _Line) -> tuple[Side | None, int | None, Fraction | None]:
    """Return side and quantity of an order, or its target as a share of the equity."""
    if line.text("target_percent"):
        percent = line.read("target_percent", _parse_price)
        for column in ("side", "qty"):
            if line.text(column):
                raise line.error(column, "must be empty beside target_percent")
        return None, None, Fraction(percent, 100 * PRICE)
    quantity = line.read("qty", _parse_quantity)
    if not quantity:
        raise line.error("qty", "must be above 0")
    return line.read("side", _one_of(Side)), quantity, None


def _read_order_price(line: _Line, kind: OrderType) -> int | None:
    for column in ("limit", "stop"):
        if line.text(column) and column != str(kind):
            raise line.error(column, f"must be empty for an order of type {kind}")
    return None if kind is OrderType.MARKET else line.read(str(kind), _parse_price)


def _find_expiry(line: _Line, session: Session, decided_ms: int) -> int:
    try:
        day = session.find_day(decided_ms) or session.next_day(decided_ms)
    except OutsideCalendarError as error:
        raise line.error("decided_at", str(error)) from None
    return day.close_ms


def _one_of(words: type[T]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            return words(text)  # type: ignore[call-arg]  # an enum of words is called with a word
        except ValueError:
            raise ValueError(f"must be one of {', '.join(words)}") from None  # type: ignore[arg-type]

    return parse
