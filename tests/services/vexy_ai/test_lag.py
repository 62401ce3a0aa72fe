from marketswarm.bus.backlog import Backlog
from services.vexy_ai.lag import LagDetector, Rate, summarize_backlogs


def at(oldest_sec, unread=5):
    return {"rss:items": Backlog(unread=unread, oldest_sec=oldest_sec)}


def test_who_falls_behind_says_so_and_is_well_again_only_well_below():
    lag = LagDetector()
    assert lag.check(at(99), 100) is None
    said = lag.check(at(100, unread=1234), 100)
    assert said == "behind: 1,234 unread in rss:items, the oldest for 100 s"
    assert lag.check(at(60), 100) is not None
    assert lag.check(at(49), 100) is None
    assert lag.check(at(60), 100) is None


def test_who_has_nothing_to_read_is_never_behind():
    lag = LagDetector()
    lag.check(at(200), 100)
    assert lag.check({"rss:items": Backlog()}, 100) is None
    assert lag.check({}, 100) is None
    assert not lag.behind


def test_the_rate_is_that_of_the_last_minute():
    rate = Rate()
    assert rate.per_sec(1000.0) == 0
    rate.add(10, 1000.0)
    assert rate.per_sec(1000.0) == 10
    rate.add(20, 1010.0)
    assert rate.per_sec(1010.0) == 3.0
    assert rate.per_sec(1065.0) == 20 / 60
    assert rate.per_sec(2000.0) == 0


def test_the_summary_says_what_waits():
    several = {
        "a": Backlog(pending=2, unread=30, oldest_sec=1.6),
        "b": Backlog(unread=10, oldest_sec=0.5, lost=7),
    }
    assert (
        summarize_backlogs(several, 12.34) == "12.3/s, 40 unread (oldest 2 s), 2 taken, 7 trimmed off unread"
    )
    assert summarize_backlogs({"a": Backlog()}, 0.0) == "0.0/s, 0 unread"
    assert summarize_backlogs({"a": Backlog(unread=None)}, 1.0) == "1.0/s, 200 or more unread (oldest 0 s)"
