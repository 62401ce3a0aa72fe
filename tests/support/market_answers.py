"""Hold questions and answers of sources, and read and write what several sources have alike. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import orjson

from marketswarm.market.records import AssetClass, Observation, Quote
from support.market_prices import Instrument, epoch_ms
from support.market_view import MarketView

STOCK, FOREX, CRYPTO = AssetClass.STOCKS, AssetClass.FOREX, AssetClass.CRYPTO


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold a question: the path below the source's address, the query, and headers by lower-case name."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> list[str]:
        """Return the parts of the path."""
        return self.path.strip("/").split("/")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold an answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class NotServedError(Exception):
    """The source has no such symbol, page or timeframe; holds what it then answers."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(document: Any, status: int = 200) -> Answer:
    """Return a document as an answer."""
    return Answer(status, orjson.dumps(document))


def pick_instrument(
    view: MarketView, text: str, spell: Callable[[Instrument], str | None], other: Answer
) -> Instrument:
    """Return the instrument that is spelled so. Raise NotServedError with the answer for others."""
    try:
        return view.find_symbol(text, spell)
    except KeyError:
        raise NotServedError(other) from None


def choose(names: Mapping[str, str], text: str, other: Answer) -> str:
    """Return our word for a source's one. Raise NotServedError if there is none."""
    try:
        return names[text]
    except KeyError:
        raise NotServedError(other) from None


def spell_pair(separator: str = "", *assets: AssetClass) -> Callable[[Instrument], str | None]:
    """Return how pairs of these classes are spelled, with a separator between both parts."""
    wanted = assets or (CRYPTO,)
    return lambda each: each.symbol.replace("/", separator) if each.asset in wanted else None


def format_decimals(number: float | None, decimals: int = 8) -> str:
    """Return a number with so many decimals."""
    return f"{number or 0.0:.{decimals}f}"


def utc_of(millis: int) -> datetime:
    """Return a time of UTC."""
    return datetime.fromtimestamp(millis / 1000, UTC)


def parse_iso_ms(text: str) -> int:
    """Return a time written as ISO 8601 has it, of UTC where it names no zone, in epoch milliseconds."""
    moment = datetime.fromisoformat(text)
    return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def latest_quote(view: MarketView, instrument: Instrument, other: Answer) -> Quote:
    """Return the latest price. Raise NotServedError with the answer for what was never traded."""
    found = view.find_quote(instrument.symbol)
    if found is None:
        raise NotServedError(other)
    return found


def spell_stock(each: Instrument) -> str | None:
    return each.symbol if each.asset is STOCK else None


def date_of(each: Observation) -> date:
    return utc_of(each.start_ms).date()


def dated_rows(found: Iterable[Observation], day: str, value: str) -> list[dict[str, str]]:
    """Return values as rows of texts."""
    return [{day: date_of(each).isoformat(), value: str(each.value)} for each in found]
