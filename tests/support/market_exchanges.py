"""Answer as exchanges of crypto currencies do: Kraken, Coinbase, Binance, Bitstamp, OKX, Bybit. Pure."""

from typing import Final

from marketswarm.market.records import TIMEFRAME_SEC, Bar
from support.market_answers import (
    CRYPTO,
    Answer,
    Asked,
    choose,
    format_decimals,
    json_answer,
    latest_quote,
    parse_iso_ms,
    pick_instrument,
    spell_pair,
    utc_of,
)
from support.market_prices import Instrument
from support.market_view import MarketView

_KRAKEN_FRAMES: Final = {
    "1": "1m",
    "5": "5m",
    "15": "15m",
    "30": "30m",
    "60": "1h",
    "240": "4h",
    "1440": "1d",
}


def _spell_kraken(each: Instrument) -> str | None:
    return each.symbol.replace("BTC", "XBT").replace("/", "") if each.asset is CRYPTO else None


def answer_kraken(view: MarketView, asked: Asked) -> Answer:
    """Answer as Kraken: the last 720 bars, with the one that is not over."""
    unknown = json_answer({"error": ["EQuery:Unknown asset pair"]})
    pair = asked.query.get("pair", "")
    instrument = pick_instrument(view, pair, _spell_kraken, unknown)
    name = pair if pair.endswith("USDT") else f"X{pair[:3]}Z{pair[3:]}"
    if asked.path == "/0/public/Ticker":
        quote = latest_quote(view, instrument, unknown)
        price, bid, ask = (format_decimals(number, 5) for number in (quote.price, quote.bid, quote.ask))
        named = {"a": [ask, "1", "1.000"], "b": [bid, "2", "2.000"], "c": [price, "0.01"]}
        volume = format_decimals(quote.volume)
        return json_answer({"error": [], "result": {name: {**named, "v": [volume, volume]}}})
    timeframe = choose(_KRAKEN_FRAMES, asked.query.get("interval", "1"), unknown)
    bars = view.find_bars(instrument.symbol, timeframe, last=720)
    names = ("open", "high", "low", "close", "vwap")
    rows = [
        [
            bar.start_ms // 1000,
            *(format_decimals(getattr(bar, name), 5) for name in names),
            format_decimals(bar.volume),
            bar.trades,
        ]
        for bar in bars
    ]
    return json_answer({"error": [], "result": {name: rows, "last": rows[-2][0] if len(rows) > 1 else 0}})


