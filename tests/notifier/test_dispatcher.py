"""One dispatch: what is stored before a message is sent, what is acknowledged, what is rerouted."""

import asyncio
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.channels import Failure, Message, MessageKind, Receipt, SendError, Severity
from marketswarm.channels.message import parse_message
from marketswarm.channels.worker import Outcome
from marketswarm.event import Event, Kind, parse_event
from marketswarm.operator.requests import Answer
from marketswarm.status.channel_records import parse_records
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import Truth
from notifier import dispatcher as module
from notifier.channel_pool import ChannelPool
from notifier.dispatcher import AnswerTracker, Dispatcher, describe_pause, sentinel_may_report
from notifier.inbox import Inbox, ReceivedEvent, ReceivedRequest
from notifier.metrics import NotifierMetrics
from notifier.router.defect import Defect, DefectKind
from notifier.router.incident import Decision
from notifier.router.policy import Policy
from notifier.state import DONE_REQUESTS


def outcome(channel, ident="m1", error=None, *, over=True, pause_sec=0.0):
    receipt, message = None if error else Receipt("200 ok"), Message(ident, "t", "x", Severity.INFO, 1.0)
    return Outcome(channel, "host", message, 1.0, receipt, error, over, pause_sec=pause_sec)


def said(answering, ask="a"):
    found = [Answer.parse(raw) for raw in answering.take_answers().get(ask, ())]
    return [(each.channel, each.ok, each.said, each.done) for each in found]


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        (Kind.HEALER_MISS, True),
        (Kind.BUS_OK, True),
        (Kind.HEARTBEAT_MISS, False),
        (Kind.TRUTH_DRIFT, False),
    ],
)
def test_the_sentinel_looks_after_healer_and_buses(kind, may):
    assert sentinel_may_report(Event(kind, "a", 1.0, "x", "healer")) is may


def test_each_channel_is_answered_for_once_and_the_last_line_says_that_it_is():
    answering = AnswerTracker()
    for channel in ("one", "two"):
        answering.expect("a", "m1", channel)
    answering.record_outcome(outcome("two", error=SendError("500"), over=False))
    answering.record_outcome(outcome("two"))
    answering.record_outcome(outcome("one", ident="m2"))
    assert said(answering) == [("two", False, "500; it will be tried again", False)]
    answering.record_outcome(outcome("one"))
    assert said(answering) == [("one", True, "200 ok", True)]
    answering.record_outcome(outcome("one"))
    assert answering.take_answers() == {}


def test_a_channel_that_pauses_keeps_nobody_waiting():
    answering = AnswerTracker()
    answering.expect("a", "m1", "one")
    answering.answer_paused("a", "m1", "one", "host", describe_pause("one: 500", 60.4))
    assert said(answering) == [("one", False, "one: 500; it waits for 60 s more", True)]
    answering.record_outcome(outcome("one"))
    assert answering.take_answers() == {}


def test_a_channel_that_pauses_after_one_of_several_messages_keeps_nobody_waiting_for_the_others():
    answering = AnswerTracker()
    for ident, channel in (("m1", "one"), ("m2", "one"), ("m3", "one"), ("m1", "two")):
        answering.expect("a", ident, channel)
    answering.expect("b", "m4", "one")
    answering.record_outcome(outcome("one", error=SendError("500"), pause_sec=1.25))
    assert said(answering) == [("one", False, "500", False)]  # a short pause is waited for
    answering.record_outcome(outcome("one", "m2", error=SendError("500"), pause_sec=8.2))
    paused = "one: 500; it waits for 8 s more"
    assert said(answering) == [("one", False, "500", False), ("one", False, paused, False)]
    answering.record_outcome(outcome("two"))
    assert said(answering) == [("two", True, "200 ok", True)]
    answering.record_outcome(outcome("one", "m4"))
    assert said(answering, "b") == [("one", True, "200 ok", True)]


def test_a_test_waits_for_the_next_attempt_of_a_channel_that_pauses():
    answering = AnswerTracker()
    answering.expect("a", "m1", "one")
    answering.add_answer("a", ok=True, text="one: 500", channel="one", where="host", retry_sec=12.34)
    [line] = map(Answer.parse, answering.take_answers()["a"])
    assert (line.said, line.retry_sec, line.done) == ("one: 500", 12.3, False)
    answering.record_outcome(outcome("one"))
    assert said(answering) == [("one", True, "200 ok", True)]


