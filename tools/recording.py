"""Make the recording of `make market` from public data: `.venv/bin/python tools/recording.py LEAN SETS OUT`.

LEAN is the folder `Data` of a checkout of QuantConnect/Lean, SETS a folder with checkouts of the repositories
finance-vix, oil-prices, bond-yields-us-10y and cpi-us of github.com/datasets. Nothing is made up: a minute
without a trade is not a row, and what the origin does not say is not a field. What is chosen and changed is
said in examples/recorded/README.md; the format is that of `services/sources/replay/recording.py`.
"""

import csv
import gzip
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from services.market.sessions import TradingDay, get_session

Row = dict[str, Any]

LEAN: Final = {
    "what": "bars of stocks, forex, metals, futures and crypto, splits and dividends",
    "repository": "https://github.com/QuantConnect/Lean",
    "commit": "24863901deffa9ec7985e21ef8fbdb0258efb9e4",
    "licence": "Apache-2.0",
}
DATASETS: Final = {
    "finance-vix": ("daily bars of the VIX, by Cboe", "6f56e2760520824b787cf6b85945c62186d38bc6"),
    "oil-prices": ("spot prices of oil, by the EIA", "2d75ce3a792c2f152619c10272e86052be3a8390"),
    "bond-yields-us-10y": (
        "monthly yields, by the Federal Reserve",
        "d7a459ca265d7c051de35c2617b9ebe33518a0f9",
    ),
    "cpi-us": ("consumer prices, by the BLS", "a1f785a423e22924ef9a438f8996130b1d00374f"),
}
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
STOCK_SCALE: Final = 10_000
"""Prices of stocks stand in the origin as whole ten-thousandths of a dollar."""
FIRST_DAYS: Final = {"FB": date(2012, 5, 18), "GOOG": date(2014, 4, 3)}
"""The ticker belonged to another company, or to another class of shares, before."""


@dataclass(frozen=True, slots=True)
class Reel:
    """Define a stretch of time: its history begins at `since`, and it plays from `play_from`."""

    name: str
    title: str
    since: date
    play_from: datetime
    to: datetime


STOCKS: Final = Reel(
    "exchange",
    "four stocks, gold and the VIX in a week of 2013",
    date(2011, 6, 1),
    datetime(2013, 10, 9, 13, 45, tzinfo=UTC),
    datetime(2013, 10, 11, 21, 15, tzinfo=UTC),
)
FOREX: Final = Reel(
    "forex",
    "currencies and spot gold in a week of 2014",
    date(2012, 1, 2),
    datetime(2014, 5, 7, 8, 0, tzinfo=UTC),
    datetime(2014, 5, 9, 21, 0, tzinfo=UTC),
)
CRYPTO: Final = Reel(
    "crypto",
    "crypto in three days of 2018",
    date(2016, 1, 1),
    datetime(2018, 4, 5, 0, 30, tzinfo=UTC),
    datetime(2018, 4, 7, 0, 0, tzinfo=UTC),
)
SPLIT: Final = Reel(
    "split",
    "Apple on the day of its split of seven for one in 2014",
    date(2011, 6, 1),
    datetime(2014, 6, 8, 23, 50, tzinfo=UTC),
    datetime(2014, 6, 9, 21, 15, tzinfo=UTC),
)
CHRISTMAS: Final = Reel(
    "christmas",
    "Google and a fund that pays a dividend on the short day before Christmas 2015",
    date(2013, 6, 3),
    datetime(2015, 12, 23, 20, 30, tzinfo=UTC),
    datetime(2015, 12, 24, 21, 15, tzinfo=UTC),
)
REELS: Final = (STOCKS, FOREX, CRYPTO, SPLIT, CHRISTMAS)

