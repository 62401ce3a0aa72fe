"""What an agent tells of itself."""

import asyncio
from types import SimpleNamespace

import pytest

from marketswarm.agent.metrics import MEASURE_EVERY_SEC, AgentMetrics, LoopLag
from marketswarm.tasks import end_tasks

HEALER = SimpleNamespace(name="healer", boot="abc", revision=None)


def told(own):
    return {family.name: [number for _, number in family.values] for family in own.collect()}


def test_before_it_has_joined_it_tells_only_who_it_is():
    own = AgentMetrics(HEALER)
    found = {family.name: family for family in own.collect()}
    info = found["marketswarm_agent_info"]
    assert (info.labels, list(info.values)) == (("agent", "boot"), [(("healer", "abc"), 1.0)])
    assert "marketswarm_truth_revision" not in found
    assert told(own)["marketswarm_event_loop_stall_seconds"] == []


def test_its_vitals_are_told_and_what_is_not_known_is_left_out():
    own = AgentMetrics(HEALER)
    own.sender = SimpleNamespace(is_degraded=True, sent=3, failed=2, sent_at=None)
    found = told(own)
    assert found["marketswarm_degraded"] == [1.0]
    assert (found["marketswarm_beats_sent_total"], found["marketswarm_beats_failed_total"]) == ([3], [2])
    assert found["marketswarm_truth_revision"] == found["marketswarm_last_beat_sent_timestamp_seconds"] == []


async def test_a_stall_is_seen_while_it_lasts_and_in_the_spread_afterwards(moved_time):
    lag = LoopLag()
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    moved_time.advance(MEASURE_EVERY_SEC + 0.5)  # the stall
    assert lag.stall_sec() == pytest.approx(0.5, abs=0.05)
    await asyncio.sleep(0.01)
    late = dict(lag.histogram.buckets())
    assert (late[0.25], late[float("inf")]) == (0, 1)
    assert lag.histogram.sum == pytest.approx(0.5, abs=0.05)
    await end_tasks(task)
    assert lag.stall_sec() is None