def test_what_needs_no_channel_is_answered_at_once():
    answering = AnswerTracker()
    answering.add_answer("a", ok=True, text="x" * 2000)
    assert said(answering) == [("", True, "x" * 1000, True)]


def test_what_a_channel_refuses_for_good_is_said_as_it_is():
    answering = AnswerTracker()
    answering.expect("a", "m1", "one")
    answering.record_outcome(outcome("one", error=SendError("404", Failure.BROKEN)))
    assert said(answering) == [("one", False, "404", True)]


BUS = "system-redis"
NOW = 1_762_433_458.0


class Bench:
    """A dispatcher whose world is this object: what it stored, what it handed over, in which order."""

    def __init__(self, *channels, kept=None):
        self.now = NOW
        self.kept: dict[str, bytes] = dict(kept or {})
        self.turns, self.handed, self.story = [], [], []
        self.by_others: set[str] = set()
        self.asked_for: list[str] = []
        self.stored = True
        self.inbox = Inbox()
        self.metrics = NotifierMetrics()
        pool = ChannelPool(self.inbox)
        pool.enqueue = self._hand_over
        self.dispatcher = Dispatcher(
            name="notifier",
            clock=lambda: self.now,
            inbox=self.inbox,
            store=SimpleNamespace(commit=self._commit, find_delivered=self._reached),
            pool=pool,
            metrics=self.metrics,
        )
        self.dispatcher.restore(self.kept)
        self.dispatcher.apply_policy(Policy(group_wait_sec=0.0, rate_limit_sec=0.0), Truth())
        self.dispatcher.set_channels(channels)
        self.n = 0

    async def _commit(self, turn):
        self.turns.append(turn)
        self.story.append("stored")
        for name, value in turn.fields.items():
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = value
        return self.stored

    async def _reached(self, idents):
        self.asked_for += idents
        return self.by_others & set(idents)

    def _hand_over(self, channel, message):
        self.handed.append((channel, message))
        self.story.append(f"handed to {channel}")

    def hear(self, kind, svc, *, again=False, entry=None, bus=BUS):
        self.n += 1
        self.now += 1.0
        event = {"type": kind, "svc": svc, "ts": self.now, "id": f"{kind}.{svc}.{self.n}"}
        raw = orjson.dumps(event)
        entry = entry or f"{self.n}-0".encode()
        self.inbox.add_events([ReceivedEvent(bus, entry, parse_event(raw), raw, again)])
        return event["id"], entry

    def outcome(self, index=-1, *, error=None, anchor=None, over=True, broken=False):
        channel, message = self.handed[index]
        receipt = None if error else Receipt("200", anchor)
        self.inbox.add_outcome(Outcome(channel, "host", message, self.now, receipt, error, over, broken))

    def acked(self):
        return [entry for turn in self.turns for entry in turn.log_acks.get(BUS, ())]

    def again(self, *channels):
        return Bench(*channels, kept=self.kept)


async def test_a_message_is_stored_before_it_is_handed_over_and_its_entry_acknowledged_when_all_have_it():
    bench = Bench("one", "two")
    ident, entry = bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    assert bench.story == ["stored", "handed to one", "handed to two"]
    assert bench.acked() == []
    bench.outcome(0)
    await bench.dispatcher.dispatch()
    assert orjson.loads(bench.turns[-1].records[ident])["channels"] == ["one"]
    assert bench.acked() == []
    bench.outcome(1)
    await bench.dispatcher.dispatch()
    assert orjson.loads(bench.turns[-1].records[ident])["channels"] == ["one", "two"]
    assert bench.acked() == [entry]
    assert not [name for name in bench.kept if name.startswith("o:")]
    assert bench.metrics.delay.sum >= 0


async def test_after_a_kill_the_next_one_has_what_was_stored_and_takes_the_entry_for_a_repeat():
    bench = Bench("one", "two")
    _, entry = bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.outcome(0)
    await bench.dispatcher.dispatch()
    after = bench.again("one", "two")
    assert [message.id for message in after.dispatcher.outbox.pending_messages("two")] == [
        bench.handed[0][1].id
    ]
    assert after.dispatcher.outbox.pending_messages("one") == []
    after.inbox.add_events([ReceivedEvent(BUS, entry, parse_event(bench.handed[0][1].events[0]),
                              bench.handed[0][1].events[0], redelivered=True)])  # fmt: skip
    await after.dispatcher.dispatch()
    assert after.metrics.events == {Decision.REPEAT: 1}
    assert after.handed == []
    assert after.acked() == []
    after.handed.append(bench.handed[1])
    after.outcome()
    await after.dispatcher.dispatch()
    assert after.acked() == [entry]