MINUTE_STOCKS: Final = {
    STOCKS: (("SPY", "IBM", "BAC", "AIG"), tuple(date(2013, 10, day) for day in (4, 7, 8, 9, 10, 11))),
    SPLIT: (("AAPL",), tuple(date(2014, 6, day) for day in (5, 6, 9))),
    CHRISTMAS: (("GOOG",), tuple(date(2015, 12, day) for day in (23, 24))),
}
"""By reel the stocks that have minutes, and of which days."""
DAILY_STOCKS: Final = {
    STOCKS: ("SPY", "IBM", "BAC", "AIG", "QQQ", "EEM", "FB", "WM", "USO"),
    SPLIT: ("AAPL",),
    CHRISTMAS: ("GOOG", "IWM"),
}
GOLD_DAYS: Final = tuple(date(2013, 10, day) for day in (7, 8, 9, 10, 11))
GOLD_CONTRACT: Final = "201312"
"""The contract of December 2013, which had by far the most trades that week."""
MINUTE_PAIRS: Final = {
    "EUR/USD": ("forex", "forex/oanda"),
    "NZD/USD": ("forex", "forex/oanda"),
    "XAU/USD": ("commodities", "cfd/oanda"),
}
DAILY_PAIRS: Final = {
    "GBP/USD": ("forex", "forex/oanda"),
    "EUR/GBP": ("forex", "forex/oanda"),
}
PAIR_DAYS: Final = tuple(date(2014, 5, day) for day in (4, 5, 6, 7, 8, 9))
COINS: Final = ("BTC/USD", "LTC/USD")
COIN_DAYS: Final = tuple(date(2018, 4, day) for day in (4, 5, 6))
OBSERVED: Final = {
    # by the file: the symbol, its class, the column, and after how many days everybody knows the value
    "oil-prices/data/wti-daily.csv": ("US.WTI", "economic", "Price", 7),
    "oil-prices/data/brent-daily.csv": ("EU.BRENT", "economic", "Price", 7),
    "bond-yields-us-10y/data/monthly.csv": ("US.10Y", "economic", "Rate", 31),
    "cpi-us/data/cpiai.csv": ("US.CPI_NSA", "economic", "Index", 61),
}
NEW_YORK: Final = ZoneInfo("America/New_York")


def epoch_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def tidy(number: float, scale: int = 1) -> float:
    value = round(number / scale, 10)
    return int(value) if value == int(value) else value


def read_zip(path: Path, pick: str = "") -> list[list[str]]:
    """Return the rows of the one CSV file of an archive whose name contains `pick`.

    Raises ValueError if there is none, or more than one.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if pick in name]
        if len(names) != 1:
            raise ValueError(f"{path}: {len(names)} files with {pick!r} in their names")
        return list(csv.reader(io.StringIO(archive.read(names[0]).decode("ascii"))))


def make_bar(sym: str, asset: str, timeframe: str, start: datetime, values: Iterable[float]) -> Row:
    """`values` are the prices, and the volume if it is known."""
    row = {"kind": "bars", "sym": sym, "asset": asset, "timeframe": timeframe, "start": epoch_ms(start)}
    return row | dict(zip(("open", "high", "low", "close", "volume"), values, strict=False))


def read_stock_minutes(lean: Path, reel: Reel) -> Iterator[Row]:
    """Yield the minutes of a reel's stocks in regular trading hours, with bid and ask at the end of each.

    A day without a file of quotes has none.
    """
    symbols, days = MINUTE_STOCKS[reel]
    for sym in symbols:
        for day in days:
            midnight = datetime.combine(day, time(), NEW_YORK)
            session = find_exchange_day(day)
            place = lean / "equity/usa/minute" / sym.lower()
            path = place / f"{day:%Y%m%d}_quote.zip"
            quotes = {row[0]: row for row in read_zip(path)} if path.exists() else {}
            for row in read_zip(place / f"{day:%Y%m%d}_trade.zip"):
                start = midnight + timedelta(milliseconds=int(row[0]))
                if not session.open_ms <= epoch_ms(start) < session.close_ms:
                    continue
                prices = [tidy(int(price), STOCK_SCALE) for price in row[1:5]]
                bar = make_bar(sym, "stocks", "1m", start, [*prices, int(row[5])])
                if (quote := quotes.get(row[0])) and quote[4] and quote[9]:
                    bar |= {
                        "bid": tidy(int(quote[4]), STOCK_SCALE),
                        "ask": tidy(int(quote[9]), STOCK_SCALE),
                    }
                yield bar


def read_stock_days(lean: Path, reel: Reel) -> Iterator[Row]:
    """Yield the days of a reel's stocks, stamped with the opening of the exchange and known at its close."""
    for sym in DAILY_STOCKS[reel]:
        for row in read_zip(lean / f"equity/usa/daily/{sym.lower()}.zip"):
            day = datetime.strptime(row[0], "%Y%m%d %H:%M").date()  # noqa: DTZ007 - a day of the exchange
            if max(reel.since, FIRST_DAYS.get(sym, date.min)) <= day <= reel.to.date():
                values = [*(tidy(int(price), STOCK_SCALE) for price in row[1:5]), int(row[5])]
                yield make_exchange_day(sym, "stocks", day, values)


