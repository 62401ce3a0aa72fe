"""Which of several rows with one key stays."""

from itertools import permutations

import pytest

from services.market.fields import EntryError
from services.market.records import DAY_MS
from services.tables.rows import ActionRow, BarRow, IndicatorRow, ObservationRow, QuoteRow
from services.tables.tables import (
    ACTION_TABLE,
    BAR_TABLE,
    INDICATOR_TABLE,
    OBSERVATION_TABLE,
    QUOTE_TABLE,
    SOURCE_BAR_TABLE,
    TABLES,
    keep_highest,
)

START = 1_792_972_800_000


def bar(rev, final, close=1.0, symbol="SPY"):
    return BarRow(
        symbol, "1m", START, 1.0, 2.0, 0.5, close, None, None, None, final, rev, 0, "yahoo", None, None, False
    )


def quote(price, asked_at):
    return QuoteRow("SPY", START, price, None, None, None, None, None, "yahoo", asked_at, None, False)


def test_the_highest_revision_stays_and_among_equal_ones_the_final_one():
    rows = [bar(0, True), bar(1, False), bar(1, True), bar(1, False), bar(0, False)]
    for order in permutations(rows):
        assert keep_highest(BAR_TABLE, order) == [bar(1, True)]


def test_of_bars_of_one_revision_the_later_entry_stays():
    """A bus that lost its last second may count a correction as the first revision."""
    early, late = (bar(0, True)._replace(stream_position=position) for position in (5, 6))
    assert keep_highest(BAR_TABLE, [late, early]) == keep_highest(BAR_TABLE, [early, late]) == [late]


def test_the_newest_answer_stays_and_one_of_unknown_time_is_the_oldest():
    rows = [quote(9.0, None), quote(2.0, START), quote(0.5, START + 1000)]
    for order in permutations(rows):
        assert keep_highest(QUOTE_TABLE, order) == [rows[2]]
    assert keep_highest(QUOTE_TABLE, rows[:2]) == [rows[1]]


def test_of_two_quotes_or_observations_of_one_answer_the_later_entry_stays():
    first = quote(2.0, START)._replace(bid=1.5, stream_position=5)
    same_price = first._replace(bid=1.75, stream_position=6)
    lower = first._replace(price=1.0, stream_position=7)
    for order in permutations([first, same_price, lower]):
        assert keep_highest(QUOTE_TABLE, order) == [lower]
    assert keep_highest(QUOTE_TABLE, [same_price, first]) == [same_price]
    high = ObservationRow("US.CPI", START, 9.0, START, "fred", START, None, False, 5)
    corrected = high._replace(value=3.0, stream_position=6)
    assert keep_highest(OBSERVATION_TABLE, [corrected, high]) == [corrected]


def test_of_an_action_the_newest_answer_stays_also_if_that_withdraws_it():
    paid = ActionRow("SPY", "2026-10-26", "dividend", None, 1.5, None, False, "x", START, None, False, 5)
    gone = paid._replace(amount=None, withdrawn=True, asked_at=START + 1, stream_position=6)
    split = paid._replace(kind="split", ratio=2.0, amount=None)
    for order in permutations([paid, gone, split]):
        assert keep_highest(ACTION_TABLE, order) == [gone, split]


def test_an_action_whose_day_lies_ahead_is_refused():
    """START is at midnight."""
    row = ActionRow("SPY", "2026-10-27", "split", 2.0, None, None, False, "x", START, None, False)
    ACTION_TABLE.require_past(row, START)
    with pytest.raises(EntryError, match="ex_day"):
        ACTION_TABLE.require_past(row._replace(ex_day="2026-10-28"), START)
    ACTION_TABLE.require_past(row._replace(ex_day="2026-10-28"), START + DAY_MS)


def test_values_of_the_same_revision_are_replaced_by_later_ones():
    early, late = (
        IndicatorRow("SPY", "1m", START, 1, 0, True, False, None, "{}", position) for position in (5, 6)
    )
    assert keep_highest(INDICATOR_TABLE, [late, early]) == [late]


def test_what_was_counted_anew_after_a_loss_replaces_any_revision_before_it():
    lost, anew = (
        bar(7, False)._replace(epoch=10, stream_position=5),
        bar(4, True)._replace(epoch=11, stream_position=6),
    )
    assert keep_highest(BAR_TABLE, [lost, anew]) == keep_highest(BAR_TABLE, [anew, lost]) == [anew]


def test_a_row_that_does_not_say_since_when_it_is_known_keeps_that_of_the_row_that_it_replaces():
    old = bar(7, True)._replace(known_at=START + 5, stream_position=5)
    anew = bar(0, True, close=1.5)._replace(epoch=11, stream_position=6)
    again = anew._replace(epoch=12)
    corrected = anew._replace(epoch=13, known_at=START + 9)
    assert keep_highest(BAR_TABLE, [old, anew, again]) == [again._replace(known_at=START + 5)]
    assert keep_highest(BAR_TABLE, [old, anew, corrected]) == [corrected]
    for table in (BAR_TABLE, SOURCE_BAR_TABLE, INDICATOR_TABLE):
        assert '"known_at" = coalesce(excluded."known_at", old."known_at")' in table.merge_sql


def test_rows_are_written_in_the_order_of_their_keys():
    rows = [bar(0, True, symbol=symbol) for symbol in ("SPY", "A", "QQQ")]
    assert [row.symbol for row in keep_highest(BAR_TABLE, rows)] == ["A", "QQQ", "SPY"]


def test_every_table_has_a_key_among_its_columns():
    for table in TABLES:
        assert set(table.key) <= set(table.columns)
        assert f"INTO {table.name} " in table.merge_sql
        assert "new." not in table.merge_sql