async def test_a_message_is_handed_over_though_no_bus_stores_it():
    bench = Bench("one")
    bench.stored = False
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    assert [channel for channel, _ in bench.handed] == ["one"]


async def test_one_event_on_two_buses_is_one_message_and_both_entries_are_acknowledged():
    bench = Bench("one")
    _, entry = bench.hear("bus_miss", "market-redis")
    raw = orjson.dumps(
        {"type": "bus_miss", "svc": "market-redis", "ts": bench.now, "id": "bus_miss.market-redis.1"}
    )
    bench.inbox.add_events([ReceivedEvent("market-redis", b"7-7", parse_event(raw), raw)])
    await bench.dispatcher.dispatch()
    assert len(bench.handed) == 1
    bench.outcome()
    await bench.dispatcher.dispatch()
    assert bench.turns[-1].log_acks == {BUS: [entry], "market-redis": [b"7-7"]}


async def test_what_the_sentinel_told_is_not_told_again_and_others_are_not_asked_about():
    bench = Bench("one")
    bench.by_others = {"healer_miss.healer.1", "heartbeat_miss.alpha.2", "heartbeat_miss.beta.3"}
    bench.hear("healer_miss", "healer")
    bench.hear("heartbeat_miss", "alpha")
    bench.hear("heartbeat_miss", "beta", again=True)
    await bench.dispatcher.dispatch()
    assert bench.asked_for == ["healer_miss.healer.1", "heartbeat_miss.beta.3"]
    assert [message.id for _, message in bench.handed] == ["heartbeat_miss.alpha.2"]
    assert bench.metrics.events == {Decision.REPORTED_BY_SENTINEL: 2, Decision.TELL: 1}


async def test_many_events_let_others_run_between_any_two(monkeypatch):
    """With slices that are over at once, so that it is no question of time."""
    monkeypatch.setattr(module, "TimeSlice", lambda: TimeSlice(0.0))
    bench, turn, turns = Bench(), 0, []
    for n in range(100):
        bench.hear("heartbeat_miss", f"svc{n}")
    handle_event = bench.dispatcher.router.handle_event

    def handle(*args, **how):
        turns.append(turn)
        return handle_event(*args, **how)

    async def take_turns():
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    monkeypatch.setattr(bench.dispatcher.router, "handle_event", handle)
    others = asyncio.create_task(take_turns())
    await bench.dispatcher.dispatch()
    others.cancel()
    assert len(turns) == 100
    assert max(map(turns.count, set(turns))) == 1


async def test_a_request_that_is_handled_in_a_pause_is_stored_in_one_step(monkeypatch):
    """Its messages, what it deletes, and that it is done: in whichever pause of a dispatch it is handled."""
    monkeypatch.setattr(module, "TimeSlice", lambda: TimeSlice(0.0))
    handled_after_stores = set()
    for pauses in range(12):
        bench = Bench("one")
        for n in range(3):
            bench.hear("heartbeat_miss", f"svc{n}")

        async def handle(bench=bench, pauses=pauses):
            for _ in range(pauses):
                await asyncio.sleep(0)
            handled_after_stores.add(len(bench.turns))
            bench.dispatcher.state.mark_done("r1")
            bench.dispatcher.delete_dead_letters(BUS, [b"7-0"])
            bench.dispatcher.send_message(Message("m1", "t", "x", Severity.INFO, 1.0), ["one"])

        request = asyncio.create_task(handle())
        while not request.done():
            await bench.dispatcher.dispatch()
            await asyncio.sleep(0)
        await bench.dispatcher.dispatch()
        [done] = [turn for turn in bench.turns if DONE_REQUESTS in turn.fields]
        assert "o:m:m1" in done.fields
        assert done.deleted_dead == {BUS: [b"7-0"]}
    assert {0, 1} <= handled_after_stores


