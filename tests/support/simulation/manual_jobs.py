"""Jobs driven by hand, a run each minute from a midnight on: their watches, and what was missed."""

from dataclasses import replace
from datetime import UTC, datetime

from marketswarm.detector import Moment, SavedService, State
from marketswarm.detector.clock import ListeningClock
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.manual_detector import Hand, watch

MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC).timestamp()
GRACE = 20.0
EVERY_MINUTE = Schedule("* * * * *")
HOURLY = Schedule("1 * * * *")  # a minute after the hour: its first run is due at 80 s
UP = SavedService(State.UP, since=MIDNIGHT, silent_sec=5.0)


def minutely(grace: float = GRACE, max_run: float | None = None, schedule: Schedule = EVERY_MINUTE) -> Watch:
    """A job that is to run each minute: due 20 s after it, at 80 s if it ran at 5 s."""
    rule = JobRule(schedule, grace, max_run)
    return replace(watch(interval=60.0, timeout=60.0 + grace), job=rule)


def hand_of(*watches: Watch, **more) -> Hand:
    return Hand(*(watches or (minutely(),)), wall=MIDNIGHT, **more)


def misses(hand: Hand) -> list[tuple[int, str | None]]:
    """When, to the second, and why."""
    return [
        (round(each.at), each.verdict.reason)
        for each in hand.told
        if each.verdict.svc == "a" and getattr(each.verdict, "state", None) is State.DOWN
    ]


def long_runs() -> Watch:
    """An hourly job whose runs may take two minutes; without one under way, 20 s are its grace."""
    return replace(minutely(max_run=120.0, schedule=HOURLY), timeout_sec=7300.0)


def states(hand: Hand) -> list[State]:
    """What was told of the job."""
    return [verdict.state for verdict in hand.verdicts if verdict.svc == "a"]


def listening(at: float) -> ListeningClock:
    """A clock that listens since `at`."""
    clock = ListeningClock(Moment(0.0, at))
    clock.note_session_opened()
    clock.note_canary_sent(1, 0.0)
    clock.note_canary_received(1, Moment(0.0, at))
    return clock
