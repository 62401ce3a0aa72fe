"""Answer as statistical offices and central banks do, and Cboe: JSON, CSV and XML. Pure."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from marketswarm.market.records import AssetClass, Observation
from support.market_answers import (
    Answer,
    Asked,
    choose,
    date_of,
    dated_rows,
    format_decimals,
    json_answer,
    latest_quote,
    pick_instrument,
    utc_of,
)
from support.market_prices import NEW_YORK, epoch_ms
from support.market_view import MarketView


def _find_dated(view: MarketView, symbol: str, first: str, last: str) -> list[Observation]:
    """Return the values of a series between two days, both included."""
    start, end = (epoch_ms(datetime.fromisoformat(each).replace(tzinfo=UTC)) for each in (first, last))
    return view.find_observations(symbol, start, end)


def answer_frankfurter(view: MarketView, asked: Asked) -> Answer:
    """Answer as Frankfurter: a row a day and currency."""
    query = asked.query
    base, counter = query.get("base", "EUR"), query.get("quotes", "")
    if f"{base}/{counter}" not in view.market.series:
        return json_answer({"message": "not found"}, 404)
    found = _find_dated(view, f"{base}/{counter}", query["from"], query["to"])
    rows = [
        {"date": date_of(each).isoformat(), "base": base, "quote": counter, "rate": each.value}
        for each in found
    ]
    return json_answer(rows)


_FRED: Final = {
    "DGS3MO": "US.3M",
    "DGS2": "US.2Y",
    "DGS10": "US.10Y",
    "UNRATE": "US.UNRATE",
    "CPIAUCSL": "US.CPI",
    "DEXUSEU": "EUR/USD",
    "DEXUSUK": "GBP/USD",
}


def answer_fred(view: MarketView, asked: Asked) -> Answer:
    """Answer as FRED: weekdays without a value have a point."""
    unknown = json_answer(
        {"error_code": 400, "error_message": "Bad Request. The series does not exist."}, 400
    )
    symbol = choose(_FRED, asked.query.get("series_id", ""), unknown)
    first, last = asked.query["observation_start"], asked.query["observation_end"]
    rows = dated_rows(_find_dated(view, symbol, first, last), "date", "value")
    if rows and not view.market.series[symbol].is_monthly:
        rows = _with_points(rows)
    return json_answer({"count": len(rows), "observations": rows})


def _with_points(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return daily rows with one for each weekday in between that has no value."""
    known = {row["date"] for row in rows}
    first, last = (date.fromisoformat(edge(known)) for edge in (min, max))
    days = (first + timedelta(days=number) for number in range((last - first).days))
    points = [{"date": day.isoformat(), "value": "."} for day in days if day.weekday() < 5]
    return [*rows, *(row for row in points if row["date"] not in known)]


def answer_ecb(view: MarketView, asked: Asked) -> Answer:
    """Answer as the data portal of the European Central Bank: CSV; 404 where there is nothing."""
    nothing = Answer(404, b"No results found.", "text/plain")
    *_, dataset, key = asked.parts()
    keys = {f"D.{each[4:]}.EUR.SP00.A": each for each in view.market.series if each.startswith("EUR/")}
    keys["D.U2.EUR.4F.KR.DFR.LEV"] = "EU.DEPOSIT_RATE"
    symbol = choose(keys, key, nothing)
    found = _find_dated(view, symbol, asked.query["startPeriod"], asked.query["endPeriod"])
    if not found:
        return nothing
    lines = [f"{dataset}.{key},D,{date_of(each).isoformat()},{each.value}" for each in found]
    return _csv("KEY,FREQ,TIME_PERIOD,OBS_VALUE", lines)


def _csv(header: str, lines: Iterable[str]) -> Answer:
    """Return lines as CSV."""
    return Answer(200, "\r\n".join((header, *lines, "")).encode(), "text/csv")


def answer_bank_of_england(view: MarketView, asked: Asked) -> Answer:
    """Answer as the database of the Bank of England: CSV; an error is a page with status 200."""
    names = {"XUDLUSS": "GBP/USD", "IUDBEDR": "GB.BANKRATE"}
    code = asked.query.get("SeriesCodes", "")
    symbol = choose(names, code, Answer(200, b"<html><body>Error</body></html>", "text/html"))
    first, last = (
        datetime.strptime(asked.query[name], "%d/%b/%Y").replace(tzinfo=UTC)
        for name in ("Datefrom", "Dateto")
    )
    found = view.find_observations(symbol, epoch_ms(first), epoch_ms(last))
    return _csv(f"DATE,{code}", [f"{utc_of(each.start_ms):%d %b %Y},{each.value}" for each in found])


def answer_cboe(view: MarketView, asked: Asked) -> Answer:
    """Answer as Cboe: days of an index as CSV, its last value as JSON."""
    forbidden = Answer(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
    name = asked.parts()[-1]
    spelled = name.removesuffix("_History.csv").removesuffix(".json").removeprefix("_")
    instrument = pick_instrument(
        view, spelled, lambda each: each.symbol if each.asset is AssetClass.VOLATILITY else None, forbidden
    )
    if name.endswith(".json"):
        quote = latest_quote(view, instrument, forbidden)
        moment = datetime.fromtimestamp(quote.at_ms // 1000, NEW_YORK).strftime("%Y-%m-%dT%H:%M:%S")
        return json_answer({"data": {"current_price": quote.price, "last_trade_time": moment}})
    lines = []
    for bar in view.find_bars(instrument.symbol, "1d"):
        day = datetime.fromtimestamp(bar.start_ms / 1000, NEW_YORK)
        prices = (format_decimals(number, 6) for number in (bar.open, bar.high, bar.low, bar.close))
        lines.append(",".join((f"{day:%m/%d/%Y}", *prices)))
    return _csv("DATE,OPEN,HIGH,LOW,CLOSE", lines)


def answer_us_treasury(view: MarketView, asked: Asked) -> Answer:
    """Answer as the US Treasury: all maturities of a year, as XML."""
    year = asked.query.get("field_tdr_date_value", "")
    maturities = {"BC_3MONTH": "US.3M", "BC_2YEAR": "US.2Y", "BC_10YEAR": "US.10Y"}
    days: dict[str, list[str]] = {}
    for name, symbol in maturities.items():
        for each in _find_dated(view, symbol, f"{year}-01-01", f"{year}-12-31"):
            value = f'<d:{name} m:type="Edm.Double">{each.value}</d:{name}>'
            days.setdefault(date_of(each).isoformat(), []).append(value)
    entries = "".join(
        '<entry><content type="application/xml"><m:properties>'
        f'<d:NEW_DATE m:type="Edm.DateTime">{day}T00:00:00</d:NEW_DATE>{"".join(values)}'
        "</m:properties></content></entry>"
        for day, values in days.items()
    )
    spaces = "http://schemas.microsoft.com/ado/2007/08/dataservices"
    feed = (
        f'<feed xmlns:d="{spaces}" xmlns:m="{spaces}/metadata" xmlns="http://www.w3.org/2005/Atom">'
        f'<title type="text">DailyTreasuryYieldCurveRateData</title>{entries}</feed>'
    )
    return Answer(200, ('<?xml version="1.0" encoding="utf-8"?>\n' + feed).encode(), "application/xml")
