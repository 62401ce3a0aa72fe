# ruff: noqa: E501 - the expected lines are exact; cut in two they could not be read
"""Each mistake that a heartbeat or the schedule of a job can hold, and what is said about it."""

import orjson
import pytest

from marketswarm.truth import JobRule, Schedule
from marketswarm.truth.parse import check_document
from support.truth_mistakes import beat, by_name, hold_to_lines, one

MISTAKES = [
    (
        "a heartbeat that is text",
        one(heartbeat="rss_agg:heartbeat"),
        ['services.rss_agg.heartbeat: "rss_agg:heartbeat" is not an object'],
    ),
    (
        "a negative interval",
        beat(interval_sec=-5),
        ["services.rss_agg.heartbeat.interval_sec: -5 is not a positive number of seconds"],
    ),
    (
        "an interval of zero",
        beat(interval_sec=0),
        ["services.rss_agg.heartbeat.interval_sec: 0 is not a positive number of seconds"],
    ),
    (
        "an interval in quotes",
        beat(interval_sec="10"),
        ['services.rss_agg.heartbeat.interval_sec: "10" is not a positive number of seconds'],
    ),
    (
        "an interval that is true",
        beat(interval_sec=True),
        ["services.rss_agg.heartbeat.interval_sec: true is not a positive number of seconds"],
    ),
    (
        "an interval that is null",
        beat(interval_sec=None),
        ["services.rss_agg.heartbeat.interval_sec: null is not a positive number of seconds"],
    ),
    (
        "an interval that is a list",
        beat(interval_sec=[10]),
        ["services.rss_agg.heartbeat.interval_sec: a list is not a positive number of seconds"],
    ),
    (
        "an interval that is NaN",
        '{"services": {"rss_agg": {"heartbeat": {"interval_sec": NaN}}}}',
        ["services.rss_agg.heartbeat.interval_sec: NaN is not a positive number of seconds"],
    ),
    (
        "an interval without end",
        '{"services": {"rss_agg": {"heartbeat": {"interval_sec": 1e999}}}}',
        ["services.rss_agg.heartbeat.interval_sec: Infinity is not a positive number of seconds"],
    ),
    (
        "an interval of five thousand digits",
        '{"services": {"rss_agg": {"heartbeat": {"interval_sec": ' + "9" * 5000 + "}}}}",
        ["services.rss_agg.heartbeat.interval_sec: Infinity is not a positive number of seconds"],
    ),
    (
        "an interval of forty digits",
        '{"services": {"rss_agg": {"heartbeat": {"interval_sec": ' + "9" * 40 + "}}}}",
        [
            "services.rss_agg.heartbeat.interval_sec: a number of more than 30 digits is more than a year of seconds (31536000)"
        ],
    ),
    (
        "an interval of a century",
        beat(interval_sec=3153600000, timeout_sec=30000000),
        ["services.rss_agg.heartbeat.interval_sec: 3153600000 is more than a year of seconds (31536000)"],
    ),
    (
        "an interval of a nanosecond",
        beat(interval_sec=1e-9),
        ["services.rss_agg.heartbeat.interval_sec: 1e-09 is less than a millisecond (0.001)"],
    ),
    (
        "a timeout not above the interval",
        beat(interval_sec=10, timeout_sec=10),
        ["services.rss_agg.heartbeat.timeout_sec: 10 is not above interval_sec (10): write 30 or more"],
    ),
    (
        "an interval not below the default timeout",
        beat(interval_sec=30),
        [
            "services.rss_agg.heartbeat.interval_sec: the timeout of 30, from the default, is not above interval_sec (30): write 10 or less, or a timeout_sec beside it"
        ],
    ),
    (
        "an interval not below the cadence",
        {
            "services": {
                "rss_agg": {"heartbeat": {"interval_sec": 60}},
                "healer": {"threshold": {"heartbeat_cadence": 45}},
            }
        },
        [
            "services.rss_agg.heartbeat.interval_sec: the timeout of 45, from services.healer.threshold.heartbeat_cadence, is not above interval_sec (60): write 15 or less, or a timeout_sec beside it"
        ],
    ),
    (
        "a channel that is a number",
        beat(channel=7),
        [
            "services.rss_agg.heartbeat.channel: 7 is not the name of a key or channel: 1 to 200 characters, no spaces"
        ],
    ),
    (
        "an empty channel",
        beat(channel=""),
        [
            'services.rss_agg.heartbeat.channel: "" is not the name of a key or channel: 1 to 200 characters, no spaces'
        ],
    ),
    (
        "a channel with spaces",
        beat(channel="rss agg"),
        [
            'services.rss_agg.heartbeat.channel: "rss agg" is not the name of a key or channel: 1 to 200 characters, no spaces'
        ],
    ),
    (
        "monitored in quotes",
        beat(monitored="yes"),
        ['services.rss_agg.heartbeat.monitored: "yes" is not true or false'],
    ),
    (
        "a heartbeat key misspelt",
        beat(intervall_sec=10),
        ['services.rss_agg.heartbeat.intervall_sec: is not a known key (did you mean "interval_sec"?)'],
    ),
    (
        "a heartbeat key from nowhere",
        beat(zzz=10),
        [
            "services.rss_agg.heartbeat.zzz: is not a known key (known: channel, interval_sec, redis_url, timeout_sec, monitored, schedule, time_zone, grace_sec, max_run_sec)"
        ],
    ),
]