def answer_coinbase(view: MarketView, asked: Asked) -> Answer:
    """Answer as Coinbase Exchange: numbers, low and high first, the newest bar first."""
    unknown = json_answer({"message": "NotFound"}, 404)
    _, product, what = asked.parts()
    instrument = pick_instrument(view, product, spell_pair("-"), unknown)
    if what == "ticker":
        quote = latest_quote(view, instrument, unknown)
        named = {name: format_decimals(getattr(quote, name)) for name in ("price", "bid", "ask", "volume")}
        moment = utc_of(quote.at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json_answer({**named, "time": moment})
    frames = {"60": "1m", "300": "5m", "900": "15m", "3600": "1h", "86400": "1d"}
    granularity = asked.query.get("granularity", "")
    timeframe = choose(frames, granularity, json_answer({"message": "Unsupported granularity"}, 400))
    start, end = (parse_iso_ms(asked.query[name]) for name in ("start", "end"))
    if (end - start) // (1000 * int(granularity)) + 1 > 300:
        return json_answer({"message": "more than 300 bars asked for"}, 400)
    bars = view.find_bars(instrument.symbol, timeframe, start, end)
    rows = [[bar.start_ms // 1000, bar.low, bar.high, bar.open, bar.close, bar.volume] for bar in bars]
    return json_answer(rows[::-1])


_BINANCE_FRAMES: Final = {each: each for each in ("1m", "5m", "15m", "30m", "1h", "4h", "1d")}


def answer_binance(view: MarketView, asked: Asked) -> Answer:
    """Answer as Binance: the oldest bars from a time on, both ends included."""
    unknown = json_answer({"code": -1121, "msg": "Invalid symbol."}, 400)
    query = asked.query
    instrument = pick_instrument(view, query.get("symbol", ""), spell_pair(), unknown)
    if asked.path == "/api/v3/ticker/24hr":
        quote = latest_quote(view, instrument, unknown)
        named = {"lastPrice": quote.price, "bidPrice": quote.bid, "askPrice": quote.ask}
        texts = {name: format_decimals(number) for name, number in (named | {"volume": quote.volume}).items()}
        return json_answer({"symbol": query["symbol"], **texts, "closeTime": quote.at_ms})
    timeframe = choose(_BINANCE_FRAMES, query.get("interval", ""), json_answer({"code": -1120}, 400))
    limit = min(int(query.get("limit", "500")), 1000)
    start, end = (int(query[name]) if name in query else None for name in ("startTime", "endTime"))
    edge = {"last": limit} if start is None else {"first": limit}
    bars = view.find_bars(instrument.symbol, timeframe, start, end, **edge)
    names = ("open", "high", "low", "close", "volume")
    rows = [
        [
            bar.start_ms,
            *(format_decimals(getattr(bar, name)) for name in names),
            bar.start_ms + 1000 * TIMEFRAME_SEC[timeframe] - 1,
            "0",
            bar.trades,
            *("0", "0", "0"),
        ]
        for bar in bars
    ]
    return json_answer(rows)


def answer_bitstamp(view: MarketView, asked: Asked) -> Answer:
    """Answer as Bitstamp: the last bars up to a time."""
    unknown = json_answer({"code": "404.001", "message": "Not found"}, 404)
    pair = spell_pair()
    instrument = pick_instrument(view, asked.parts()[3], lambda each: (pair(each) or "").lower(), unknown)
    if asked.parts()[2] == "ticker":
        if asked.query:
            return json_answer({"error": "unexpected parameters"}, 400)
        quote = latest_quote(view, instrument, unknown)
        named = {"last": quote.price, "bid": quote.bid, "ask": quote.ask, "volume": quote.volume}
        texts = {name: format_decimals(number) for name, number in named.items()}
        return json_answer({"timestamp": str(quote.at_ms // 1000), **texts})
    steps = {"60": "1m", "300": "5m", "900": "15m", "1800": "30m", "3600": "1h", "14400": "4h", "86400": "1d"}
    timeframe = choose(steps, asked.query.get("step", ""), json_answer({"code": "invalid step"}, 400))
    start, end = (1000 * int(asked.query[name]) if name in asked.query else None for name in ("start", "end"))
    limit = min(int(asked.query.get("limit", "1000")), 1000)
    bars = view.find_bars(instrument.symbol, timeframe, start, end, last=limit)
    names = ("open", "high", "low", "close", "volume")
    rows = [
        {
            "timestamp": str(bar.start_ms // 1000),
            **{name: format_decimals(getattr(bar, name)) for name in names},
        }
        for bar in bars
    ]
    return json_answer({"data": {"pair": instrument.symbol, "ohlc": rows}})


def answer_okx(view: MarketView, asked: Asked) -> Answer:
    """Answer as OKX: the bars before a time, the newest first."""
    unknown = json_answer({"code": "51001", "msg": "Instrument ID does not exist", "data": []})
    instrument = pick_instrument(view, asked.query.get("instId", ""), spell_pair("-"), unknown)
    if asked.path.endswith("/ticker"):
        quote = latest_quote(view, instrument, unknown)
        named = {"last": quote.price, "bidPx": quote.bid, "askPx": quote.ask, "vol24h": quote.volume}
        texts = {name: format_decimals(number) for name, number in named.items()}
        return json_answer({"code": "0", "msg": "", "data": [{**texts, "ts": str(quote.at_ms)}]})
    frames = {"1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "4H": "4h", "1Dutc": "1d"}
    timeframe = choose(frames, asked.query.get("bar", "1m"), json_answer({"code": "51000", "data": []}))
    end = int(asked.query["after"]) - 1 if "after" in asked.query else None
    limit = min(int(asked.query.get("limit", "100")), 300)
    bars = view.find_bars(instrument.symbol, timeframe, None, end, last=limit)
    rows = [[*_texts_of(bar), "0", "0", "1"] for bar in bars]
    return json_answer({"code": "0", "msg": "", "data": rows[::-1]})


def _texts_of(bar: Bar) -> list[str]:
    """Return a bar as a row of texts, as several exchanges have it."""
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    return [str(bar.start_ms), *(format_decimals(number) for number in numbers)]


def answer_bybit(view: MarketView, asked: Asked) -> Answer:
    """Answer as Bybit: the last bars up to a time, the newest first."""
    unknown = json_answer({"retCode": 10001, "retMsg": "Not supported symbols", "result": {}})
    instrument = pick_instrument(view, asked.query.get("symbol", ""), spell_pair(), unknown)
    envelope = {"retCode": 0, "retMsg": "OK", "time": view.now_ms}
    if asked.path.endswith("/tickers"):
        quote = latest_quote(view, instrument, unknown)
        named = {"lastPrice": quote.price, "bid1Price": quote.bid, "ask1Price": quote.ask}
        texts = {
            name: format_decimals(number) for name, number in (named | {"volume24h": quote.volume}).items()
        }
        return json_answer({**envelope, "result": {"list": [texts]}, "time": quote.at_ms})
    frames = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "D": "1d"}
    timeframe = choose(frames, asked.query.get("interval", ""), unknown)
    start, end = (int(asked.query[name]) if name in asked.query else None for name in ("start", "end"))
    limit = min(int(asked.query.get("limit", "200")), 1000)
    bars = view.find_bars(instrument.symbol, timeframe, start, end, last=limit)
    rows = [[*_texts_of(bar), "0"] for bar in reversed(bars)]
    return json_answer({**envelope, "result": {"category": "spot", "list": rows}})
