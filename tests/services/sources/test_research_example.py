"""examples/research.json: a research desk's symbols from real sources, those without a key first."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from marketswarm.agent import service_config
from marketswarm.truth.flows import build_flows, find_unwritten_keys
from services.bars.settings import BarsSettings
from services.market.records import AssetClass, RecordKind
from services.signals.settings import SignalsSettings, find_separate
from services.sources.cascade.missing_keys import AvailableKeys
from services.sources.cascade.series import list_series
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import Question, split_question
from services.sources.settings import SourcesSettings

ROOT = Path(__file__).parents[3]
TRUTH = ROOT / "examples" / "research.json"
CATALOG = shipped_catalog()
WANTED = {
    "us_indices": "SPY QQQ DIA IWM",
    "global": "EFA EEM FXI EWJ",
    "commodities": "GLD USO CPER",
    "crypto": "BTC/USD ETH/USD SOL/USD",
    "currencies": "EUR/USD GBP/USD USD/JPY AUD/USD",
    "treasuries": "SHY IEF TLT US.2Y US.10Y US.30Y",
    "bonds": "BNDX EMB",
    "economy": "US.GDP US.UNRATE US.CPI",
    "volatility": "VIX VVIX SKEW MOVE",
    "sectors": "XLF XLK XLE XLV XLI XLB XLC XLP XLRE XLU XLY",
    "credit": "US.HIGH_YIELD_SPREAD US.BBB_SPREAD",
    "sentiment": "CRYPTO.FEAR_GREED US.SENTIMENT",
}
CRITICAL = {"SPY", "QQQ", "DIA", "IWM", "VIX", "US.GDP", "US.UNRATE", "US.CPI"}
SPLIT_ADJUSTED = {"yahoo", "finnhub"}
"""The sources whose days of stocks are adjusted for splits; those of all others are not."""


@pytest.fixture(scope="module")
def parsed():
    return service_config.load_with_sections(TRUTH.read_bytes())


@pytest.fixture(scope="module")
def config(parsed):
    return service_config.require_config(SourcesSettings, "sources", parsed.truth.services["sources"])


@pytest.fixture(scope="module")
def series(config):
    return list_series(config)


def needs_key(name):
    auth = CATALOG[name].auth
    return bool(auth.env) and not auth.optional


def test_it_would_be_seeded_without_a_warning_and_what_is_read_is_written(parsed):
    assert parsed.warnings == ()
    assert find_unwritten_keys(build_flows(parsed.truth)) == []


def test_it_has_the_groups_and_symbols_of_a_research_desk(series):
    found = {}
    for each in series:
        found.setdefault(each.group, set()).add(each.symbol)
    assert {group: set(symbols.split()) - found[group] for group, symbols in WANTED.items()} == {
        group: set() for group in WANTED
    }
    assert {each.symbol for each in series if each.critical} == CRITICAL


def test_sources_without_a_key_come_first(series):
    for each in series:
        flags = [needs_key(name) for name in each.sources]
        assert flags == sorted(flags), each.id


def test_without_any_key_most_of_it_is_loaded_and_what_is_not_closes_no_gate(config, series):
    keys = AvailableKeys(CATALOG, ())
    without = {each.symbol for each in series if keys.lacks_keys(each) and not each.is_separate}
    assert without == {
        "US.GDP",
        "US.UNRATE",
        "US.CPI",
        "US.HIGH_YIELD_SPREAD",
        "US.BBB_SPREAD",
        "US.SENTIMENT",
    }
    assert not config.settings.gate.need_keys
    with_fred = AvailableKeys(CATALOG, {"fred"})
    # a voter whose source has no key abstains
    separate = [each.id for each in series if each.is_separate]
    assert [each.id for each in series if with_fred.lacks_keys(each)] == separate


def test_no_cascade_of_days_of_stocks_mixes_adjusted_and_raw_bars(series):
    for each in series:
        if each.kind is RecordKind.BARS and each.asset is AssetClass.STOCKS and not each.is_separate:
            assert set(each.sources) <= SPLIT_ADJUSTED, each.id


def test_no_cascade_of_days_of_currencies_mixes_those_of_the_session_and_those_of_utc(series):
    days = [each for each in series if each.asset is AssetClass.FOREX and each.timeframe == "1d"]
    assert days
    for each in days:
        asked = (RecordKind.BARS, each.asset, each.symbol, each.timeframe)
        ends = {rules.days for name in each.sources for rules in CATALOG[name].find_endpoints(*asked)}
        assert len(ends) == 1, each.id


def test_bars_takes_all_of_its_symbols_that_have_bars(parsed, series):
    bars = service_config.require_config(BarsSettings, "bars", parsed.truth.services["bars"])
    assert set(bars.complete(parsed.truth).find_groups()) == {
        each.symbol for each in series if each.kind is RecordKind.BARS
    }


def test_an_hour_of_it_fits_what_each_source_without_a_key_takes(series):
    """By the first source of each series, which is asked if nothing fails."""
    asked = {}
    for each in series:
        if not needs_key(each.sources[0]):
            asked.setdefault(each.sources[0], []).append(3600 / each.every_sec)
    for name, counts in asked.items():
        windows = CATALOG[name].find_limits(has_key=False).windows()
        for sec, limit in windows:
            if sec >= 3600:
                assert sum(counts) * sec / 3600 < limit / 2, (name, sum(counts), limit)


def test_the_first_loads_fit_what_each_source_without_a_key_takes_in_a_minute_or_longer(series):
    now, asked = datetime(2026, 11, 29, tzinfo=UTC), Counter()
    for each in series:
        name = each.sources[0]
        if not needs_key(name):
            endpoint = next(CATALOG[name].find_endpoints(each.kind, each.asset, each.symbol, each.timeframe))
            start = now - timedelta(days=each.history_days)
            question = Question(each.symbol, each.asset, each.kind, start, now, each.timeframe)
            asked[name] += len(split_question(endpoint, question, now))
    for name, count in asked.items():
        for sec, limit in CATALOG[name].find_limits(has_key=False).windows():
            assert sec < 60 or count <= limit, (name, count, limit)


def test_its_voters_of_bars_see_days_of_their_sources_as_the_free_plans_give_them(parsed, series):
    signals = service_config.require_config(SignalsSettings, "signals", parsed.truth.services["signals"])
    separate = [each for each in series if each.is_separate]
    assert find_separate(signals, parsed.truth, signals.settings.symbols) == {
        (symbol, source) for symbol in ("SPY", "QQQ", "DIA", "IWM") for source in ("massive", "alpha_vantage")
    }
    assert {each.timeframe for each in separate} == {signals.settings.timeframe}
    now = datetime(2026, 11, 29, tzinfo=UTC)
    asked, seconds = Counter(), {}
    for each in separate:
        (name,) = each.sources
        endpoint = next(CATALOG[name].find_endpoints(each.kind, each.asset, each.symbol, each.timeframe))
        assert endpoint.adjustment == "raw"
        start = now - timedelta(days=each.history_days)
        question = Question(each.symbol, each.asset, each.kind, start, now, each.timeframe)
        asked[name] += len(split_question(endpoint, question, now))
        # asked by the refresh each hour at most, and by its file less often
        seconds[name] = max(3600, endpoint.min_interval_sec)
    for name, count in asked.items():
        for sec, limit in CATALOG[name].find_limits(has_key=True).windows():
            assert sec < 60 or count * max(1, sec / seconds[name]) <= limit, (name, count, limit)


def test_only_the_sections_of_sources_and_signals_differ_from_the_market_that_is_recorded():
    market, research = (
        orjson.loads((ROOT / "examples" / name).read_bytes())["services"]
        for name in ("market.json", "research.json")
    )
    assert {name for name in market if market[name] != research.get(name)} == {"sources", "signals"}
