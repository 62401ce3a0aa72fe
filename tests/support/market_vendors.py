"""Answer as vendors of prices do: Yahoo, Alpha Vantage, Twelve Data, Alpaca, Massive and others. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from marketswarm.market.records import DAY_MS, MINUTE_MS, AssetClass, Bar, Quote
from support.market_answers import (
    CRYPTO,
    FOREX,
    STOCK,
    Answer,
    Asked,
    choose,
    dated_rows,
    format_decimals,
    json_answer,
    latest_quote,
    parse_iso_ms,
    pick_instrument,
    spell_pair,
    spell_stock,
    utc_of,
)
from support.market_prices import NEW_YORK, Instrument, epoch_ms
from support.market_view import MarketView

PAGE_ROWS: Final = 500
"""The most rows of a page, of the sources that have pages."""


# -- Yahoo: an object whose fields are lists


_YAHOO_FRAMES: Final = {"1m": "1m", "5m": "5m", "15m": "15m", "60m": "1h", "1h": "1h", "1d": "1d"}


def _spell_yahoo(each: Instrument) -> str:
    spelled = {
        STOCK: each.symbol.replace(".", "-"),
        FOREX: each.symbol.replace("/", "") + "=X",
        CRYPTO: each.symbol.replace("/", "-"),
    }
    return spelled.get(each.asset, "^" + each.symbol)


def answer_yahoo(view: MarketView, asked: Asked) -> Answer:
    """Answer as the chart of Yahoo Finance; minutes without a trade are nulls."""
    nothing = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
    unknown = json_answer({"chart": {"result": None, "error": nothing}}, 404)
    instrument = pick_instrument(view, asked.path.removeprefix("/v8/finance/chart/"), _spell_yahoo, unknown)
    timeframe = choose(_YAHOO_FRAMES, asked.query.get("interval", ""), unknown)
    if "range" in asked.query:
        bars = view.find_bars(instrument.symbol, timeframe, last=1)
    else:
        start, end = (1000 * int(asked.query[name]) for name in ("period1", "period2"))
        bars = view.find_bars(instrument.symbol, timeframe, start, end - 1)
    rows = _with_nulls(view, bars) if timeframe == "1m" else [(bar.start_ms, bar) for bar in bars]
    if timeframe == "1d":
        rows = [(view.find_opening(bar), bar) for bar in bars]
    quote = view.find_quote(instrument.symbol)
    meta: dict[str, Any] = {"symbol": _spell_yahoo(instrument), "dataGranularity": asked.query["interval"]}
    if quote is not None:
        meta |= {"regularMarketTime": quote.at_ms // 1000, "regularMarketPrice": quote.price}
        meta |= {"regularMarketVolume": int(quote.volume or 0)}
    if not rows:
        return json_answer(_yahoo_chart({"meta": meta, "indicators": {"quote": [{}]}}))
    columns = {
        name: [None if bar is None else getattr(bar, name) for _, bar in rows]
        for name in ("open", "high", "low", "close")
    }
    columns["volume"] = [None if bar is None else bar.volume or 0 for _, bar in rows]
    stamps = [stamp // 1000 for stamp, _ in rows]
    return json_answer(_yahoo_chart({"meta": meta, "timestamp": stamps, "indicators": {"quote": [columns]}}))


def _yahoo_chart(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"chart": {"result": [result], "error": None}}


def _with_nulls(view: MarketView, bars: list[Bar]) -> list[tuple[int, Bar | None]]:
    """Return bars by their times, and None for each minute between them without a trade."""
    rows: list[tuple[int, Bar | None]] = []
    for bar, after in zip(bars, [*bars[1:], None], strict=False):
        rows.append((bar.start_ms, bar))
        if after is not None and after.start_ms > bar.start_ms:
            quiet = view.find_quiet_minutes(bar.symbol, bar.start_ms, after.start_ms)
            rows += [(minute, None) for minute in quiet]
    return rows


# -- Alpha Vantage: an object by time, in the time of New York, the newest first


def answer_alpha_vantage(view: MarketView, asked: Asked) -> Answer:
    """Answer as Alpha Vantage."""
    query = asked.query
    unknown = json_answer({"Error Message": "no such function, symbol or interval"})
    pair = f"{query.get('from_symbol') or query.get('from_currency') or query.get('symbol')}/" + str(
        query.get("to_symbol") or query.get("to_currency") or query.get("market")
    )
    match query.get("function"):
        case "TIME_SERIES_INTRADAY":
            spans = {"1min": "1m", "5min": "5m", "15min": "15m", "30min": "30m", "60min": "1h"}
            timeframe = choose(spans, query.get("interval", ""), unknown)
            instrument = pick_instrument(view, query["symbol"], spell_stock, unknown)
            bars = view.find_bars(instrument.symbol, timeframe)
            return _by_time(f"Time Series ({query['interval']})", bars, "%Y-%m-%d %H:%M:%S", instrument)
        case "TIME_SERIES_DAILY":
            instrument = pick_instrument(view, query["symbol"], spell_stock, unknown)
            return _by_time("Time Series (Daily)", _hundred_days(view, instrument), "%Y-%m-%d", instrument)
        case "FX_DAILY":
            instrument = pick_instrument(view, pair, spell_pair("/", FOREX), unknown)
            name = "Time Series FX (Daily)"
            return _by_time(name, _hundred_days(view, instrument), "%Y-%m-%d", instrument)
        case "DIGITAL_CURRENCY_DAILY":
            instrument = pick_instrument(view, pair, spell_pair("/"), unknown)
            name = "Time Series (Digital Currency Daily)"
            return _by_time(name, view.find_bars(instrument.symbol, "1d"), "%Y-%m-%d", instrument)
        case "GLOBAL_QUOTE":
            instrument = pick_instrument(
                view, query["symbol"], spell_stock, json_answer({"Global Quote": {}})
            )
            return _global_quote(latest_quote(view, instrument, json_answer({"Global Quote": {}})))
        case "CURRENCY_EXCHANGE_RATE":
            instrument = pick_instrument(view, pair, spell_pair("/", FOREX, CRYPTO), unknown)
            return _exchange_rate(latest_quote(view, instrument, unknown))
        case "UNEMPLOYMENT":
            found = view.find_observations("US.UNRATE", 0, view.now_ms)
            return json_answer(
                {"name": "Unemployment Rate", "data": dated_rows(reversed(found), "date", "value")}
            )
    return unknown


def _hundred_days(view: MarketView, instrument: Instrument) -> list[Bar]:
    return view.find_bars(instrument.symbol, "1d", last=100)


def _by_time(name: str, bars: list[Bar], form: str, instrument: Instrument) -> Answer:
    """Return bars as an object by their time, the newest first."""
    rows = {}
    for bar in reversed(bars):
        numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        names = ("1. open", "2. high", "3. low", "4. close", "5. volume")
        texts = {
            each: format_decimals(number, 4 if instrument.decimals <= 4 else 5)
            for each, number in zip(names, numbers, strict=True)
            if number is not None
        }
        if instrument.asset is STOCK:
            texts["5. volume"] = str(int(bar.volume or 0))
        rows[datetime.fromtimestamp(bar.start_ms / 1000, instrument.zone).strftime(form)] = texts
    zone = "US/Eastern" if instrument.asset is STOCK else "UTC"
    meta = {"1. Information": "open, high, low, close prices", "6. Time Zone": zone}
    return json_answer({"Meta Data": meta, name: rows})


def _global_quote(quote: Quote) -> Answer:
    """Return the quote of a stock."""
    day = datetime.fromtimestamp(quote.at_ms / 1000, NEW_YORK).date()
    named = {"01. symbol": quote.symbol, "05. price": format_decimals(quote.price, 4)}
    named |= {"06. volume": str(int(quote.volume or 0)), "07. latest trading day": day.isoformat()}
    return json_answer({"Global Quote": named})


def _exchange_rate(quote: Quote) -> Answer:
    """Return the rate of a pair."""
    named = {
        "5. Exchange Rate": format_decimals(quote.price),
        "6. Last Refreshed": utc_of(quote.at_ms).strftime("%Y-%m-%d %H:%M:%S"),
        "7. Time Zone": "UTC",
        "8. Bid Price": format_decimals(quote.bid),
        "9. Ask Price": format_decimals(quote.ask),
    }
    return json_answer({"Realtime Currency Exchange Rate": named})


# -- Twelve Data: rows of texts


def answer_twelve_data(view: MarketView, asked: Asked) -> Answer:
    """Answer as Twelve Data: errors come with status 200 and a code of their own."""
    query = asked.query
    unknown = twelve_data_error(400, "symbol or interval unknown")
    instrument = pick_instrument(view, query.get("symbol", ""), lambda each: each.symbol, unknown)
    zone = instrument.zone if query.get("timezone") != "UTC" else UTC
    if asked.path == "/quote":
        quote = latest_quote(view, instrument, unknown)
        named = {
            "symbol": quote.symbol,
            "last_quote_at": quote.at_ms // 1000,
            "close": format_decimals(quote.price, 5),
        }
        return json_answer(
            named if quote.volume is None else named | {"volume": format_decimals(quote.volume, 4)}
        )
    frames = {
        "1min": "1m",
        "5min": "5m",
        "15min": "15m",
        "30min": "30m",
        "1h": "1h",
        "4h": "4h",
        "1day": "1d",
    }
    timeframe = choose(frames, query.get("interval", ""), unknown)
    start, end = (
        epoch_ms(datetime.fromisoformat(query[name]).replace(tzinfo=zone))
        for name in ("start_date", "end_date")
    )
    bars = view.find_bars(instrument.symbol, timeframe, start, end, last=5000)
    if not bars:
        return twelve_data_error(400, "No data is available for these dates.")
    form = "%Y-%m-%d" if timeframe == "1d" else "%Y-%m-%d %H:%M:%S"
    rows = [
        _twelve_row(bar, datetime.fromtimestamp(bar.start_ms / 1000, zone).strftime(form)) for bar in bars
    ]
    if query.get("order", "desc") != "asc":
        rows.reverse()
    return json_answer({"meta": {"symbol": instrument.symbol}, "values": rows, "status": "ok"})


def twelve_data_error(code: int, message: str) -> Answer:
    return json_answer({"code": code, "message": message, "status": "error"})


def _twelve_row(bar: Bar, moment: str) -> dict[str, str]:
    row = {"datetime": moment}
    row |= {name: format_decimals(getattr(bar, name), 5) for name in ("open", "high", "low", "close")}
    return row if bar.volume is None else row | {"volume": format_decimals(bar.volume, 4)}


# -- sources with pages


def _find_page(view: MarketView, bars: list[Bar], token: str, limit: str) -> tuple[list[Bar], str | None]:
    """Return the bars of a page, and the token of the next one; a token is a number of bars."""
    begun, rows = int(token or 0), min(int(limit), PAGE_ROWS)
    page = bars[begun : begun + rows]
    return page, str(begun + rows) if begun + rows < len(bars) else None


def answer_alpaca(view: MarketView, asked: Asked) -> Answer:
    """Answer as Alpaca: pages by token."""
    query, parts = asked.query, asked.parts()
    if parts[1] in ("forex", "indices"):
        return _alpaca_latest(view, asked)
    is_crypto = parts[0] == "v1beta3"
    unknown = json_answer({"bars": {} if is_crypto else None, "next_page_token": None})
    spell = spell_pair("/") if is_crypto else spell_stock
    spelled = query.get("symbols", "") if is_crypto else parts[2]
    instrument = pick_instrument(view, spelled, spell, unknown)
    if parts[-1].startswith("snapshot"):
        quote = latest_quote(view, instrument, unknown)
        moment = utc_of(quote.at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        snapshot = {
            "latestTrade": {"p": quote.price, "t": moment},
            "latestQuote": {"ap": quote.ask, "bp": quote.bid, "t": moment},
            "dailyBar": {"v": quote.volume},
        }
        return json_answer({"snapshots": {spelled: snapshot}} if is_crypto else snapshot)
    frames = {"1Min": "1m", "5Min": "5m", "15Min": "15m", "30Min": "30m", "1Hour": "1h", "1Day": "1d"}
    timeframe = choose(frames, query.get("timeframe", ""), json_answer({"message": "timeframe"}, 400))
    start, end = (parse_iso_ms(query[name]) for name in ("start", "end"))
    bars = view.find_bars(instrument.symbol, timeframe, start, end)
    page, token = _find_page(view, bars, query.get("page_token", ""), query.get("limit", "1000"))
    rows = [{"t": utc_of(bar.start_ms).strftime("%Y-%m-%dT%H:%M:%SZ"), **_short_names(bar)} for bar in page]
    found: Any = {spelled: rows} if is_crypto and rows else rows or ({} if is_crypto else None)
    return json_answer({"bars": found, "next_page_token": token})


def _alpaca_latest(view: MarketView, asked: Asked) -> Answer:
    """Return the latest rate of a pair of currencies, or the latest value of an index."""
    is_rate = asked.parts()[1] == "forex"
    name = "rates" if is_rate else "values"
    spelled = asked.query.get("currency_pairs" if is_rate else "symbols", "")
    wanted = FOREX if is_rate else AssetClass.VOLATILITY
    unknown = json_answer({name: {}})

    def spell(each: Instrument) -> str | None:
        return each.symbol.replace("/", "") if each.asset is wanted else None

    quote = latest_quote(view, pick_instrument(view, spelled, spell, unknown), unknown)
    moment = utc_of(quote.at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    row = {"mp": quote.price, "bp": quote.bid, "ap": quote.ask} if is_rate else {"v": quote.price}
    return json_answer({name: {spelled: {**row, "t": moment}}})


def _short_names(bar: Bar) -> dict[str, float]:
    """Return a bar's numbers under names of one letter."""
    named = {"o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close}
    named |= {"v": bar.volume or 0} if bar.volume is not None else {}
    return named | (
        {"vw": bar.vwap, "n": bar.trades} if bar.vwap is not None and bar.trades is not None else {}
    )


def _spell_massive(each: Instrument) -> str:
    marks = {FOREX: "C:", CRYPTO: "X:", AssetClass.VOLATILITY: "I:"}
    return marks.get(each.asset, "") + each.symbol.replace("/", "")


def answer_massive(view: MarketView, asked: Asked) -> Answer:
    """Answer as Massive: pages by address."""
    parts = asked.parts()
    if parts[:2] == ["v2", "aggs"]:
        return _massive_bars(view, asked)
    if parts[0] == "fed":
        return _massive_yields(view, asked)
    unknown = json_answer({"status": "NOT_FOUND"}, 404)
    spelled = {
        "v1": f"{'X' if parts[2] == 'crypto' else 'C'}:{''.join(parts[3:5])}",
        "v3": asked.query.get("ticker.any_of", ""),
    }.get(parts[0], parts[-1])
    quote = latest_quote(view, pick_instrument(view, spelled, _spell_massive, unknown), unknown)
    if parts[0] == "v3":
        row = {"ticker": spelled, "value": quote.price, "last_updated": quote.at_ms * 1_000_000}
        return json_answer({"results": [row], "status": "OK"})
    if parts[0] == "v1":
        sides = {"bid": quote.bid, "ask": quote.ask, "timestamp": quote.at_ms}
        last = sides if parts[2] == "currencies" else {"price": quote.price, "timestamp": quote.at_ms}
        return json_answer({"last": last, "status": "success"})
    ticker = {
        "updated": quote.at_ms * 1_000_000,
        "day": {"v": quote.volume},
        "lastQuote": {"P": quote.ask, "p": quote.bid},
        "lastTrade": {"p": quote.price},
    }
    return json_answer({"ticker": ticker, "status": "OK"})


def _massive_yields(view: MarketView, asked: Asked) -> Answer:
    """Return the yields of the days that were asked for, all maturities of a day together."""
    names = {"US.3M": "yield_3_month", "US.2Y": "yield_2_year", "US.10Y": "yield_10_year"}
    days: dict[str, dict[str, Any]] = {}
    for symbol, name in names.items():
        edges = (parse_iso_ms(asked.query[each]) for each in ("date.gte", "date.lte"))
        for each in view.find_observations(symbol, *edges):
            day = utc_of(each.start_ms).date().isoformat()
            days.setdefault(day, {"date": day})[name] = each.value
    return json_answer({"results": list(days.values()), "status": "OK"})


def _massive_bars(view: MarketView, asked: Asked) -> Answer:
    """Return a page of bars."""
    unknown = json_answer({"status": "OK", "resultsCount": 0})
    _, _, _, ticker, _, count, unit, start, end = asked.parts()
    spans = {("1", "minute"): "1m", ("5", "minute"): "5m", ("15", "minute"): "15m", ("30", "minute"): "30m"}
    spans |= {("1", "hour"): "1h", ("4", "hour"): "4h", ("1", "day"): "1d"}
    instrument = pick_instrument(view, ticker, _spell_massive, unknown)
    if (count, unit) not in spans:
        return json_answer({"status": "ERROR", "error": "Unknown time span"}, 400)
    bars = view.find_bars(instrument.symbol, spans[count, unit], int(start), int(end))
    page, token = _find_page(view, bars, asked.query.get("cursor", ""), asked.query.get("limit", "5000"))
    rows = [{"t": bar.start_ms, **_short_names(bar)} for bar in page]
    document: dict[str, Any] = {"ticker": ticker, "adjusted": False, "results": rows, "status": "OK"}
    if token is not None:
        document["next_url"] = f"https://api.massive.com{asked.path}?cursor={token}"
    return json_answer(document)


# -- Finnhub and OANDA


def _spell_finnhub(each: Instrument) -> str:
    spelled = {
        FOREX: "OANDA:" + each.symbol.replace("/", "_"),
        CRYPTO: "BINANCE:" + each.symbol.replace("/", ""),
    }
    return spelled.get(each.asset, each.symbol)


def answer_finnhub(view: MarketView, asked: Asked) -> Answer:
    """Answer as Finnhub: an object whose fields are lists; days are stamped with midnight of UTC."""
    nothing = json_answer({"s": "no_data"})
    is_quote = asked.path == "/quote"
    unknown = json_answer({"c": 0, "d": None, "t": 0}) if is_quote else nothing
    instrument = pick_instrument(view, asked.query.get("symbol", ""), _spell_finnhub, unknown)
    if is_quote:
        quote = latest_quote(view, instrument, unknown)
        return json_answer({"c": quote.price, "t": quote.at_ms // 1000})
    frames = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "D": "1d"}
    wrong = json_answer({"error": "Wrong resolution"}, 422)
    timeframe = choose(frames, asked.query.get("resolution", ""), wrong)
    start, end = (1000 * int(asked.query[name]) for name in ("from", "to"))
    bars = view.find_bars(instrument.symbol, timeframe, start, end)
    if not bars:
        return nothing
    names = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
    columns = {short: [getattr(bar, name) or 0 for bar in bars] for short, name in names.items()}
    day = DAY_MS if timeframe == "1d" else 1
    return json_answer({**columns, "t": [bar.start_ms // day * day // 1000 for bar in bars], "s": "ok"})


def answer_oanda(view: MarketView, asked: Asked) -> Answer:
    """Answer as OANDA: prices in the middle of bid and ask; the last bar says whether it is complete."""
    unknown = json_answer({"errorMessage": "Invalid value specified for 'instrument'"}, 400)
    instrument = pick_instrument(view, asked.parts()[2], spell_pair("_", FOREX), unknown)
    decimals = instrument.decimals
    if asked.query.get("granularity") == "S5":
        quote = latest_quote(view, instrument, unknown)
        sides = {"mid": quote.price, "bid": quote.bid, "ask": quote.ask}
        prices = {name: {"c": format_decimals(number, decimals)} for name, number in sides.items()}
        candle = {"complete": False, "time": f"{quote.at_ms // 1000}.000000000", **prices}
        return json_answer({"instrument": asked.parts()[2], "candles": [candle]})
    frames = {"M1": "1m", "M5": "5m", "M15": "15m", "M30": "30m", "H1": "1h", "H4": "4h", "D": "1d"}
    timeframe = choose(frames, asked.query.get("granularity", ""), unknown)
    start, end = (1000 * int(asked.query[name]) for name in ("from", "to"))
    whole = {bar.start_ms for bar in view.market.bars(instrument.symbol, timeframe)}
    known = view.find_bars(instrument.symbol, timeframe, start, end, first=5000)
    rows = [
        {
            "complete": bar.start_ms in whole and _is_over(view, bar),
            "volume": 1,
            "time": f"{bar.start_ms // 1000}.000000000",
            "mid": {
                name[0]: format_decimals(getattr(bar, name), decimals)
                for name in ("open", "high", "low", "close")
            },
        }
        for bar in known
    ]
    return json_answer({"instrument": asked.parts()[2], "candles": rows})


def _is_over(view: MarketView, bar: Bar) -> bool:
    """Return True if a bar's time is over."""
    length = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}[bar.timeframe]
    return bar.start_ms + length * MINUTE_MS <= view.now_ms
