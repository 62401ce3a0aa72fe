"""Cases at the edges of the rules, each worked out by hand in its comments."""

from fractions import Fraction

from services.signals.engine.engine import ActionsTaken, BarsClose, BarsOpen, OrdersDecided, SessionsEnd
from services.signals.engine.orders import (
    CashDividend,
    FeeSchedule,
    LimitFill,
    PriceBar,
    RefusalReason,
    ShareSplit,
    TimeInForce,
)
from support.engine_market import BUY, DAY, HOUR, LIMIT, SELL, STOP, Market, money, order, price

FLAT = (100, 100, 100, 100)


def split(market, new, old, symbol="A"):
    market.play(ActionsTaken(market.now, [ShareSplit(symbol, market.now, new, old)]))


# -- flips


def test_a_flip_is_one_order_with_one_fee_and_its_gain_is_of_the_closed_part():
    market = Market(leverage=Fraction(2), fee=FeeSchedule(min_per_order=money(1)))
    market.decide(order("a"))
    market.day(A=FLAT)
    market.decide(order("flip", SELL, qty=150))
    market.day(A=(110, 110, 110, 110))
    assert market.told() == [("a", 100, 100), ("flip", 150, 110)]
    assert market.held() == -50
    assert market.ledger.realised == money(1000)
    assert market.ledger.cost == money(-50 * 110)
    assert market.ledger.fees == money(2)
    assert market.ledger.cash == money(100_000 - 10_000 + 16_500 - 2)


def test_a_flip_in_a_cash_account_is_refused_whole():
    market = Market()
    market.decide(order("a"))
    market.day(A=FLAT)
    market.decide(order("flip", SELL, qty=101))
    market.day(A=FLAT)
    assert market.refused() == [("flip", RefusalReason.NO_SHORT)]
    assert market.held() == 100, "no order is made smaller"


def test_a_flip_that_is_too_large_for_the_margin_is_refused_whole():
    market = Market(cash=10_000, leverage=Fraction(1))
    market.decide(order("a"))
    market.day(A=FLAT)
    market.decide(order("flip", SELL, qty=201))  # short of 101 x 100 > 10,000
    market.day(A=FLAT)
    assert market.refused() == [("flip", RefusalReason.NO_MARGIN)]
    assert market.held() == 100


def test_the_fee_counts_in_the_equity_that_the_margin_is_held_against():
    for fee, reasons in ((0, []), (1, [("a", RefusalReason.NO_MARGIN)])):
        market = Market(cash=10_000, leverage=Fraction(1), fee=FeeSchedule(min_per_order=money(fee)))
        market.decide(order("a"))
        market.day(A=FLAT)
        assert market.refused() == reasons


# -- splits


def test_an_order_decided_before_a_split_and_filled_after_it_is_multiplied():
    market = Market()
    market.decide(order("market", qty=10), order("limit", kind=LIMIT, qty=10, at=90))
    split(market, 4, 1)
    market.day(A=(25, 26, 22, 24))
    assert market.told() == [("market", 40, 25), ("limit", 40, 22.5)]


def test_a_target_is_sized_at_the_close_before_the_split_and_multiplied_after():
    market = Market(cash=10_000)
    market.day(A=FLAT)
    market.decide(order("half", None, qty=None, target=Fraction(1, 2)))  # 50 shares at 100
    split(market, 2, 1)
    market.day(A=(50, 50, 50, 50))
    assert market.told() == [("half", 100, 50)]


def test_a_reverse_split_to_no_whole_lot_pays_all_in_cash_and_ends_the_orders():
    market = Market()
    market.decide(order("a", qty=7))
    market.day(A=(9, 9, 9, 9))
    market.decide(order("stop", SELL, STOP, qty=7, at=8))
    split(market, 1, 10)
    # 0.7 of a share at 90 is 63: what it cost and what it was worth
    assert market.held() == 0
    assert market.ledger.cash == money(100_000)
    assert (market.ledger.realised, market.ledger.cost) == (0, 0)
    assert market.refused() == [("stop", RefusalReason.BELOW_LOT)]


