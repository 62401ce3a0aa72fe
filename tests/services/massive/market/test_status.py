"""What the beats say of market data: true, short, and nothing where nobody wants any."""

from services.market.massive import ProtocolMachine
from services.market.records import MINUTE_MS, Bar
from services.massive.market.gaps import GapTracker
from services.massive.market.status import STREAMING, MarketStatus


def live():
    status = MarketStatus()
    status.reset("live")
    return status


def connect(status, confirmed="ABCDE", gaps=""):
    """Let it stream five symbols; return the tracker of its gaps."""
    machine, tracker = ProtocolMachine("ABCDE"), GapTracker(0, 0, 10 * MINUTE_MS)
    machine.confirmed.update(confirmed)
    for sym in gaps:
        tracker.start_symbol(sym, MINUTE_MS, 5 * MINUTE_MS, 0)
    status.record_connected(machine, tracker)
    return tracker


BAR = Bar("AAPL", "1m", MINUTE_MS, 1, 1, 1, 1, 1)


def test_nobody_wants_any_and_nothing_is_said():
    status = MarketStatus()
    assert (status.detail(), status.problem(), status.stream_state()) == (None, None, None)


def test_a_stream_that_is_well_says_what_it_did():
    status = live()
    connect(status)
    status.record_published([BAR], "ws", 1, 0)
    assert (status.detail(), status.problem()) == ("market live: 5 symbols, 1 bar", None)
    assert status.stream_state() == STREAMING


def test_what_is_not_told_yet_is_named_up_to_three():
    status = live()
    connect(status, confirmed="")
    assert status.detail() == "market live: 5 symbols, 0 bars; not told yet: A, B, C and 2 more"


def test_gaps_are_named_once_they_could_not_be_filled():
    status = live()
    tracker = connect(status, gaps="AB")
    assert status.detail() == "market live: 5 symbols, 0 bars"
    status.fill_error = "http_403"
    assert status.detail() == "market live: 5 symbols, 0 bars; 2 gaps open: http_403"
    tracker.remove_symbols("AB")
    assert status.detail() == "market live: 5 symbols, 0 bars"


def test_a_key_that_may_not_be_sent_is_a_trouble_until_the_truth_names_another_place():
    status = MarketStatus()
    status.refusal = "the key is not sent to evil.example"
    assert status.problem() == "market data: the key is not sent to evil.example"
    status.reset("live")
    assert status.problem() is None


def test_a_cut_is_a_remark_and_the_third_in_a_row_a_trouble():
    status = live()
    connect(status)
    status.record_disconnected("broken", steady=True)
    assert (status.detail(), status.problem()) == ("market data: connecting again after broken", None)
    status.record_disconnected("refused", steady=False)
    assert status.problem() is None
    status.record_disconnected("refused", steady=False)
    assert (status.detail(), status.problem()) == (None, "market data: refused, 3 times in a row")
    assert status.stream_state() == "refused"
    connect(status)
    assert status.problem() is None


def test_a_key_that_will_not_do_is_a_trouble_at_once():
    for reason in ("auth_failed", "max_connections", "http_403"):
        status = live()
        status.record_disconnected(reason, steady=False)
        assert status.problem() == f"market data: {reason}, 1 time in a row"


def test_what_is_counted_outlives_another_work():
    status = live()
    connect(status)
    status.record_published([BAR], "ws", 1, 3 * MINUTE_MS)
    status.record_published([BAR], "rest", 1, 3 * MINUTE_MS)
    status.reset("off")
    told = {family.name: dict(family.values) for family in status.collect()}
    assert told["marketswarm_massive_bars_total"] == {("ws",): 1.0, ("rest",): 1.0}
    assert told["marketswarm_massive_market_newest_bar_timestamp_seconds"] == {(): 2 * MINUTE_MS / 1000}
    assert status.lag.sum == 60.0
