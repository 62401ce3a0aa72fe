"""Schedules: what is one, and when it comes round, also in the nights in which clocks change."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.truth import parse_truth
from marketswarm.truth.schedule import (
    REFERENCE,
    JobRule,
    Schedule,
    ScheduleError,
    parse_schedule,
    require_time_zone,
)

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def at(text: str) -> float:
    """Return a time in UTC, such as `2026-03-29 01:00`, in epoch seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def show(times) -> list[str]:
    return [datetime.fromtimestamp(each, UTC).strftime("%m-%d %H:%M") for each in times]


# -- the nights in which clocks change; all times in UTC

SPRING_AND_AUTUMN = [
    # 02:00 becomes 03:00 at 01:00 UTC: a job at 02:30 runs right after the skipped hour
    ("30 2 * * *", BERLIN, "2026-03-27 12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
    ("0 3 * * *", BERLIN, "2026-03-27 12:00", ["03-28 02:00", "03-29 01:00", "03-30 01:00"]),
    ("0 * * * *", BERLIN, "2026-03-29 00:30", ["03-29 01:00", "03-29 02:00", "03-29 03:00"]),
    ("*/30 * * * *", BERLIN, "2026-03-29 00:00", ["03-29 00:30", "03-29 01:00", "03-29 01:30"]),
    # 03:00 becomes 02:00 at 01:00 UTC: what is fixed runs in the first of the two hours only
    ("30 2 * * *", BERLIN, "2026-10-24 12:00", ["10-25 00:30", "10-26 01:30"]),
    ("30 2 * * *", BERLIN, "2026-10-25 01:10", ["10-26 01:30"]),  # begun at 02:10, for the second time
    ("0 1-4 * * *", BERLIN, "2026-10-24 22:30", ["10-24 23:00", "10-25 00:00", "10-25 02:00", "10-25 03:00"]),
    ("0 * * * *", BERLIN, "2026-10-24 23:30", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
    ("*/30 * * * *", BERLIN, "2026-10-25 00:00", ["10-25 00:30", "10-25 01:00", "10-25 01:30"]),
    # 02:00 becomes 03:00 at 07:00 UTC, and in autumn 01:00 at 06:00 UTC
    ("30 2 * * *", NEW_YORK, "2026-03-07 12:00", ["03-08 07:00", "03-09 06:30"]),
    ("0 * * * *", NEW_YORK, "2026-03-08 05:30", ["03-08 06:00", "03-08 07:00", "03-08 08:00"]),
    ("*/30 * * * *", NEW_YORK, "2026-03-08 06:10", ["03-08 06:30", "03-08 07:00", "03-08 07:30"]),
    ("30 1 * * *", NEW_YORK, "2026-10-31 12:00", ["11-01 05:30", "11-02 06:30"]),
    ("30 2 * * *", NEW_YORK, "2026-10-31 12:00", ["11-01 07:30", "11-02 07:30"]),
    ("0 * * * *", NEW_YORK, "2026-11-01 04:30", ["11-01 05:00", "11-01 06:00", "11-01 07:00"]),
    # half an hour: 02:00 becomes 02:30 at 15:30 UTC, and in autumn 01:30 at 15:00 UTC
    ("30 2 * * *", LORD_HOWE, "2026-10-03 00:00", ["10-03 15:30", "10-04 15:30"]),
    ("15 2 * * *", LORD_HOWE, "2026-10-03 00:00", ["10-03 15:30", "10-04 15:15"]),
    ("0 * * * *", LORD_HOWE, "2026-10-03 14:00", ["10-03 14:30", "10-03 16:00", "10-03 17:00"]),
    ("*/30 * * * *", LORD_HOWE, "2026-10-03 15:00", ["10-03 15:30", "10-03 16:00", "10-03 16:30"]),
    ("45 1 * * *", LORD_HOWE, "2026-04-04 00:00", ["04-04 14:45", "04-05 15:15"]),
    ("0 * * * *", LORD_HOWE, "2026-04-04 13:30", ["04-04 14:00", "04-04 15:30", "04-04 16:30"]),
    ("*/30 * * * *", LORD_HOWE, "2026-04-04 14:10", ["04-04 14:30", "04-04 15:00", "04-04 15:30"]),
    # a timer of systemd leaves the skipped hour out
    ("02:30", BERLIN, "2026-03-27 12:00", ["03-28 01:30", "03-30 00:30"]),
    ("02:30", BERLIN, "2026-10-24 12:00", ["10-25 00:30", "10-26 01:30"]),
]


@pytest.mark.parametrize(("expression", "zone", "after", "runs"), SPRING_AND_AUTUMN)
def test_the_nights_in_which_clocks_change(expression, zone, after, runs):
    assert show(islice(Schedule(expression, zone).runs_after(at(after)), len(runs))) == runs


@given(
    st.sampled_from(
        [each[0] for each in SPRING_AND_AUTUMN]
        + [
            "*/7 3-5 * * MON",
            "hourly",
            "*-*-* 0/3:15",
            "Sun 02:30",
            "0 12 * 1,7 *",
            "0 3 * 6-8 *",
            "* * * 12 *",
        ]
    ),
    st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, "UTC", "Antarctica/Troll", "America/Santiago"]),
    st.integers(int(at("2024-01-01")), int(at("2030-01-01"))),
)
def test_runs_come_one_after_the_other_with_no_pause_longer_than_the_longest(expression, zone, after):
    schedule = Schedule(expression, zone)
    runs = [after, *islice(schedule.runs_after(after), 5)]
    assert len(runs) == 6
    slack_sec = 2 * 3600  # clocks that change within a pause
    for earlier, later in pairwise(runs):
        assert 0 < later - earlier <= schedule.longest_pause_sec() + slack_sec


