"""The checks hold nothing against what really was traded: the shipped recording passes all of them."""

import gzip
from functools import cache

import orjson
import pytest

from services.market.records import MINUTE_MS, TIMEFRAME_SEC, Bar
from services.market.sessions import DEFAULT_SESSIONS, get_session
from support.recordings import SHIPPED
from support.scenes.bars import SymbolScene, arrival

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume", "vwap", "trades")


@cache
def read_bars():
    """Return the bars of the recording by symbol, each with its asset class, in the order of their ends."""
    found = {}
    with gzip.open(SHIPPED) as lines:
        for row in map(orjson.loads, lines):
            if row.get("kind") == "bars":
                bar = Bar(row["sym"], row["timeframe"], row["start"], *(row.get(name) for name in NUMBERS))
                found.setdefault((bar.symbol, row["asset"]), []).append(bar)
    return {key: sorted(bars, key=find_end) for key, bars in found.items()}


def find_end(bar):
    return bar.start_ms + 1000 * TIMEFRAME_SEC[bar.timeframe]


@pytest.mark.parametrize(
    "symbol",
    [
        pytest.param("AIG", marks=pytest.mark.nightly("SPY, another stock")),
        "SPY",
        "VIX",
        "EUR/USD",
        "BTC/USD",
    ],
)
def test_no_recorded_bar_fails_a_check(symbol):
    ((asset, bars),) = ((asset, bars) for (name, asset), bars in read_bars().items() if name == symbol)
    scene = SymbolScene(get_session(DEFAULT_SESSIONS[asset]), symbols=[symbol], asset=asset, indicators=[])
    for at in range(0, len(bars), 1000):
        scene.play(arrival(bar, seen_ms=find_end(bar) + MINUTE_MS) for bar in bars[at : at + 1000])
    assert scene.quarantine == []
    assert len(scene.bars) >= len(bars)