def test_a_short_position_pays_for_the_part_of_a_share_that_a_split_leaves():
    market = Market(leverage=Fraction(2))
    market.decide(order("a", SELL, qty=15))
    market.day(A=FLAT)
    split(market, 1, 2)
    assert market.held() == -7
    assert market.ledger.cash == money(100_000 + 1500 - 100)
    assert market.ledger.equity == money(100_000)


def test_cash_for_a_part_of_a_share_is_half_up_to_cents():
    market = Market()
    market.decide(order("a", qty=1))
    market.day(A=("33.33", "33.33", "33.33", "33.33"))
    split(market, 3, 2)  # 1.5 shares at 22.22: half of one is 11.11
    assert (market.held(), market.ledger.cash) == (1, money("99966.67") + money("11.11"))
    market = Market()
    market.decide(order("a", qty=1))
    market.day(A=("33.35", "33.35", "33.35", "33.35"))
    split(market, 5, 4)  # 1.25 shares at 26.68: a quarter is 6.67
    assert market.ledger.cash == money(100_000 - Fraction("33.35") + Fraction("6.67"))
    market = Market()
    market.decide(order("a", qty=1))
    market.day(A=("0.05", "0.05", "0.05", "0.05"))
    split(market, 1, 2)  # half a share at 0.10
    assert market.ledger.cash == money(100_000)


def test_a_split_of_three_leaves_the_equity_exact_until_the_next_close_of_its_symbol():
    market = Market()
    market.decide(order("a"), order("b", symbol="B"))
    market.day(A=FLAT, B=FLAT)
    split(market, 3, 1)
    market.day(B=FLAT)
    assert market.ledger.equity == money(100_000)
    market.day(A=("33.34", "33.34", "33.34", "33.34"))
    assert market.ledger.equity == money(100_002)


# -- volume, in parts


def test_the_rest_of_an_ioc_order_expires_after_its_part():
    market = Market(volume_share=Fraction("0.1"))
    market.decide(order("ioc", tif=TimeInForce.IOC))
    market.day(A=FLAT, volume=400)
    assert market.told() == [("ioc", 40, 100)]
    assert market.refused() == [("ioc", RefusalReason.EXPIRED)]
    market.day(A=FLAT, volume=400)
    assert len(market.fills) == 1


def test_a_part_of_one_of_an_oco_group_ends_the_others_and_its_rest_works_on():
    market = Market(volume_share=Fraction("0.1"))
    market.decide(order("a"))
    market.day(A=FLAT, volume=1000)
    market.decide(
        order("target", SELL, LIMIT, at=105, oco="exit"), order("stop", SELL, STOP, at=95, oco="exit")
    )
    market.day(A=(106, 107, 104, 106), volume=400)
    assert market.told()[1:] == [("target", 40, 106)]
    market.day(A=(100, 101, 90, 92), volume=10_000)
    assert len(market.fills) == 2, "the stop has ended, and the target is far"
    market.day(A=(106, 107, 104, 106), volume=10_000)
    assert market.told()[2:] == [("target", 60, 106)]


def test_the_least_fee_of_an_order_is_over_its_parts_and_the_percentage_on_each():
    # parts of 40, 40 and 20 at 100 by 0.02 %: 0.80, 0.80 and 0.40, and 1.50 at the least: 1.50, 0.10 and 0.40
    fee = FeeSchedule(rate=Fraction("0.0002"), min_per_order=money("1.50"))
    market = Market(volume_share=Fraction("0.1"), fee=fee)
    market.decide(order("a"))
    for _ in range(3):
        market.day(A=FLAT, volume=400)
    assert [each.fee for each in market.fills] == [money("1.50"), money("0.10"), money("0.40")]


def test_an_exit_fills_only_what_its_entry_has():
    market = Market(volume_share=Fraction("0.5"), leverage=Fraction(2))
    market.decide(order("entry", qty=100), order("exit", SELL, STOP, at=95, parent="entry"))
    market.day(A=(100, 100, 94, 95), volume=100)  # 50 enter, the volume is used up
    market.day(A=(96, 97, 96, 96), volume=1000)  # 50 more at the open; what was triggered follows at once
    assert market.told() == [("entry", 50, 100), ("entry", 50, 96), ("exit", 100, 96)]
    assert market.held() == 0


# -- parents


