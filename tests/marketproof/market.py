"""The market that is played: a week of minutes, and of some symbols each day of the year before, too."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from services.market.records import Bar
from support.market_prices import Instrument, Market, midnight_ms, session_hours, week_days

DAILY: Final = ("AAPL", "MSFT", "BTC/USD")
"""The symbols whose bars of a day a source gives; those of all others are built of minutes."""
HISTORY_DAYS: Final = 400
"""How long before the week their bars begin: a year of sessions, and of coins more than 400 bars."""
MOURNING: Final = frozenset({date(2025, 1, 9)})
"""The days on which New York was closed by no rule."""
_DAILY_MOVE: Final = 0.015
_NUMBERS: Final = ("open", "high", "low", "close", "volume", "vwap", "trades")


class PlayedMarket(Market):
    """A market in which the symbols of DAILY have a year of days before its week."""

    def _make_bars(self, symbol: str, timeframe: str) -> tuple[Bar, ...]:
        bars = super()._make_bars(symbol, timeframe)
        if timeframe != "1d" or symbol not in DAILY:
            return bars
        return (*make_days(self.instruments[symbol], self.first_day), *bars)


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
