"""Twelve changes of a case, and what must follow: of random cases, and of an engine that is broken."""

import random
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import orjson
import pytest

from marketswarm.exit import Exit
from services.signals.audit import Law, audit_case
from services.signals.backtest import play_case
from services.signals.cases import AccountModel, BacktestCase
from services.signals.commands import orders as show_orders
from services.signals.engine import engine
from services.signals.engine.ledger import Ledger
from services.signals.engine.orders import (
    CashDividend,
    FeeSchedule,
    Instrument,
    LimitFill,
    Order,
    OrderType,
    PriceBar,
    ShareSplit,
    Side,
    TimeInForce,
)
from services.signals.engine.units import MONEY, PRICE, QUANTITY

CENT = PRICE // 100
DAY, HOUR = 86_400_000, 3_600_000
START = 1_767_600_000_000
FEES = (FeeSchedule(), FeeSchedule(CENT // 2, Fraction(1, 1000), MONEY), FeeSchedule(rate=Fraction(1, 300)))


def make_case(seed):
    """Return a case of one to three symbols with gaps, halts, splits, dividends, and orders of all kinds."""
    chance = random.Random(seed)
    symbols = ["A", "B", "C"][: chance.randint(1, 3)]
    leverage = chance.choice([None, None, Decimal(1), Decimal(2)])
    account = AccountModel(
        cash=chance.choice([5_000, 20_000, 1_000_000]),
        type="cash" if leverage is None else "margin",
        leverage=leverage or 1,
        limit_fill=chance.choice(list(LimitFill)),
        volume_share=chance.choice([None, None, Decimal("0.1")]),
        borrow_rate=chance.choice([Decimal(0), Decimal("0.03")]),
    )
    instruments = {
        symbol: Instrument(
            chance.choice([CENT, 5 * CENT]), QUANTITY * chance.choice([1, 10]), chance.choice(FEES)
        )
        for symbol in symbols
    }
    bars = [bar for symbol in symbols for bar in make_bars(chance, symbol)]
    instants = sorted({bar.end_ms for bar in bars} | {bar.start_ms - HOUR for bar in bars})
    orders = make_orders(chance, symbols, instants)
    return BacktestCase(account, instruments, bars, orders, make_actions(chance, symbols))


def make_bars(chance, symbol):
    close = chance.randint(8_000, 12_000)
    length = chance.choice([DAY, 7 * HOUR, 7 * HOUR])
    for day in range(chance.randint(6, 14)):
        if chance.random() < 0.1:
            continue
        opened = max(100, close + chance.randint(-400, 400) * (chance.random() < 0.3))
        close = max(100, opened + chance.randint(-600, 600))
        high, low = max(opened, close) + chance.randint(0, 300), min(opened, close) - chance.randint(0, 90)
        start_ms = START + day * DAY
        volume = chance.choice([None, 0, 500, 5_000, 100_000, 100_000])
        yield PriceBar(
            symbol,
            start_ms,
            start_ms + length,
            *(cents * CENT for cents in (opened, high, low, close)),
            volume and volume * QUANTITY,
        )


def make_orders(chance, symbols, instants):
    orders = []
    for number in range(chance.randint(2, 14)):
        kind, tif = chance.choice(list(OrderType)), chance.choice([*TimeInForce, TimeInForce.GTC])
        at_ms = chance.choice(instants)
        parent = chance.choice(orders) if orders and chance.random() < 0.4 else None
        target = parent is None and chance.random() < 0.2
        price = chance.randint(8_000, 12_000) * CENT + chance.randint(0, 9)
        orders.append(
            Order(
                f"o{number}",
                parent.symbol if parent else chance.choice(symbols),
                at_ms,
                None if target else chance.choice(list(Side)),
                kind,
                quantity=None if target else 10 * chance.randint(1, 30) * QUANTITY,
                target=Fraction(chance.randint(-5, 10), 10) if target else None,
                price=None if kind is OrderType.MARKET else price,
                tif=tif,
                expires_ms=at_ms + 7 * HOUR if tif is TimeInForce.DAY else None,
                parent=parent.id if parent else None,
                oco=chance.choice([None, "x", "y"]) if parent else None,
            )
        )
    return sorted(orders, key=lambda order: order.decided_ms)


def make_actions(chance, symbols):
    actions = []
    for _ in range(chance.randint(0, 2)):
        symbol, at_ms = chance.choice(symbols), START + chance.randint(2, 8) * DAY
        actions.append(
            ShareSplit(symbol, at_ms, *chance.choice([(2, 1), (3, 1), (1, 2), (3, 2)]))
            if chance.random() < 0.5
            else CashDividend(symbol, at_ms, chance.randint(1, 200) * CENT)
        )
    return sorted(actions, key=lambda action: action.at_ms)


def check(seeds):
    applied = dict.fromkeys(Law, 0)
    for seed in seeds:
        for each in audit_case(make_case(seed)):
            assert each.holds is not False, f"case {seed}: {each.law}: {each.found}"
            applied[each.law] += each.holds is True
    return applied


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_the_laws_hold_for_random_cases_and_each_one_applies_to_many(first):
    applied = check(range(first, first + 50))
    assert min(applied.values()) >= 10, applied


@pytest.mark.nightly("test_the_laws_hold_for_random_cases_and_each_one_applies_to_many plays 200 of them")
@pytest.mark.parametrize("first", range(1_000, 11_000, 500))
def test_the_laws_hold_for_ten_thousand_random_cases(first):
    check(range(first, first + 500))


# -- each law fails where the engine is broken in its way


def peek(case):
    """Leave out orders if the last bar fell: the future decides."""
    return replace(case, orders=case.orders if case.bars[-1].close > case.bars[-1].open else [])


def go_by_name(case):
    """Submit orders by the names of their symbols."""
    return replace(case, orders=sorted(case.orders, key=lambda order: (order.decided_ms, order.symbol)))


def count_bars(case):
    """Decide by how many bars there are."""
    return replace(case, orders=case.orders[: len(case.bars) % 5])


def know_prices(case):
    """Leave out orders at prices that are only usual for this symbol."""
    return replace(case, orders=[each for each in case.orders if (each.price or 0) < 150 * PRICE])


def ignore_halts(case):
    return replace(case, bars=[replace(bar, volume=bar.volume or None) for bar in case.bars])


def decide_early(case):
    """Fill orders in bars of the two days before they were decided."""
    earlier = [replace(order, decided_ms=order.decided_ms - 2 * DAY) for order in case.orders]
    return replace(case, orders=earlier)


def charge_a_constant(case):
    fee = FeeSchedule(min_per_order=MONEY)
    instruments = {symbol: replace(each, fee=fee) for symbol, each in case.instruments.items()}
    return replace(case, instruments=instruments)


def know_the_hour(case):
    return replace(case, orders=[each for each in case.orders if each.decided_ms % DAY < 12 * HOUR])


def earn_the_fee(case):
    return replace(
        case,
        instruments={
            symbol: replace(each, fee=FeeSchedule(rate=Fraction(1, 50) - each.fee.rate))
            for symbol, each in case.instruments.items()
        },
    )


def turn_the_limit_around(case):
    leverage = 4 - case.account.leverage
    return replace(case, account=case.account.model_copy(update={"leverage": leverage}))


def lose_resting_orders_of_splits(monkeypatch):
    monkeypatch.setattr(engine._Turn, "_split_orders", lambda *_: None)  # noqa: SLF001 - a defect is put there


BROKEN = {
    Law.FUTURE_CUT: peek,
    Law.SYMBOLS_SHUFFLED: go_by_name,
    Law.START_SHIFTED: count_bars,
    Law.PRICES_DOUBLED: know_prices,
    Law.VOLUME_ZERO: ignore_halts,
    Law.DATA_LATE: decide_early,
    Law.CURRENCY_SCALED: charge_a_constant,
    Law.BARS_DOUBLED: count_bars,
    Law.OTHER_ZONE: know_the_hour,
    Law.HIGHER_FEE: earn_the_fee,
    Law.TIGHTER_LIMIT: turn_the_limit_around,
}


def find_failures(law, play):
    return [
        each.found
        for seed in range(60)
        for each in audit_case(make_case(seed), play, [law])
        if each.holds is False
    ]


@pytest.mark.parametrize("law", BROKEN)
def test_each_law_finds_an_engine_that_breaks_it(law):
    failures = find_failures(law, lambda case: play_case(BROKEN[law](case)))
    assert failures
    assert all(failures), "each says what there is instead"


def test_the_law_of_splits_finds_an_engine_that_leaves_resting_orders_as_they_were(monkeypatch):
    lose_resting_orders_of_splits(monkeypatch)
    assert find_failures(Law.SPLIT_APPLIED, play_case)


def test_the_laws_of_scale_find_prices_that_are_rounded_to_a_step_of_the_engines_own(monkeypatch):
    true = Ledger.book_fill

    def book(self, symbol, quantity, price, fee):
        true(self, symbol, quantity, price - price % (3 * CENT), fee)

    monkeypatch.setattr(Ledger, "book_fill", book)
    assert find_failures(Law.PRICES_DOUBLED, play_case)


# -- the command


def test_the_command_shows_each_law_and_ends_with_an_error_if_one_is_broken(tmp_path, capsys, monkeypatch):
    (tmp_path / "case.json").write_text(
        '{"account": {"cash": 10000}, "instruments": {"A": {"tick": 0.01, "lot": 1}}}', encoding="utf-8"
    )
    days = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]
    bars = [f"A,{day}T14:00:00Z,{day}T21:00:00Z,100,110,90,105,1000" for day in days]
    (tmp_path / "bars.csv").write_text(
        "symbol,start,end,open,high,low,close,volume\n" + "\n".join(bars), encoding="utf-8"
    )
    (tmp_path / "orders.csv").write_text(
        "decided_at,symbol,id,side,qty,type,limit\n"
        "2026-01-06T21:00:00Z,A,a,buy,10,market,\n2026-01-06T21:00:00Z,A,b,sell,10,limit,107.5\n",
        encoding="utf-8",
    )
    show_orders(tmp_path, audit=True)
    shown = capsys.readouterr().out
    assert {law for law in Law if f"{law} " in shown} == set(Law)
    assert shown.count("holds") == len(Law)
    monkeypatch.setattr(
        Ledger,
        "book_fill",
        lambda *args, true=Ledger.book_fill: true(*args[:3], args[3] - args[3] % 7, args[4]),
    )
    with pytest.raises(Exit, match="what must follow does not: prices_doubled"):
        show_orders(tmp_path, audit=True, as_json=True)
    broken = {
        each["law"] for each in orjson.loads(capsys.readouterr().out)["audit"] if each["holds"] is False
    }
    assert broken
