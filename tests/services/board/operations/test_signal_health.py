"""Which ages of ticks, checkpoints, cosignatures and gaps degrade the board's health."""

import pytest

from services.board.operations.health import PartStatus
from services.board.operations.signal_health import (
    CHECKPOINT,
    GAP,
    TICK,
    WITNESS,
    SignalTimes,
    judge_signals,
)
from services.signals.log.entries import make_gap
from services.tables.signal_witness import WitnessReport
from services.tables.signals import LogEnd, LogState

NOW = 1_800_000_000.0
OK, OFF, DEGRADED = PartStatus.OK, PartStatus.OFF, PartStatus.DEGRADED
NAMED = SignalTimes(has_witness=True)


def ms(ago_sec):
    return round(1000 * (NOW - ago_sec))


def judge(part, *, end=(7, 3.0, None, None), state=(9, 9, 20.0, 9, 15.0), times=NAMED, said=None):
    """Return a part: of an end and a state of the log whose times are ages."""
    tick, tick_sec, gap, gap_sec = end
    size, signed, signed_sec, cosigned, cosigned_sec = state
    found = judge_signals(
        LogState(
            *(size, signed, None if signed is None else ms(signed_sec)),
            *(cosigned, None if cosigned is None else ms(cosigned_sec)),
            None if cosigned is None else "witness.example/one",
        ),
        LogEnd(tick, None if tick is None else ms(tick_sec), gap, None if gap is None else ms(gap_sec)),
        times,
        NOW,
        said,
    )[part]
    return found.status, found.age_sec, found.why, found.name


def test_a_log_that_grows_and_is_cosigned_is_in_order():
    assert judge(TICK) == (OK, 3.0, None, "tick 7")
    assert judge(CHECKPOINT) == (OK, 20.0, None, None)
    assert judge(WITNESS) == (OK, 15.0, None, "witness.example/one")
    assert judge(GAP) == (OK, None, None, "none within an hour")


def test_an_old_tick_degrades_and_how_old_goes_by_the_cycle():
    assert judge(TICK, end=(7, 61.0, None, None)) == (DEGRADED, 61.0, "no tick is decided", "tick 7")
    assert judge(TICK, end=(7, 59.0, None, None))[0] is OK
    assert judge(TICK, end=(7, 599.0, None, None), times=SignalTimes(cycle_sec=60))[0] is OK
    assert judge(TICK, end=(7, 601.0, None, None), times=SignalTimes(cycle_sec=60))[0] is DEGRADED
    assert judge(TICK, end=(None, None, None, None)) == (DEGRADED, None, "no tick was decided yet", None)


def test_what_grows_unsigned_or_not_cosigned_degrades_and_what_stands_still_does_not():
    late, still = (20, 9, 301.0, 9, 15.0), (9, 9, 9000.0, 9, 9000.0)
    assert judge(CHECKPOINT, state=late) == (DEGRADED, 301.0, "11 entries are not signed", None)
    assert judge(CHECKPOINT, state=(20, 9, 299.0, 9, 15.0))[0] is OK
    assert judge(CHECKPOINT, state=late, times=SignalTimes(checkpoint_sec=600))[0] is OK
    refused = judge(WITNESS, state=(20, 20, 5.0, 9, 301.0))
    assert refused == (DEGRADED, 301.0, "11 entries are not cosigned", "witness.example/one")
    assert judge(WITNESS, state=(20, 20, 5.0, 9, 299.0))[0] is OK
    assert (judge(CHECKPOINT, state=still)[0], judge(WITNESS, state=still)[0]) == (OK, OK)


def test_without_a_key_or_a_witness_there_is_nothing_to_wait_for_unless_the_truth_names_one():
    nothing, signed = (9, None, None, None, None), (9, 9, 5.0, None, None)
    assert (judge(CHECKPOINT, state=nothing, times=SignalTimes())[0]) is OFF
    assert (judge(WITNESS, state=signed, times=SignalTimes())[0]) is OFF
    assert judge(CHECKPOINT, state=nothing)[::2] == (DEGRADED, "no checkpoint was signed yet")
    assert judge(WITNESS, state=signed)[::2] == (DEGRADED, "no witness has cosigned yet")
    assert judge(WITNESS, state=nothing)[0] is OFF, "there is nothing to cosign"


def test_a_witness_that_the_environment_names_is_waited_for_as_signals_says():
    nothing, signed, by_truth = (9, None, None, None, None), (9, 9, 5.0, None, None), SignalTimes()
    silent = WitnessReport(named=True, reason="away")
    assert judge(WITNESS, state=signed, times=by_truth, said=WitnessReport(named=False))[0] is OFF
    assert judge(CHECKPOINT, state=nothing, times=by_truth, said=silent)[0] is DEGRADED
    found = judge(WITNESS, state=signed, times=by_truth, said=silent)
    assert found[::2] == (DEGRADED, "no witness has cosigned yet: away")
    late = judge(WITNESS, state=(20, 20, 5.0, 9, 301.0), times=by_truth, said=silent)
    assert late[::2] == (DEGRADED, "11 entries are not cosigned: away")
    assert judge(WITNESS, times=by_truth, said=silent)[::2] == (OK, None), "the next attempt may succeed"


def test_a_witness_that_refuses_degrades_at_once():
    refused = WitnessReport(named=True, reason="bad_proof", refused=True)
    for state in ((9, 9, 20.0, 9, 15.0), (9, 9, 5.0, None, None)):
        found = judge(WITNESS, state=state, times=SignalTimes(), said=refused)
        assert found[::2] == (DEGRADED, "the witness refuses: bad_proof")


@pytest.mark.parametrize(
    ("reason", "ago_sec", "status"),
    [
        ("database_away", 30.0, DEGRADED),
        ("slow", 599.0, DEGRADED),
        ("database_away", 601.0, OK),
        ("restarted", 30.0, OK),
    ],
)
def test_a_gap_that_nobody_asked_for_degrades_for_ten_minutes(reason, ago_sec, status):
    entry = make_gap(8, 5, 6, ms(ago_sec), reason).decode()
    found = judge(GAP, end=(7, 3.0, entry, ago_sec))
    if status is OK:
        assert found == (OK, ago_sec, None, f"ticks 5 to 6: {reason}")
    else:
        assert found == (DEGRADED, ago_sec, reason, "ticks 5 to 6")


@pytest.mark.parametrize(
    "entry", ["", "[]", '{"first": true, "last": 2, "reason": "x"}', '{"first": 1, "last": 2}']
)
def test_a_gap_that_can_not_be_read_degrades(entry):
    assert judge(GAP, end=(7, 3.0, entry, 4000.0))[::2] == (DEGRADED, "a gap can't be read")


def test_what_a_gap_says_is_printable_and_cut():
    entry = '{"first": 1, "last": 2, "reason": "a\\nb%s"}' % ("x" * 9000)
    why = judge(GAP, end=(7, 3.0, entry, 4.0))[2]
    assert why.isprintable()
    assert len(why) < 60


def test_times_are_those_of_the_truth_and_of_what_can_not_be_read_the_default():
    read = SignalTimes.read({"cycle_sec": 15, "checkpoint_sec": 30.0, "witness": {"url": "x", "key": "y"}})
    assert read == SignalTimes(15.0, 30.0, has_witness=True)
    assert (
        SignalTimes.read({"cycle_sec": "15", "checkpoint_sec": float("nan"), "witness": 1}) == SignalTimes()
    )
