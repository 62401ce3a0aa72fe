"""Maintenance windows go by the clocks of their zone, also in the nights in which those are changed."""

from datetime import datetime

import pytest
from pydantic import ValidationError

from notifier.router.maintenance import is_open, under_maintenance
from notifier.router.policy import Window

NIGHT = {"at": "30 2 * * *", "for_sec": 3600, "tz": "Europe/Zurich"}


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("when", "is_so"),
    [
        ("2026-07-01T00:29:59+00:00", False),
        ("2026-07-01T00:30:00+00:00", True),  # 02:30 in summer
        ("2026-07-01T01:29:59+00:00", True),
        ("2026-07-01T01:30:00+00:00", False),
        ("2026-01-01T00:30:00+00:00", False),
        ("2026-01-01T01:30:00+00:00", True),  # 02:30 in winter
        ("2026-03-29T00:30:00+00:00", False),
        ("2026-03-29T01:00:00+00:00", True),  # there is no 02:30 in this night: it begins at 03:00
        ("2026-03-29T02:00:00+00:00", False),
        ("2026-10-25T00:30:00+00:00", True),  # the first 02:30 of two
        ("2026-10-25T01:29:59+00:00", True),
        ("2026-10-25T01:30:00+00:00", False),
    ],
)
def test_a_window_is_open_from_its_beginning_for_its_length(when, is_so):
    assert is_open(Window(**NIGHT), at(when)) is is_so


def test_a_window_may_be_longer_than_a_day():
    weekend = Window(at="0 18 * * FRI", for_sec=60 * 3600)
    assert is_open(weekend, at("2026-07-05T12:00:00+00:00"))
    assert not is_open(weekend, at("2026-07-06T06:00:00+00:00"))


def test_a_window_is_on_its_services_and_tags_or_on_all():
    now = at("2026-07-01T01:00:00+00:00")
    by_name = Window(services=("rss_*",), **NIGHT)
    by_tag = Window(tags=("ingest",), **NIGHT)
    assert under_maintenance([by_name, by_tag], "rss_agg", (), now) is by_name
    assert under_maintenance([by_name, by_tag], "massive", ("ingest",), now) is by_tag
    assert under_maintenance([by_name, by_tag], "massive", (), now) is None
    assert under_maintenance([Window(**NIGHT)], "massive", (), now) is not None
    assert under_maintenance([by_name], "rss_agg", (), now + 7200) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"at": "99 * * * *"}, "at: Bad minute"),
        ({"at": "* * * *"}, "five fields"),
        ({"at": "* * * * * *"}, "five fields"),
        ({"tz": "Europe/Atlantis"}, "is no time zone"),
        ({"tz": "../../etc/passwd"}, "is no time zone"),
        ({"for_sec": 0}, "for_sec"),
        ({"for_sec": 8 * 86_400}, "for_sec"),
        ({"until": 5}, "until"),
    ],
)
def test_a_window_that_cannot_be_says_why(changed, said):
    with pytest.raises(ValidationError) as error:
        Window(**{**NIGHT, **changed})
    assert said in str(error.value)
