"""The metrics of a monitor, about the services and buses that it watches."""

import asyncio
import gc
import time

import pytest

from marketswarm.detector import Publication, State, Verdict
from marketswarm.detector.service import BOOTS_KEPT
from marketswarm.metrics.exporter import Exporter
from marketswarm.monitor.leadership import UNFENCED, Fence, SoleLeader
from marketswarm.monitor.metrics import MonitorMetrics, count_beats
from marketswarm.monitor.publisher import LogLength
from marketswarm.monitor.verdict_queue import RecentWrites, VerdictQueue
from support.rig import HOST, free_port
from support.rig.metrics import asked
from support.simulation.manual_detector import Hand, watch


class Box:
    def __init__(self, waiting=0, retries=0):
        self.waiting, self.retries = waiting, retries
        self.queue, self.recent = VerdictQueue(), RecentWrites()
        self.log_length = LogLength()

    def __len__(self):
        return self.waiting


class BusLink:
    def __init__(self, publisher):
        self.publisher = publisher


class Leadership(SoleLeader):
    def __init__(self, **fences):
        self.fences = fences

    def fence(self, bus):
        return self.fences[bus]


def told(metrics):
    """Each value by its name and labels."""
    return {
        (family.name.removeprefix("marketswarm_"), *labels): number
        for family in metrics.collect()
        for labels, number in family.values
    }


def of(hand, posts=None, leadership=None):
    return told(MonitorMetrics(hand.detector, posts or {}, leadership or SoleLeader()))


def test_a_service_is_up_or_down_or_not_known():
    hand = Hand(watch("a"), watch("b"), watch("c"))
    hand.beating(20, 10, "a")
    found = of(hand)
    assert found["service_up", "a"] == 1
    assert ("service_up", "b") not in found
    assert ("service_last_beat_timestamp_seconds", "b") not in found
    assert (found["services", "up"], found["services", "down"], found["services", "unknown"]) == (1, 0, 2)
    hand.run(40)
    assert of(hand)["service_up", "a"] == 0
    assert [of(hand)["service_misses_total", svc] for svc in "abc"] == [1, 1, 1]


def test_a_second_miss_counts_and_a_new_interval_does_not_begin_the_count_anew():
    hand = Hand(watch("a"))
    for _ in range(2):
        hand.beating(10, 10, "a")
        hand.run(40)
    assert of(hand)["service_misses_total", "a"] == 2
    hand.rewatch(watch("a", interval=5.0))
    assert of(hand)["service_misses_total", "a"] == 2


def test_who_is_no_longer_watched_is_not_told_of():
    hand = Hand(watch("a"), watch("b"))
    hand.rewatch(watch("a"))
    assert {key[1] for key in of(hand) if key[0].startswith("service_")} == {"a"}


# -- how many beats


def test_beats_are_those_that_were_sent_by_the_senders_count_also_while_nobody_parsed_them():
    hand = Hand(watch("a"))
    for i in (10, 11, 12, 20):
        hand.beat("a", i=i, boot="x")
    record = hand.detector.services["a"]
    assert record.is_unparsed  # the last ones were taken at sight
    assert count_beats(record) == 20
    assert (record.is_unparsed, record.parsed_i) == (True, 10)  # and still are: asking changes nothing


def test_beats_of_all_instances_are_added_up_and_a_new_one_takes_nothing_away():
    hand = Hand(watch("a"))
    seen = 0
    for instance in range(2 * BOOTS_KEPT):
        for i in (1, 2, 3):
            hand.beat("a", i=i, boot=f"boot{instance}")
            assert count_beats(hand.detector.services["a"]) > seen
            seen = count_beats(hand.detector.services["a"])
    assert seen == 2 * BOOTS_KEPT * 3
    hand.rewatch(watch("a", interval=5.0))
    assert count_beats(hand.detector.services["a"]) == seen


@pytest.mark.parametrize("instances", [40, 100])
def test_beats_of_as_many_instances_as_the_truth_allows_are_counted_once_each(instances):
    hand = Hand(watch("a"))
    for i in range(1, 11):
        for instance in range(instances):
            hand.beat("a", i=i, boot=f"boot{instance}")
    assert count_beats(hand.detector.services["a"]) == 10 * instances
    for instance in range(instances):
        hand.beat("a", i=10, boot=f"boot{instance}")
    assert hand.detector.counts.replayed == instances
    assert count_beats(hand.detector.services["a"]) == 10 * instances


def test_of_a_sender_without_a_boot_the_last_count_is_all_that_is_known():
    hand = Hand(watch("a"))
    assert count_beats(hand.detector.services["a"]) == 0
    hand.beat("a", i=7)
    assert count_beats(hand.detector.services["a"]) == 7
    hand.beat("a", i=1)
    assert count_beats(hand.detector.services["a"]) == 1


