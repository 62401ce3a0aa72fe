"""What the beats say of market data: true, short, and nothing where nobody wants any."""

from services.massive.market.bars import MINUTE_MS, Bar
from services.massive.market.status import STREAMING, MarketStatus


def live():
    standing = MarketStatus()
    standing.clear("live")
    standing.symbols = 5
    return standing


def bar(source="ws"):
    return Bar("AAPL", MINUTE_MS, 1, 1, 1, 1, 1, None, source)


def test_nobody_wants_any_and_nothing_is_said():
    standing = MarketStatus()
    assert (standing.remark(), standing.trouble(), standing.stream()) == (None, None, None)


def test_a_stream_that_is_well_says_what_it_did():
    standing = live()
    standing.began()
    standing.told([bar()], 1, 0)
    assert (standing.remark(), standing.trouble()) == ("market live: 5 symbols, 1 bar", None)
    assert standing.stream() == STREAMING


def test_what_is_not_told_yet_is_named_up_to_three():
    standing = live()
    standing.began()
    standing.unheld = ["A", "B", "C", "D", "E"]
    assert standing.remark() == "market live: 5 symbols, 0 bars; not told yet: A, B, C and 2 more"


def test_gaps_are_named_once_they_could_not_be_filled():
    standing = live()
    standing.began()
    standing.gaps = 2
    assert standing.remark() == "market live: 5 symbols, 0 bars"
    standing.unfilled = "http_403"
    assert standing.remark() == "market live: 5 symbols, 0 bars; 2 gaps open: http_403"


def test_a_cut_is_a_remark_and_the_third_in_a_row_a_trouble():
    standing = live()
    standing.began()
    standing.over("cut", steady=True)
    assert (standing.remark(), standing.trouble()) == ("market data: connecting again after cut", None)
    standing.over("refused", steady=False)
    assert standing.trouble() is None
    standing.over("refused", steady=False)
    assert (standing.remark(), standing.trouble()) == (None, "market data: refused, 3 times in a row")
    assert standing.stream() == "refused"
    standing.began()
    assert standing.trouble() is None


def test_a_key_that_will_not_do_is_a_trouble_at_once():
    for reason in ("auth_failed", "max_connections", "http_403"):
        standing = live()
        standing.over(reason, steady=False)
        assert standing.trouble() == f"market data: {reason}, 1 time in a row"


def test_what_is_counted_outlives_another_work():
    standing = live()
    standing.began()
    standing.told([bar()], 1, 3 * MINUTE_MS)
    standing.told([bar("rest")], 1, 3 * MINUTE_MS)
    standing.clear("off")
    told = {family.name: dict(family.values) for family in standing.collect()}
    assert told["marketswarm_massive_bars_total"] == {("ws",): 1.0, ("rest",): 1.0}
    assert told["marketswarm_massive_market_newest_bar_timestamp_seconds"] == {(): 2 * MINUTE_MS / 1000}
    assert standing.lag.sum == 60.0
