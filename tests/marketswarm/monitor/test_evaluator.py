"""What many services at once do to the event loop: nothing that lasts."""

import asyncio
import contextlib
import gc
import itertools

import pytest

from marketswarm.bus import BusError
from marketswarm.bus.listener import read_clocks
from marketswarm.detector import Detector, Publication, SavedService, State, Verdict, restore_services
from marketswarm.detector.clock import Moment
from marketswarm.detector.verdict import Suspect, Tick
from marketswarm.monitor import monitor as module
from marketswarm.monitor.feed import DetectorFeed
from marketswarm.monitor.monitor import Evaluator
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import JobRule, Schedule, Watch
from support.scenes.monitor import LoopWork
from support.waiting import auntil

COUNT = 20_000
TIMEOUT_SEC = 1.0
LONGEST_SHARE = 0.2
"""Of all the work, in one go: seconds would measure the machine. It was more than a fifth."""
CANARY_SEC = 0.05


class Witness:
    """A bus on which nobody left a last beat."""

    name = "bus"

    async def script(self, _script, keys, _args):
        await asyncio.sleep(0)
        return [b"", -2] * len(keys)


class BusLink:
    bus = Witness()

    def __init__(self) -> None:
        self.proven: list[int] = []

    def request_canary(self) -> None:
        """Canaries come often enough."""

    def note_proven(self, services: int) -> None:
        self.proven.append(services)


async def prove(feed: DetectorFeed) -> None:
    """Canaries go out and come back."""
    for number in itertools.count(1):
        feed.on_canary_sent("bus", number, read_clocks(), 0.0)
        feed.on_canary_accepted("bus", read_clocks())
        await asyncio.sleep(CANARY_SEC)
        feed.on_canary_received("bus", number, read_clocks(), 0.0)


def make_feed(*, publish=lambda _: None, wake=lambda: None):
    return DetectorFeed(
        publish=publish,
        wake=wake,
        notify_session_opened=lambda _: None,
        notify_silence_ended=lambda: None,
    )


async def test_tens_of_thousands_that_die_at_once_leave_the_loop_to_others():
    missed: dict[str, Verdict] = {}
    wake, done = asyncio.Event(), asyncio.Event()
    feed = make_feed(wake=wake.set)
    names = [f"svc{n:05}" for n in range(COUNT)]
    watches = [Watch(svc, "bus", f"{svc}:heartbeat", TIMEOUT_SEC / 3, TIMEOUT_SEC) for svc in names]
    feed.detector.set_roster(watches, {"bus": 10.0}, read_clocks())
    list(restore_services(feed.detector, {}, {}, read_clocks()))
    feed.on_session_opened("bus")

    def publish(verdict: Verdict) -> None:
        assert verdict.svc not in missed
        missed[verdict.svc] = verdict
        if len(missed) == COUNT:
            done.set()

    link = BusLink()
    evaluator = Evaluator(feed, {"bus": link}, wake, progress=lambda: None, publish=publish)
    work = LoopWork()
    gc.collect()
    gc.freeze()  # what other tests left is none of ours to walk through
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(prove(feed)), group.create_task(work.measure())]
        tasks.append(group.create_task(evaluator.run(group)))
        with contextlib.suppress(AssertionError):
            await auntil(done.is_set, 60)
        for task in tasks:
            task.cancel()
    gc.unfreeze()
    assert missed.keys() == set(names)
    assert {verdict.state for verdict in missed.values()} == {State.DOWN}
    assert work.longest < LONGEST_SHARE * work.whole
    assert sum(link.proven) == COUNT, "the listener knows how many one canary proved, and paces the next ones"