def read_actions(lean: Path, reel: Reel) -> Iterator[Row]:
    """Yield dividends and splits of a reel's stocks, each by its ex day, as the origin's factors have them.

    A row of the origin has the factors of all days up to its own, and the close of that day. A dividend is
    what its factor takes from the close, to a tenth of a cent, since the factor has seven digits; so has that
    of a split, whose ratio has four decimals here.
    """
    for sym in DAILY_STOCKS[reel]:
        path = lean / f"equity/usa/factor_files/{sym.lower()}.csv"
        rows = list(csv.reader(path.read_text().splitlines())) if path.exists() else []
        for (last, factor, split, close), (_, later, after, _) in pairwise(rows):
            midnight = datetime.strptime(last, "%Y%m%d").replace(tzinfo=NEW_YORK)
            ex_day = get_session("XNYS").next_day(epoch_ms(midnight + DAY)).date
            if not max(reel.since, FIRST_DAYS.get(sym, date.min)) <= ex_day <= reel.to.date():
                continue
            of_day: Row = {"kind": "actions", "sym": sym, "asset": "stocks", "ex_day": ex_day.isoformat()}
            of_day["known"] = epoch_ms(datetime.combine(ex_day, time(), UTC))
            if factor != later:
                amount = float(close) * (1 - float(factor) / float(later))
                yield of_day | {"action": "dividend", "amount": tidy(round(amount, 3))}
            if split != after:
                yield of_day | {"action": "split", "ratio": tidy(round(float(after) / float(split), 4))}


def read_stocks(lean: Path, reel: Reel) -> Iterator[Row]:
    """Yield all rows of a reel's stocks."""
    yield from read_stock_minutes(lean, reel)
    yield from read_stock_days(lean, reel)
    yield from read_actions(lean, reel)


def read_vix_days(datasets: Path) -> Iterator[Row]:
    with (datasets / "finance-vix/data/vix-daily.csv").open() as file:
        for row in csv.DictReader(file):
            day = date.fromisoformat(row["DATE"])
            if STOCKS.since <= day <= STOCKS.to.date():
                values = [tidy(float(row[name])) for name in ("OPEN", "HIGH", "LOW", "CLOSE")]
                yield make_exchange_day("VIX", "volatility", day, values)


def make_exchange_day(sym: str, asset: str, day: date, values: Iterable[float]) -> Row:
    session = find_exchange_day(day)
    opens = datetime.fromtimestamp(session.open_ms / 1000, UTC)
    return make_bar(sym, asset, "1d", opens, values) | {"known": session.close_ms}


def find_exchange_day(day: date) -> TradingDay:
    """Return a trading day of the New York Stock Exchange. Raises ValueError if it was closed on that day."""
    found = get_session("XNYS").next_day(epoch_ms(datetime.combine(day, time(), NEW_YORK)))
    if found.date != day:
        raise ValueError(f"{day}: the exchange was closed")
    return found


