"""The market that is played: a week of minutes, and of some symbols each day of the year before, too."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from services.market.records import MINUTE_MS, Bar
from support.market_prices import (
    Action,
    Instrument,
    Market,
    find_instrument,
    midnight_ms,
    session_hours,
    week_days,
)

OFFICIAL: Final = ("SPY", "BRK.B")
"""The symbols with minutes of which a source gives the days, too: with the auctions at their closes."""
DAILY: Final = ("AAPL", "MSFT", "BTC/USD", *OFFICIAL)
"""The symbols whose bars of a day a source gives; those of all others are built of minutes."""
HISTORY_DAYS: Final = 400
"""How long before the week their bars begin: a year of sessions, and of coins more than 400 bars."""
MOURNING: Final = frozenset({date(2025, 1, 9)})
"""The days on which New York was closed by no rule."""
ACTED: Final = ("AAPL", "MSFT", "BRK.B")
"""The symbols whose splits and dividends are asked for."""
AUCTION: Final = 1.002, 1.125
"""By which factors the auction changes the close and the volume of a day."""
_DAILY_MOVE: Final = 0.015
_NUMBERS: Final = ("open", "high", "low", "close", "volume", "vwap", "trades")


class PlayedMarket(Market):
    """A market in which the symbols of DAILY have a year of days before its week, and some have actions."""

    @cached_property
    def split_day(self) -> date:
        """The Tuesday of the week: BRK.B is split then, in the middle of a week and mostly of a month."""
        return self.first_day + timedelta((1 - self.first_day.weekday()) % 7)

    def list_actions(self, symbol: str) -> tuple[Action, ...]:
        """Return a symbol's actions: AAPL's split lies in its history, a dividend of MSFT is withdrawn."""
        if symbol not in ACTED:
            return ()
        if symbol == "BRK.B":
            return (Action(symbol, "split", self.split_day, 2.0),)
        paid = (self.first_day - timedelta(days) for days in (30, 120, 210, 300))
        dividends = tuple(Action(symbol, "dividend", day, 0.5 + day.month / 8) for day in paid)
        if symbol == "AAPL":
            split = Action(symbol, "split", self.first_day - timedelta(150), 4.0)
            return (split, *dividends, Action(symbol, "dividend", self.first_day + timedelta(1), 0.26))
        middle_ms = (self.begin_ms + self.end_ms) // 2
        return (*dividends, Action(symbol, "dividend", self.first_day - timedelta(60), 0.75, middle_ms))

    def _make_bars(self, symbol: str, timeframe: str) -> tuple[Bar, ...]:
        bars = super()._make_bars(symbol, timeframe)
        if timeframe == "1m":
            return self._split(symbol, bars, is_past=False)
        if timeframe != "1d" or symbol not in DAILY:
            return bars
        if symbol in OFFICIAL:
            bars = tuple(map(_add_auction, bars))
        days = make_days(self.instruments[symbol], self.first_day)
        return (*self._split(symbol, days, is_past=True), *bars)

    def _split(self, symbol: str, bars: tuple[Bar, ...], *, is_past: bool) -> tuple[Bar, ...]:
        """Return bars as they were traded: before a past split they cost more, after a new one less."""
        zone = self.instruments[symbol].zone
        for each in self.list_actions(symbol):
            if each.kind != "split" or is_past is not (each.ex_day < self.first_day):
                continue
            ex_ms = midnight_ms(each.ex_day, zone)
            ratio = 1 / each.value if is_past else each.value
            bars = tuple(_divide(bar, ratio) if (bar.start_ms < ex_ms) is is_past else bar for bar in bars)
        return bars

    def find_known(self, symbol: str, timeframe: str, now_ms: int) -> list[Bar]:
        """Return what is known as vendors have it: with the minute after the close, which has the auction."""
        known = super().find_known(symbol, timeframe, now_ms)
        if timeframe != "1m" or symbol not in OFFICIAL or not known:
            return known
        hours = (session_hours("XNYS", day) for day in week_days(self.first_day, self.days))
        closes = [each[1] for each in hours if each is not None and each[1] + MINUTE_MS <= now_ms]
        last = known[0]
        after = [replace(last, start_ms=close_ms) for close_ms in closes]
        return sorted([*known, *after], key=lambda bar: bar.start_ms)


def _divide(bar: Bar, ratio: float) -> Bar:
    """Return a bar of shares of which there are so many more."""
    return replace(
        bar,
        open=bar.open / ratio,
        high=bar.high / ratio,
        low=bar.low / ratio,
        close=bar.close / ratio,
        volume=None if bar.volume is None else bar.volume * ratio,
        vwap=None if bar.vwap is None else bar.vwap / ratio,
    )


def _add_auction(bar: Bar) -> Bar:
    """Return a day with the auction at its close."""
    price, volume = AUCTION
    close = round(bar.close * price, 3)
    traded = None if bar.volume is None else bar.volume * volume
    return replace(bar, close=close, high=max(bar.high, close), low=min(bar.low, close), volume=traded)


def make_days(instrument: Instrument, until: date) -> tuple[Bar, ...]:
    """Return a bar of each day on which an instrument was traded before `until`, the oldest first.

    They are a walk that ends at the price with which the week begins. Each begins at its midnight.
    """
    begin = until - timedelta(HISTORY_DAYS)
    days = [day for day in week_days(begin, HISTORY_DAYS) if _is_traded(instrument, day)]
    draw = np.random.default_rng(len(days) + sum(instrument.symbol.encode()))
    moves = draw.normal(0.0, _DAILY_MOVE, len(days))
    path = instrument.price * np.exp(np.append(np.cumsum(moves[::-1])[::-1], 0.0))
    bars = []
    for number, day in enumerate(days):
        opens, close = (round(float(price), instrument.decimals) for price in path[number : number + 2])
        reach = 1 + np.abs(draw.normal(0.0, _DAILY_MOVE / 2, 2))
        high = round(max(opens, close) * float(reach[0]), instrument.decimals)
        low = round(min(opens, close) / float(reach[1]), instrument.decimals)
        vwap = round((high + low + close) / 3, instrument.decimals + 1)
        volume, trades = float(draw.integers(10**6, 10**8)), int(draw.integers(10**4, 10**6))
        start_ms = midnight_ms(day, instrument.zone)
        bars.append(Bar(instrument.symbol, "1d", start_ms, opens, high, low, close, volume, vwap, trades))
    return tuple(bars)


def _is_traded(instrument: Instrument, day: date) -> bool:
    """Return True if an instrument was traded on a day, of its own time zone."""
    is_closed = instrument.session == "XNYS" and day in MOURNING
    return not is_closed and session_hours(instrument.session, day) is not None


def write_actions(market: PlayedMarket, path: Path, until_ms: int) -> int:
    """Write the splits and dividends of ACTED as CSV that have begun by a time; return how many."""
    lines = ["symbol,kind,ex_day,value,is_withdrawn"]
    for symbol in ACTED:
        for each in market.list_actions(symbol):
            if midnight_ms(each.ex_day, find_instrument("BTC/USD").zone) <= until_ms:
                row = (symbol, each.kind, each.ex_day.isoformat(), repr(each.value))
                lines.append(",".join((*row, str(int(each.until_ms is not None)))))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1


def write_days(market: Market, path: Path) -> int:
    """Write the days of DAILY as CSV, as `write_truth` writes minutes, but by date; return how many."""
    lines = [f"symbol,session,day,{','.join(_NUMBERS)}"]
    for symbol in DAILY:
        instrument = market.instruments[symbol]
        for bar in market.bars(symbol, "1d"):
            day = datetime.fromtimestamp(bar.start_ms / 1000, instrument.zone).date()
            numbers = (repr(getattr(bar, name)) for name in _NUMBERS)
            lines.append(",".join((symbol, instrument.session, day.isoformat(), *numbers)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines) - 1