@pytest.mark.slow
async def test_the_second_witness_lets_others_run_between_any_two_verdicts(monkeypatch):
    """With turns that are over at once, so that it is no question of time."""
    monkeypatch.setattr(module, "TimeSlice", lambda: TimeSlice(0.0))
    count, done = 400, asyncio.Event()
    turn, concluded = 0, []
    wake = asyncio.Event()
    feed = make_feed(wake=wake.set)
    watches = [
        Watch(f"svc{n}", "bus", f"svc{n}:heartbeat", TIMEOUT_SEC / 3, TIMEOUT_SEC) for n in range(count)
    ]
    feed.detector.set_roster(watches, {"bus": 10.0}, read_clocks())
    list(restore_services(feed.detector, {}, {}, read_clocks()))
    feed.on_session_opened("bus")

    async def take_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    def publish(_: Verdict) -> None:
        concluded.append(turn)
        if len(concluded) == count:
            done.set()

    evaluator = Evaluator(feed, {"bus": BusLink()}, wake, progress=lambda: None, publish=publish)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (prove(feed), take_turns(), evaluator.run(group))]
        async with asyncio.timeout(60):
            await done.wait()
        for task in tasks:
            task.cancel()
    assert max(map(concluded.count, set(concluded))) <= 2


async def test_a_bus_that_a_truth_drops_while_verdicts_are_published_ends_nothing(monkeypatch):
    feed, links, ticks = make_feed(), {"gone": BusLink(), "bus": BusLink()}, []
    gap = Verdict("b", State.UP, Publication.LOG, 1.0, gap_sec=5.0)
    first = Tick((gap,), (Suspect("a", "gone"),), ("gone", "bus"), 0.0)

    def tick(_self: Detector, _now: Moment) -> Tick:
        ticks.append(None)
        return first if len(ticks) == 1 else Tick((), (), (), 0.01)

    monkeypatch.setattr(Detector, "tick", tick)
    evaluator = Evaluator(
        feed, links, asyncio.Event(), progress=lambda: None, publish=lambda _: links.pop("gone")
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(evaluator.run(group))
        await auntil(lambda: len(ticks) > 2 or running.done(), what="more evaluations")
        running.cancel()
    assert len(ticks) > 2


async def test_services_that_are_down_are_read_after_a_session_began_until_the_bus_answers(moved_time):
    told: list[Verdict] = []
    feed = make_feed(publish=told.append)
    feed.detector.set_roster([Watch("a", "bus", "a:heartbeat", 10.0, 30.0)], {"bus": 10.0}, read_clocks())
    now = read_clocks()
    missed = SavedService(State.DOWN, since=now.wall - 100, missed_at=now.wall - 60)
    list(restore_services(feed.detector, {"a": missed}, {}, now))
    feed.on_session_opened("bus")
    answers: list[object] = [BusError("bus", "timeout"), [b'{"svc":"a","i":1,"ts":1,"boot":"b"}', 50_000]]

    class Slow(Witness):
        async def script(self, *_):
            found = answers.pop(0)
            if isinstance(found, BusError):
                raise found
            return found

    link = BusLink()
    link.bus = Slow()
    evaluator = Evaluator(feed, {"bus": link}, asyncio.Event(), progress=lambda: None, publish=told.append)
    await evaluator.read_unheard("bus")
    assert [verdict.state for verdict in told] == [State.UP]
    assert told[0].age_sec == pytest.approx(10.0, abs=0.01)
    assert not answers


@pytest.mark.parametrize("first", [None, BusError("bus", "timeout"), BusError("bus", "auth")])
async def test_jobs_that_failed_unheard_are_read_after_a_session_began(first, moved_time):
    """A bus that is away is asked again; one that refuses the key, as for users from before, is not."""
    told: list[Verdict] = []
    feed = make_feed(publish=told.append)
    rule = JobRule(Schedule("0 3 * * *"), 600.0)
    watches = [
        Watch("a", "bus", "a:heartbeat", 10.0, 30.0),
        Watch("b", "bus", "b:heartbeat", 9.0, 30.0, job=rule),
    ]
    feed.detector.set_roster(watches, {"bus": 10.0}, read_clocks())
    list(restore_services(feed.detector, {}, {}, read_clocks()))
    feed.on_session_opened("bus")
    failed = b'{"svc":"b","ok":false,"code":4,"ts":%.3f}' % (read_clocks().wall + 1)
    asked: list[list[str]] = []

    class Bus(Witness):
        async def script(self, _script, keys, _args):
            asked.append(list(keys))
            if first is not None and len(asked) == 1:
                raise first
            return [failed, -1, b"", -2]

    link = BusLink()
    link.bus = Bus()
    evaluator = Evaluator(feed, {"bus": link}, asyncio.Event(), progress=lambda: None, publish=told.append)
    await evaluator.read_unheard("bus")
    is_refused = first is not None and first.reason == "auth"
    assert asked == [["run:b", "beat:b"]] * (1 if is_refused or first is None else 2)
    want = [] if is_refused else [("b", "failed", 4)]
    assert [(each.svc, each.reason, each.exit_code) for each in told] == want


@pytest.mark.parametrize("is_refused", [False, True])
async def test_an_alert_that_was_resolved_unheard_is_over_after_a_session_began(is_refused, moved_time):
    """And one whose key is refused to a user from before stays, and holds up nothing else."""
    told: list[Verdict] = []
    feed = make_feed(publish=told.append)
    feed.detector.set_roster([Watch("a", "bus", "a:heartbeat", 10.0, 30.0)], {"bus": 10.0}, read_clocks())
    now = read_clocks()
    missed = SavedService(
        State.DOWN, since=now.wall - 60, missed_at=now.wall - 60, open_via="alertmanager", boot="web", i=5
    )
    list(restore_services(feed.detector, {"a": missed}, {}, now))
    feed.on_session_opened("bus")
    ended = b'{"svc":"a","ok":true,"via":"alertmanager","ts":%.3f}' % (now.wall - 10)
    beat = b'{"svc":"a","i":9,"ts":1,"boot":"web","life":60}'

    class Bus(Witness):
        async def script(self, _script, keys, _args):
            if "run:a" in keys and is_refused:
                raise BusError("bus", "auth")
            stored = {"run:a": ended, "beat:a": beat}
            return [part for key in keys for part in (stored[key], 58_000)]

    link = BusLink()
    link.bus = Bus()
    evaluator = Evaluator(feed, {"bus": link}, asyncio.Event(), progress=lambda: None, publish=told.append)
    await evaluator.read_unheard("bus")
    assert [verdict.state for verdict in told] == ([] if is_refused else [State.UP])


class SlowWitness(Witness):
    """A bus that answers each question later than the loop evaluates; it counts those asked at once."""

    def __init__(self) -> None:
        self.asked = self.most_asked = 0

    async def script(self, _script, keys, _args):
        self.asked += 1
        self.most_asked = max(self.most_asked, self.asked)
        await asyncio.sleep(0.02)
        self.asked -= 1
        return [b"", -2] * len(keys)


class RefusingWitness(SlowWitness):
    """A slow bus that answers no question in time until it was asked a few."""

    left = 4

    async def script(self, _script, keys, _args):
        found = await super().script(_script, keys, _args)
        self.left -= 1
        if self.left > 0:
            await asyncio.sleep(0.2)  # meanwhile others fall due
            raise BusError("bus", "timeout")
        return found


@pytest.mark.parametrize("bus", [SlowWitness(), RefusingWitness()], ids=["slow", "refusing"])
async def test_deaths_come_in_the_order_of_their_deadlines_from_one_task_however_the_bus_is(bus):
    """A task for each evaluation held the event loop for a slice each, and they overtook each other.

    So did those that fell due while the bus did not answer about the ones before them.
    """
    count, published, done = 2500, list[str](), asyncio.Event()
    wake = asyncio.Event()
    feed = make_feed(wake=wake.set)
    names = [f"svc{n:05}" for n in range(count)]
    watches = [Watch(svc, "bus", f"{svc}:heartbeat", TIMEOUT_SEC / 3, TIMEOUT_SEC) for svc in names]
    feed.detector.set_roster(watches, {"bus": 10.0}, read_clocks())
    list(restore_services(feed.detector, {}, {}, read_clocks()))
    feed.on_session_opened("bus")

    def publish(verdict: Verdict) -> None:
        published.append(verdict.svc)
        if len(published) == count:
            done.set()

    link = BusLink()
    link.bus = bus
    evaluator = Evaluator(feed, {"bus": link}, wake, progress=lambda: None, publish=publish)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (prove(feed), evaluator.run(group))]
        async with asyncio.timeout(60):
            await done.wait()
        for task in tasks:
            task.cancel()
    assert published == names
    assert bus.most_asked == 1
