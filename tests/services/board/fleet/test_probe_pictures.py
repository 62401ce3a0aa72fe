"""The pictures of a probe's target: a gap is a gap, a failure is seen, and what is shown is said in words."""

import re

import pytest

from marketswarm.status.probe_past import RINGS, ProbeBin, ProbeReading
from services.board.fleet.probe_pictures import (
    HEIGHT,
    WIDTH,
    describe_certificate,
    describe_response,
    draw_certificate,
    draw_response,
    find_top,
    list_steps,
)

NOW = 1_795_402_800.0 + 59 * 60
BEGIN = NOW - 59 * 60
"""The beginning of the first minute of the last hour."""


def minute(number, mean=0.04, most=0.06, *, probes=4, failures=0, days=None):
    times = (mean, most) if failures < probes else (None, None)
    return ProbeBin(BEGIN + 60 * number, 60.0, probes, failures, *times, days)


def path(picture, kind):
    found = re.search(rf'<path class="{kind}" d="([^"]*)"/>', str(picture))
    return found[1] if found else ""


def test_minutes_side_by_side_are_one_line_and_a_gap_breaks_it():
    whole = draw_response([minute(n) for n in range(60)], "hour", NOW)
    assert (path(whole, "l").count("M"), path(whole, "n")) == (1, "")
    broken = draw_response([minute(n) for n in range(60) if not 20 <= n < 30], "hour", NOW)
    assert path(broken, "l").count("M") == 2
    assert path(broken, "n") == f"M240 {HEIGHT - 1}H360"


def test_a_minute_alone_is_seen_and_what_was_before_is_no_zero():
    picture = draw_response([minute(59)], "hour", NOW)
    assert path(picture, "l").startswith("M708 ")
    assert path(picture, "l").endswith(f"H{WIDTH}")
    assert str(HEIGHT) not in path(picture, "l").replace(f"H{WIDTH}", "")
    assert path(picture, "n") == f"M0 {HEIGHT - 1}H708"


@pytest.mark.parametrize(("failures", "height"), [(4, HEIGHT), (2, HEIGHT / 2), (1, HEIGHT / 4)])
def test_a_failure_is_as_high_as_its_share_and_at_least_a_quarter(failures, height):
    picture = draw_response([minute(59, failures=failures)], "hour", NOW)
    assert path(picture, "d") == f"M708 0V{height:g}H{WIDTH}V0Z"
    assert (path(picture, "l") == "") == (failures == 4)


def test_one_failure_in_a_month_is_wide_enough_to_be_seen():
    hour = ProbeBin(NOW // 3600 * 3600, 3600.0, 240, 1, 0.04, 0.06)
    picture = draw_response([hour], "month", NOW)
    assert path(picture, "d").startswith("M717 0")
    assert path(picture, "l").startswith("M717 ")


def test_a_spike_does_not_flatten_what_is_usual():
    assert find_top([minute(1), minute(2, 0.05, 30.0)]) == pytest.approx(0.15)
    assert find_top([minute(1), minute(2, 0.05, 0.08)]) == 0.08
    assert find_top([]) == 1.0


def test_a_picture_is_said_in_words():
    bins = [minute(n) for n in range(50, 59)] + [minute(59, failures=4)]
    assert (
        describe_response(bins, "hour")
        == "40 probes, 40 ms on average, 60 ms at most; 4 failed; not probed for 49 min"
    )
    assert describe_response([minute(n) for n in range(59)], "hour").endswith("; none failed")
    assert describe_response([], "day") == "not probed"
    assert 'aria-label="40 probes, ' in str(draw_response(bins, "hour", NOW))


def test_the_days_of_a_certificate_go_down_until_it_is_replaced():
    length_sec, _ = RINGS["month"]
    last = NOW // length_sec * length_sec
    days = [3.0, 2.9, 2.8, None, 89.9, 89.8]
    bins = [
        ProbeBin(last - length_sec * (5 - n), 3600.0, 1, 0, 0.1, 0.1, each) for n, each in enumerate(days)
    ]
    assert describe_certificate(bins) == "good for 3.0 days at first, for 89.8 days now; replaced once"
    picture = draw_certificate(bins, "month", NOW)
    assert path(picture, "l").count("M") == 2
    assert describe_certificate([minute(1)]) == "no certificate was seen"


def test_the_steps_of_a_probe_have_names_and_shares():
    reading = ProbeReading(NOW, True, steps_sec={"dns": 0.01, "tcp": 0.01, "http": 0.02, "new": 0.0})
    assert list_steps(reading) == [
        ("DNS", 0.01, 0.25),
        ("connect", 0.01, 0.25),
        ("first byte", 0.02, 0.5),
        ("new", 0.0, 0.0),
    ]
