"""The words and pictures of the pages."""

import re
from dataclasses import replace

import pytest

from marketswarm.history.rollup import Seconds
from marketswarm.status.service_rows import ServiceState
from services.board.fleet import words
from services.board.fleet.snapshot import (
    BarSpan,
    BusSnapshot,
    HealerView,
    LastRunView,
    SilenceView,
    Uptime,
)
from support.board_examples import AT, HOSTILE, make_hostile, make_service, make_small, make_well


@pytest.mark.parametrize(
    ("sec", "text"),
    [
        (None, words.NONE),
        (-3, "0 s"),
        (0.9, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
    ],
)
def test_an_age_is_short_and_never_ahead_of_the_truth(sec, text):
    assert words.format_age(sec) == text


def test_days_begin_after_two_of_them():
    assert (words.format_age(172_799), words.format_age(172_800)) == ("47 h", "2 d")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, words.NONE),
        (1.0, "100"),
        (0.99999, "99.99"),
        (0.5, "50.00"),
        (0.0, "0.00"),
        (0.0705, "7.05"),
        (0.57, "57.00"),
    ],
)
def test_a_share_below_one_is_never_a_hundred(share, text):
    assert words.format_share(share) == text


def test_what_nobody_heard_is_shown_from_one_hundredth_on():
    assert words.find_known_part(None, "24h", AT) is None
    assert words.find_known_part(Uptime(None, 86400.0), "24h", AT) is None
    assert words.find_known_part(Uptime(1.0, 800.0), "24h", AT) is None
    assert words.find_known_part(Uptime(1.0, 900.0), "24h", AT) == 98
    assert words.find_known_part(Uptime(1.0, 10**9), "24h", AT) == 0


def test_what_was_before_the_history_is_not_known_either():
    assert words.find_known_part(Uptime(1.0, 0.0, AT - 43_200), "24h", AT) == 50
    assert words.find_known_part(Uptime(1.0, 8640.0, AT - 43_200), "24h", AT) == 40
    assert words.find_known_part(Uptime(1.0, 0.0, AT - 90_000), "24h", AT) is None


def test_an_uptime_is_shown_when_a_tenth_of_its_window_is_known():
    assert words.format_window_share(None, "24h", AT) == words.NONE
    assert words.format_window_share(Uptime(None, 86400.0), "24h", AT) == words.NONE
    assert words.format_window_share(Uptime(1.0, 0.0, AT - 180), "24h", AT) == words.NONE
    assert words.format_window_share(Uptime(1.0, 0.0, AT - 8_700), "24h", AT) == "100"
    assert words.format_window_share(Uptime(0.5, 0.0, AT - 90_000), "24h", AT) == "50.00"


def test_a_bar_is_unknown_where_no_span_is():
    assert words.draw_paths([], AT) == {"unknown": "M0 10h3600", "up": "", "down": ""}
    paths = words.draw_paths([BarSpan("up", AT - 1800)], AT)
    assert paths == {"unknown": "M0 10h1800", "up": "M1800 10h1800", "down": ""}


def test_a_bar_ends_where_the_last_span_ended():
    paths = words.draw_paths([BarSpan("up", AT - 9999, AT - 600)], AT)
    assert paths == {"unknown": "M3000 10h600", "up": "M0 10h3000", "down": ""}


def test_the_shortest_outage_can_be_seen():
    spans = [BarSpan("up", AT - 3600, AT - 1), BarSpan("down", AT - 1)]
    assert words.draw_paths(spans, AT)["down"] == "M3570 10h30"


def test_a_bar_of_a_day_is_as_wide_as_one_of_an_hour():
    assert words.draw_paths([BarSpan("down", AT - 43_200)], AT, 86_400)["down"] == "M1800 10h1800"


def test_a_bar_has_words():
    assert words.describe_bar([], AT) == "unknown"
    assert words.describe_bar([BarSpan("up", AT - 9999)], AT) == "up"
    spans = [
        BarSpan("unknown", AT - 3600, AT - 1800),
        BarSpan("up", AT - 1800, AT - 60),
        BarSpan("down", AT - 60),
    ]
    assert words.describe_bar(spans, AT) == "down 60 s, unknown 30 min, otherwise up"


def test_an_outage_says_since_when_and_why_and_who_knows():
    one = make_service(
        "a",
        ServiceState.DOWN,
        cause="b",
        acked_by="ana",
        held="rate_limit",
        held_until=AT + 60,
        status="degraded",
        detail="queue full",
    )
    assert [(each.text, each.at) for each in words.describe_service(one)] == [
        ("needs b, which is down", None),
        ("silent since", AT - 604),
        ("acknowledged by ana", None),
        ("message held back: rate limit until", AT + 60),
        ("degraded: queue full", None),
    ]


def test_a_failure_that_was_reported_is_told_once_and_is_no_silence():
    one = make_service(
        "a",
        ServiceState.DOWN,
        outage="failed since",
        outage_at=AT - 60,
        failure="reported: disk full",
        detail="disk full",
        last_run=LastRunView(ok=False, text="failed"),
    )
    assert [(each.text, each.at) for each in words.describe_service(one)] == [
        ("failed since", AT - 60),
        ("reported: disk full", None),
    ]