# -- what is a schedule


@pytest.mark.parametrize(
    ("expression", "next_run"),
    [
        ("0 3 * * *", "01-01 03:00"),
        ("0 3 * * MON-FRI", "01-01 03:00"),
        ("15 14 1 * *", "01-01 14:15"),
        ("0 0 L * *", "01-31 00:00"),
        ("Mon..Fri 18:30", "01-01 18:30"),
        ("*-*-01 04:00", "01-01 04:00"),
        ("daily", "01-02 00:00"),
        ("hourly", "01-01 01:00"),
    ],
)
def test_cron_and_systemd_are_told_apart_by_the_number_of_fields(expression, next_run):
    schedule = parse_schedule(expression)
    first = schedule.next_run(REFERENCE)
    assert first is not None
    assert show([first]) == [next_run]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "is not a schedule, such as"),
        ("x" * 201, "is not a schedule, such as"),
        ("0 3 *\n* *", "is not a schedule, such as"),
        ("60 3 * * *", "is not a cron expression: bad minute"),
        ("0 3 * * FUN", "is not a cron expression: bad day-of-week"),
        ("0 0 30 2 *", "is not a cron expression: bad day-of-month"),
        ("0 3 * *", "is neither a cron expression of five fields nor one of systemd's"),
        ("0 0 3 * * *", "is neither a cron expression of five fields nor one of systemd's"),
        ("every night", "is neither a cron expression of five fields nor one of systemd's"),
        ("@dayly", 'did you mean "@daily"'),
        ("@DAILY", 'did you mean "@daily"'),
        ("@reboot", "is not a schedule: the names of cron are @yearly, @annually, @monthly, @weekly,"),
        ("0\x0b3 * * *", "is not a schedule, such as"),
        ("02:30 Europe/Berlin", "names a time zone: write that as time_zone"),
        ("2025-01-01 03:00", "never comes round"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(expression, message):
    with pytest.raises(ScheduleError, match=message.replace("(", r"\(")):
        parse_schedule(expression)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("0\t3 *\t\t* 1-5", "0 3 * * 1-5"),
        (" 0  3 * * * ", "0 3 * * *"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_name_of_cron_and_tabs_mean_the_five_fields_and_stay_as_they_were_written(name, fields, zone):
    found, plain = parse_schedule(name, zone), parse_schedule(fields, zone)
    assert found.expression == name
    for after in (REFERENCE, at("2025-03-29 12:00"), at("2025-10-25 12:00")):
        assert list(islice(found.runs_after(after), 40)) == list(islice(plain.runs_after(after), 40))
    assert found.longest_pause_sec() == plain.longest_pause_sec()


@given(st.text(max_size=30) | st.from_regex(r"[0-9*/,L#W-]{1,6}( [0-9A-Z*/,L#-]{1,5}){2,5}", fullmatch=True))
def test_no_text_whatever_makes_another_error(text):
    try:
        schedule = parse_schedule(text)
    except ScheduleError:
        return
    assert schedule.longest_pause_sec() > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Europe/Berln", 'did you mean "Europe/Berlin"'),
        ("Berlin", 'did you mean "Europe/Berlin"'),
        ("../../etc/passwd", "such as"),
        ("", "such as"),
        ("\0", "such as"),
        ("Europe", "is not a time zone"),
    ],
)
def test_a_zone_that_does_not_exist_is_refused_with_the_nearest_one(name, message):
    with pytest.raises(ScheduleError, match=message):
        require_time_zone(name)


