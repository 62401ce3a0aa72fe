import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from statistics import correlation, fmean, stdev

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from services.bars.features import LONGEST_WINDOW, MARKET, DailyBar, compute_features
from services.market.computed import FEATURE_NAMES, INDICATOR_NAMES
from services.market.records import DAY_MS, AssetClass, Bar
from services.market.sessions import get_session
from support.examples import examples
from support.scenes.bars import batch

DOCS = Path(__file__).parents[3] / "docs" / "services" / "features.md"
MONDAY_MS = 1_767_571_200_000  # 2026-01-05, midnight in UTC
STOCKS = dict.fromkeys((MARKET, "A", "B", "C"), AssetClass.STOCKS)
HEAD = "| feature | what it is | bars | unit |\n| --- | --- | ---: | --- |\n"


def read_page() -> list[list[str]]:
    """Return the cells of each row of the page's table of features: name, formula, window, unit."""
    table = DOCS.read_text(encoding="utf-8").partition(HEAD)[2].partition("\n\n")[0]
    return [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in table.splitlines()]


WINDOWS = {name.strip("`"): int(bars) for name, _, bars, _ in read_page()}
NAMES = list(WINDOWS)


def date_of(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()


def dated(history: dict[str, list[Bar]]) -> dict[str, list[DailyBar]]:
    """Return bars with the dates at which they begin in UTC, which close a day later."""
    return {
        symbol: [DailyBar(date_of(bar.start_ms), bar.start_ms + DAY_MS, bar) for bar in bars]
        for symbol, bars in history.items()
    }


def compute(history: dict[str, list[Bar]], **how):
    return compute_features(dated(history), dict.fromkeys(history, AssetClass.STOCKS), **how)


def make_bars(random: Random, symbol: str, count: int, missing: float = 0.0) -> list[Bar]:
    """Return daily bars of weekdays; a share of them is missing, and a few have no volume or stand still."""
    bars, price = [], random.choice([0.5, 100.0, 40_000.0])
    for number in range(count):
        opened = price * math.exp(random.gauss(0, 0.004))
        price = opened if random.random() < 0.03 else opened * math.exp(random.gauss(0, 0.01))
        if random.random() < missing:
            continue
        high = max(opened, price) * (1 + random.random() / 100)
        low = min(opened, price) * (1 - random.random() / 100)
        volume = None if random.random() < missing / 10 else float(random.randrange(10**6))
        start_ms = MONDAY_MS + (number // 5 * 7 + number % 5) * DAY_MS
        bars.append(Bar(symbol, "1d", start_ms, opened, high, low, price, volume))
    return bars


@cache
def make_universe() -> dict[str, list[Bar]]:
    random = Random(1)
    return {symbol: make_bars(random, symbol, 300) for symbol in (MARKET, "A", "B", "C")}


@cache
def compute_universe():
    return compute(make_universe())


def column(symbol: str, name: str) -> list[float | None]:
    return [values[name] for _, values in compute_universe()[symbol]]


def closes_of(symbol: str) -> np.ndarray:
    return np.array([bar.close for bar in make_universe()[symbol]])


def log_returns(symbol: str) -> list[float]:
    return np.diff(np.log(closes_of(symbol))).tolist()


@settings(max_examples=examples(40))
@given(
    st.integers(0, 2**32),
    st.permutations([MARKET, "A", "B"]),
    st.integers(0, 480),
    st.integers(0, 480),
)
def test_no_feature_looks_ahead(seed, symbols, cut_day, since_day):
    random = Random(seed)
    history = {
        symbol: make_bars(random, symbol, random.randrange(1, 330), missing=random.choice([0, 0.02]))
        for symbol in symbols
    }
    whole = compute(history)
    cut_ms, since_ms = MONDAY_MS + cut_day * DAY_MS, MONDAY_MS + since_day * DAY_MS
    past = {symbol: [bar for bar in bars if bar.start_ms < cut_ms] for symbol, bars in history.items()}
    found = compute(past)
    for symbol, rows in whole.items():
        assert found[symbol] == [row for row in rows if row[0] < cut_ms]
    for symbol, rows in compute(past, since_ms=since_ms + DAY_MS).items():
        assert rows == [row for row in found[symbol] if row[0] >= since_ms]


SESSIONS = {MARKET: "XNYS", "AAPL": "XNYS", "7203.T": "XTKS", "EUR/USD": "24x5", "BTC/USD": "24x7"}
ONE_UNIVERSE = dict.fromkeys(SESSIONS, AssetClass.STOCKS)
"""As if all were of one asset class: what is compared with what is a matter of the time alone."""


@cache
def make_markets() -> dict[str, list[DailyBar]]:
    """Return days of markets that close at different hours; some are missing."""
    random, since_ms = Random(3), 1_736_121_600_000  # 2025-01-06
    history: dict[str, list[DailyBar]] = {}
    for symbol, code in SESSIONS.items():
        days = list(get_session(code).iter_days(since_ms, since_ms + 400 * DAY_MS))
        bars = make_bars(random, symbol, len(days))
        history[symbol] = [
            DailyBar(day.date, day.close_ms, replace(bar, start_ms=day.open_ms))
            for day, bar in zip(days, bars, strict=True)
            if random.random() > 0.02
        ]
    return history


@cache
def compute_markets(**how):
    return compute_features(make_markets(), ONE_UNIVERSE, **how)


def cut_after(history: dict[str, list[DailyBar]], at_ms: int) -> dict[str, list[DailyBar]]:
    return {symbol: [each for each in daily if each.close_ms <= at_ms] for symbol, daily in history.items()}


@pytest.mark.parametrize("symbol", SESSIONS)
def test_at_its_close_a_symbol_reads_no_close_of_another_market_that_comes_later(symbol):
    last = next(each for each in make_markets()[symbol][260:] if each.day.weekday() == 2)
    past = cut_after(make_markets(), last.close_ms)
    known = dict(compute_features(past, ONE_UNIVERSE)[symbol])[last.bar.start_ms]
    assert dict(compute_markets()[symbol])[last.bar.start_ms] == known
    assert [name for name, value in known.items() if value is None] == []


def try_cuts(seed: int, count: int) -> None:
    """Cut the history at random instants by when each bar was known: nothing of the past may change."""
    random, whole = Random(seed), compute_markets()
    closes = {symbol: [each.close_ms for each in daily] for symbol, daily in make_markets().items()}
    instants = sorted(close for each in closes.values() for close in each)
    for _ in range(count):
        # at a close, just before one, or between any two
        at_ms = random.choice(instants) + random.choice([0, 0, -1, random.randrange(DAY_MS)])
        since_ms = at_ms - random.choice([0, 1, 3, 10]) * DAY_MS
        found = compute_features(cut_after(make_markets(), at_ms), ONE_UNIVERSE, since_ms=since_ms)
        for symbol, rows in whole.items():
            past = [
                row
                for row, close_ms in zip(rows, closes[symbol], strict=True)
                if since_ms <= close_ms <= at_ms
            ]
            assert found.get(symbol, []) == past, (symbol, at_ms, since_ms)


@pytest.mark.slow
def test_nothing_that_is_known_at_an_instant_changes_when_all_that_was_known_later_is_removed():
    try_cuts(0, 200)


@pytest.mark.nightly("two hundred cuts are tried in every run")
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 51))
def test_nothing_that_is_known_changes_at_any_of_ten_thousand_cuts(seed):
    try_cuts(seed, 200)


