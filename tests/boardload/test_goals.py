"""A load that misses a goal ends with 1, and names the goal."""

from collections import Counter
from types import SimpleNamespace

import pytest

from boardload.__main__ import report
from boardload.followers import Seen
from boardload.run import DOWN_SEC, Load, Plan, match_events, swing_services


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


def judge(load):
    lines: list[str] = []
    code = report(load, lines.append)
    return code, [line.removeprefix("MISSED").strip() for line in lines if line.startswith("MISSED")]


def test_a_load_that_misses_a_goal_ends_with_1_and_names_it():
    assert judge(make_load(per_sec=985.0)) == (0, [])
    for seen, named in (
        ({"per_sec": 940.0}, "pings: 940 a second were acknowledged, fewer than 980"),
        ({"rss_mb": 121.0}, "the board took 121 MB, more than 120"),
        ({"pixel_sec": 0.61}, "event to pixel: p95 0.610 s, more than 0.5"),
        ({"pixel_sec": None}, "event to pixel: p95 inf s, more than 0.5"),
        ({"lost": {1}}, "1 acknowledged pings are not on the bus"),
    ):
        assert judge(make_load(**seen)) == (1, [named])
    for per_sec, kill, code in ((941.0, True, 0), (939.0, True, 1), (941.0, False, 1)):
        assert judge(make_load(per_sec=per_sec, kill=kill, unanswered=2400))[0] == code
    # a machine without time left can't send more; a board that took it could have answered more
    for machine_share, cpu_sec, code in ((0.98, 40.0, 0), (0.98, 58.0, 1), (0.8, 40.0, 1)):
        load = make_load(per_sec=340.0)
        load.machine_share, load.cpu_sec = machine_share, cpu_sec
        assert judge(load)[0] == code
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
    assert (load.events, len(load.unseen)) == (3, 1)
    assert load.pixel_sec == [pytest.approx(0.2), 0.5]
    # what is shown after the next event of the kind is not late, but of that one
    load = make_load(pixel_sec=None)
    match_events(
        load, [("a", "down", 7.2)], [event("a", "miss", 1.0), event("a", "ok", 4.0), event("a", "miss", 7.0)]
    )
    assert (load.events, len(load.unseen), load.pixel_sec) == (3, 2, [pytest.approx(0.2)])
    # a state that is over at once need not be shown, and so its end can't be
    for over_at, found in ((2.4, (1, 0)), (2.6, (3, 2))):
        load = make_load(pixel_sec=None)
        blip = [event("a", kind, ts) for kind, ts in (("miss", 2.0), ("ok", over_at), ("miss", 7.0))]
        match_events(load, [("a", "down", 7.2)], blip)
        assert (load.events, len(load.unseen)) == found
    # of a page that was away, the first change of a service may be there at once
    before = [
        event("a", "miss", 12.0),
        event("b", "ok", 12.5),
        event("a", "ok", 13.2),
        event("b", "miss", 14.0),
    ]
    after = [event("a", "miss", 15.0), event("c", "miss", 13.5)]
    for shown, events, found in (([("b", "down", 14.1)], before, (1, 0)), ([], before + after, (2, 2))):
        load = make_load(pixel_sec=None, kill=True)
        load.killed_at, load.back_at = 10.0, 13.0
        match_events(load, shown, events)
        assert (load.events, len(load.unseen)) == found
    # and is not looked for in the service's next round
    load = make_load(pixel_sec=None, kill=True)
    load.killed_at, load.back_at = 10.0, 13.0
    rounds = [
        event("a", kind, ts) for kind, ts in (("miss", 12.0), ("ok", 13.2), ("miss", 18.0), ("ok", 19.2))
    ]
    match_events(load, [("a", "down", 18.1), ("a", "up", 19.3)], rounds)
    assert (load.events, len(load.unseen), len(load.pixel_sec)) == (2, 0, 2)


def test_services_go_and_come_in_turn_and_all_beat_in_the_end():
    silent, names = set(), ["a", "b"]
    beater = SimpleNamespace(stop=silent.add, resume=silent.discard)
    seen = []
    for now in (0.0, DOWN_SEC / 2, DOWN_SEC, 3 * DOWN_SEC / 2, 2 * DOWN_SEC, 7 * DOWN_SEC):
        swing_services(beater, names, now, 8 * DOWN_SEC)
        seen.append(sorted(silent))
    assert seen == [["a"], ["a"], ["b"], ["b"], ["a"], []]
