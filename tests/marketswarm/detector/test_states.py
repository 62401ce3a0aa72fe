import pytest

from marketswarm.detector.states import (
    BUS_TRANSITIONS,
    STAGES,
    TRANSITIONS,
    Publication,
    Stage,
    State,
    Step,
    Trigger,
)

# DETECTION's table, line by line: from, on, to, told
DETECTION = [
    ("unknown", "beat", "up", Publication.LOG),  # `health:` and the log
    ("unknown", "due", "down", Publication.ALERT),  # heartbeat_miss, never_seen
    ("up", "due", "down", Publication.ALERT),  # heartbeat_miss, silent or stopped
    ("down", "beat", "up", Publication.ALERT),  # heartbeat_ok with down_sec
    ("unknown", "removed", "unwatched", Publication.NONE),  # `health:` deleted
    ("up", "removed", "unwatched", Publication.NONE),
    ("down", "removed", "unwatched", Publication.ALERT),  # heartbeat_unwatched if it was down
]


def test_the_table_is_detections_and_has_no_other_line():
    assert {(State(was), Trigger(on)): (State(to), told) for was, on, to, told in DETECTION} == TRANSITIONS


def test_a_bus_has_the_same_moves_and_one_that_is_there_from_the_start_is_no_news():
    for move, (state, told) in BUS_TRANSITIONS.items():
        assert state is TRANSITIONS[move][0]
        assert told is (Publication.NONE if move == (State.UNKNOWN, Trigger.BEAT) else Publication.ALERT)
    assert len(BUS_TRANSITIONS) == 4


@pytest.mark.parametrize("state", [State.UP, State.DOWN])
def test_what_holds_already_is_no_move(state):
    on = Trigger.BEAT if state is State.UP else Trigger.DUE
    assert (state, on) not in TRANSITIONS


def test_a_service_that_is_dropped_stays_that_and_only_one_that_is_evaluated_becomes_a_suspect():
    assert not [stage for stage, _ in STAGES if stage is Stage.DROPPED]
    assert [stage for stage, step in STAGES if step is Step.DUE] == [Stage.EVALUATED]
    assert {stage for stage, step in STAGES if step is Step.DROPPED} == {*Stage} - {Stage.DROPPED}