def test_exits_end_without_a_record_when_their_entry_is_refused_expires_or_is_below_a_lot():
    for entry, reason in (
        (order("e", qty=10_000), RefusalReason.NO_CASH),
        (order("e", kind=LIMIT, at=50, tif=TimeInForce.IOC), RefusalReason.EXPIRED),
        (order("e", qty=Fraction(1, 2)), RefusalReason.BELOW_LOT),
    ):
        market = Market()
        market.decide(entry, order("exit", SELL, qty=10, parent="e"))
        market.day(A=FLAT)
        market.decide(order("late", SELL, qty=10, parent="e"))
        market.day(A=FLAT)
        assert market.refused() == [("e", reason)]
        assert market.fills == []


# -- sessions and days


def test_a_day_order_of_a_market_without_nights_lives_until_midnight():
    market = Market()
    market.decide(order("day", kind=LIMIT, at=95, tif=TimeInForce.DAY, expires_ms=DAY))
    bars = [PriceBar("A", n * HOUR, (n + 1) * HOUR, *map(price, (100, 101, 96, 100))) for n in range(24)]
    for bar in bars:
        market.play(BarsOpen(bar.start_ms, [bar]))
        market.play(BarsClose(bar.end_ms, [bar]))
    assert market.refusals == []
    market.play(SessionsEnd(DAY))
    assert [(each.reason, each.at_ms) for each in market.refusals] == [(RefusalReason.EXPIRED, DAY)]


def test_what_fills_in_the_last_bar_of_the_session_is_no_longer_expired():
    market = Market()
    market.decide(order("day", kind=LIMIT, at=95, tif=TimeInForce.DAY, expires_ms=DAY))
    market.day(A=(100, 101, 94, 100))
    market.play(SessionsEnd(DAY))
    assert market.told() == [("day", 100, 95)]
    assert market.refusals == []


def test_borrowing_over_a_weekend_is_for_three_days_and_starts_with_the_close_before_the_sale():
    market = Market(leverage=Fraction(2), borrow_rate=Fraction("0.073"))
    market.day(A=FLAT)
    market.decide(order("a", SELL))
    market.day(A=(100, 120, 100, 120))  # |short| x the mark of the close before, 100, x 1 day
    assert market.ledger.borrow == money(2)
    market.now += 2 * DAY
    market.day(A=(120, 120, 120, 120))  # 100 x 120 x 0.0002 x 3
    assert market.ledger.borrow == money(2) + money("7.20")


def test_a_dividend_on_a_short_position_is_paid_once_and_none_by_who_sold_before():
    market = Market(leverage=Fraction(2))
    market.decide(order("a", SELL), order("b", symbol="B"))
    market.day(A=FLAT, B=FLAT)
    market.decide(order("c", SELL, symbol="B"))
    dividends = [CashDividend("A", market.now, price("0.333")), CashDividend("B", market.now, price(1))]
    market.play(ActionsTaken(market.now, dividends))  # before the open at which B is sold
    market.day(A=FLAT, B=FLAT)
    assert market.ledger.dividends == money("-33.30") + money(100)
    market.play(ActionsTaken(market.now, [CashDividend("B", market.now, price(1))]))
    assert market.ledger.dividends == money("66.70")


# -- lots and ticks


def test_lots_below_one_and_targets_in_them():
    market = Market(cash=1000, lot="0.0001", fee=FeeSchedule(rate=Fraction("0.001")))
    market.day(A=(30_000, 30_000, 30_000, 30_000))
    market.decide(order("half", None, qty=None, target=Fraction(1, 2)))  # 0.016666 is 0.0166
    market.decide(order("small", qty=Fraction("0.00015")), order("least", qty=Fraction("0.0001")))
    market.day(A=(30_000, 30_000, 30_000, 30_000))
    assert market.told() == [("half", 0.0166, 30_000), ("least", 0.0001, 30_000)]
    assert market.refused() == [("small", RefusalReason.BELOW_LOT)]
    assert [each.fee for each in market.fills] == [money("0.50"), 0]  # 0.498 and 0.003


