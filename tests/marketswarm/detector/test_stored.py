import pytest

from marketswarm.beat import Beat, encode_beat, parse_beat
from marketswarm.detector import Moment, SavedService, Stage, State
from marketswarm.detector.bus import WatchedBus
from marketswarm.detector.clock import HeardAt
from marketswarm.detector.restore import apply_saved, heard_only_replays
from marketswarm.detector.service import WatchedService
from marketswarm.detector.states import Trigger
from marketswarm.detector.stored import apply_stored_beat, end_outage
from marketswarm.detector.trouble import NO_TROUBLE
from support.simulation.manual_detector import WALL, says, watch

# I = 10, T = 30


def service(stage: Stage = Stage.RESTORING) -> WatchedService:
    return WatchedService(watch(), WatchedBus("bus", 10.0, Moment(0.0, WALL)).clock, 0.0, stage)


def hear(heard: WatchedService, i: int, boot: str, at: float = 1.0) -> None:
    payload = encode_beat(Beat("a", i, WALL + at, boot=boot))
    heard.check_replay(boot, i)
    heard.take_beat(payload, parse_beat(payload, "a"), HeardAt(at, at, WALL + at))


@pytest.mark.parametrize(
    ("saved", "want"),
    [
        (SavedService(State.DOWN, boot="x", i=7), True),
        (SavedService(State.DOWN, boot="x", i=6), False),  # the last of them is news
        (SavedService(State.DOWN, boot="y", i=9), False),  # another process
    ],
)
def test_beats_that_an_earlier_run_knew_are_replays(saved, want):
    heard = service()
    hear(heard, 6, "x")
    hear(heard, 7, "x")
    assert heard_only_replays(heard, saved) is want


def test_where_nothing_was_heard_there_is_no_replay():
    assert not heard_only_replays(service(), SavedService(State.UP, boot="x", i=7))


def test_a_stored_beat_is_half_a_timeout_old_at_most():
    found = service()
    apply_saved(found, SavedService(State.UP, since=WALL - 40, silent_sec=40.0), Moment(0.0, WALL))
    apply_stored_beat(found, says(29.0, boot="x"), Moment(0.0, WALL))
    assert found.last_beat == HeardAt(-15.0, -29.0, WALL - 29)


@pytest.mark.parametrize(
    ("age", "beat", "ends"),
    [
        (5.0, {"boot": "x", "i": 8}, True),
        (5.0, {"boot": "x", "i": 7}, False),  # it was heard
        (5.0, {"boot": "x", "i": 8, "status": "stopping"}, False),  # the beat before it was heard
        (5.0, {"boot": "x", "i": 9, "status": "stopping"}, False),  # a goodbye, though one before it was not
        (25.0, {"boot": "x", "i": 8}, False),  # from before the miss
        (None, {"boot": "x", "i": 8}, False),  # of an unknown age
    ],
)
def test_an_outage_ends_with_a_beat_that_was_never_heard_and_is_later_than_the_miss(age, beat, ends):
    found = service(Stage.EVALUATED)
    hear(found, 7, "x")
    found.move(Trigger.DUE, Moment(40.0, WALL + 40))
    assert (end_outage(found, says(age, **beat), Moment(60.0, WALL + 60)) is not None) is ends


def test_a_beat_that_ended_an_outage_unheard_is_known_from_then_on():
    found, now = service(Stage.EVALUATED), Moment(60.0, WALL + 60)
    found.move(Trigger.DUE, Moment(40.0, WALL + 40))
    sent = HeardAt(-5.0, 55.0, WALL + 55)  # nothing is proven yet, so the listening clock stands at 0
    assert end_outage(found, says(5.0, boot="x", i=8), now) == sent
    assert end_outage(found, says(5.0, boot="x", i=8), now) is None


def test_a_service_that_moves_to_another_bus_goes_on_with_its_silence_and_gets_a_warm_up():
    old, now = service(Stage.EVALUATED), Moment(20.0, WALL + 20)
    hear(old, 7, "x", at=1.0)
    clock = WatchedBus("other", 10.0, Moment(15.0, WALL + 15)).clock
    new = WatchedService(watch(bus="other"), clock, 0.0)
    new.inherit(old, now)
    silence_sec = old.silence_sec(old.clock.read(now.mono))
    assert new.silence_sec(clock.read(now.mono)) == pytest.approx(silence_sec)
    assert new.not_due_before == clock.read(now.mono) + new.rule.warm_up_sec
    assert new.instances.find_i("x") == 7


def test_a_service_without_trouble_takes_no_memory_for_trouble_after_a_restart_and_a_reseed():
    old, now = service(), Moment(20.0, WALL + 20)
    apply_saved(old, SavedService(State.UP, since=WALL - 5, boot="x", i=7), Moment(0.0, WALL))
    hear(old, 8, "x")
    new = WatchedService(watch(), old.clock, 0.0)
    new.inherit(old, now)
    assert old.trouble is new.trouble is NO_TROUBLE