def test_tokyo_moves_with_new_yorks_close_of_the_day_before():
    random, price = Random(8), 100.0
    closes: dict[date, float] = {}
    daily: dict[str, list[DailyBar]] = {MARKET: [], "7203.T": []}
    for symbol, rows in daily.items():
        for day in get_session(SESSIONS[symbol]).iter_days(MONDAY_MS, MONDAY_MS + 100 * DAY_MS):
            if symbol == MARKET:
                closes[day.date] = price = price * math.exp(random.gauss(0, 0.01))
            else:  # it stands where New York closed last, and knows nothing of the evening to come
                price = next((closes[each] for each in reversed(closes) if each < day.date), 100.0)
            bar = Bar(symbol, "1d", day.open_ms, price, price * 1.01, price * 0.99, price)
            rows.append(DailyBar(day.date, day.close_ms, bar))
    for _, values in compute_features(daily, ONE_UNIVERSE)["7203.T"][30:]:
        assert values["corr_market_20"] == pytest.approx(1)
        assert values["rel_ret_20"] == pytest.approx(0, abs=1e-12)


def test_a_weekend_of_a_coin_has_no_stocks_in_its_universe_and_mondays_tokyo_has_fridays_new_york():
    history = make_markets()
    found = {symbol: dict(rows) for symbol, rows in compute_markets().items()}
    gains = {symbol: {each.day: found[symbol][each.bar.start_ms]["ret_1"] for each in daily}
             for symbol, daily in history.items()}  # fmt: skip
    at = {symbol: {each.day: each.bar.start_ms for each in daily} for symbol, daily in history.items()}
    friday = next(
        day
        for day in at[MARKET]
        if day.weekday() == 4
        and all(day in at[symbol] and day - timedelta(1) in at[symbol] for symbol in SESSIONS)
        and all(day + timedelta(3) in at[symbol] for symbol in SESSIONS)
        and {day + timedelta(1), day + timedelta(2)} <= at["BTC/USD"].keys()
    )
    saturday, sunday, monday = (friday + timedelta(days) for days in (1, 2, 3))
    assert found["BTC/USD"][at["BTC/USD"][saturday]]["breadth_up_1"] is None
    members = [gains[MARKET][friday], gains["AAPL"][friday], gains["EUR/USD"][friday],
               gains["7203.T"][monday], gains["BTC/USD"][sunday]]  # fmt: skip
    tokyo = found["7203.T"][at["7203.T"][monday]]
    assert tokyo["breadth_up_1"] == sum(gain > 0 for gain in members) / 5
    assert tokyo["dispersion_1"] == pytest.approx(stdev(members))


