"""What tiles have of the past, by rows of an archive in memory."""

import contextlib
from datetime import date, datetime
from types import SimpleNamespace

import pytest

from marketswarm.web.cache import Cached
from services.board.market import overview
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.market import PAST_SEC
from services.board.market.overview import make_symbol_tile, make_tiles
from services.board.market.states import StoredSeries
from services.market.adjust import AS_TRADED, Adjuster, GivenClose
from services.market.records import ActionKind, CorporateAction
from services.market.sessions import get_session
from services.tables.adjusted_bars import Adjust, adjust_closes, find_row_day


class Archive:
    """Closes of bars as they were traded, the latest quotes, and splits."""

    def __init__(self, closes=(), quotes=(), splits=()):
        self.closes, self.quotes, self.splits = closes, quotes, splits

    @contextlib.asynccontextmanager
    async def limit_answer(self):
        yield

    async def read_newest(self, symbols, _timeframe, _points, days, _as_of_ms):
        rows = [row for row in self.closes if row[0] in symbols]
        adjuster = Adjuster(self.splits)
        for place, (symbol, start, close, *others) in enumerate(rows):
            given = GivenClose(find_row_day(start, None), close, AS_TRADED)
            (price,) = adjust_closes([given], adjuster, Adjust.SPLITS.make_basis(days[symbol]))
            rows[place] = (symbol, start, price, *others)
        return rows

    async def read_adjusters(self, symbols, since, _as_of_ms):
        splits = [each for each in self.splits if since is None or each.ex_day >= since]
        return {symbol: Adjuster(splits) for symbol in symbols}

    async def read_latest_quotes(self, symbols, _as_of_ms):
        return [row for row in self.quotes if row[0] in symbols]


def make_parts(archive, session=None):
    async def find_sessions(symbols):
        return dict.fromkeys(symbols, session)

    return SimpleNamespace(
        find_sessions=find_sessions,
        sessions=SimpleNamespace(known=0),
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
    archive = Archive([("SPY", 60_000, 1.5, "yahoo", False, 1.5)], [make_quote("SPY", at_ms, 7.5)])
    one = StoredSeries(id="a", symbol="SPY", kind="quotes")
    tiles, _ = await make_tiles(make_parts(archive), [one])
    assert [tile.price for tile in tiles] == [price]


async def test_a_change_is_a_decimal_of_its_symbol_and_percentages_have_four():
    day_ms, origin = 86_400_000, ("yahoo", False)
    closes = [("SPY", 2 * day_ms, 581.2, *origin, 581.2), ("SPY", day_ms, 581.11, *origin, 580.5)]
    one = StoredSeries(id="a", symbol="SPY", kind="bars", timeframe="1d")
    (tile,), _ = await make_tiles(make_parts(Archive(closes)), [one])
    assert (tile.price, tile.compared_at, tile.change) == (581.2, day_ms, 0.09)
    assert (tile.change_percent, tile.total_percent) == (0.0155, 0.1206)


def read_ms(text):
    return round(1000 * datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("now", "quoted", "price", "compared"),
    [
        # on Thursday in New York the share trades at 400 until midnight, which is 04:00 UTC
        ("2024-06-13T21:30Z", ("2024-06-13T19:59Z", 400.0), 400.0, ("2024-06-12", 396.0)),
        ("2024-06-14T03:59Z", ("2024-06-14T00:30Z", 400.4), 400.4, ("2024-06-12", 396.0)),
        # on Friday, before it is traded, all that was traded on Thursday is divided by four
        ("2024-06-14T04:00Z", ("2024-06-13T19:59Z", 400.0), 100.0, ("2024-06-12", 99.0)),
        ("2024-06-14T04:00Z", ("2024-06-14T00:30Z", 400.4), 100.1, ("2024-06-12", 99.0)),
        # what is traded on Friday before the open is of Friday
        ("2024-06-14T08:30Z", ("2024-06-14T08:20Z", 100.5), 100.5, ("2024-06-13", 100.0)),
        # on Monday, without the bar of Friday
        ("2024-06-17T12:00Z", ("2024-06-14T19:00Z", 101.0), 101.0, ("2024-06-13", 100.0)),
    ],
)
async def test_a_split_changes_a_tile_at_midnight_where_the_share_is_traded(
    monkeypatch, now, quoted, price, compared
):
    origin, opens = ("yahoo", False), read_ms("2024-06-13T13:30Z")
    closes = [("AAA", opens, 400.0, *origin, 0.0), ("AAA", opens - 86_400_000, 396.0, *origin, 0.0)]
    split = CorporateAction("AAA", ActionKind.SPLIT, date(2024, 6, 14), ratio=4.0)
    archive = Archive(closes, [make_quote("AAA", read_ms(quoted[0]), quoted[1])], [split])
    monkeypatch.setattr(overview, "time", SimpleNamespace(time=lambda: read_ms(now) / 1000))
    one = StoredSeries(id="a", symbol="AAA", kind="quotes", timeframe="1d", asset="stocks")
    (tile,), _ = await make_tiles(make_parts(archive, get_session("XNYS")), [one])
    assert (tile.price, tile.compared) == (price, "previous close")
    assert find_row_day(tile.compared_at, None).isoformat() == compared[0]
    assert tile.change == pytest.approx(price - compared[1])


async def test_a_tile_without_a_calendar_goes_by_utc(monkeypatch):
    opens = read_ms("2024-06-13T13:30Z")
    split = CorporateAction("AAA", ActionKind.SPLIT, date(2024, 6, 14), ratio=4.0)
    archive = Archive([("AAA", opens, 400.0, "yahoo", False, 0.0)], splits=[split])
    one = StoredSeries(id="a", symbol="AAA", kind="bars", timeframe="1d")
    for now, price in (("2024-06-13T23:59Z", 400.0), ("2024-06-14T00:01Z", 100.0)):
        monkeypatch.setattr(overview, "time", SimpleNamespace(time=lambda at=now: read_ms(at) / 1000))
        (tile,), _ = await make_tiles(make_parts(archive), [one])
        assert tile.price == price