def test_a_schedule_that_has_ended_has_no_next_run():
    schedule = parse_schedule("2024..2026-01-01 03:00")
    assert schedule.next_run(at("2025-06-01")) == at("2026-01-01 03:00")
    assert schedule.next_run(at("2026-06-01")) is None


def test_a_time_that_no_calendar_has_gives_no_run():
    assert Schedule("0 3 * * *", BERLIN).next_run(1e18) is None


@pytest.mark.parametrize(
    ("expression", "zone", "hours"),
    [
        ("* * * * *", "UTC", 1 / 60),
        ("0 3 * * *", "UTC", 24),
        ("0 3 * * *", BERLIN, 25),
        ("0 3 * * MON", "UTC", 7 * 24),
        ("0 0 29 2 *", "UTC", 4 * 365 * 24 + 24),
        ("0 12 * 1,7 *", "UTC", 156 * 24),  # 154 days from 31 July, and up to two more
        ("* * * 12 *", "UTC", 336 * 24),  # from 31 December
        ("18:30", BERLIN, 25),
        ("02:30", BERLIN, 24 + 23.5 + 1),  # a timer leaves out the night in which 02:30 is skipped
        ("Mon..Sat 02:30", BERLIN, 49),  # clocks change on a Sunday
        ("Sun 02:30", BERLIN, 2 * 168 - 0.5 + 1),
        ("*:0/15", BERLIN, 0.25),
    ],
)
def test_the_longest_pause_is_measured(expression, zone, hours):
    assert Schedule(expression, zone).longest_pause_sec() == pytest.approx(hours * 3600)


@pytest.mark.parametrize("expression", ["*/5 9-17 * * MON-FRI", "* 3 1 1 *", "0 3 * 6-8 *", "*/5 * 1-7 * *"])
def test_a_pause_that_few_runs_do_not_show_is_found(expression):
    schedule = Schedule(expression)
    seen = [REFERENCE, *islice(schedule.runs_after(REFERENCE), 4000)]
    longest_sec = max(later - earlier for earlier, later in pairwise(seen[1:]))
    assert longest_sec <= schedule.longest_pause_sec() <= longest_sec + 16 * 86400


def test_a_job_without_a_schedule_has_no_longest_silence():
    assert JobRule(max_run_sec=5.0).longest_silence_sec() is None
    assert JobRule(Schedule("0 3 * * *"), 600.0).longest_silence_sec() == 24 * 3600 + 600


def test_jobs_with_times_of_their_own_share_the_measured_pause():
    """Measured one by one, these would take a minute."""
    schedules = [f"{n % 60} {n // 60 % 24} * 8 {n % 7}" for n in range(10_000)]
    pauses = {parse_schedule(each).longest_pause_sec() for each in schedules}
    assert len(pauses) <= 7
    assert min(pauses) > 334 * 86400
    assert {parse_schedule(f"{minute} */2 * * *").longest_pause_sec() for minute in range(60)} == {7200.0}
    assert parse_schedule("0,20 7 * * *").longest_pause_sec() == 86400 - 1200


def test_the_pauses_of_all_schedules_are_measured_where_a_truth_is_parsed(monkeypatch):
    beat = {"schedule": "Mon..Fri 02:17:39", "time_zone": "America/St_Johns"}
    truth = parse_truth(orjson.dumps({"services": {"a": {"heartbeat": beat}}})).truth

    def refuse(*_args):
        raise AssertionError("on the event loop, a search for runs would hold up all else")

    monkeypatch.setattr(Schedule, "runs_after", refuse)
    assert [watch.interval_sec for watch in truth.watched()] == [pytest.approx(73 * 3600, abs=2 * 3600)]
