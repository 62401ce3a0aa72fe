"""Orders end, are cancelled and are forgotten; they slip, and quotes fill them where the account says so."""

import tracemalloc
from fractions import Fraction

import pytest

from services.signals.engine import engine
from services.signals.engine.engine import (
    BarsClose,
    BarsOpen,
    OrdersCancelled,
    OrdersDecided,
    QuotesSeen,
    list_instants,
    open_account,
    play,
    play_series,
    step,
)
from services.signals.engine.ledger import LedgerError
from services.signals.engine.orders import (
    AccountRules,
    FillSource,
    Instrument,
    LimitFill,
    PriceBar,
    Quote,
    RefusalReason,
    TimeInForce,
)
from services.signals.engine.units import MONEY, PRICE, QUANTITY
from support.engine_market import BUY, DAY, LIMIT, MARKET, SELL, STOP, Market, bracket, order, price

MINUTE = 60_000


# -- cancelling and submitting again


def test_a_cancelled_order_has_a_record_and_never_fills():
    market = Market()
    market.decide(order("a", kind=LIMIT, at=95), order("b", kind=LIMIT, at=95))
    market.play(OrdersCancelled(0, ["a", "x"]))
    market.day(A=(100, 101, 90, 100))
    assert market.told() == [("b", 100, 95)]
    market.play(OrdersCancelled(market.now, ["b"]))
    assert market.refused() == [
        ("a", RefusalReason.CANCELLED),
        ("x", RefusalReason.NOT_WORKING),
        ("b", RefusalReason.NOT_WORKING),
    ]


def test_exits_end_with_a_cancelled_entry_unless_it_filled_in_part():
    market = Market(volume_share=Fraction("0.1"))
    market.decide(*bracket(kind=LIMIT, at=99))
    market.day(A=(98, 100, 97, 99), volume=400)
    assert market.told() == [("entry", 40, 98)]
    market.play(OrdersCancelled(market.now, ["entry"]))
    market.day(A=(99, 100, 90, 92), volume=10_000)
    assert market.told()[1:] == [("stop", 40, 95)], "it has what its entry has"
    assert not market.state.book.working
    assert not market.state.book.parents
    market = Market()
    market.decide(*bracket(kind=LIMIT, at=99))
    market.play(OrdersCancelled(0, ["entry"]))
    assert not market.state.book.working


def test_an_order_that_is_submitted_again_is_refused_and_the_first_one_stays():
    market = Market()
    market.decide(order("a", kind=LIMIT, at=95))
    market.decide(order("a", kind=LIMIT, at=95, qty=50))
    market.day(A=(100, 101, 90, 100))
    assert market.told() == [("a", 100, 95)]
    market.decide(order("a"))  # as after a restart
    market.day(A=(100, 101, 90, 100))
    assert len(market.fills) == 1
    assert market.refused() == [("a", RefusalReason.DUPLICATE)] * 2


# -- what is forgotten


def test_an_account_needs_no_more_memory_after_a_long_run(monkeypatch):
    monkeypatch.setattr(engine, "KNOWN_IDS", 50)
    market = Market(cash=10**9, leverage=Fraction(4))

    def trade(first, last):
        for number in range(first, last):
            market.decide(
                order(f"e{number}"),
                order(f"t{number}", SELL, LIMIT, at=110, parent=f"e{number}", oco=f"x{number}"),
                order(f"s{number}", SELL, STOP, at=95, parent=f"e{number}", oco=f"x{number}"),
                order(f"d{number}", kind=LIMIT, at=1, tif=TimeInForce.IOC, oco=f"y{number}"),
                order(f"c{number}", kind=LIMIT, at=1, parent=f"d{number}"),
            )
            market.day(A=(100, 112, 94, 111))
            market.fills.clear()
            market.refusals.clear()

    trade(0, 100)
    tracemalloc.start()
    trade(100, 200)
    before = tracemalloc.get_traced_memory()[0]
    trade(200, 700)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    book = market.state.book
    assert not any((book.working, book.waiting, book.parents, book.groups, market.state.capacity))
    assert len(market.state.ids) + len(market.state.older_ids) <= 100
    assert grown < 20_000, f"{grown} bytes for 2,500 orders"


