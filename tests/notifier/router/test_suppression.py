"""Maintenance windows go by the clocks of their zone, also in the nights in which those are changed."""

from datetime import datetime
from itertools import takewhile

import pytest
from pydantic import ValidationError

from marketswarm.operator.maintenance import MaintenanceWindow, is_window_open
from marketswarm.truth.schedule import Schedule
from notifier.router import suppression
from notifier.router.incident import Decision
from notifier.router.suppression import HIGH, LOW, compute_flap_ratio, is_flapping
from support.simulation.router import Town

WINDOW_SEC = 600.0


def changes(count: int, every_sec: float, until: float = 1000.0) -> list[float]:
    return [until - every_sec * n for n in reversed(range(count))]


def test_it_takes_six_changes_in_a_row_to_begin():
    assert not is_flapping(changes(5, 0), 1000.0, WINDOW_SEC, already=False)
    assert is_flapping(changes(6, 0), 1000.0, WINDOW_SEC, already=False)


def test_slow_changes_are_no_flapping():
    assert not is_flapping(changes(20, 300), 1000.0, WINDOW_SEC, already=False)


def test_what_flaps_ceases_later_than_it_would_begin():
    found = changes(20, 1)
    levels = [compute_flap_ratio(found, 1000.0 + sec, WINDOW_SEC) for sec in range(0, 700, 10)]
    assert levels == sorted(levels, reverse=True)
    ceases = next(sec for sec, level in zip(range(0, 700, 10), levels, strict=True) if level < LOW)
    would_begin = next(sec for sec, level in zip(range(0, 700, 10), levels, strict=True) if level < HIGH)
    assert would_begin < ceases
    assert is_flapping(found, 1000.0 + ceases - 10, WINDOW_SEC, already=True)
    assert not is_flapping(found, 1000.0 + ceases, WINDOW_SEC, already=True)


def test_only_the_last_twenty_count_and_nothing_is_beyond_one():
    assert compute_flap_ratio(changes(500, 0), 1000.0, WINDOW_SEC) == 1.0
    assert compute_flap_ratio([2000.0], 1000.0, WINDOW_SEC) <= 1 / 20, "a change in the future is as one now"
    assert compute_flap_ratio([], 1000.0, WINDOW_SEC) == 0.0


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
    assert is_window_open(MaintenanceWindow(**NIGHT), at(when)) is is_so


@pytest.mark.parametrize(
    ("when", "is_so"),
    [
        ("2026-11-01T05:14:59+00:00", False),
        ("2026-11-01T05:15:00+00:00", True),  # the first 01:15, in summer's time: until 01:45 of winter's
        ("2026-11-01T06:44:59+00:00", True),
        ("2026-11-01T06:45:00+00:00", False),
        ("2026-11-01T07:15:00+00:00", True),  # 02:15, of which there is one
        ("2026-11-01T07:35:00+00:00", True),
        ("2026-11-01T08:44:59+00:00", True),
        ("2026-11-01T08:45:00+00:00", False),
    ],
)
def test_a_window_stays_open_in_the_second_pass_of_a_repeated_hour(when, is_so):
    window = MaintenanceWindow(at="15 1,2 * * *", for_sec=90 * 60, tz="America/New_York")
    assert is_window_open(window, at(when)) is is_so


@pytest.mark.parametrize("minutes", [25, 90])
@pytest.mark.parametrize("cron", ["15 1,2 * * *", "*/20 * * * *", "50 0-2 * * *", "30 1 * * SUN"])
def test_a_window_is_open_for_its_length_after_each_of_its_beginnings_and_at_no_other_time(cron, minutes):
    window = MaintenanceWindow(at=cron, for_sec=minutes * 60, tz="America/New_York")
    begin = at("2026-11-01T03:00:00+00:00")
    runs = list(
        takewhile(lambda run: run < begin + 8 * 3600, Schedule(cron, window.tz).runs_after(begin - 86_400))
    )
    for now in range(int(begin), int(begin) + 8 * 3600, 300):
        assert is_window_open(window, now) is any(run <= now < run + window.for_sec for run in runs), now


def test_a_window_may_be_longer_than_a_day():
    weekend = MaintenanceWindow(at="0 18 * * FRI", for_sec=60 * 3600)
    assert is_window_open(weekend, at("2026-07-05T12:00:00+00:00"))
    assert not is_window_open(weekend, at("2026-07-06T06:00:00+00:00"))


def test_a_window_is_on_its_services_and_tags_or_on_all():
    by_name = MaintenanceWindow(services=("rss_*",), **NIGHT)
    by_tag = MaintenanceWindow(tags=("ingest",), **NIGHT)
    assert by_name.includes("rss_agg", ())
    assert by_tag.includes("massive", ("ingest",))
    assert not by_name.includes("massive", ())
    assert not by_tag.includes("massive", ())
    assert MaintenanceWindow(**NIGHT).includes("massive", ())


def test_a_window_is_worked_out_once_for_all_that_is_looked_at(monkeypatch):
    worked_out = []

    def counted(window, now):
        worked_out.append(now)
        return is_window_open(window, now)

    monkeypatch.setattr(suppression, "is_window_open", counted)
    town = Town([f"s{n}" for n in range(300)], maintenance=[{"at": "50 12 * * *", "for_sec": 120}])
    for n in range(300):
        assert town.down(f"s{n}") is Decision.MAINTENANCE
    town.run(5)
    assert town.messages == []
    assert len(worked_out) == len(set(worked_out)), "twice for the same time"
    assert len(worked_out) <= 20
    town.run(70)
    assert sum(len(message.events) for _, message, _ in town.messages) >= 300, "told at its end"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"at": "99 * * * *"}, "at: is not a cron expression: bad minute"),
        ({"at": "* * * *"}, "five fields"),
        ({"at": "* * * * * *"}, "five fields"),
        ({"tz": "Europe/Atlantis"}, "is not a time zone"),
        ({"tz": "../../etc/passwd"}, "is not a time zone"),
        ({"for_sec": 0}, "for_sec"),
        ({"for_sec": 8 * 86_400}, "for_sec"),
        ({"until": 5}, "until"),
    ],
)
def test_a_window_that_cannot_be_says_why(changed, said):
    with pytest.raises(ValidationError) as error:
        MaintenanceWindow(**{**NIGHT, **changed})
    assert said in str(error.value)