def read_gold_minutes(lean: Path) -> Iterator[Row]:
    for day in GOLD_DAYS:
        midnight = datetime.combine(day, time(), UTC)
        for row in read_zip(lean / f"future/comex/minute/gc/{day:%Y%m%d}_trade.zip", f"_{GOLD_CONTRACT}"):
            start = midnight + timedelta(milliseconds=int(row[0]))
            values = [tidy(float(value)) for value in row[1:6]]
            yield make_bar("GC", "commodities", "1m", start, values)


def read_pair_minutes(lean: Path) -> Iterator[Row]:
    """Yield the minutes of pairs by their bids, with bid and ask at the end of each."""
    for sym, (asset, folder) in MINUTE_PAIRS.items():
        for day in PAIR_DAYS:
            midnight = datetime.combine(day, time(), UTC)
            place = lean / folder / "minute" / sym.replace("/", "").lower()
            for row in read_zip(place / f"{day:%Y%m%d}_quote.zip"):
                start = midnight + timedelta(milliseconds=int(row[0]))
                bar = make_bar(sym, asset, "1m", start, [tidy(float(price)) for price in row[1:5]])
                yield bar | {"bid": tidy(float(row[4])), "ask": tidy(float(row[9]))}


def read_pair_days(lean: Path) -> Iterator[Row]:
    """Yield the days of pairs that have no minutes, by their bids, from midnight to midnight UTC."""
    for sym, (asset, folder) in DAILY_PAIRS.items():
        for row in read_zip(lean / folder / f"daily/{sym.replace('/', '').lower()}.zip"):
            start = datetime.strptime(row[0], "%Y%m%d %H:%M").replace(tzinfo=UTC)
            # a weekend's is of the few minutes of a Sunday
            if FOREX.since <= start.date() and start + DAY <= FOREX.to and start.weekday() < 5:
                yield make_bar(sym, asset, "1d", start, [tidy(float(price)) for price in row[1:5]])


def make_pair_days(lean: Path) -> Iterator[Row]:
    """Yield the trading days of pairs that have minutes: of these, and of the origin's hours before them."""
    session = get_session("24x5")
    for sym, (asset, folder) in MINUTE_PAIRS.items():
        rows = [row for row in read_pair_minutes(lean) if row["sym"] == sym]
        for found in read_zip(lean / folder / f"hour/{sym.replace('/', '').lower()}.zip"):
            start = datetime.strptime(found[0], "%Y%m%d %H:%M").replace(tzinfo=UTC)
            if start.date() >= FOREX.since and start.date() < PAIR_DAYS[0]:
                rows.append(make_bar(sym, asset, "1h", start, [tidy(float(price)) for price in found[1:5]]))
        days: dict[TradingDay, list[Row]] = {}
        for row in sorted(rows, key=lambda row: int(row["start"])):
            if (day := session.find_day(row["start"])) is not None and day.date > FOREX.since:
                days.setdefault(day, []).append(row)
        for day, parts in days.items():
            highs, lows = (each["high"] for each in parts), (each["low"] for each in parts)
            values = (parts[0]["open"], max(highs), min(lows), parts[-1]["close"])
            opens = datetime.fromtimestamp(day.open_ms / 1000, UTC)
            yield make_bar(sym, asset, "1d", opens, values) | {"known": day.close_ms}


def read_coins(lean: Path) -> Iterator[Row]:
    """Yield the minutes of coins, and the days of the one coin that has daily bars."""
    place = lean / "crypto/coinbase"
    for sym in COINS:
        name = sym.replace("/", "").lower()
        for day in COIN_DAYS:
            midnight = datetime.combine(day, time(), UTC)
            for row in read_zip(place / "minute" / name / f"{day:%Y%m%d}_trade.zip"):
                start = midnight + timedelta(milliseconds=int(row[0]))
                yield make_bar(sym, "crypto", "1m", start, [tidy(float(value)) for value in row[1:6]])
        days = place / f"daily/{name}_trade.zip"
        for row in read_zip(days) if days.exists() else []:
            start = datetime.strptime(row[0], "%Y%m%d %H:%M").replace(tzinfo=UTC)
            if CRYPTO.since <= start.date() and start + DAY <= CRYPTO.to:
                yield make_bar(sym, "crypto", "1d", start, [tidy(float(value)) for value in row[1:6]])