async def test_what_is_held_back_is_acknowledged_and_the_sentinel_knows_of_it():
    bench = Bench("one")
    bench.dispatcher.apply_policy(Policy(group_wait_sec=0.0, rate_limit_sec=300.0), Truth())
    for kind in ("miss", "ok", "miss"):
        bench.hear(f"healer_{kind}", "healer")
        await bench.dispatcher.dispatch()
    record = orjson.loads(bench.turns[-1].records["healer_miss.healer.3"])
    assert (record["held"], record["channels"]) == ("rate_limit", [])
    assert bench.acked() == [b"3-0"]


async def test_without_channels_everything_is_acknowledged_and_nothing_comes_out_later():
    bench = Bench()
    bench.hear("heartbeat_miss", "alpha")
    bench.hear("heartbeat_ok", "alpha")
    await bench.dispatcher.dispatch()
    assert len(bench.acked()) == 2
    later = bench.again("one")
    await later.dispatcher.dispatch()
    assert later.handed == []


async def test_what_a_channel_refuses_is_dead_there_and_a_broken_channel_is_told_over_another_once():
    bench = Bench("one", "two")
    ident, entry = bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    gone = SendError("404", Failure.BROKEN)
    bench.outcome(0, error=gone, broken=True)
    await bench.dispatcher.dispatch()
    [dead] = bench.turns[-1].dead
    assert (dead.channel, dead.reason, parse_message(dead.message).id) == ("one", "404", ident)
    channel, note = bench.handed[-1]
    assert (channel, note.title) == ("two", "channel one is broken: 404")
    bench.outcome(1)
    await bench.dispatcher.dispatch()
    assert bench.acked() == [entry]
    after = bench.again("one", "two")
    after.hear("heartbeat_miss", "beta")
    await after.dispatcher.dispatch()
    after.outcome(0, error=gone, broken=True)
    await after.dispatcher.dispatch()
    assert not [message for _, message in after.handed if "broken" in message.title], "it was told before"
    after.hear("heartbeat_miss", "gamma")
    await after.dispatcher.dispatch()
    after.outcome(-2)
    await after.dispatcher.dispatch()
    assert after.dispatcher.state.broken == {}


async def test_what_all_its_channels_refuse_goes_to_another_that_is_well():
    bench = Bench("one")
    ident, entry = bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.dispatcher.set_channels(["one", "two", "three"])
    bench.dispatcher.state.mark_broken("two", "410")
    bench.outcome(error=SendError("400", Failure.REJECTED))
    await bench.dispatcher.dispatch()
    assert bench.handed[-1] == ("three", bench.handed[0][1])
    assert bench.acked() == []
    bench.outcome(error=SendError("400", Failure.REJECTED))
    await bench.dispatcher.dispatch()
    assert bench.handed[-1][0] == "two"
    bench.outcome(error=SendError("410", Failure.BROKEN), broken=True)
    await bench.dispatcher.dispatch()
    assert bench.acked() == [entry]
    assert [dead.channel for turn in bench.turns for dead in turn.dead] == ["one", "three", "two"]
    assert ident


async def test_what_waits_for_a_channel_that_is_closed_goes_to_one_that_is_open():
    bench = Bench("one")
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.dispatcher.set_channels(["two"])
    await bench.dispatcher.dispatch()
    assert [channel for channel, _ in bench.handed] == ["one", "two"]
    assert bench.turns[-1].dead[0].reason == "no such channel"


async def test_an_attempt_that_failed_changes_nothing_but_since_when():
    bench = Bench("one")
    ident, _ = bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.outcome(error=SendError("500"), over=False)
    before = dict(bench.kept)
    await bench.dispatcher.dispatch()
    assert orjson.loads(bench.kept.pop(f"o:w:{ident}"))["since"] == {"one": bench.now}
    before.pop(f"o:w:{ident}")
    (record,) = parse_records(bench.kept.pop("d:records")).values()
    assert (record.sent, record.failed, record.refused, record.reason) == (0, 1, 0, "500")
    assert (record.failed_title, record.failed_at) == ("alpha is down", bench.now)
    assert bench.kept == before
    assert bench.acked() == []
    assert bench.dispatcher.outbox.pending_messages("one")


async def test_what_follows_a_message_that_is_not_delivered_yet_is_in_no_message_with_other_news():
    bench = Bench("one")
    bench.hear("heartbeat_miss", "alpha")
    bench.hear("heartbeat_miss", "beta")
    await bench.dispatcher.dispatch()
    bench.outcome(error=SendError("500"), over=False)
    bench.hear("heartbeat_ok", "alpha")
    bench.hear("heartbeat_ok", "beta")
    bench.hear("heartbeat_miss", "gamma")
    bench.hear("heartbeat_miss", "delta")
    await bench.dispatcher.dispatch()
    assert [message.about for _, message in bench.handed] == [
        ("alpha", "beta"),
        ("alpha", "beta"),
        ("gamma", "delta"),
    ]


