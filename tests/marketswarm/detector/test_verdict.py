import pytest

from marketswarm.detector.verdict import BUS_TRANSITIONS, TRANSITIONS, On, State, Told

# DETECTION's table, line by line: from, on, to, told
DETECTION = [
    ("unknown", "beat", "up", Told.QUIETLY),  # `health:` and the log
    ("unknown", "due", "down", Told.ALERT),  # heartbeat_miss, never_seen
    ("up", "due", "down", Told.ALERT),  # heartbeat_miss, silent or stopped
    ("down", "beat", "up", Told.ALERT),  # heartbeat_ok with down_sec
    ("unknown", "removed", "unwatched", Told.FORGOTTEN),  # `health:` deleted
    ("up", "removed", "unwatched", Told.FORGOTTEN),
    ("down", "removed", "unwatched", Told.ALERT),  # heartbeat_unwatched if it was down
]


def test_the_table_is_detections_and_has_no_other_line():
    assert {(State(was), On(on)): (State(to), told) for was, on, to, told in DETECTION} == TRANSITIONS


def test_a_bus_has_the_same_moves_and_one_that_is_there_from_the_start_is_no_news():
    for move, (state, told) in BUS_TRANSITIONS.items():
        assert state is TRANSITIONS[move][0]
        assert told is (Told.FORGOTTEN if move == (State.UNKNOWN, On.BEAT) else Told.ALERT)
    assert len(BUS_TRANSITIONS) == 4


@pytest.mark.parametrize("state", [State.UP, State.DOWN])
def test_what_holds_already_is_no_move(state):
    on = On.BEAT if state is State.UP else On.DUE
    assert (state, on) not in TRANSITIONS
