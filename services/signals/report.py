"""Define what a backtest is asked for and what it answers, and write both as JSON. Pure.

The same request over the same bars by the same code gives the same report, byte for byte. Its `digest` names
it, so reports can be kept by that.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Final, Literal, NoReturn, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from services.market.fields import SYMBOL
from services.market.records import Timeframe
from services.signals.cases import AccountModel, FeeModel, NotNegative
from services.signals.engine.orders import AccountRules
from services.tables.adjusted_bars import Adjust

FORM: Final = 2
"""The version of a report's form and of the rules by which it is played, which is in its digest.

A report of an earlier one is played anew when it is asked for again.
"""
MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_REPORT_BYTES: Final = 64 * 1024 * 1024
MAX_SYMBOLS: Final = 100
MAX_PARAMETERS: Final = 40
MAX_POINTS: Final = 4000
"""The most points of a report's series. A longer run has those of evenly spaced closes, and the last one."""
MAX_ROWS: Final = 5000
"""The most fills, and the most refusals, that a report lists; it counts all of them."""
FEW_TRADES: Final = 30
"""With fewer trades a result says little; the report warns of it."""
HYPOTHETICAL: Final = "Hypothetical: nobody traded. Results of the past don't say what will come."
"""The sentence that stands above every report."""

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FIRST: Final = date(1970, 1, 1)
_END: Final = date(2100, 1, 1)
ParameterValue = bool | int | Decimal | str


class ReportError(ValueError):
    """A request or a report can't be read; the message names the field."""


def _require_day(value: Any) -> Any:
    if isinstance(value, str) and _DAY.fullmatch(value):
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("must be a day such as 2026-01-05")


Day = Annotated[date, BeforeValidator(_require_day), Field(ge=_FIRST, lt=_END)]


class BacktestAccount(AccountModel):
    """The account of a request: as that of a case, and what orders pay more than the price that they find.

    `slippage` is a share of the price, `slippage_ticks` are ticks of the instrument: both together.
    """

    slippage: Annotated[NotNegative, Field(le=Decimal("0.5"))] = Decimal(0)
    slippage_ticks: Annotated[int, Field(ge=0, le=10_000)] = 0

    def make_rules(self) -> AccountRules:
        rules = super().make_rules()
        return replace(rules, slippage=Fraction(self.slippage), slippage_ticks=self.slippage_ticks)


class BacktestRequest(BaseModel):
    """Ask for a backtest.

    Attributes:
        strategy: the name of an installed strategy, or of the user's own that is given beside the request.
        parameters: the values that differ from the strategy's defaults, by name.
        symbols: what it may trade, each once.
        first_day: the first trading day on which it decides; `from` in JSON.
        last_day: the last one; `to` in JSON.
        adjust: for which actions up to its instant the prices are adjusted that the strategy sees. Orders
            always fill at prices as traded, and actions change the positions.
        account: the rules of the account, as in a case of the engine.
        fee: what each order costs, of every symbol.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    strategy: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    parameters: Annotated[
        dict[Annotated[str, Field(max_length=64)], Annotated[ParameterValue, Field(union_mode="smart")]],
        Field(max_length=MAX_PARAMETERS),
    ] = {}
    symbols: Annotated[
        tuple[Annotated[str, Field(pattern=SYMBOL.pattern, max_length=40)], ...],
        Field(min_length=1, max_length=MAX_SYMBOLS),
    ]
    first_day: Annotated[Day, Field(alias="from")]
    last_day: Annotated[Day, Field(alias="to")]
    timeframe: Timeframe = "1d"
    adjust: Adjust = Adjust.SPLITS
    account: BacktestAccount = BacktestAccount(cash=Decimal(100_000))
    fee: FeeModel = FeeModel()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.last_day < self.first_day:
            raise ValueError("to: is before from")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("symbols: one is there twice")
        if any(SYMBOL.fullmatch(symbol) is None for symbol in self.symbols):
            raise ValueError("symbols: one is no symbol")
        if any(isinstance(each, Decimal) and not each.is_finite() for each in self.parameters.values()):
            raise ValueError("parameters: one is no number")
        if any(isinstance(each, str) and len(each) > 200 for each in self.parameters.values()):
            raise ValueError("parameters: one is longer than 200 characters")
        return self

    @classmethod
    def from_json(cls, raw: bytes | str) -> Self:
        """Return the request of a JSON document. Raises ReportError, which names the wrong field."""
        return cls.from_document(parse_document(raw))

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """Return the request of a parsed document. Raises ReportError, which names the wrong field."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ReportError(_describe(error)) from None

    def to_document(self) -> dict[str, Any]:
        """Return the request as JSON has it, with every default; decimals are texts."""
        document: dict[str, Any] = _make_plain(self.model_dump(by_alias=True))
        return document

    def digest(self, data: str, code: str, form: int = FORM) -> str:
        """Return the SHA-256 of the request's canonical JSON, with the digests of the bars and of the code.

        `code` is that of the strategy. Parameters count as they are, so give the request with all of them,
        as `Strategy.complete` returns it.
        """
        document = {"form": form, "request": self.to_document(), "data": data, "code": code}
        return hashlib.sha256(encode_canonical(document)).hexdigest()