async def test_a_failed_test_is_not_dead_and_goes_nowhere_else():
    bench = Bench("one", "two")
    test = Message("test.1", "t", "x", Severity.INFO, bench.now, kind=MessageKind.TEST)
    bench.dispatcher.send_message(test, ["one"])
    bench.dispatcher.answers.expect("a1", "test.1", "one")
    await bench.dispatcher.dispatch()
    bench.outcome(error=SendError("500"))
    await bench.dispatcher.dispatch()
    assert bench.turns[-1].dead == []
    assert len(bench.handed) == 1
    [line] = bench.turns[-1].answers["a1"]
    assert Answer.parse(line) == Answer(ok=False, said="500", channel="one", where="host", done=True)


async def test_entries_that_say_nothing_and_asks_that_are_done_are_acknowledged():
    bench = Bench("one")
    bench.inbox.add_malformed(BUS, b"5-0", "not_json")
    bench.dispatcher.finish_request(ReceivedRequest(BUS, b"6-0", None))
    await bench.dispatcher.dispatch()
    assert bench.turns[-1].log_acks == {BUS: [b"5-0"]}
    assert bench.turns[-1].request_acks == {BUS: [b"6-0"]}


async def test_how_far_each_log_was_read_is_kept():
    bench = Bench("one")
    bench.inbox.last_read["market-redis"] = b"12-3"
    await bench.dispatcher.dispatch()
    assert bench.again().inbox.last_read == {"market-redis": b"12-3"}


async def test_nothing_to_do_stores_nothing():
    bench = Bench("one")
    await bench.dispatcher.dispatch()
    turns = len(bench.turns)
    await bench.dispatcher.dispatch()
    assert len(bench.turns) == turns


@pytest.mark.parametrize("channels", [(), ("one",)])
async def test_the_desk_knows_when_it_has_something_to_do(channels):
    bench = Bench(*channels)
    bench.hear("heartbeat_miss", "alpha")
    assert bench.dispatcher.next_dispatch_in_sec() == 0
    await bench.dispatcher.dispatch()
    assert bench.dispatcher.next_dispatch_in_sec() is None or bench.dispatcher.next_dispatch_in_sec() > 0


TWO = Policy(group_wait_sec=0.0, rate_limit_sec=0.0, routes=({"channels": ["one"]},))


async def test_who_was_told_of_a_miss_over_another_channel_is_told_of_its_ok_there_too():
    bench = Bench("one", "two")
    bench.dispatcher.apply_policy(TWO, Truth())
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.outcome(error=SendError("400", Failure.REJECTED))
    await bench.dispatcher.dispatch()
    assert [channel for channel, _ in bench.handed] == ["one", "two"]
    after = bench.again("one", "two")
    after.dispatcher.apply_policy(TWO, Truth())
    after.n, after.now = bench.n, bench.now
    after.hear("heartbeat_ok", "alpha")
    await after.dispatcher.dispatch()
    assert [channel for channel, _ in after.handed] == ["one", "two"]
    assert {message.thread for _, message in after.handed} == {bench.handed[0][1].id}


async def test_an_ok_that_waits_behind_its_miss_goes_where_that_goes_and_after_it():
    bench = Bench("one", "two")
    bench.dispatcher.apply_policy(TWO, Truth())
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.hear("heartbeat_ok", "alpha")
    await bench.dispatcher.dispatch()
    assert [channel for channel, _ in bench.handed] == ["one", "one"]
    bench.outcome(0, error=SendError("gave up after 1 h: 500", Failure.REJECTED))
    await bench.dispatcher.dispatch()
    (_, miss), (_, ok) = bench.handed[:2]
    assert bench.handed[2:] == [("two", miss), ("two", ok)]