@by_name(MISTAKES)
def test_a_mistake_in_a_heartbeat_is_told_with_its_path_and_what_would_be_right(document, lines):
    hold_to_lines(document, lines)


def job(**heartbeat) -> dict:
    return {"services": {"backup": {"heartbeat": {"schedule": "0 3 * * *", **heartbeat}}}}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (job(interval_sec=10), "interval_sec: 10 beside a schedule, which says when: leave it out"),
        (job(timeout_sec=90), "timeout_sec: 90 beside a schedule, which says when: leave it out"),
        (job(schedule="61 * * * *"), 'schedule: "61 * * * *" is not a cron expression: bad minute'),
        (job(schedule=5), "schedule: 5 is not a schedule, such as"),
        (job(schedule="@dayly"), '"@dayly" is not a schedule (did you mean "@daily"?)'),
        (job(time_zone="Europe/Berln"), '"Europe/Berln" is not a time zone (did you mean "Europe/Berlin"?)'),
        (job(time_zone=1), "time_zone: 1 is not a time zone"),
        (job(grace_sec=0), "grace_sec: 0 is not a positive number of seconds"),
        (job(max_run_sec="2h"), 'max_run_sec: "2h" is not a positive number of seconds'),
        (job(scedule="x"), 'scedule: is not a known key (did you mean "schedule"?)'),
        ({"services": {"a": {"heartbeat": {"grace_sec": 5}}}}, "grace_sec: is read with a schedule only"),
        ({"services": {"a": {"heartbeat": {"time_zone": "UTC"}}}}, "time_zone: is read with a schedule only"),
        ({"services": {"healer": {"heartbeat": {"schedule": "daily"}}}}, "the healer is no job, it beats"),
    ],
)
def test_what_is_wrong_with_a_job_is_said_with_path_value_and_remedy(document, problem):
    checked = check_document(orjson.dumps(document))
    assert len(checked.errors) == 1
    assert problem in str(checked.errors[0])


def test_a_job_is_watched_with_what_follows_from_its_schedule():
    truth = check_document(orjson.dumps(job(grace_sec=600, max_run_sec=60))).truth
    (watch,) = truth.watched()
    assert watch.job == JobRule(Schedule("0 3 * * *"), 600.0, 60.0)
    assert (watch.interval_sec, watch.timeout_sec) == (86_400.0, 87_000.0)
    assert truth.timeout_of("backup") == watch.timeout_sec


def test_a_longest_run_needs_no_schedule():
    checked = check_document(orjson.dumps({"services": {"a": {"heartbeat": {"max_run_sec": 60}}}}))
    assert not checked.errors
    (watch,) = checked.truth.watched()
    assert (watch.job, watch.interval_sec, watch.timeout_sec) == (JobRule(max_run_sec=60.0), 10.0, 30.0)


def test_a_job_gets_no_warning_about_short_timeouts():
    checked = check_document(orjson.dumps(job()))
    assert (checked.errors, checked.warnings) == ((), ())