def test_what_was_taken_at_sight_and_is_no_beat_makes_no_count_fall():
    hand = Hand(watch("a"))
    metrics = MonitorMetrics(hand.detector, {}, SoleLeader())
    hand.beat("a", i=10, boot="x")
    payload = hand.detector.services["a"].payload
    hand.beat("a", raw=payload.replace(b'"i":10', b'"i":1x'))
    before = told(metrics)
    assert before["beats_heard_total",] == 2
    hand.detector.confirm(hand.detector.services["a"], hand.now.mono)
    assert hand.detector.counts.heard == 1
    after = told(metrics)
    assert after["beats_heard_total",] == 2
    assert after["service_beats_total", "a"] == before["service_beats_total", "a"] == 10


# -- buses


def test_a_bus_that_is_lost_shows_and_so_do_its_gaps_and_sessions():
    hand = Hand(watch("a"))
    hand.run(5)
    found = of(hand)
    assert (found["bus_up", "bus"], found["bus_listening", "bus"], found["bus_gaps_total", "bus"]) == (
        1,
        1,
        0,
    )
    assert found["bus_session_restarts_total", "bus"] == 0
    assert 4 < found["bus_listened_seconds_total", "bus"] <= 5
    hand.lose()
    hand.run(20)
    lost = of(hand)
    assert (lost["bus_up", "bus"], lost["bus_listening", "bus"], lost["bus_gaps_total", "bus"]) == (0, 0, 1)
    assert lost["bus_listened_seconds_total", "bus"] <= 5
    hand.find()
    hand.run(1)
    again = of(hand)
    assert (again["bus_up", "bus"], again["bus_session_restarts_total", "bus"]) == (1, 1)


# -- telling


def test_the_delay_of_a_miss_runs_from_its_deadline_until_a_bus_took_it():
    hand = Hand(watch("a", timeout=30.0))
    hand.beating(10, 10, "a")
    hand.run(40)
    [miss] = [verdict for verdict in hand.verdicts if verdict.state is State.DOWN]
    assert 0 <= miss.overdue_sec < 0.5
    metrics = MonitorMetrics(hand.detector, {}, SoleLeader())
    for ago in (0.0, 2.0):
        metrics.observe_delay(Verdict("a", State.DOWN, Publication.ALERT, time.time() - ago), 0.1)
    [delay] = [f.histogram for f in metrics.collect() if f.name == "marketswarm_verdict_delay_seconds"]
    counts = dict(delay.buckets())
    assert (counts[0.05], counts[0.25], counts[1.0], counts[2.5], counts[float("inf")]) == (0, 1, 1, 2, 2)


def test_after_a_gap_the_deadline_is_the_end_of_the_warm_up():
    hand = Hand(watch("a", interval=10.0, timeout=30.0))
    hand.beating(10, 10, "a")
    hand.cut(5)
    hand.run(60)
    [miss] = [
        verdict for verdict in hand.verdicts if verdict.state is State.DOWN and verdict.subject != "bus"
    ]
    assert miss.late_sec > 30
    assert 0 <= miss.overdue_sec < 0.5


def test_what_waits_and_what_was_tried_again_is_told_by_bus():
    posts = {"x": BusLink(Box(3, 7)), "y": BusLink(None)}
    found = of(Hand(watch("a")), posts)
    assert (found["unpublished_verdicts", "x"], found["publish_retries_total", "x"]) == (3, 7)
    assert ("unpublished_verdicts", "y") not in found


def test_who_leads_says_so_and_who_has_no_second_says_nothing_of_it():
    posts = {"x": BusLink(Box()), "y": BusLink(Box())}
    found = of(Hand(watch("a")), posts, Leadership(x=Fence("me", 5), y=None))
    assert (found["leader", "x"], found["leader", "y"]) == (1, 0)
    assert found["lease_epoch", "x"] == 5
    assert ("lease_epoch", "y") not in found
    alone = of(Hand(watch("a")), posts, Leadership(x=UNFENCED, y=UNFENCED))
    assert not [key for key in alone if key[0] in ("leader", "lease_epoch")]


def test_it_says_whether_it_judges_yet():
    assert of(Hand(watch("a"), held=True))["judging",] == 0
    assert of(Hand(watch("a")))["judging",] == 1


async def test_an_absurdly_long_answer_does_not_hold_the_loop_up():
    """Processor time is measured: other programs may keep us waiting."""
    hand = Hand(*(watch(f"svc{n}") for n in range(30_000)))
    port = free_port()
    held_up = []
    gc.disable()  # a collection walks all that this test process ever made, and holds every thread up
    try:
        with Exporter(HOST, port, [MonitorMetrics(hand.detector, {}, SoleLeader()).collect]):
            while not held_up or held_up[-1] >= 0.05:
                assert len(held_up) < 3, held_up
                scrape = asyncio.create_task(asyncio.to_thread(asked, port, 60.0))
                latest = 0.0
                while not scrape.done():
                    begun = time.process_time()
                    await asyncio.sleep(0.005)
                    latest = max(latest, time.process_time() - begun)
                assert 'svc="svc29999"' in scrape.result()
                held_up.append(latest)
    finally:
        gc.enable()