def test_a_parent_that_is_named_later_is_not_forgotten():
    rules, instruments = AccountRules(100_000 * MONEY), {"A": Instrument(PRICE // 100, QUANTITY)}
    for named, expected in ((("entry",), ["entry", "late"]), ((), ["entry"])):
        state = open_account(rules, instruments, named=frozenset(named))
        bar = PriceBar("A", 0, DAY, *map(price, (100, 101, 99, 100)))
        later = PriceBar("A", DAY, 2 * DAY, *map(price, (100, 101, 99, 100)))
        fills = []
        for event in (
            OrdersDecided(0, [order("entry", qty=10), order("dead", kind=LIMIT, at=1, tif=TimeInForce.IOC)]),
            BarsOpen(0, [bar]),
            BarsClose(DAY, [bar]),
            OrdersDecided(DAY, [order("late", SELL, qty=50, parent="entry")]),
            BarsOpen(DAY, [later]),
        ):
            fills += step(state, event)[1]
        assert [each.order for each in fills] == expected
        assert fills[-1].quantity == 10 * QUANTITY, "never more than its parent has"


# -- the two loops are one engine


def test_a_series_an_instant_and_an_event_at_a_time_give_the_same():
    rules = AccountRules(20_000 * MONEY, Fraction(2), borrow_rate=Fraction(1, 20))
    bars = [
        PriceBar("A", n * MINUTE, (n + 1) * MINUTE, *map(price, four))
        for n, four in enumerate([(100, 103, 97, 101), (101, 110, 99, 108), (108, 109, 90, 95)] * 5)
    ]
    decided = {
        bar.end_ms: [order(f"{n}", (BUY, SELL)[n % 2], (MARKET, LIMIT, STOP)[n % 3], qty=30 + n, at=100)]
        if n % 3
        else [order(f"{n}", (SELL, BUY)[n % 2], qty=30 + n)]
        for n, bar in enumerate(bars)
    }

    def start():
        return open_account(rules, {"A": Instrument(PRICE // 100, QUANTITY)}), [], []

    state, fills, refusals = start()
    for bar in bars:
        for event in (
            BarsOpen(bar.start_ms, [bar]),
            BarsClose(bar.end_ms, [bar]),
            OrdersDecided(bar.end_ms, decided[bar.end_ms]),
        ):
            state, filled, refused = step(state, event)
            fills += filled
            refusals += refused
    outcomes = [(fills, refusals, state.ledger)]
    state, fills, refusals = start()
    play_series(state, bars, lambda bar: [OrdersDecided(bar.end_ms, decided[bar.end_ms])], fills, refusals)
    outcomes.append((fills, refusals, state.ledger))
    state, fills, refusals = start()
    play(
        state,
        list_instants(bars),
        lambda at_ms, closing: [OrdersDecided(at_ms, decided[at_ms])] if closing else [],
        fills,
        refusals,
    )
    outcomes.append((fills, refusals, state.ledger))
    assert len(fills) > 5
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize("book", ["cash", "cost", "fees"])
def test_books_that_are_out_of_balance_stop_the_engine_at_the_next_event(book):
    market = Market()
    market.decide(order("a"))
    market.day(A=(100, 101, 99, 100))
    setattr(market.ledger, book, getattr(market.ledger, book) + 1)
    with pytest.raises(LedgerError):
        market.day(A=(100, 101, 99, 100))


# -- slippage


def test_slippage_is_against_us_on_a_tick_and_never_beyond_a_limit():
    for side, sign in ((BUY, 1), (SELL, -1)):
        market = Market(
            leverage=Fraction(9), slippage=Fraction("0.001"), slippage_ticks=2, limit_fill=LimitFill.TOUCH
        )
        market.decide(
            order("market", side, qty=1),
            order("stop", side, STOP, qty=1, at=100 + 3 * sign),
            order("better", side, LIMIT, qty=1, at=100 + 1 * sign),
            order("near", side, LIMIT, qty=1, at=100 + sign * Fraction("0.05")),
            order("limit", side, LIMIT, qty=1, at=100 - 3 * sign),
        )
        market.day(A=(100, 103, 97, 100))
        told = {ident: round((at - 100) * sign, 4) for ident, _, at in market.told()}
        assert told == {
            "market": 0.12,  # 0.1 percent of 100 and two ticks: beyond no limit
            "better": 0.12,
            "near": 0.05,
            "limit": -3,
            "stop": 3.13 if side is BUY else 3.12,  # 0.103, up; 0.097, up to a tick
        }


def test_slippage_is_a_cost_and_may_go_beyond_the_range_of_the_bar():
    market = Market(slippage_ticks=1)
    market.decide(order("a"))
    market.day(A=(100, 100, 100, 100))
    assert market.told() == [("a", 100, 100.01)]
    assert market.ledger.unrealised == -MONEY


# -- quotes


def quotes(*offers, at=0, symbol="A"):
    made = []
    for bid, ask, *sizes in offers:
        bid_size, ask_size = (each * QUANTITY for each in sizes) if sizes else (None, None)
        made.append(
            Quote(
                symbol,
                at,
                None if bid is None else price(bid),
                None if ask is None else price(ask),
                bid_size,
                ask_size,
            )
        )
    return QuotesSeen(at, made)


def quoted(**rules):
    return Market(leverage=Fraction(4), fills_by=FillSource.QUOTES, **rules)


def test_a_market_order_fills_at_the_ask_or_bid_of_the_first_quote_at_its_decision_or_later():
    market = quoted()
    market.play(quotes((99, 101)))
    market.decide(order("a"), order("b", SELL, qty=40))
    market.day(A=(100, 101, 99, 100))
    assert market.fills == [], "bars fill nothing where quotes do"
    market.play(quotes((98, 102), at=DAY))
    assert market.told() == [("a", 100, 102), ("b", 40, 98)]
    assert market.fills[0].at_ms == DAY


def test_quotes_fill_nothing_where_bars_do():
    market = Market()
    market.decide(order("a"))
    market.play(quotes((99, 101)))
    assert market.fills == []


def test_limits_and_stops_fill_by_the_side_that_they_trade_with():
    market = quoted()
    market.decide(
        order("limit", kind=LIMIT, at=100),
        order("stop", SELL, STOP, at=98),
        order("target", SELL, LIMIT, at=103),
    )
    market.play(quotes((99, 101)))
    assert market.fills == []
    market.play(quotes((97.5, 99.5), at=1))
    assert market.told() == [("limit", 100, 99.5), ("stop", 100, 97.5)]
    market.play(quotes((103, 104), at=2))
    assert market.told()[2:] == [("target", 100, 103)]


def test_no_more_fills_than_the_size_at_a_quote_by_submission_and_the_rest_follows():
    market = quoted()
    market.decide(
        order("a", qty=80),
        order("b", qty=80),
        order("c", SELL, qty=80),
        order("stop", BUY, STOP, qty=30, at=100),
    )
    market.play(quotes((99, 101, 50, 100), (99, 102, 0, 10)))
    assert market.told() == [("a", 80, 101), ("b", 20, 101), ("c", 50, 99), ("b", 10, 102)]
    market.play(quotes((97, 98, 500, 500), at=1))  # the stop was triggered
    assert market.told()[4:] == [("b", 50, 98), ("c", 30, 97), ("stop", 30, 98)]


def test_a_crossed_or_missing_side_fills_nothing_and_an_ioc_order_ends_with_its_first_quote():
    market = quoted()
    market.decide(order("a"), order("b", tif=TimeInForce.IOC, qty=50))
    market.play(quotes((102, 101)))
    assert market.fills == []
    market.play(quotes((99, None), at=1))
    market.play(quotes((99, 101), at=2))
    assert market.told() == [("a", 100, 101)]
    assert market.refused() == [("b", RefusalReason.EXPIRED)]


def test_exits_live_from_the_next_quote_on():
    market = quoted()
    market.decide(*bracket())
    market.play(quotes((90, 120)))
    market.play(quotes((94, 96), at=1))
    assert market.told() == [("entry", 100, 120), ("stop", 100, 94)]
    assert market.held() == 0