def test_a_service_has_the_silences_on_its_name_and_on_its_tags():
    some = [
        SilenceView(ident, services, tags, AT, AT + 60, "kim", "x")
        for ident, services, tags in (("1", ("rss_*",), ()), ("2", (), ("ingest",)), ("3", ("rss",), ("in",)))
    ]
    snapshot = replace(make_well(), silences=tuple(some))
    assert [one.id for one in words.find_silences(snapshot, make_service("rss_agg", tags=("ingest",)))] == [
        "1",
        "2",
    ]


def test_a_failed_run_is_told_and_one_that_went_well_is_not():
    failed = make_service("a", ServiceState.FAILED, last_run=LastRunView(ok=False, text="exit 3"))
    assert [each.text for each in words.describe_service(failed)] == ["exit 3"]
    well = make_service("a", last_run=LastRunView(ok=True, text="exit 0"), detail="12 rows")
    assert [each.text for each in words.describe_service(well)] == ["12 rows"]


def test_what_watches_is_shown_with_what_is_wrong():
    small = make_small()
    assert [(one.name, str(one.state), one.text) for one in words.list_watchers(small)] == [
        ("system-redis", "up", ""),
        ("market-redis", "down", "not heard by the healer: deaf"),
        ("healer a1b2c3", "up", "leads"),
        ("healer d4e5f6", "up", "standby"),
        ("sentinel", "up", ""),
        ("notifier", "up", "2 waiting, 2 undelivered"),
    ]


def test_a_lease_that_ran_out_and_no_healer_at_all_are_told():
    lapsed = replace(make_well(), healers=(HealerView("a", is_leader=True, lapsed_at=AT),))
    assert ("healer a", ServiceState.DOWN) in [(one.name, one.state) for one in words.list_watchers(lapsed)]
    nobody = replace(make_well(), healers=(), buses=(BusSnapshot("x", "away", "refused"),))
    found = [(one.name, one.state, one.text) for one in words.list_watchers(nobody)]
    assert ("healer", ServiceState.UNKNOWN, "no healer leads") in found
    assert ("x", ServiceState.DOWN, "does not answer: refused") in found


@pytest.mark.parametrize("ts", [None, 1e30, -1e30, float("nan"), float("inf")])
def test_a_time_that_is_none_is_a_dash(ts):
    assert words.write_moment(ts, AT) == words.NONE


def test_a_time_of_another_day_has_its_date():
    assert words.write_moment(AT, AT) == '<time datetime="2026-10-26T07:33:20Z">07:33:20</time>'
    assert (
        words.write_moment(AT - 86_400, AT)
        == '<time datetime="2026-10-25T07:33:20Z">2026-10-25 07:33:20</time>'
    )


def test_a_bar_moves_on_in_steps_and_shows_what_began_since_the_last_one():
    at = 1_790_000_000.0  # a multiple of ten seconds
    spans = [BarSpan("up", at - 1800, at - 600), BarSpan("down", at - 600, at - 300), BarSpan("up", at - 300)]
    drawn = {words.draw_bar(spans, at + sec) for sec in (1, 4, 7, 9.9, 10)}
    assert len(drawn) == 1
    assert 'class="d" d="M2990 10h300"' in drawn.pop()
    assert words.draw_bar(spans, at) != words.draw_bar(spans, at + 11)
    new = [BarSpan("up", at - 3600, at + 2), BarSpan("down", at + 2)]
    assert 'class="d" d="M3570 10h30"' in words.draw_bar(new, at + 3)


def test_a_bar_is_made_of_numbers_only():
    for one in make_hostile().services:
        drawn = words.draw_bar(one.recent, AT)
        assert re.fullmatch(r'<svg [^<>]*>(<path class="[nud]" d="[M0-9h ]+"/>)+</svg>', drawn)
        assert not any(text in drawn for text in HOSTILE)


def test_a_day_that_nobody_knows_is_never_green_and_the_shortest_outage_is_seen():
    days = [Seconds(86_400), Seconds(unknown=86_400), Seconds(86_399, 1), Seconds(0, 86_400)]
    drawn = words.draw_days(days)
    assert 'class="u" d="M5 30V0M25 30V6"' in drawn
    assert 'class="n" d="M15 30v-8"' in drawn
    assert 'class="d" d="M25 0v6M35 0v30"' in drawn
    assert 'aria-label="4 days: 2 with an outage, 1 unknown"' in drawn
    assert words.format_day_share(days) == "66.66 % up"
    assert words.format_day_share(days[1:2]) == "unknown"


def test_a_service_that_is_paused_is_called_so_unless_it_beats():
    silent, unknown, up = (
        make_service("a", state, paused=True)
        for state in (ServiceState.SILENT, ServiceState.UNKNOWN, ServiceState.UP)
    )
    assert [each.word for each in (silent, unknown, up)] == ["paused", "paused", "up"]
    assert [each.mark for each in (silent, unknown, up)] == ["unknown", "unknown", "up"]
    assert [each.text for each in words.describe_service(up)] == ["paused: not monitored"]
    assert [each.text for each in words.describe_service(silent)] == []
