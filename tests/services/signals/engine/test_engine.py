"""The rules of the engine, each by a case that can be checked by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.engine.engine import (
    ActionsTaken,
    BarsClose,
    BarsOpen,
    FillModelError,
    OrdersDecided,
    SessionsEnd,
)
from services.signals.engine.fills import Execution
from services.signals.engine.orders import (
    CashDividend,
    FeeSchedule,
    LimitFill,
    OrderType,
    PriceBar,
    RefusalReason,
    ShareSplit,
    Side,
    TimeInForce,
)
from services.signals.engine.units import CENT
from support.engine_market import (
    BUY,
    DAY,
    HOUR,
    LIMIT,
    MARKET,
    SELL,
    STOP,
    Market,
    bracket,
    money,
    order,
    price,
)


def test_an_order_fills_at_the_open_of_the_next_bar_of_its_own_symbol():
    market = Market()
    market.decide(order("a"))
    market.day(B=(50, 51, 49, 50))
    assert market.fills == []
    market.day(A=(101, 103, 99, 102))
    assert market.told() == [("a", 100, 101)]
    assert market.fills[0].at_ms == DAY
    assert market.ledger.equity == money(100_100)


def test_an_order_that_is_decided_while_a_bar_trades_waits_for_the_next_one():
    market = Market()
    bar = PriceBar("A", 0, DAY, price(100), price(110), price(90), price(100))
    market.play(BarsOpen(0, [bar]))
    market.play(OrdersDecided(HOUR, [order("a", kind=LIMIT, at=95)]))
    market.play(BarsClose(DAY, [bar]))
    assert market.fills == []
    market.now = DAY
    market.day(A=(100, 101, 94, 100))
    assert market.told() == [("a", 100, 95)]


def test_nothing_fills_in_a_bar_without_volume():
    market = Market()
    market.decide(order("a"), order("b", kind=LIMIT, at=99))
    market.day(A=(100, 101, 90, 100), volume=0)
    assert market.fills == []
    market.day(A=(100, 101, 100, 100), volume=1000)
    assert market.told() == [("a", 100, 100)]


def test_of_stop_and_target_in_one_bar_the_stop_fills():
    market = Market()
    market.decide(*bracket())
    market.day(A=(100, 112, 94, 111))
    assert market.told() == [("entry", 100, 100), ("stop", 100, 95)]
    assert market.held() == 0
    market.day(A=(111, 120, 90, 100))
    assert len(market.fills) == 2, "the other one has ended"


def test_a_target_of_an_entry_at_the_open_lives_in_that_bar():
    market = Market()
    market.decide(*bracket())
    market.day(A=(100, 112, 96, 111))
    assert market.told() == [("entry", 100, 100), ("target", 100, 110)]


def test_after_an_entry_within_a_bar_the_stop_lives_and_the_target_does_not():
    market = Market()
    market.decide(*bracket(kind=LIMIT, at=98))
    market.day(A=(100, 112, 96, 111))
    assert market.told() == [("entry", 100, 98)]
    market.day(A=(109, 111, 108, 109))
    assert market.told()[1:] == [("target", 100, 110)]
    market = Market()
    market.decide(*bracket(kind=LIMIT, at=98))
    market.day(A=(100, 112, 94, 111))
    assert market.told() == [("entry", 100, 98), ("stop", 100, 95)]


def test_a_stop_above_the_entry_within_a_bar_fills_at_the_price_of_the_entry():
    market = Market()
    market.decide(order("entry", kind=LIMIT, at=98), order("stop", SELL, STOP, at=99, parent="entry"))
    market.day(A=(100, 101, 96, 100))
    assert market.told() == [("entry", 100, 98), ("stop", 100, 98)]


def test_a_stop_that_gaps_fills_at_the_open():
    market = Market()
    market.decide(*bracket())
    market.day(A=(100, 101, 99, 100))
    market.day(A=(90, 92, 89, 91))
    assert market.told()[1:] == [("stop", 100, 90)]


def test_a_cash_account_refuses_a_purchase_whole_whose_cost_with_its_fee_is_above_the_cash():
    fee = FeeSchedule(min_per_order=money(1))
    market = Market(cash=10_000, fee=fee)
    market.decide(order("a"))
    market.day(A=(100, 101, 99, 100))
    assert market.refused() == [("a", RefusalReason.NO_CASH)]
    market = Market(cash=10_001, fee=fee)
    market.decide(order("a"))
    market.day(A=(100, 101, 99, 100))
    assert (market.told(), market.ledger.cash) == ([("a", 100, 100)], 0)


def test_a_cash_account_is_never_short():
    market = Market()
    market.decide(order("a", qty=10), order("b", SELL, qty=11))
    market.day(A=(100, 101, 99, 100))
    assert market.refused() == [("b", RefusalReason.NO_SHORT)]


def test_a_margin_account_may_hold_so_many_times_its_equity_and_flip_in_one_order():
    market = Market(cash=10_000, leverage=Fraction(2))
    market.decide(order("a", qty=200), order("b", qty=1))
    market.day(A=(100, 101, 99, 100))
    assert market.told() == [("a", 200, 100)]
    assert market.refused() == [("b", RefusalReason.NO_MARGIN)]
    market.decide(order("c", SELL, qty=300))
    market.day(A=(100, 101, 99, 100))
    assert market.held() == -100
    market.decide(order("d", qty=100))
    market.day(A=(250, 250, 250, 250))
    assert market.held() == 0, "what makes a position smaller is never refused"
    assert market.ledger.equity == money(10_000 - 100 * 150)


def test_cash_goes_by_submission_whatever_the_names_of_the_symbols():
    for first, second in (("A", "B"), ("B", "A")):
        market = Market(cash=10_000)
        market.decide(order("1", symbol=first), order("2", symbol=second))
        market.day(A=(100, 101, 99, 100), B=(100, 101, 99, 100))
        assert [each.order for each in market.fills] == ["1"]
        assert market.refused() == [("2", RefusalReason.NO_CASH)]


def test_the_share_of_a_bars_volume_is_for_all_orders_and_the_rest_follows():
    market = Market(volume_share=Fraction("0.1"))
    market.decide(order("a", qty=80), order("b", qty=80))
    market.day(A=(100, 101, 99, 100), volume=1000)
    assert market.told() == [("a", 80, 100), ("b", 20, 100)]
    market.day(A=(102, 103, 99, 100), volume=1000)
    assert market.told()[2:] == [("b", 60, 102)]


def test_a_stop_that_is_triggered_and_did_not_fill_whole_fills_on_at_the_market():
    market = Market(volume_share=Fraction("0.1"), leverage=Fraction(1))
    market.decide(order("a", SELL, STOP, qty=80, at=95))
    market.day(A=(100, 101, 94, 100), volume=500)
    market.day(A=(103, 104, 102, 103), volume=500)
    assert market.told() == [("a", 50, 95), ("a", 30, 103)]


def test_the_least_fee_is_for_an_orders_fills_together():
    fee = FeeSchedule(per_share=price("0.01"), min_per_order=money(1))
    market = Market(volume_share=Fraction("0.1"), fee=fee)
    market.decide(order("a", qty=150))
    for _ in range(2):
        market.day(A=(100, 101, 99, 100), volume=1000)
    assert [each.fee for each in market.fills] == [money(1), money("0.50")]
    assert market.ledger.fees == money("1.50")


def test_a_fee_is_rounded_half_up_to_cents_at_each_fill():
    market = Market(fee=FeeSchedule(rate=Fraction("0.0001")))
    market.decide(order("a", qty=1))
    market.day(A=("50.00", 51, 49, 50))
    assert market.fills[0].fee == CENT, "half a cent"


def test_what_is_below_a_lot_is_refused_and_never_made_smaller():
    market = Market(lot=100)
    market.decide(order("a", qty=50), order("b", qty=150), order("c", qty=100))
    assert market.refused() == [("a", RefusalReason.BELOW_LOT), ("b", RefusalReason.BELOW_LOT)]


def test_a_target_is_sized_on_the_equity_at_its_decision_and_floored_to_lots():
    market = Market(cash=10_000)
    market.day(A=(33, 33, 33, 33))
    half = order("a", None, qty=None, target=Fraction(1, 2))
    market.decide(half)
    market.day(A=(34, 34, 34, 34))
    assert market.told() == [("a", 151, 34)]  # 5,000 / 33 is 151.5
    market.decide(order("b", None, qty=None, target=Fraction(0)))
    market.day(A=(35, 35, 35, 35))
    assert market.told()[1:] == [("b", 151, 35)]
    market.decide(order("c", None, qty=None, target=Fraction(0)))
    assert market.refused() == [("c", RefusalReason.BELOW_LOT)]


def test_a_day_order_ends_with_its_session_and_an_ioc_order_with_the_open():
    market = Market()
    market.decide(
        order("day", kind=LIMIT, at=90, tif=TimeInForce.DAY, expires_ms=DAY),
        order("ioc", kind=LIMIT, at=95, tif=TimeInForce.IOC),
        order("gtc", kind=LIMIT, at=90),
    )
    market.day(A=(100, 101, 94, 100))
    market.play(SessionsEnd(DAY))
    market.day(A=(100, 101, 89, 100))
    assert market.told() == [("gtc", 100, 90)]
    assert market.refused() == [("ioc", RefusalReason.EXPIRED), ("day", RefusalReason.EXPIRED)]
    assert [each.at_ms for each in market.refusals] == [0, DAY]


def test_limits_and_stops_are_rounded_to_ticks_against_us():
    market = Market(tick="0.05", leverage=Fraction(4), limit_fill=LimitFill.TOUCH)
    market.decide(
        order("a", BUY, LIMIT, at="95.07"),
        order("b", SELL, LIMIT, at="104.92"),
        order("c", BUY, STOP, at="102.01"),
        order("d", SELL, STOP, at="97.99"),
    )
    market.day(A=(100, 110, 90, 100))
    assert sorted(market.told()) == [
        ("a", 100, 95.05), ("b", 100, 104.95), ("c", 100, 102.05), ("d", 100, 97.95),
    ]  # fmt: skip


def test_a_split_changes_positions_and_orders_and_pays_what_is_below_a_lot():
    market = Market(cash=10_000)
    market.decide(order("a", qty=15))
    market.day(A=(100, 100, 100, 100))
    market.decide(order("stop", SELL, STOP, qty=15, at=90))
    market.play(ActionsTaken(market.now, [ShareSplit("A", market.now, 1, 2)]))
    assert market.held() == 7
    assert market.ledger.cash == money(10_000 - 1500 + 100), "half a share of 200"
    assert market.ledger.equity == money(10_000)
    market.day(A=(200, 201, 181, 200))
    assert market.told()[1:] == []
    market.day(A=(200, 201, 179, 200))
    assert market.told()[1:] == [("stop", 7, 180)]


def test_a_split_triggers_no_stop():
    market = Market()
    market.decide(order("a"))
    market.day(A=(1200, 1200, 1200, 1200))
    assert market.refused() == [("a", RefusalReason.NO_CASH)]
    market.decide(order("b", qty=50), order("stop", SELL, STOP, qty=50, at=1100, parent="b"))
    market.day(A=(1200, 1210, 1190, 1208))
    market.play(ActionsTaken(market.now, [ShareSplit("A", market.now, 10, 1)]))
    market.day(A=(120, 123, 117, 121))
    assert len(market.fills) == 1
    market.day(A=(112, 113, 109, 110))
    assert market.told()[1:] == [("stop", 500, 110)]


def test_dividends_are_of_the_position_before_the_open_and_paid_by_who_is_short():
    for side, sign in ((BUY, 1), (SELL, -1)):
        market = Market(leverage=Fraction(2))
        market.decide(order("a", side))
        market.day(A=(100, 100, 100, 100))
        market.play(ActionsTaken(market.now, [CashDividend("A", market.now, price("0.25"))]))
        market.day(A=(100, 100, 100, 100))
        assert market.ledger.dividends == sign * money(25)
        assert market.ledger.equity == money(100_000 + sign * 25)


def test_borrowing_costs_by_calendar_days_on_the_mark_of_the_close_before():
    market = Market(leverage=Fraction(2), borrow_rate=Fraction("0.0365"))
    market.decide(order("a", SELL))
    market.day(A=(100, 100, 100, 100))
    assert market.ledger.borrow == 0
    market.now += 2 * DAY  # a weekend
    market.day(A=(110, 110, 110, 110))
    assert market.ledger.borrow == money("3.00")  # 100 x 100 x 0.0001 x 3 days


def test_realised_and_unrealised_are_by_the_average_cost():
    market = Market()
    market.decide(order("a", qty=10))
    market.day(A=(100, 100, 100, 100))
    market.decide(order("b", qty=20))
    market.day(A=(103, 103, 103, 103))
    market.decide(order("c", SELL, qty=15))
    market.day(A=(110, 110, 110, 110))
    assert market.ledger.realised == money(15 * 8)
    assert market.ledger.unrealised == money(15 * 8)


def test_a_model_of_fills_of_ones_own_is_held_to_the_bar():
    market = Market(fill=lambda bar, _order: Execution(bar.high, is_at_open=True))
    market.decide(order("a"))
    market.day(A=(100, 104, 99, 100))
    assert market.told() == [("a", 100, 104)]
    market = Market(fill=lambda bar, _order: Execution(bar.high + 1, is_at_open=True))
    market.decide(order("a"))
    with pytest.raises(FillModelError):
        market.day(A=(100, 104, 99, 100))


def test_who_waits_for_a_parent_that_never_fills_ends_with_it():
    market = Market(cash=1000)
    market.decide(*bracket())
    market.day(A=(100, 101, 94, 100))
    assert market.refused() == [("entry", RefusalReason.NO_CASH)]
    assert not any(market.state.book.working.values())
    market.day(A=(100, 120, 80, 100))
    assert market.fills == []


four = st.lists(st.integers(80, 120), min_size=4, max_size=4).map(
    lambda them: (them[0], max(them), min(them), them[1])
)
orders = st.lists(
    st.tuples(
        *(st.sampled_from(each) for each in ("AB", Side, OrderType)),
        st.integers(1, 300),
        st.integers(80, 120),
        st.integers(0, 5),
    ),
    max_size=12,
)


@given(st.lists(st.tuples(four, four), min_size=6, max_size=6), orders, st.booleans())
def test_books_balance_and_fills_do_not_depend_on_the_order_of_symbols(days, decided, has_margin):
    outcomes = []
    for names in ("AB", "BA"):
        market = Market(
            cash=20_000, leverage=Fraction(2) if has_margin else None, borrow_rate=Fraction(1, 20)
        )
        for number, bars in enumerate(days):
            market.decide(
                *(
                    order(
                        f"{place}",
                        side,
                        kind,
                        qty=qty,
                        at=None if kind is MARKET else at,
                        symbol=symbol,
                    )
                    for place, (symbol, side, kind, qty, at, on) in enumerate(decided)
                    if on == number
                )
            )
            market.day(**{name: bars["AB".index(name)] for name in names})
        outcomes.append((market.fills, market.refusals, market.ledger.equity))
        if not has_margin:
            assert market.ledger.cash >= 0
            assert all(each.quantity >= 0 for each in market.ledger.holdings.values())
    assert outcomes[0] == outcomes[1]
