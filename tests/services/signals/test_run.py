"""A strategy is played over made-up days: what it sees, what its orders become, how its faults are told."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from textwrap import dedent

import pytest

from services.market.records import DAY_MS, ActionKind, CorporateAction
from services.signals.cases import format_time
from services.signals.engine.orders import CashDividend, ShareSplit
from services.signals.engine.units import PRICE
from services.signals.history import BacktestHistory, HistoryAction, HistoryError, make_daily_history
from services.signals.lookahead import find_lookahead
from services.signals.report import BacktestReport, BacktestRequest
from services.signals.run import run_backtest
from services.signals.strategy import StrategyError, list_installed, load_file, load_installed

FIRST = date(2024, 1, 1)  # a Monday


def make_request(symbols=("SPY",), **changes):
    document = {
        "strategy": "idea",
        "symbols": list(symbols),
        "from": "2024-01-01",
        "to": "2027-12-31",
        "account": {"cash": 10_000, "periods_per_year": 252},
        **changes,
    }
    return BacktestRequest.from_document(document)


@pytest.fixture
def write(tmp_path):
    """Write a strategy with this body of `decide`, and load it."""

    def write(body, head=""):
        file = tmp_path / "idea.py"
        imports = "from services.signals.strategy import OrderRequest, Parameter, PositionTarget\n"
        text = f"{imports}{dedent(head)}\ndef decide(view):\n"
        file.write_text(text + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines()))
        return load_file(file)

    return write


def run(strategy, closes, **changes):
    history = make_daily_history(closes if isinstance(closes, dict) else {"SPY": closes}, FIRST)
    request = make_request(history.symbols, **changes)
    return run_backtest(request, history, strategy=strategy)


def walk(seed, days=300):
    chance = random.Random(seed)
    price, found = 100.0, []
    for _ in range(days):
        price = max(1.0, price * (1 + chance.gauss(0.0003, 0.015)))
        found.append(round(price, 2))
    return found


# -- what it sees


def test_a_target_fills_at_the_next_open_sized_by_the_close_of_its_decision(write):
    report = run(write("return {'SPY': 50} if len(view.closes('SPY', 9)) == 2 else None"), [10, 20, 30, 40])
    (fill,) = report.fills
    assert (fill.decided_at, fill.at) == ("2024-01-02T21:00:00Z", "2024-01-03T14:30:00Z")
    assert (fill.side, fill.qty, fill.price) == ("buy", "250", "20.00")  # half of 10,000 at 20; the next open
    assert report.points[-1].equity == "15000.00"  # 250 at 40, and 5,000
    assert [point.exposure for point in report.points][:2] == [0.0, 0.0]


def test_a_view_ends_at_its_instant_and_gives_copies(write):
    seen = []
    strategy = write("return SEEN(view)", head="SEEN = None")
    strategy.decide.__globals__["SEEN"] = lambda view: seen.append(
        (
            view.at_ms,
            view.closes("SPY", 2).tolist(),
            view.bars("SPY", 5).high.tolist(),
            view.closes("SPY", 5).base,
        )
    )
    run(strategy, [10, 20, 30])
    assert [format_time(at_ms) for at_ms, *_ in seen] == [
        "2024-01-01T21:00:00Z",
        "2024-01-02T21:00:00Z",
        "2024-01-03T21:00:00Z",
    ]
    assert [closes for _, closes, *_ in seen] == [[10.0], [10.0, 20.0], [20.0, 30.0]]
    assert [highs for _, _, highs, _ in seen] == [[10.0], [10.0, 20.0], [10.0, 20.0, 30.0]]
    assert all(base is None for *_, base in seen), "a copy has no way to the column it is of"


def test_what_a_strategy_writes_into_its_window_changes_nothing(write):
    report = run(
        write("closes = view.closes('SPY', 3)\nclosed = closes[-1]\ncloses[:] = 0\nreturn {'SPY': 50}"),
        [10, 20, 30],
    )
    assert report.prices[0].close == (10.0, 20.0, 30.0)
    assert run(write("return {'SPY': view.closes('SPY', 1)[-1]}"), [10, 20, 30]).fills


def test_a_bar_that_was_corrected_later_is_seen_from_then_on(write):
    seen = []
    strategy = write("SEEN.append(view.closes('SPY', 3).tolist())", head="SEEN = []")
    strategy.decide.__globals__["SEEN"] = seen
    history = make_daily_history({"SPY": [10, 20, 30, 40]}, FIRST).symbols["SPY"]
    known = list(history.known_ms)
    known[1] = known[2] + 1
    late = BacktestHistory({"SPY": replace(history, known_ms=known)}, "a test")
    report = run_backtest(make_request(), late, strategy=strategy)
    assert seen == [[10.0], [10.0], [10.0, 30.0], [20.0, 30.0, 40.0]]
    assert any("became known after the close" in each for each in report.warnings)


def make_split_history():
    """100, 102, then a split of two for one: 52, 53; and a dividend of 1 before the day of 54."""
    history = make_daily_history({"SPY": [100, 102, 52, 53, 54, 55]}, FIRST).symbols["SPY"]
    bars = list(history.bars)
    bars[2] = replace(bars[2], open=51 * PRICE, high=52 * PRICE, low=51 * PRICE)
    actions = (
        HistoryAction(
            ShareSplit("SPY", bars[2].start_ms, 2, 1),
            CorporateAction("SPY", ActionKind.SPLIT, date(2024, 1, 3), ratio=2.0),
        ),
        HistoryAction(
            CashDividend("SPY", bars[4].start_ms, PRICE),
            CorporateAction("SPY", ActionKind.DIVIDEND, date(2024, 1, 5), amount=1.0),
        ),
    )
    return BacktestHistory({"SPY": replace(history, bars=bars, actions=actions)}, "a test")


@pytest.mark.parametrize(
    ("adjust", "third", "last"),
    [
        ("none", [100, 102, 52], [100, 102, 52, 53, 54, 55]),
        ("splits", [50, 51, 52], [50, 51, 52, 53, 54, 55]),
        ("all", [50, 51, 52], [*(each * (1 - 1 / 53) for each in (50, 51, 52, 53)), 54, 55]),
    ],
)
def test_prices_are_adjusted_for_the_actions_until_then_and_orders_fill_as_traded(write, adjust, third, last):
    seen = []
    strategy = write("SEEN.append(view.closes('SPY', 9).tolist())\nreturn {'SPY': 50}", head="SEEN = []")
    strategy.decide.__globals__["SEEN"] = seen
    report = run_backtest(make_request(adjust=adjust), make_split_history(), strategy=strategy)
    assert seen[1] == [100.0, 102.0], "before the split nothing is divided by it"
    assert seen[2] == pytest.approx(third)
    assert seen[-1] == pytest.approx(last)
    assert (report.fills[0].price, report.fills[0].qty) == ("100.00", "50")
    assert Decimal(report.totals.dividends) > 0


def test_a_split_is_no_gain_and_no_trade(write):
    report = run_backtest(
        make_request(),
        make_split_history(),
        strategy=write("return {'SPY': 50} if view.at.day == 1 else None"),
    )
    assert [fill.qty for fill in report.fills] == ["50"]
    assert report.totals.final_equity == "10600.00"  # 100 at 55 and 5,000, and 100 dividends
    assert report.totals.dividends == "100.00"
    assert report.counts.trades == 0


@pytest.mark.parametrize(
    ("timeframe", "played"),
    [
        ("1d", "both before the open of their day"),
        ("1w", "splits before the bar of their day opens, dividends before the open of their day"),
        ("1mo", "splits before the bar of their day opens, dividends before the open of their day"),
    ],
)
def test_a_report_says_when_splits_and_dividends_are_played(write, timeframe, played):
    past = replace(make_split_history().symbols["SPY"], timeframe=timeframe)
    request = make_request(timeframe=timeframe)
    report = run_backtest(request, BacktestHistory({"SPY": past}, "a test"), strategy=write("return None"))
    said = f"Splits change positions and waiting orders, dividends are paid: {played}."
    assert said in report.assumptions


# -- orders


def test_a_new_target_takes_the_place_of_one_that_waits(write):
    """SPY has no volume, so nothing fills; once it has, the last target alone does."""
    history = make_daily_history({"SPY": [10] * 6}, FIRST).symbols["SPY"]
    bars = [replace(bar, volume=0) if 0 < place < 4 else bar for place, bar in enumerate(history.bars)]
    halted = BacktestHistory({"SPY": replace(history, bars=bars)}, "a test")
    strategy = write("return {'SPY': 10 * view.at.day}")
    report = run_backtest(make_request(), halted, strategy=strategy)
    assert (report.fills[0].order, report.fills[0].qty) == ("4", "400")
    assert [each.reason for each in report.refused][:3] == ["cancelled"] * 3
    assert not any("cancelled" in each for each in report.warnings)


def test_a_target_that_is_met_is_no_order(write):
    report = run(write("return {'SPY': 50}"), [10, 10, 10, 10])
    assert (report.counts.orders, report.counts.refused) == (1, 0)


def test_a_lost_account_is_closed_by_its_target_once(write):
    strategy = write("return {'SPY': -150 if view.at.day == 1 else 0} if view.at.day != 2 else None")
    account = {"cash": 10_000, "type": "margin", "leverage": 2}
    report = run(strategy, [100, 100, 200, 200, 200, 200], account=account)
    assert [(fill.side, fill.qty) for fill in report.fills] == [("sell", "150"), ("buy", "150")]
    assert (report.counts.orders, report.counts.refused) == (2, 0)
    assert report.totals.final_equity == "-5000.00"


def test_a_bracket_lives_from_its_entry_and_one_exit_ends_the_other(write):
    strategy = write("""
        if view.at.day == 1:
            yield OrderRequest("SPY", "buy", 10, name="in")
            yield OrderRequest("SPY", "sell", 10, "stop", 95, parent="in", oco="out")
            yield OrderRequest("SPY", "sell", 10, "limit", "109.999", parent="in", oco="out")
    """)
    report = run(strategy, [100, 101, 120, 90])
    assert [(fill.side, fill.price) for fill in report.fills] == [("buy", "100.00"), ("sell", "110.00")]
    assert (report.counts.trades, report.counts.winners) == (1, 1)


def test_day_orders_end_with_their_session(write):
    strategy = write(
        "return OrderRequest('SPY', 'buy', 1, 'limit', 5, tif='DAY') if view.at.day == 1 else []"
    )
    report = run(strategy, [10, 10, 10])
    assert [each.reason for each in report.refused] == ["expired"]


def test_a_day_order_expires_within_a_long_bar(write):
    """Bars are weeks of all hours: the day of an order that is decided on a Monday ends on Tuesday."""
    week = make_daily_history({"SPY": [10, 10, 10]}, FIRST).symbols["SPY"]
    bars = [
        replace(bar, start_ms=monday_ms + 7 * place * DAY_MS, end_ms=monday_ms + 7 * (place + 1) * DAY_MS)
        for monday_ms in ((FIRST - date(1970, 1, 1)).days * DAY_MS,)
        for place, bar in enumerate(week.bars)
    ]
    bars[1] = replace(bars[1], low=bars[1].low // 2)
    past = BacktestHistory({"SPY": replace(week, bars=bars, known_ms=[bar.end_ms for bar in bars])}, "a test")
    strategy = write("""
        if len(view.closes('SPY', 9)) == 1:
            yield OrderRequest('SPY', 'buy', 1, 'limit', 8, tif='DAY')
            yield OrderRequest('SPY', 'buy', 2, 'limit', 8, tif='GTC')
    """)
    report = run_backtest(make_request(timeframe="1w"), past, strategy=strategy)
    assert [fill.qty for fill in report.fills] == ["2"]
    assert [(each.reason, each.at) for each in report.refused] == [("expired", "2024-01-09T00:00:00Z")]


def test_trades_are_counted_over_a_turn_around(write):
    strategy = write("return {'SPY': {1: 50, 2: -50, 3: 0}.get(view.at.day)} if view.at.day < 4 else None")
    report = run(strategy, [10, 12, 11, 10], account={"cash": 10_000, "type": "margin", "leverage": 2})
    # bought at 10, turned at 12, bought back at 11: both with a gain
    assert (report.counts.trades, report.counts.winners) == (2, 2)


# -- what is the same


@pytest.mark.parametrize("name", list_installed())
def test_each_shipped_strategy_runs_and_does_not_look_ahead(name):
    history = make_daily_history({"SPY": walk(1), "QQQ": walk(2)}, FIRST)
    request = make_request(("SPY", "QQQ"), strategy=name, parameters={})
    if name in ("moving_average", "breakout"):
        short = {"fast": 5, "slow": 20} if name == "moving_average" else {"entry": 20, "exit": 5}
        request = make_request(("SPY", "QQQ"), strategy=name, parameters=short)
    report = run_backtest(request, history)
    assert report.counts.fills
    assert report.title.endswith(".")
    assert run_backtest(request, history).to_json() == report.to_json()
    assert BacktestReport.from_json(report.to_json()).to_json() == report.to_json()
    assert find_lookahead(request, history) is None


@pytest.mark.parametrize("seed", range(12))
def test_cutting_the_future_off_changes_nothing_before(write, seed):
    """Random targets by what is seen, with splits and dividends, for each way to adjust."""
    chance = random.Random(seed)
    history = make_daily_history({"SPY": walk(seed, 80), "QQQ": walk(seed + 100, 60)}, FIRST)
    spy = history.symbols["SPY"]
    actions = []
    for place in sorted(chance.sample(range(5, 70), 6)):
        bar, day = spy.bars[place], date.fromordinal(spy.days[place])
        split = ShareSplit("SPY", bar.start_ms, chance.randint(2, 5), 1)
        dividend = CashDividend("SPY", bar.start_ms, PRICE // 4)
        actions.append(
            HistoryAction(split, CorporateAction("SPY", ActionKind.SPLIT, day, ratio=float(split.ratio)))
            if chance.random() < 0.4
            else HistoryAction(dividend, CorporateAction("SPY", ActionKind.DIVIDEND, day, amount=0.25))
        )
    symbols = {**history.symbols, "SPY": replace(spy, actions=tuple(actions))}
    strategy = write("""
        found = {}
        for symbol in view.closed:
            closes = view.closes(symbol, 10)
            found[symbol] = 40 if closes[-1] > closes.mean() else 5 * len(closes)
        return found
    """)
    request = make_request(("SPY", "QQQ"), adjust=chance.choice(["none", "splits", "all"]))
    past = BacktestHistory(symbols, "a test")
    assert find_lookahead(request, past, strategy, cuts=8) is None


def test_a_strategy_that_reads_the_future_elsewhere_is_found(write):
    closes = walk(3, 60)
    strategy = write(
        "left = CLOSES[len(view.closes('SPY', 100)):]\nreturn {'SPY': 90 if left and left[0] > 100 else 0}",
        head=f"CLOSES = {closes}",
    )
    history = make_daily_history({"SPY": closes}, FIRST)
    assert find_lookahead(make_request(), history, strategy) is None, "it is the same in both runs"
    strategy = write("COUNT.append(1)\nreturn {'SPY': len(COUNT) % 90}", head="COUNT = []")
    assert "is another one" in find_lookahead(make_request(), history, strategy)


def test_the_same_inputs_give_the_same_bytes_in_another_process():
    """Sets are in another order there."""
    code = (
        "from datetime import date\n"
        "from services.signals.history import make_daily_history\n"
        "from services.signals.report import BacktestRequest\n"
        "from services.signals.run import run_backtest\n"
        "import sys\n"
        "closes = {s: [100 + (n * k) % 17 for n in range(120)] for k, s in enumerate('ABCDEFG', 3)}\n"
        "history = make_daily_history(closes, date(2024, 1, 1))\n"
        "request = BacktestRequest.from_document({'strategy': 'breakout', 'symbols': list(closes),\n"
        "  'from': '2024-01-01', 'to': '2025-01-01', 'parameters': {'entry': 5, 'exit': 3}})\n"
        "sys.stdout.buffer.write(run_backtest(request, history).to_json())\n"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in (1, 2)
    ]
    assert made[0] == made[1]
    assert b'"side":"buy"' in made[0]


def test_few_trades_are_warned_of_and_many_are_not():
    history = make_daily_history({"SPY": [100 + (n % 4) for n in range(400)]}, FIRST)
    request = make_request(strategy="reversion", parameters={"bars": 4, "deviations": 0.5})
    assert any(
        "fewer than 30" in each
        for each in run_backtest(make_request(strategy="buy_and_hold"), history).warnings
    )
    report = run_backtest(request, history)
    assert report.counts.trades >= 30
    assert not any("fewer than 30" in each for each in report.warnings)


def test_pairs_whose_prices_are_in_another_currency_than_the_account_are_warned_of():
    symbols = ["SPY", "BTC/USD", "USD/JPY", "BTC/USDT", "EUR/JPY", "BRK.B"]
    history = make_daily_history({symbol: [100, 101, 102] for symbol in symbols}, FIRST)

    def find_warnings(*names, **account):
        request = make_request(names, strategy="buy_and_hold", account={"cash": 10_000, **account})
        return [each for each in run_backtest(request, history).warnings if "one for one" in each]

    yen, coin = find_warnings(*symbols)
    assert yen.startswith("Prices of USD/JPY, EUR/JPY are in JPY and count as USD, one for one")
    assert coin.startswith("Prices of BTC/USDT are in USDT and count as USD, one for one")
    assert find_warnings("SPY", "BTC/USD", "BRK.B") == []
    assert find_warnings("USD/JPY", "EUR/JPY", currency="JPY") == []
    (dollars,) = find_warnings("BTC/USD", currency="EUR")
    assert "BTC/USD are in USD and count as EUR" in dollars


def test_buy_and_hold_stands_beside_at_the_opens_that_it_could_have_had():
    report = run_backtest(
        make_request(strategy="buy_and_hold", parameters={"percent": 50}),
        make_daily_history({"SPY": [10, 20, 40]}, FIRST),
    )
    assert [point.buy_and_hold for point in report.points] == ["10000.00", "20000.00", "40000.00"]
    assert [point.equity for point in report.points] == ["10000.00", "15000.00", "25000.00"]


def shift(history, by_ms, symbol):
    """Return the same bars of another symbol, which opens and closes at another time of the day."""
    bars = [
        replace(bar, symbol=symbol, start_ms=bar.start_ms + by_ms, end_ms=bar.end_ms + by_ms)
        for bar in history.bars
    ]
    return replace(history, symbol=symbol, bars=bars, known_ms=[bar.end_ms for bar in bars])


@pytest.mark.parametrize("timeframe", ["1d", "1w", "1mo"])
def test_a_symbol_of_other_hours_that_is_never_traded_changes_no_sharpe_ratio(write, timeframe):
    strategy = write("return {'SPY': 90}")
    spy = make_daily_history({"SPY": walk(5)}, FIRST).symbols["SPY"]
    other = shift(spy, -10_800_000, "OTHER")
    request = make_request(timeframe=timeframe)
    alone = run_backtest(request, BacktestHistory({"SPY": spy}, "a test"), strategy=strategy)
    request = make_request(("SPY", "OTHER"), timeframe=timeframe)
    both = run_backtest(request, BacktestHistory({"SPY": spy, "OTHER": other}, "a test"), strategy=strategy)
    assert alone.totals.sharpe is not None
    assert both.totals.sharpe == pytest.approx(alone.totals.sharpe, rel=1e-12)
    assert len(both.points) == 2 * len(alone.points)


def test_a_year_has_365_days_if_any_symbol_trades_at_weekends(write):
    """The account of a stock beside a coin that is never traded has the ratio of the stock alone."""
    strategy = write("return {'SPY': 90}")
    days = [FIRST + timedelta(number) for number in range(420)]
    week = make_daily_history({"SPY": walk(5)}, FIRST).symbols["SPY"]
    coin = shift(replace(week, bars=[week.bars[0]] * len(days)), 0, "COIN")
    bars = [
        replace(bar, start_ms=number * DAY_MS + at_ms, end_ms=(number + 1) * DAY_MS + at_ms)
        for at_ms in ((FIRST - date(1970, 1, 1)).days * DAY_MS,)
        for number, bar in enumerate(coin.bars)
    ]
    coin = replace(
        coin, bars=bars, known_ms=[bar.end_ms for bar in bars], days=[day.toordinal() for day in days]
    )
    cash = {"account": {"cash": 10_000}}
    alone = run_backtest(make_request(**cash), BacktestHistory({"SPY": week}, "a test"), strategy=strategy)
    request = make_request(("SPY", "COIN"), **cash)
    both = run_backtest(request, BacktestHistory({"SPY": week, "COIN": coin}, "a test"), strategy=strategy)
    assert alone.request.account.periods_per_year == 252
    assert both.request.account.periods_per_year == 365
    assert both.totals.sharpe == pytest.approx(alone.totals.sharpe, rel=0.02)


def test_a_single_session_at_a_weekend_makes_no_market_of_weekends(write):
    spy = make_daily_history({"SPY": walk(5)}, FIRST).symbols["SPY"]
    days = [*spy.days[:4], spy.days[4] + 1, *spy.days[5:]]
    past = BacktestHistory({"SPY": replace(spy, days=days)}, "a test")
    report = run_backtest(make_request(account={"cash": 10_000}), past, strategy=write("return None"))
    assert report.request.account.periods_per_year == 252


def test_shorter_bars_of_other_hours_have_no_sharpe_ratio_and_say_so(write):
    strategy = write("return {'SPY': 90}")
    spy = make_daily_history({"SPY": walk(5)}, FIRST).symbols["SPY"]
    same = BacktestHistory({"SPY": spy, "OTHER": shift(spy, 0, "OTHER")}, "a test")
    other = BacktestHistory({"SPY": spy, "OTHER": shift(spy, -1_800_000, "OTHER")}, "a test")
    request = make_request(("SPY", "OTHER"), timeframe="1h")
    found = run_backtest(request, other, strategy=strategy)
    assert (found.totals.sharpe, found.buy_and_hold.sharpe) == (None, None)
    assert any("close at different times" in each for each in found.warnings)
    found = run_backtest(request, same, strategy=strategy)
    assert found.totals.sharpe is not None
    assert not any("close at different times" in each for each in found.warnings)


@pytest.mark.parametrize(("new", "old"), [(2, 1), (4, 1), (1, 10)])
def test_buy_and_hold_over_a_split_before_its_first_open_has_the_same_money(new, old):
    history = make_daily_history({"SPY": [100, 100 * old / new, 120 * old / new]}, FIRST).symbols["SPY"]
    bars = list(history.bars)
    close = bars[1].close
    bars[1] = replace(bars[1], open=close, high=close, low=close)
    split = HistoryAction(
        ShareSplit("SPY", bars[1].start_ms, new, old),
        CorporateAction("SPY", ActionKind.SPLIT, date(2024, 1, 2), ratio=new / old),
    )
    past = BacktestHistory({"SPY": replace(history, bars=bars, actions=(split,))}, "a test")
    report = run_backtest(make_request(strategy="buy_and_hold"), past)
    assert [point.buy_and_hold for point in report.points] == ["10000.00", "10000.00", "12000.00"]


def test_progress_goes_on_to_the_end():
    seen = []
    history = make_daily_history({"SPY": walk(1)}, FIRST)
    run_backtest(
        make_request(strategy="breakout"), history, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (0, 300)
    assert seen == sorted(seen)
    assert len(seen) > 100


# -- what is wrong


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "return 1 / 0",
            "line 4: ZeroDivisionError: division by zero (at the close of 2024-01-01T21:00:00Z)",
        ),
        ("raise SystemExit(3)", "line 4: SystemExit: 3"),
        ("yield 1 / 0", "line 4: ZeroDivisionError"),
        ("return view.closes('QQQ', 5)", "line 4: ViewError: no symbol 'QQQ'; the request has: SPY"),
        ("return view.closes('SPY', 0)", "ViewError: count must be"),
        ("return view['depth']", "ViewError: no parameter 'depth'"),
        ("return decide(view)", "RecursionError"),
        ("return 'SPY'", "line 3: decide returned str"),
        ("return 5", "line 3: decide returned int"),
        ("return [5]", "decide returned a int among its orders"),
        ("return {'SPY': float('nan')}", "decide has the target nan for SPY: no number"),
        ("return {'SPY': None}", "decide has the target None for SPY"),
        ("return {'SPY': True}", "decide has the target True for SPY"),
        ("return {'SPY': 'all'}", "decide has the target all for SPY"),
        ("return {'NOPE': 5}", "decide names the symbol 'NOPE', which the request does not have"),
        ("return {5: 5}", "decide names the symbol '5'"),
        ("return [PositionTarget('SPY', 1), PositionTarget('SPY', 2)]", "decide has two targets for SPY"),
        ("return [PositionTarget('SPY', 1)] * 5000", "more than 1,000 orders"),
        ("while True: yield PositionTarget('SPY', 1)", "more than 1,000 orders"),
        ("return OrderRequest('SPY', 'hold', 1)", "whose side is 'hold', not one of buy, sell"),
        ("return OrderRequest('SPY', 'buy', float('inf'))", "whose quantity is inf: no number"),
        ("return OrderRequest('SPY', 'buy', -1)", "whose quantity is not above 0"),
        ("return OrderRequest('SPY', 'buy', 1, 'limit')", "a limit order for SPY without a price"),
        ("return OrderRequest('SPY', 'buy', 1, price=5)", "a market order for SPY with a price"),
        ("return OrderRequest('SPY', 'buy', 1, 'stop', float('nan'))", "whose price is nan: no number"),
        ("return OrderRequest('SPY', 'buy', 1, tif='FOK')", "whose tif is 'FOK'"),
        ("return OrderRequest('SPY', 'buy', 1, parent='in')", "the parent 'in', which no order is"),
        ("return OrderRequest('SPY', 'buy', 1, oco=['x'])", "is no text of 1 to 200 characters"),
    ],
)
def test_what_a_strategy_does_wrong_is_told_with_its_file_and_line(write, body, said):
    with pytest.raises(StrategyError) as error:
        run(write(body), [10, 20, 30])
    assert "idea.py: " in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (", "idea.py: line 1: "),
        ("import nothing_of_this_name", "idea.py: line 1: ModuleNotFoundError"),
        ("def other(view): ...", "idea.py: has no function decide(view)"),
        ("PARAMETERS = 5\ndef decide(view): ...", "PARAMETERS: must be a dict"),
        ("PARAMETERS = {'a': 5}\ndef decide(view): ...", "PARAMETERS: 'a': must be a name and a Parameter"),
        ("\0", "idea.py: line 1: "),
    ],
)
def test_a_file_that_is_no_strategy_is_told(tmp_path, text, said):
    file = tmp_path / "idea.py"
    file.write_text(text)
    with pytest.raises(StrategyError, match=r"idea\.py") as error:
        load_file(file)
    assert said in str(error.value)


def test_other_files_are_refused(tmp_path):
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(StrategyError):
            load_file(path)
    (tmp_path / "My-Idea.py").write_text("def decide(view): ...")
    with pytest.raises(StrategyError, match="its name must be"):
        load_file(tmp_path / "My-Idea.py")
    with pytest.raises(StrategyError, match="there are: bracket, breakout"):
        load_installed("../../etc/passwd")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"depth": 5}, "no parameter 'depth'; there are: entry, exit, percent"),
        ({"entry": 1}, "entry: must be from 2 to 1000"),
        ({"entry": "5.5"}, "entry: must be a whole number"),
        ({"entry": "many"}, "entry: must be a whole number"),
        ({"percent": True}, "percent: must be a number"),
        ({"percent": 100.01}, "percent: must be from 1 to 100"),
    ],
)
def test_wrong_parameters_are_refused(given, said):
    with pytest.raises(StrategyError) as error:
        load_installed("breakout").complete(given)
    assert said in str(error.value)


def test_parameters_come_in_the_type_of_their_default(write):
    head = """
        PARAMETERS = {
            'n': Parameter(3), 'x': Parameter(0.5),
            'on': Parameter(False), 'how': Parameter('a', choices=('a', 'b')),
        }
    """
    strategy = write(
        "assert (view['n'], view['x'], view['on'], view['how']) == (4, 2.5, True, 'b')", head=head
    )
    given = {"n": "4", "x": "2.50", "on": "true", "how": "b"}
    report = run(strategy, [10, 20], parameters=given)
    assert report.request.parameters == {"how": "b", "n": 4, "on": True, "x": Decimal("2.50")}
    for wrong in ({"how": "c"}, {"on": "maybe"}):
        with pytest.raises(StrategyError):
            strategy.complete(wrong)


def test_days_without_a_bar_and_unknown_symbols_are_told():
    history = make_daily_history({"SPY": [10, 20]}, FIRST)
    with pytest.raises(HistoryError, match="no bar of SPY in 1d from 2030-01-01 to 2030-12-31"):
        run_backtest(make_request(strategy="breakout", **{"from": "2030-01-01", "to": "2030-12-31"}), history)
    with pytest.raises(HistoryError, match="no symbol QQQ"):
        run_backtest(make_request(("QQQ",), strategy="breakout"), history)


def test_numbers_of_numpy_are_numbers(write):
    report = run(write("import numpy\nreturn {'SPY': numpy.float64(50)}"), [10, 20])
    assert report.counts.fills == 1
    report = run(write("import numpy\nreturn {'SPY': numpy.int64(50)}"), [10, 20])
    assert report.counts.fills == 1
