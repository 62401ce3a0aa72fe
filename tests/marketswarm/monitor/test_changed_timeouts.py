"""A reseed changes a timeout while a healer restarts: what was written before is judged by what it says."""

from dataclasses import replace
from typing import Any

import pytest

from marketswarm.beat import Beat, compute_life_sec, encode_beat
from marketswarm.detector import SavedJob, SavedService, State
from marketswarm.monitor.store import combine_service, encode_silence, parse_saved_silence
from marketswarm.monitor.witness import read_last_beats
from marketswarm.testing import MemoryBus
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.manual_detector import WALL, Hand, stored, watch
from support.simulation.manual_jobs import MIDNIGHT

HOUR = 3600.0
HOURLY = Schedule("0 * * * *")


def hourly(grace: float) -> Watch:
    return replace(watch(interval=HOUR, timeout=HOUR + grace), job=JobRule(HOURLY, grace, None))


async def read_age(wrote: Watch, reads: Watch, ago_sec: float, **beat: Any) -> float | None:
    """How old a beat looks that was stored so long ago under one truth, and is read under another."""
    bus, life = MemoryBus(), compute_life_sec(wrote.timeout_sec)
    payload = encode_beat(Beat("a", 7, 0.0, boot="z", life=life, **beat))
    await bus.client.set("beat:a", payload, px=round(1000 * (life - ago_sec)))
    async for answer in read_last_beats(bus, {"a": reads.timeout_sec}):  # type: ignore[arg-type]
        return answer.found["a"].age_sec
    raise AssertionError


@pytest.mark.parametrize("graces", [(60.0, 1800.0), (1800.0, 60.0)], ids=["longer", "shorter"])
@pytest.mark.parametrize("is_down", [False, True])
async def test_a_run_that_was_reported_under_another_grace_is_seen_for_what_it_is(graces, is_down):
    """The run of 03:00 was reported two minutes ago, the healer was away, and the truth has changed since."""
    was, now = map(hourly, graces)
    age = await read_age(was, now, 120.0, run="ended")
    assert age == pytest.approx(120, abs=2)
    wall, before = MIDNIGHT + 3 * HOUR + 130, MIDNIGHT + 2 * HOUR + 10
    job = SavedJob(before, schedule="0 * * * * UTC")
    saved = SavedService(State.UP, since=before, silent_sec=HOUR, job=job)
    if is_down:  # it was overdue, people raised the grace, and then its retry ended
        saved = SavedService(State.DOWN, since=before, missed_at=wall - 600, job=job)
    hand = Hand(now, wall=wall, held=True)
    hand.attest("a", age, i=7, boot="z", run="ended")
    hand.recall({"a": saved})
    hand.run(2300)
    assert hand.detector.services["a"].state is State.UP
    assert [verdict.state for verdict in hand.verdicts] == ([State.UP] if is_down else [])


def save_and_restart(first: Hand, then: Watch, *, wall_sec: float = 0.5) -> Hand:
    """End the first healer, and begin another one under the same or another truth."""
    service = first.detector.services["a"]
    first.detector.confirm(service, first.now.mono)
    assert service.silence.is_saved
    silence = parse_saved_silence(encode_silence(service).encode())
    entry = stored(verdict="up", ts=WALL, since=WALL)
    clock = first.clock().proven, first.now.wall
    return Hand(
        then,
        known={"a": combine_service(entry, silence, clock, "bus", None)},
        wall=first.now.wall + wall_sec,
    )


@pytest.mark.parametrize("is_reseeded_before", [True, False])
def test_a_silence_that_a_longer_timeout_allowed_is_no_miss_right_after_a_restart_under_a_shorter_one(
    is_reseeded_before,
):
    slow, quick = watch(interval=10, timeout=30), watch(interval=1, timeout=6)
    hand = Hand(slow)
    hand.beat()
    hand.run(25)  # so its silence is saved
    if is_reseeded_before:
        hand.rewatch(quick)
        hand.run(0.5)
    later = save_and_restart(hand, quick)
    later.run(4.4)
    assert not later.verdicts, "the warm-up of a start is what a service has to be heard in"
    later.run(3)
    assert [verdict.state for verdict in later.verdicts] == [State.DOWN], "it is dead, and that is told"


def test_a_silence_goes_on_over_restarts_under_the_same_timeout():
    hand = Hand(watch())
    hand.beat()
    hand.run(25)
    for _ in range(3):
        hand = save_and_restart(hand, watch())
        hand.run(1)
    later = save_and_restart(hand, watch())
    later.run(23)
    assert [verdict.state for verdict in later.verdicts] == [State.DOWN]