def test_there_are_sixty_features_and_the_page_has_all_in_their_order():
    assert len(WINDOWS) == len(read_page()) == 60
    assert all(formula and int(bars) >= 1 and unit for _, formula, bars, unit in read_page())
    assert all(list(values) == NAMES for _, values in compute_universe()["A"])
    assert max(WINDOWS.values()) == LONGEST_WINDOW == 251


def test_the_names_that_others_make_columns_of_are_those_that_are_computed():
    assert tuple(NAMES) == FEATURE_NAMES
    (values,) = batch(make_universe()["A"][:1], get_session("24x7"))
    assert tuple(values) == INDICATOR_NAMES


@pytest.mark.parametrize(("name", "window"), WINDOWS.items(), ids=NAMES)
def test_a_feature_is_none_until_the_window_that_the_page_says_is_full_and_not_longer(name, window):
    values = column("B", name)
    assert [value is None for value in values[:window]] == [True] * (window - 1) + [False]
    assert all(value is not None and math.isfinite(value) for value in values[window:])


@pytest.mark.parametrize("days", [1, 5, 250])
def test_returns_are_logarithms_of_closes(days):
    closes = closes_of("A")
    assert column("A", f"ret_{days}")[-1] == pytest.approx(math.log(closes[-1] / closes[-1 - days]))
    assert column("A", "mom_250_20")[-1] == pytest.approx(math.log(closes[-21] / closes[-251]))


def test_volatility_agrees_with_the_standard_library():
    returns = log_returns("A")
    assert column("A", "vol_20")[-1] == pytest.approx(stdev(returns[-20:]))
    assert column("A", "vol_ratio_5_20")[-1] == pytest.approx(stdev(returns[-5:]) / stdev(returns[-20:]))
    losses = [min(number, 0) ** 2 for number in returns[-20:]]
    assert column("A", "downside_vol_20")[-1] == pytest.approx(math.sqrt(fmean(losses)))


def test_volatility_by_ranges_is_that_of_their_papers():
    bars = make_universe()["A"][-20:]
    parkinson = fmean(math.log(bar.high / bar.low) ** 2 for bar in bars) / (4 * math.log(2))
    assert column("A", "parkinson_20")[-1] == pytest.approx(math.sqrt(parkinson))
    terms = [
        0.5 * math.log(bar.high / bar.low) ** 2 - 0.386294361 * math.log(bar.close / bar.open) ** 2
        for bar in bars
    ]
    assert column("A", "garman_klass_20")[-1] == pytest.approx(math.sqrt(fmean(terms)))


def test_shape_agrees_with_polars():
    returns = pl.Series(log_returns("A")[-60:])
    assert column("A", "skew_60")[-1] == pytest.approx(returns.skew())
    assert column("A", "kurt_60")[-1] == pytest.approx(returns.kurtosis())


def test_correlations_with_the_market_agree_with_the_standard_library():
    own, market = log_returns("A"), log_returns(MARKET)
    assert column("A", "corr_market_60")[-1] == pytest.approx(correlation(own[-60:], market[-60:]))
    slope = correlation(own[-60:], market[-60:]) * stdev(own[-60:]) / stdev(market[-60:])
    assert column("A", "beta_60")[-1] == pytest.approx(slope)
    assert column("A", "rel_ret_20")[-1] == pytest.approx(sum(own[-20:]) - sum(market[-20:]))
    assert column("A", "autocorr_20")[-1] == pytest.approx(correlation(own[-20:], own[-21:-1]))
    assert column(MARKET, "corr_market_20")[-1] == pytest.approx(1)
    assert column(MARKET, "beta_60")[-1] == pytest.approx(1)
    assert column(MARKET, "rel_ret_20")[-1] == 0