def test_a_target_of_nothing_closes_what_ruined_the_account():
    market = Market(cash=10_000, leverage=Fraction(2))
    market.decide(order("short", SELL, qty=150))
    market.day(A=FLAT)
    market.day(A=(200, 200, 200, 200))  # 25,000 in cash, less 30,000
    assert market.ledger.equity == money(-5000)
    market.decide(order("more", None, qty=None, target=Fraction(1, 2)))
    market.decide(order("close", None, qty=None, target=Fraction(0)))
    market.day(A=(210, 210, 210, 210))
    assert market.told() == [("short", 150, 100), ("close", 150, 210)]
    assert market.refused() == [("more", RefusalReason.BELOW_LOT)]
    assert market.held() == 0


def test_a_target_of_nothing_sells_what_is_worth_nothing():
    market = Market()
    market.decide(order("a"))
    market.day(A=FLAT)
    market.day(A=(100, 100, -5, -5))
    market.decide(order("close", None, qty=None, target=Fraction(0)))
    market.day(A=(-5, -5, -5, -5))
    assert market.told() == [("a", 100, 100), ("close", 100, -5)]


def test_prices_are_rounded_to_ticks_before_it_is_seen_whether_they_were_touched():
    for side, kind, at, low_or_high in ((BUY, LIMIT, "94.99", 95), (SELL, LIMIT, "105.01", 105)):
        market = Market(tick="0.05", leverage=Fraction(2), limit_fill=LimitFill.TOUCH)
        market.decide(order("a", side, kind, at=at))
        market.day(A=(100, max(100, low_or_high), min(100, low_or_high), 100))
        assert market.fills == [], "at 94.95 and at 105.05 nobody traded"
    for side, at in ((BUY, "104.99"), (SELL, "95.01")):
        market = Market(tick="0.05", leverage=Fraction(2))
        market.decide(order("a", side, STOP, at=at))
        market.day(A=(100, 105, 95, 100))
        assert market.told() == [("a", 100, 105 if side is BUY else 95)]


# -- two symbols at one instant


def test_bars_of_other_lengths_that_end_together_share_the_cash_by_submission():
    market = Market(cash=10_000)
    day = PriceBar("B", 0, DAY, *map(price, (100, 101, 94, 100)))
    hour = PriceBar("A", DAY - HOUR, DAY, *map(price, (100, 101, 94, 100)))
    market.play(
        OrdersDecided(
            0, [order("1", kind=LIMIT, at=95, symbol="A"), order("2", kind=LIMIT, at=95, symbol="B")]
        )
    )
    market.play(BarsOpen(0, [day]))
    market.play(BarsOpen(DAY - HOUR, [hour]))
    market.play(BarsClose(DAY, [day, hour]))
    assert market.told() == [("1", 100, 95)], "both are known at the close; the first one was submitted first"
    assert market.refused() == [("2", RefusalReason.NO_CASH)]


def test_what_closes_at_an_instant_is_booked_before_what_opens_then():
    market = Market(cash=10_000)
    market.decide(order("a"))
    market.day(A=FLAT)
    market.play(
        OrdersDecided(
            market.now, [order("sell", SELL, STOP, at=95), order("buy", kind=STOP, at=105, symbol="B")]
        )
    )
    start = market.now
    one = PriceBar("A", start, start + HOUR, *map(price, (100, 100, 90, 92)))
    two = PriceBar("B", start + HOUR, start + 2 * HOUR, *map(price, (92, 92, 92, 92)))
    market.play(BarsOpen(start, [one]))
    market.play(BarsClose(start + HOUR, [one]))
    market.play(OrdersDecided(start + HOUR, [order("with it", symbol="B")]))
    market.play(BarsOpen(start + HOUR, [two]))
    assert market.told()[1:] == [("sell", 100, 95), ("with it", 100, 92)]


def test_a_position_is_worth_the_last_close_at_which_somebody_traded():
    market = Market(leverage=Fraction(2), borrow_rate=Fraction("0.0365"))
    market.decide(order("a", SELL))
    market.day(A=FLAT)
    market.day(A=(100, 130, 100, 130), volume=0)
    assert market.ledger.equity == money(100_000)
    assert market.ledger.holding_of("A").marked_ms == DAY
    market.day(A=(110, 110, 110, 110))  # two days on the last close: 100 x 100 x 0.0001 x 2
    assert market.ledger.borrow == money(2)
    assert market.ledger.equity == money(100_000 - 1000 - 2)