def read_observations(datasets: Path) -> Iterator[Row]:
    """Yield what was observed, each value from when it was surely public."""
    for path, (sym, asset, column, days) in OBSERVED.items():
        with (datasets / path).open() as file:
            for row in csv.DictReader(file):
                start = datetime.fromisoformat(row["Date"]).replace(tzinfo=UTC)
                known = start + timedelta(days=days)
                if STOCKS.since <= start.date() and known <= STOCKS.to and row[column]:
                    yield {
                        "kind": "observations",
                        "sym": sym,
                        "asset": asset,
                        "start": epoch_ms(start),
                        "value": tidy(float(row[column])),
                        "known": epoch_ms(known),
                    }


def make_header(symbols: dict[Reel, set[str]]) -> dict[str, Any]:
    """Return the first line of the recording."""
    others = [
        {
            "what": what,
            "repository": f"https://github.com/datasets/{name}",
            "commit": commit,
            "licence": "ODC-PDDL-1.0",
        }
        for name, (what, commit) in DATASETS.items()
    ]
    reels = [
        {
            "name": reel.name,
            "title": reel.title,
            "from": f"{reel.since}T00:00:00Z",
            "play_from": f"{reel.play_from:%Y-%m-%dT%H:%M:%SZ}",
            "to": f"{reel.to:%Y-%m-%dT%H:%M:%SZ}",
            "symbols": sorted(symbols[reel]),
        }
        for reel in REELS
    ]
    return {
        "format": "marketswarm-recording",
        "version": 1,
        "name": "three_weeks",
        "origins": [LEAN, *others],
        "zone": "UTC",
        "volume_kinds": {
            "stocks": "consolidated",
            "crypto": "venue",
            "commodities": "venue",
            "forex": "none",
            "volatility": "none",
        },
        "reels": reels,
    }


def known_ms(row: Row) -> int:
    """Return when a row was known: a bar at its end, unless it says another time."""
    if "known" in row:
        return int(row["known"])
    lasts = MINUTE if row.get("timeframe") == "1m" else DAY
    return int(row["start"] + round(lasts.total_seconds() * 1000))


def main(lean: Path, datasets: Path, out: Path) -> int:
    """Write the recording, and print what is in it. Return 0."""
    found = {
        STOCKS: [
            *read_stocks(lean, STOCKS),
            *read_vix_days(datasets),
            *read_gold_minutes(lean),
            *read_observations(datasets),
        ],
        FOREX: [*read_pair_minutes(lean), *make_pair_days(lean), *read_pair_days(lean)],
        CRYPTO: list(read_coins(lean)),
        SPLIT: list(read_stocks(lean, SPLIT)),
        CHRISTMAS: list(read_stocks(lean, CHRISTMAS)),
    }
    header = make_header({reel: {row["sym"] for row in rows} for reel, rows in found.items()})
    rows = sorted(
        (row for each in found.values() for row in each),
        key=lambda row: (known_ms(row), row["kind"], row["sym"], row.get("start", 0)),
    )
    lines = b"\n".join(orjson.dumps(each) for each in (header, *rows)) + b"\n"
    # without a time and a name in it, so that the same rows make the same file
    out.write_bytes(gzip.compress(lines, 9, mtime=0))
    print(f"{out}: {len(rows)} rows, {out.stat().st_size} bytes, {len(lines)} before compression")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: recording.py LEAN SETS OUT")
    sys.exit(main(*map(Path, sys.argv[1:])))