@dataclass(frozen=True, slots=True)
class ReportTotals:
    """Hold the sums of an account: money as decimal text in its currency, the others as shares of one.

    Attributes:
        realised: before fees.
        total_return: the last equity over the first one, less one.
        max_drawdown: the greatest loss since the highest close before, as a share of that.
        gross_exposure: the mean of the positions' worth, without signs, over the equity.
        sharpe: of the returns from day to day (UTC), week to week or month to month, of shorter bars from
            close to close, by the account's `periods_per_year`. None without them, and for shorter bars that
            close at different times.
    """

    fees: str
    borrow: str
    dividends: str
    realised: str
    unrealised: str
    final_equity: str
    total_return: float
    max_drawdown: float
    time_in_market: float
    gross_exposure: float
    sharpe: float | None


@dataclass(frozen=True, slots=True)
class ReportPoint:
    """Hold the account at a close, `at` in UTC.

    Attributes:
        exposure: the positions' worth, without signs, over the equity.
        drawdown: the loss since the highest close before, as a share of that; 0.1 for a tenth.
        buy_and_hold: what the account would be worth, had it bought all symbols at the first open and kept
            them.
    """

    at: str
    equity: str
    cash: str
    positions: str
    exposure: float
    drawdown: float
    buy_and_hold: str
    buy_and_hold_drawdown: float


@dataclass(frozen=True, slots=True)
class ReportFill:
    """Hold a fill: `decided_at` is when its order was decided, `at` when the bar began in which it filled."""

    order: str
    symbol: str
    decided_at: str
    at: str
    side: Literal["buy", "sell"]
    qty: str
    price: str
    fee: str


@dataclass(frozen=True, slots=True)
class ReportRefusal:
    """Hold an order that was not filled, or not to its end, and why; `reason` is one of the engine."""

    order: str
    symbol: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReportPrices:
    """Hold the closes of a symbol as traded, for the chart of its fills: `at` in UTC, and the price then."""

    symbol: str
    at: tuple[str, ...]
    close: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ReportCounts:
    """Count what a run had. A trade is a position from its beginning until it is closed, or turned around."""

    bars: int
    decisions: int
    orders: int
    fills: int
    refused: int
    trades: int
    winners: int


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """Hold what came of a backtest.

    Attributes:
        digest: names the report: `BacktestRequest.digest` of `request`, `data` and `code`.
        request: with all parameters of the strategy.
        data: the digest of the bars and actions.
        code: the digest of the strategy.
        title: the strategy in words.
        source: where the bars came from, in words.
        points: the account at closes, at most MAX_POINTS of them.
        fills: the first MAX_ROWS of them, in their order; so of `refused`.
        assumptions: what the result rests on, in sentences.
        warnings: what speaks against believing it, in sentences.
    """

    digest: str
    request: BacktestRequest
    data: str
    code: str
    title: str
    source: str
    totals: ReportTotals
    buy_and_hold: ReportTotals
    counts: ReportCounts
    points: tuple[ReportPoint, ...]
    fills: tuple[ReportFill, ...]
    refused: tuple[ReportRefusal, ...]
    prices: tuple[ReportPrices, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    hypothetical: str = HYPOTHETICAL

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Return the report as JSON, the same bytes for an equal one."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        return orjson.dumps({**document, "request": self.request.to_document()})

    @staticmethod
    def from_json(raw: bytes) -> "BacktestReport":
        """Return the report that `to_json` wrote. Raises ReportError, which names the field that is wrong."""
        if len(raw) > MAX_REPORT_BYTES:
            raise ReportError(f"is larger than {MAX_REPORT_BYTES:,} bytes")
        try:
            return _REPORTS.validate_json(raw)
        except ValidationError as error:
            raise ReportError(_describe(error)) from None


_REPORTS: Final = TypeAdapter(BacktestReport)


def encode_canonical(document: Mapping[str, Any]) -> bytes:
    """Return JSON with sorted keys and without spaces, for digests."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def parse_document(raw: bytes | str) -> Any:
    """Return the document of a request, whose numbers are exact. Raises ReportError if it is no JSON."""
    if len(raw) > MAX_REQUEST_BYTES:
        raise ReportError(f"is larger than {MAX_REQUEST_BYTES:,} bytes")
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"no JSON: {error}") from None


def _make_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _make_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(each) for each in value]
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Enum) else value


def format_decimal(value: Decimal) -> str:
    """Return a decimal as the same text, however it was written: 2.5 for 2.50, 100000 for 1E+5."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _describe(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
