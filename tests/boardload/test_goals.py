"""A load that misses a goal ends with 1, and names the goal."""

from collections import Counter
from types import SimpleNamespace

import pytest

from boardload.__main__ import report
from boardload.followers import Seen
from boardload.run import Load, Plan, match_events


def make_load(*, rss_mb=80.0, pixel_sec=0.1, per_sec=1000.0, lost=(), unanswered=0, kill=False):
    """Return a load of a minute with 1,000 pings a second, in which one browser followed."""
    answers = Counter({200: 2, 0: unanswered})
    pings = SimpleNamespace(
        acknowledged={1, 2}, answers=answers, lost=set(lost), per_sec=per_sec, seconds=60.0
    )
    followers = SimpleNamespace(seen=[Seen(resets=2 if kill else 1)])
    return Load(
        Plan(seconds=60, browsers=1, pings=1000, kill=kill),
        rss_mb=[70.0, rss_mb],
        pixel_sec=[pixel_sec] * 20 if pixel_sec else [],
        followers=followers,
        pings=pings,
        back_at=1.0 if kill else None,
    )


def test_a_load_that_reaches_its_goals_ends_with_0():
    lines: list[str] = []
    assert report(make_load(per_sec=985.0), lines.append) == 0
    assert [line for line in lines if line.startswith("MISSED")] == []


@pytest.mark.parametrize(("per_sec", "kill", "code"), [(941.0, True, 0), (939.0, True, 1), (941.0, False, 1)])
def test_pings_that_met_a_killed_board_are_no_missed_goal(per_sec, kill, code):
    load = make_load(per_sec=per_sec, kill=kill, unanswered=2400)
    assert report(load, [].append) == code


@pytest.mark.parametrize(
    ("seen", "named"),
    [
        ({"per_sec": 940.0}, "pings: 940 a second were acknowledged, fewer than 980"),
        ({"rss_mb": 121.0}, "the board took 121 MB, more than 120"),
        ({"pixel_sec": 0.61}, "event to pixel: p95 0.610 s, more than 0.5"),
        ({"pixel_sec": None}, "event to pixel: p95 inf s, more than 0.5"),
        ({"lost": {1}}, "1 acknowledged pings are not on the bus"),
    ],
)
def test_a_load_that_misses_a_goal_ends_with_1_and_names_it(seen, named):
    lines: list[str] = []
    assert report(make_load(**seen), lines.append) == 1
    assert [line for line in lines if line.startswith("MISSED")] == [f"MISSED         {named}"]


def test_a_page_that_does_not_come_back_after_the_kill_is_named():
    load = make_load(kill=True)
    assert list(load.find_faults()) == []
    load.back_at = None
    assert list(load.find_faults()) == ["the page did not come back after the board was killed"]


def event(svc, kind, ts):
    return {"svc": svc, "type": f"heartbeat_{kind}", "ts": ts}


def test_each_event_that_the_page_does_not_show_is_counted():
    load = make_load(pixel_sec=None)
    events = [event("a", "miss", 1.0), event("b", "miss", 2.0), event("a", "ok", 3.0)]
    match_events(load, [("a", "down", 1.2), ("b", "down", 1.5), ("a", "up", 3.5)], events)
    assert (load.events, load.unseen) == (3, 1)
    assert load.pixel_sec == [pytest.approx(0.2), 0.5]


def test_of_a_page_that_was_away_the_first_change_of_a_service_may_be_there_at_once():
    load = make_load(pixel_sec=None, kill=True)
    load.killed_at, load.back_at = 10.0, 13.0
    events = [
        event("a", "miss", 12.0),
        event("b", "ok", 12.5),
        event("a", "ok", 13.2),
        event("b", "miss", 14.0),
    ]
    match_events(load, [("b", "down", 14.1)], events)  # a was up before and after
    assert (load.events, load.unseen) == (1, 0)
    load = make_load(pixel_sec=None, kill=True)
    load.killed_at, load.back_at = 10.0, 13.0
    match_events(load, [], [*events, event("a", "miss", 15.0), event("c", "miss", 13.5)])
    assert (load.events, load.unseen) == (2, 2)