def test_places_in_the_range_of_the_past():
    closes = closes_of("A")
    bar, before = make_universe()["A"][-1], make_universe()["A"][-2]
    expected = {
        "dist_sma_50": closes[-1] / closes[-50:].mean() - 1,
        "dist_high_20": math.log(closes[-1] / closes[-20:].max()),
        "dist_low_250": math.log(closes[-1] / closes[-250:].min()),
        "bb_z_20": (closes[-1] - closes[-20:].mean()) / closes[-20:].std(ddof=1),
        "close_location": (bar.close - bar.low) / (bar.high - bar.low),
        "gap_1": math.log(bar.open / before.close),
        "body_1": math.log(bar.close / bar.open),
        "max_drawdown_60": min(math.log(closes[-60:][n] / closes[-60:][: n + 1].max()) for n in range(60)),
    }
    assert {name: column("A", name)[-1] for name in expected} == pytest.approx(expected)


def test_indicators_are_talibs():
    closes = closes_of("A")
    macd, _, histogram = talib.MACD(closes, 12, 26, 9)
    assert column("A", "rsi_14")[14:] == talib.RSI(closes, 14)[14:].tolist()
    assert column("A", "macd")[-1] == macd[-1] / closes[-1]
    assert column("A", "macd_hist")[-1] == histogram[-1] / closes[-1]


def test_volume_and_illiquidity():
    bars, returns = make_universe()["A"][-20:], log_returns("A")[-20:]
    volumes = [bar.volume for bar in bars]
    assert column("A", "volume_z_20")[-1] == pytest.approx((volumes[-1] - fmean(volumes)) / stdev(volumes))
    turnover = [bar.close * bar.volume for bar in bars]
    assert column("A", "turnover_20")[-1] == pytest.approx(math.log(fmean(turnover)))
    illiquidity = fmean(1e9 * abs(r) / t for r, t in zip(returns, turnover, strict=True))
    assert column("A", "amihud_20")[-1] == pytest.approx(illiquidity)


def test_breadth_counts_the_symbols_of_the_same_day():
    gains = {symbol: column(symbol, "ret_1")[100] for symbol in make_universe()}
    assert column("A", "breadth_up_1")[100] == sum(gain > 0 for gain in gains.values()) / 4
    assert column("A", "dispersion_1")[100] == pytest.approx(stdev(gains.values()))
    above = [column(symbol, "dist_sma_50")[100] > 0 for symbol in gains]
    assert column("C", "breadth_sma_50")[100] == sum(above) / 4
    ranks = {symbol: column(symbol, "rank_ret_20")[100] for symbol in gains}
    months = {symbol: column(symbol, "ret_20")[100] for symbol in gains}
    assert [ranks[symbol] for symbol in sorted(months, key=months.get)] == [0, 1 / 3, 2 / 3, 1]


def test_a_universe_has_symbols_of_one_asset_class_only():
    history, coins = make_universe(), ("B", "C")
    assets = {name: AssetClass.CRYPTO if name in coins else AssetClass.STOCKS for name in history}
    found = compute_features(dated(history), assets)
    for members in (coins, (MARKET, "A")):
        alone = compute({name: history[name] for name in members})
        for name in ("breadth_up_1", "breadth_sma_50", "breadth_high_20", "dispersion_1", "rank_ret_20"):
            of_class = [[values[name] for _, values in found[member]] for member in members]
            assert of_class == [[values[name] for _, values in alone[member]] for member in members]
    # the market is still the market of all of them
    assert found["B"][-1][1]["beta_60"] == column("B", "beta_60")[-1] is not None


def test_equal_returns_share_a_rank():
    bars = make_universe()["A"][:40]
    history = {name: [replace(bar, symbol=name) for bar in bars] for name in ("A", "B", "C")}
    assert {rows[-1][1]["rank_ret_20"] for rows in compute(history).values()} == {0.5}


