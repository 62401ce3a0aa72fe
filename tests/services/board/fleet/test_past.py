"""What the page of a service shows of its past."""

from marketswarm.event import Event, Kind
from marketswarm.history.fleet_history import FleetHistory
from marketswarm.history.listening import Heard, Listening
from marketswarm.history.rollup import HOUR_SEC, PastOutage, Seconds
from marketswarm.history.spans import KnownState
from services.board.fleet.history import DAY_SEC, Past, outline_days, outline_past
from services.board.fleet.snapshot import BarSpan

T0 = 497_000 * HOUR_SEC  # some hour


def make_history(hours: int) -> FleetHistory:
    """A service that was up for so many hours, while the healer listened."""
    until = T0 + hours * HOUR_SEC
    history = FleetHistory(T0 // HOUR_SEC, Listening(until, (Heard("one", 1, until),)))
    history.follow({"a": "system"}, 30.0, T0)
    history.adopt("a", KnownState.UP, T0 - 10)
    return history


def add_outage(history: FleetHistory, since: int, sec: int) -> None:
    history.apply_event(Event(Kind.HEARTBEAT_MISS, "a", since + 30.0, "x", "healer", since=float(since)))
    back = since + float(sec)
    history.apply_event(
        Event(Kind.HEARTBEAT_OK, "a", back, "y", "healer", since=float(since), down_sec=float(sec))
    )


def test_without_a_history_there_is_no_past():
    assert outline_past(None, "a", T0) == Past()
    assert outline_past(make_history(1), "other", T0) == Past()


def test_outages_are_shown_the_latest_first():
    history = make_history(3)
    for since in (1000, 5000):
        add_outage(history, T0 + since, 100)
    past = outline_past(history, "a", T0 + 9000.5)
    assert past.outages == (PastOutage(T0 + 5000, T0 + 5100), PastOutage(T0 + 1000, T0 + 1100))


def test_an_outage_that_lasts_has_no_end():
    history = make_history(3)
    history.apply_event(Event(Kind.HEARTBEAT_MISS, "a", T0 + 5030.0, "x", "healer", since=T0 + 5000.0))
    past = outline_past(history, "a", T0 + 9000.5)
    assert past.outages == (PastOutage(T0 + 5000, None),)
    assert past.day[-1] == BarSpan("down", T0 + 5000.0, None)


def test_the_last_hours_are_exact():
    history = make_history(3)
    add_outage(history, T0 + 5000, 100)
    expected = (
        BarSpan("up", T0, T0 + 5000.0),
        BarSpan("down", T0 + 5000.0, T0 + 5100.0),
        BarSpan("up", T0 + 5100.0, None),
    )
    past = outline_past(history, "a", T0 + 9000.5)
    assert past.day == past.month == expected


def test_finished_hours_and_days_are_sums():
    history = make_history(60)
    add_outage(history, T0 + 30 * HOUR_SEC + 600, 300)
    target = (T0 + 44 * HOUR_SEC) // HOUR_SEC
    list(history.finish_in_steps(target))
    past = outline_past(history, "a", T0 + 50 * HOUR_SEC)
    hour = T0 + 30 * HOUR_SEC
    assert BarSpan("up", hour + 0.0, hour + 3300.0) in past.day
    assert BarSpan("down", hour + 3300.0, hour + 3600.0) in past.day
    assert next(span for span in past.month if span.state == "down").ends_at % DAY_SEC == 0
    for spans in (past.day, past.month):
        ends = [span.ends_at for span in spans[:-1]]
        assert ends == [span.starts_at for span in spans[1:]]
        assert sum(span.ends_at - span.starts_at for span in spans if span.state == "down") == 300


def test_the_days_have_all_their_seconds_and_what_nobody_knows_is_unknown():
    history = make_history(80)
    add_outage(history, T0 + 40 * HOUR_SEC, 600)
    list(history.finish_in_steps(T0 // HOUR_SEC + 60))
    now = T0 + 79 * HOUR_SEC + 100
    days = outline_days(history, "a", now + 0.5, 6)
    assert [sum(one) for one in days] == [DAY_SEC] * 5 + [now % DAY_SEC]
    assert sum(one.down for one in days) == 600
    assert days[0] == Seconds(unknown=DAY_SEC)
    assert sum(one.up for one in days) == 79 * HOUR_SEC + 100 - 600


def test_without_a_history_there_are_no_days():
    assert outline_days(None, "a", T0, 90) == ()
    assert outline_days(make_history(1), "other", T0, 90) == ()
