"""What tiles have of the past, by rows of an archive in memory."""

import contextlib
from types import SimpleNamespace

import pytest

from marketswarm.web.cache import Cached
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.market import PAST_SEC
from services.board.market.overview import make_symbol_tile, make_tiles
from services.board.market.states import StoredSeries


class Archive:
    """Closes of bars, and the latest quotes."""

    def __init__(self, closes=(), quotes=()):
        self.closes, self.quotes = closes, quotes

    @contextlib.asynccontextmanager
    async def limit_answer(self):
        yield

    async def read_newest(self, symbols, _timeframe, _points, _as_of_ms):
        return [row for row in self.closes if row[0] in symbols]

    async def read_latest_quotes(self, symbols, _as_of_ms):
        return [row for row in self.quotes if row[0] in symbols]


def make_parts(archive):
    return SimpleNamespace(
        archive=archive,
        live=LiveMarket(),
        past=Cached(PAST_SEC),
        shown=Cached(60.0, 10),
        states=MarketStates(),
    )


def make_quote(symbol, at_ms, price):
    return (symbol, at_ms, price, *(None,) * 5, "finnhub", None, None, True)


async def test_a_symbol_that_has_only_quotes_in_the_database_has_their_price():
    parts = make_parts(Archive(quotes=[make_quote("SPY", 5000, 7.5)]))
    (tile,), _ = await make_symbol_tile(parts, "SPY", "1m")
    assert (tile.price, tile.at, tile.source, tile.replay) == (7.5, 5000, "finnhub", True)
    (tile,), _ = await make_symbol_tile(parts, "QQQ", "1m")
    assert tile.price is None


@pytest.mark.parametrize(("at_ms", "price"), [(59_000, 1.5), (61_000, 7.5)])
async def test_of_a_quote_and_a_bar_of_the_database_the_newer_one_counts(at_ms, price):
    archive = Archive([("SPY", 60_000, 1.5, "yahoo", False, 1.5, 1.0)], [make_quote("SPY", at_ms, 7.5)])
    one = StoredSeries(id="a", symbol="SPY", kind="quotes")
    tiles, _ = await make_tiles(make_parts(archive), [one])
    assert [tile.price for tile in tiles] == [price]


async def test_a_change_is_a_decimal_of_its_symbol_and_percentages_have_four():
    day_ms, origin = 86_400_000, ("yahoo", False)
    closes = [("SPY", 2 * day_ms, 581.2, *origin, 581.2, 1.0), ("SPY", day_ms, 581.11, *origin, 580.5, 1.0)]
    one = StoredSeries(id="a", symbol="SPY", kind="bars", timeframe="1d")
    (tile,), _ = await make_tiles(make_parts(Archive(closes)), [one])
    assert (tile.price, tile.compared_at, tile.change) == (581.2, day_ms, 0.09)
    assert (tile.change_percent, tile.total_percent) == (0.0155, 0.1206)