def test_days_of_one_date_are_compared_whenever_they_open():
    history = dated(make_universe())
    evening = [
        DailyBar(each.day, each.close_ms, replace(each.bar, start_ms=each.bar.start_ms - DAY_MS // 8))
        for each in history["A"]
    ]
    found = compute_features({**history, "A": evening}, STOCKS)
    for symbol, rows in compute_universe().items():
        assert [values for _, values in found[symbol]] == [values for _, values in rows]


def test_a_symbol_of_other_days_is_no_part_of_the_universe():
    history = dated(make_universe())
    weekend = [
        DailyBar(each.day + timedelta(40_000), each.close_ms + 40_000 * DAY_MS, replace(each.bar, symbol="N"))
        for each in history["A"]
    ]
    found = compute_features({**history, "N": weekend}, {**STOCKS, "N": AssetClass.STOCKS})
    assert found["A"] == compute_universe()["A"]
    alone = {name for name in NAMES if "breadth" in name or "market" in name} | {
        "dispersion_1", "rank_ret_20", "beta_60", "rel_ret_20"
    }  # fmt: skip
    assert {name for name, value in found["N"][-1][1].items() if value is None} == alone


def test_returns_are_compared_with_the_markets_between_the_same_two_days():
    market = make_universe()[MARKET]
    twin = [replace(bar, symbol="T") for number, bar in enumerate(market) if number % 7]
    _, values = compute({MARKET: market, "T": twin})["T"][-1]
    assert values["rel_ret_20"] == 0
    assert [values["corr_market_60"], values["beta_60"]] == pytest.approx([1, 1])


def test_a_symbol_that_trades_on_other_days_is_compared_over_the_days_that_both_have():
    walks = Random(5)
    price, market, coin = 100.0, [], []
    for number in range(300):
        price *= math.exp(walks.gauss(0, 0.01))
        bar = Bar("COIN", "1d", MONDAY_MS + number * DAY_MS, price, price * 1.01, price * 0.99, price)
        coin.append(bar)
        if number % 7 < 5 and number % 20:  # weekends and holidays
            market.append(replace(bar, symbol=MARKET))
    rows = compute({MARKET: market, "COIN": coin})["COIN"]
    for _, values in rows[100:]:
        for name in ("corr_market_20", "corr_market_60", "beta_60"):
            assert values[name] == pytest.approx(1), name
        assert values["rel_ret_20"] == pytest.approx(0, abs=1e-12)


def test_the_width_of_the_bands_is_that_of_the_indicator():
    bars = make_universe()["A"]
    for (_, values), bands in zip(compute_universe()["A"], batch(bars, get_session("24x7")), strict=True):
        if bands["bb_upper"] is not None:
            width = (bands["bb_upper"] - bands["bb_lower"]) / bands["bb_middle"]
            assert values["bb_width_20"] == pytest.approx(width, rel=1e-6)


def test_the_order_of_the_symbols_changes_no_bit():
    history = dict(reversed(make_universe().items()))
    assert compute(history) == compute_universe()


def test_the_calendar_is_that_of_trading_days():
    days = column("A", "weekday")
    assert days[:6] == [0, 1, 2, 3, 4, 0]
    assert column("A", "pause")[:6] == [None, 1, 1, 1, 1, 3]


def test_a_price_that_stands_still_has_no_value_made_of_rounding():
    bars = [Bar("X", "1d", MONDAY_MS + n * DAY_MS, 0.1, 0.1, 0.1, 0.1, 0.3) for n in range(300)]
    values = compute({MARKET: bars})[MARKET][-1][1]
    assert values["vol_60"] == values["bb_width_20"] == 0
    for name in (
        "bb_z_20",
        "volume_z_20",
        "range_z_20",
        "skew_60",
        "corr_market_60",
        "beta_60",
        "vol_ratio_5_20",
    ):
        assert values[name] is None, name


def test_without_volumes_only_what_needs_them_is_none():
    history = {
        symbol: [replace(bar, volume=None) for bar in bars] for symbol, bars in make_universe().items()
    }
    values = compute(history)["A"][-1][1]
    missing = {name for name, value in values.items() if value is None}
    assert missing == {"mfi_14", "volume_z_20", "volume_ratio_5_20", "turnover_20", "amihud_20"}


@pytest.mark.parametrize("price", [-5.0, 0.0, 1e-300, 1e18])
def test_a_price_that_has_no_logarithm_or_is_huge_makes_no_value_that_json_cannot_hold(price):
    history = dict(make_universe())
    history["A"] = [replace(bar, close=price, low=min(price, bar.low)) for bar in history["A"]]
    for _, values in compute(history)["A"]:
        assert all(value is None or math.isfinite(value) for value in values.values())


def test_a_history_of_nothing_has_no_features():
    assert compute({}) == {}
    assert compute({"A": [], MARKET: make_universe()[MARKET][:1]})["A"] == []


def test_bars_of_another_timeframe_or_out_of_order_are_refused():
    bars = make_universe()["A"][:5]
    for wrong in (bars[::-1], [*bars, bars[-1]], [replace(bar, timeframe="1h") for bar in bars]):
        with pytest.raises(ValueError, match="A: not daily bars in order"):
            compute({"A": wrong})
