"""Which names there are, and which of them a text may mean."""

import orjson
import pytest

from marketswarm.keys import CHECKED_BARS, MARKET_SERIES
from marketswarm.truth import parse_truth
from services.board.market import names
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.names import NameDirectory, UnknownNameError, find_matches
from services.board.market.states import StoredSeries
from services.market.names import KnownName, list_truth_names
from services.tables.rows import BarRow


def make_section(key, *endpoints, **settings):
    points = [{"bus": "market-redis", "key": key}]
    return {"access_points": {"publish_to": points}, "endpoints": list(endpoints), "settings": settings}


TRUTH = parse_truth(
    orjson.dumps(
        {
            "services": {
                "sources": make_section(
                    MARKET_SERIES,
                    {"symbols": ["AAPL", "MSFT"], "group": "stocks", "from": ["yahoo"]},
                    {"symbol": "US.CPI", "kind": "observations", "asset": "economic"},
                    {"symbol": "<b>"},
                    "no series",
                ),
                "bars": make_section(CHECKED_BARS, {"symbols": ["AAPL", "EUR/USD"], "asset": "forex"}),
                "vexy_ai": make_section("vexy:notes", symbols={"AAPL": ["Apple"], "MSFT": ["Microsoft", 5]}),
            }
        }
    )
).truth


NONE_LOADED = MarketStates()


class Archive:
    """Has rows of symbols, or is away."""

    def __init__(self, *rows, is_away=False):
        self.rows, self.is_away = rows, is_away

    async def read_symbols(self, _after, _asset, limit):
        if self.is_away:
            raise DatabaseAwayError("away")
        return self.rows[:limit]

    async def find_asset(self, symbol):
        return next((row[1] for row in self.rows if row[0] == symbol), None)


def make_directory(*rows, states=NONE_LOADED, is_away=False, live=None):
    archive = Archive(*rows, is_away=is_away)
    return NameDirectory(archive, lambda: TRUTH, lambda: states, live or LiveMarket())


def test_the_truth_names_symbols_series_and_what_else_they_are_called():
    found = list_truth_names(TRUTH)
    assert found == {
        "AAPL": KnownName("AAPL", "stocks", group="stocks", names=("Apple",)),
        "MSFT": KnownName("MSFT", "stocks", group="stocks", names=("Microsoft",)),
        "US.CPI": KnownName("US.CPI", "economic", is_series=True),
        "EUR/USD": KnownName("EUR/USD", "forex"),
    }


async def test_a_name_is_known_by_the_truth_the_states_or_the_archive():
    loaded = MarketStates(series=(StoredSeries(id="a", symbol="QQQ"),))
    directory = make_directory(("SPY", "stocks", 5, 9, False), states=loaded)
    await directory.require_symbols(["AAPL", "QQQ", "SPY"])
    with pytest.raises(UnknownNameError, match=r"there is no symbol SPPY; did you mean SPY\?"):
        await directory.require_symbols(["SPY", "SPPY"])
    found, away = await directory.search("spy", 10)
    assert ([one.symbol for one in found], found[0].last_seen, away) == (["SPY"], 9, None)
    await directory.require_series(["US.CPI"])
    with pytest.raises(UnknownNameError, match=r"there is no series SPY; there are US\.CPI"):
        await directory.require_series(["US.CPI", "SPY"])


async def test_while_the_archive_is_away_only_names_of_the_truth_are_certain():
    directory = make_directory(is_away=True)
    await directory.require_symbols(["AAPL"])
    with pytest.raises(DatabaseAwayError):
        await directory.require_symbols(["SPY"])
    found, away = await directory.search("apple", 10)
    assert ([one.symbol for one in found], away) == (["AAPL"], "away")


def make_live(*symbols):
    """A market whose stream of bars was read, and had these symbols."""
    live = LiveMarket()
    live.began_at = 0.0
    for symbol in symbols:
        live.take_bar(
            BarRow(symbol, "1m", 0, 1, 1, 1, 1, 5, None, None, True, 0, 1, "x", None, None, False), 1.0
        )
    return live


async def test_while_the_archive_is_away_the_truth_the_bus_and_what_it_had_are_known_and_no_others(
    monkeypatch,
):
    monkeypatch.setattr(names, "NAMES_SEC", 0.0)
    states = MarketStates(series=(StoredSeries(id="a", symbol="QQQ"),), read_at=5.0)
    archive = Archive(("GE", "stocks", 5, 9, False))
    directory = NameDirectory(archive, lambda: TRUTH, lambda: states, make_live("NVDA"))
    await directory.require_symbols(["NVDA"])
    archive.is_away = True
    await directory.require_symbols_without_archive(["AAPL", "QQQ", "NVDA"])
    with pytest.raises(
        UnknownNameError, match=r"archive is away there is no symbol NVDB; did you mean NVDA\?"
    ):
        await directory.require_symbols_without_archive(["AAPL", "NVDB"])
    archive.is_away = False
    await directory.list_all()
    archive.is_away = True
    await directory.require_symbols_without_archive(["GE"])


@pytest.mark.parametrize("read_at", [None, 5.0])
async def test_nothing_is_refused_before_the_bus_was_read(read_at):
    live = LiveMarket() if read_at else make_live()
    directory = make_directory(is_away=True, states=MarketStates(read_at=read_at), live=live)
    await directory.require_symbols_without_archive(["NVDB"])
    directory = make_directory(is_away=True, states=MarketStates(read_at=5.0), live=make_live())
    with pytest.raises(UnknownNameError):
        await directory.require_symbols_without_archive(["NVDB"])


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ("AAPL", ["AAPL"]),
        (" aapl ", ["AAPL"]),
        ("apple", ["AAPL"]),
        ("inc", ["AAPL"]),  # a word of a name
        ("nc", []),
        ("eur", ["EUR/USD", "EURO"]),
        ("usd", ["BTC/USD", "EUR/USD"]),
        ("APL", ["AAPL"]),
        ("MSFFT", ["MSFT"]),  # the nearest, as none has it
        ("", []),
        ("\0zzzzzzzz", []),
    ],
)
def test_a_search_finds_the_best_match_first(query, symbols):
    known = [
        KnownName("AAPL", "stocks", names=("Apple", "Apple Inc")),
        *(KnownName(name, "x") for name in ("MSFT", "EUR/USD", "EURO", "BTC/USD")),
    ]
    found = find_matches(query, {one.symbol: one for one in known}, 10)
    assert sorted(one.symbol for one in found) == sorted(symbols)


def test_a_search_has_no_more_than_its_limit_and_the_symbol_itself_first():
    known = {name: KnownName(name, "x") for name in (f"EUR{number}" for number in range(50))}
    found = find_matches("eur7", known, 3)
    assert [one.symbol for one in found] == ["EUR7"]
    assert len(find_matches("eur", known, 3)) == 3