async def test_an_ok_that_is_not_a_message_yet_goes_where_its_miss_goes_even_after_a_kill():
    bench = Bench("one", "two")
    slow = TWO.model_copy(update={"group_wait_sec": 60.0})
    bench.dispatcher.apply_policy(TWO, Truth())
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.dispatcher.apply_policy(slow, Truth())
    bench.hear("heartbeat_ok", "alpha")
    bench.hear("heartbeat_miss", "beta")
    await bench.dispatcher.dispatch()
    assert len(bench.handed) == 1
    bench.outcome(0, error=SendError("400", Failure.REJECTED))
    await bench.dispatcher.dispatch()
    after = bench.again("one", "two")
    after.now = bench.now + 61.0
    after.dispatcher.apply_policy(slow, Truth())
    await after.dispatcher.dispatch()
    told = {(channel, message.title) for channel, message in after.handed if message.about == ("alpha",)}
    assert {channel for channel, _ in told} == {"one", "two"}


def find_lost(bench):
    return bench.metrics.defects[DefectKind.LOST]


@pytest.mark.parametrize("broken", [{"o:m:": b"{"}, {"o:w:": b"{"}, {"o:m:": None}, {"o:w:": None}])
async def test_an_outage_whose_stored_message_is_unusable_is_a_defect_and_is_told_again(broken):
    bench = Bench("one")
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    [first] = bench.handed
    for prefix, value in broken.items():
        bench.kept.pop(prefix + first[1].id)
        bench.kept |= {} if value is None else {prefix + first[1].id: value}
    after = bench.again("one")
    after.now = bench.now
    for _ in range(3):
        after.now += 1.0
        await after.dispatcher.dispatch()
    assert [message.title for _, message in after.handed] == ["alpha is down"]
    assert find_lost(after) == 1
    once_more = after.again("one")
    once_more.now = after.now + 5.0
    await once_more.dispatcher.dispatch()
    assert (once_more.handed, find_lost(once_more)) == ([], 0)


@pytest.mark.parametrize("name", ["o:w:unknown", "o:a:"])
async def test_an_unusable_field_of_no_message_makes_no_outage_count_as_not_told(name):
    bench = Bench("one")
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    bench.outcome()
    await bench.dispatcher.dispatch()
    bench.kept[name] = b"{"
    after = bench.again("one")
    after.now = bench.now + 5.0
    await after.dispatcher.dispatch()
    assert (after.handed, find_lost(after)) == ([], 0)


async def test_a_message_that_the_outbox_did_not_take_is_a_defect_and_its_outage_is_told(monkeypatch):
    bench = Bench("one")
    with monkeypatch.context() as broken:
        broken.setattr(bench.dispatcher.outbox, "add", lambda *_: [])
        bench.hear("heartbeat_miss", "alpha")
        await bench.dispatcher.dispatch()
    assert bench.handed == []
    for _ in range(3):
        bench.now += 1.0
        await bench.dispatcher.dispatch()
    assert [message.title for _, message in bench.handed] == ["alpha is down"]
    assert find_lost(bench) == 1


async def test_a_defect_is_in_the_beats_for_an_hour_however_the_clock_is_set():
    bench = Bench("one")
    assert bench.dispatcher.find_trouble() is None
    defect = Defect(DefectKind.LOST, "alpha")
    bench.dispatcher.router.take_defects = lambda: [defect] if bench.now == NOW else []
    await bench.dispatcher.dispatch()
    words = "a defect (lost, alpha) was mended: see router.defect in the log"
    assert bench.dispatcher.find_trouble() == words
    bench.now += 7200.0
    bench.dispatcher.shift_times(7200.0)
    bench.now += 3599.0
    assert bench.dispatcher.find_trouble() == words
    bench.now += 1.0
    assert bench.dispatcher.find_trouble() is None


@pytest.mark.parametrize("step_sec", [-3600.0, 3600.0])
async def test_the_waits_of_a_failed_message_are_as_long_as_they_are_though_the_clock_is_set_meanwhile(
    step_sec,
):
    """The attempt ended by a wall clock that the notifier goes on by only after this dispatch."""
    bench = Bench("one")
    bench.hear("heartbeat_miss", "alpha")
    await bench.dispatcher.dispatch()
    [(channel, message)] = bench.handed
    refusal = SendError("500")
    at = bench.now + step_sec
    bench.inbox.add_outcome(Outcome(channel, "host", message, at, None, refusal, False, pause_sec=8.0))
    await bench.dispatcher.dispatch()
    bench.now += step_sec
    bench.dispatcher.shift_times(step_sec)
    bench.now += 5.0
    assert bench.dispatcher.outbox.failing_sec(message, channel, bench.now) == 5.0
    assert bench.dispatcher.state.pause(channel, bench.now)[1] == pytest.approx(3.0)
