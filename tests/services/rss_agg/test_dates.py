import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.dates import ZONES, read_date
from support.examples import examples


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("1717408800", "2024-06-03T10:00:00Z"),
        ("1717408800.5", "2024-06-03T10:00:00Z"),
        ("1717408800123", "2024-06-03T10:00:00Z"),
        (1717408800, "2024-06-03T10:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00", "2024-06-03T10:00:00Z"),
        ("2024-06-03T10:00:00", "2024-06-03T10:00:00Z"),
        ("2024-06-03T10:00:00+09:00", "2024-06-03T01:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 GMT", "2024-06-03T10:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 -0400", "2024-06-03T14:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 EDT", "2024-06-03T14:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 BST", "2024-06-03T09:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 CEST", "2024-06-03T08:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 JST", "2024-06-03T01:00:00Z"),
        ("Mon, 03 Jun 2024 10:00:00 IST", "2024-06-03T04:30:00Z"),
        ("2024-06-03 10:00:00 JST", "2024-06-03T01:00:00Z"),
        # a zone that nobody knows is UTC
        ("Mon, 03 Jun 2024 10:00:00 XYZ", "2024-06-03T10:00:00Z"),
        ("171740880", ""),
        ("202406031000", ""),
        ("yesterday", ""),
        ("9" * 400, ""),
        ("99999999999999", ""),
        (float("nan"), ""),
        (True, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_a_date_in_any_form_is_an_instant_or_nothing(text, date):
    assert read_date(text) == date


@pytest.mark.parametrize("text", ["2024-06-03T10:00:00", "Mon, 03 Jun 2024 10:00:00"])
def test_a_date_without_a_zone_is_of_utc_wherever_the_machine_is(monkeypatch, text):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert read_date(text) == "2024-06-03T10:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_feedparser_understood_counts_unless_a_zone_has_a_name():
    parsed = (2024, 6, 3, 10, 0, 0, 0, 155, 0)
    assert read_date("3 juin 2024", parsed) == "2024-06-03T10:00:00Z"
    assert read_date("Mon, 03 Jun 2024 10:00:00 JST", parsed) == "2024-06-03T01:00:00Z"
    assert read_date("?", (2024, 13, 3, 10, 0, 0)) == read_date("?", ()) == read_date("?", "abcdef") == ""


def test_all_offsets_are_those_of_places_on_earth():
    assert all(-1200 <= int(offset) <= 1400 for offset in ZONES.values())


@given(st.text(max_size=120) | st.integers() | st.floats())
@settings(max_examples=examples(250))
def test_any_value_is_a_date_or_nothing(value):
    found = read_date(value)
    assert found == "" or (len(found) == 20 and read_date(found) == found)
