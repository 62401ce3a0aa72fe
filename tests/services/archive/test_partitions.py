"""Which partition holds a time, and which are too old."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.archive.partitions import (
    TIME_COLUMNS,
    find_partition,
    list_ahead,
    list_expired,
    parse_partition,
)

TIMES = st.datetimes(datetime(1800, 1, 1), datetime(2099, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001 - Hypothesis wants them bare


@given(TIMES)
def test_each_time_is_in_the_partition_that_is_found_for_it_and_in_no_other(at):
    found = find_partition("bars", at)
    assert found.begins <= at < found.ends
    assert parse_partition(found.name) == found
    assert find_partition("bars", found.begins) == found
    assert find_partition("bars", found.ends - timedelta(microseconds=1)) == found
    assert find_partition("bars", found.ends) != found


def test_what_is_long_ago_shares_a_partition():
    names = [
        find_partition("bars", datetime(year, 6, 1, tzinfo=UTC)).name for year in (1850, 1985, 2013, 2026)
    ]
    assert names == ["bars_before_1970", "bars_1980s", "bars_2013", "bars_2026_06"]


def test_foreign_names_are_no_partitions_of_ours():
    for name in (
        "bars",
        "bars_2026",
        "bars_2026_13",
        "bars_2026_00",
        "bars_1985s",
        "quotes_2013_01",
        "pg_2026_01",
    ):
        assert parse_partition(name) is None, name


def test_partitions_are_made_for_this_month_and_the_next_two():
    names = {each.name for each in list_ahead(datetime(2026, 12, 31, 23, tzinfo=UTC))}
    assert names == {
        f"{table}_{month}" for table in TIME_COLUMNS for month in ("2026_12", "2027_01", "2027_02")
    }


def test_only_what_lies_wholly_before_is_too_old_and_a_table_without_a_limit_is_kept():
    names = ["quotes_2026_08", "quotes_2026_09", "quotes_2026_10", "bars_2020_01", "quotes_1990s", "mine"]
    since = {"quotes": datetime(2026, 10, 1, tzinfo=UTC)}
    assert {each.name for each in list_expired(names, since)} == {
        "quotes_2026_08",
        "quotes_2026_09",
        "quotes_1990s",
    }
