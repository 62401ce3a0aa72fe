"""One sender out: in order, until it is accepted, and no other sender waits for it."""

import asyncio
from itertools import pairwise

import orjson
import pytest

from marketswarm.channels import Failure, Message, SendError
from marketswarm.channels.queue import backoff_sec
from marketswarm.event import Event, Kind, encode_event, make_event_id
from marketswarm.truth import parse_truth
from sentinel.pending import MAX_PENDING, PendingAlert
from sentinel.sender import ChannelSender, build_message, find_message_zone
from support.waiting import auntil


def alert(ts: float = 1000.0, kind: Kind = Kind.HEALER_MISS, svc: str = "healer") -> PendingAlert:
    event = Event(kind, svc, ts, make_event_id(kind, svc, ts), "sentinel")
    return PendingAlert(event, encode_event(event), 0.0)


def test_a_miss_opens_a_thread_and_its_ok_closes_that():
    miss, ok = alert(), alert(1100.0, Kind.HEALER_OK)
    ok.closes = miss.event.id
    message = build_message(miss)
    assert (message.opens, message.thread, message.closes) == (True, "", ())
    message = build_message(ok)
    assert (message.opens, message.thread, message.closes) == (False, miss.event.id, (miss.event.id,))


@pytest.mark.parametrize(
    ("notifier", "shown"),
    [
        ({"settings": {"time_zone": "Europe/Zurich"}}, "since 1970-01-01 01:16:40 CET (00:16:40 UTC)"),
        ({"settings": {"time_zone": "Europe/Atlantis"}}, "since 1970-01-01 00:16:40 UTC"),
        ({"settings": {"time_zone": 1}}, "since 1970-01-01 00:16:40 UTC"),
        ({}, "since 1970-01-01 00:16:40 UTC"),
        (None, "since 1970-01-01 00:16:40 UTC"),
    ],
)
def test_a_message_shows_the_clocks_of_the_notifiers_messages(notifier, shown):
    services = {"mesh": {}} if notifier is None else {"notifier": notifier}
    zone = find_message_zone(parse_truth(orjson.dumps({"services": services})).truth)
    assert shown in build_message(alert(), zone=zone).text.splitlines()


class Scripted:
    """A channel that fails as told, then accepts."""

    name, where, within_sec = "scripted", "nowhere", 5.0

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.tried: list[str] = []
        self.messages: list[Message] = []

    async def send(self, message: Message, _anchor: str | None = None) -> None:
        self.tried.append(message.id)
        self.messages.append(message)
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error

    async def aclose(self) -> None:
        pass


class Picky(Scripted):
    """A channel that never accepts the messages with these ids, and takes all others."""

    def __init__(self, *never: str) -> None:
        super().__init__()
        self.never = never

    async def send(self, message: Message, _anchor: str | None = None) -> None:
        await super().send(message, _anchor)
        await asyncio.sleep(0)  # pauses are none here, and a channel that answers takes a while
        if message.id in self.never:
            raise SendError("500")


class Scene:
    def __init__(self, channel: Scripted) -> None:
        self.accepted: list[str] = []
        self.ended: list[str] = []
        self.unwanted: set[str] = set()
        self.sender = ChannelSender(
            channel, is_wanted=self.wanted, on_accepted=self.take, on_finished=self.end
        )

    async def wanted(self, one: PendingAlert) -> bool:
        return one.event.id not in self.unwanted

    def take(self, one: PendingAlert, _channel: str) -> None:
        self.accepted.append(one.event.id)

    def end(self, one: PendingAlert) -> None:
        self.ended.append(one.event.id)

    def add(self, one: PendingAlert) -> None:
        self.sender.enqueue(one, build_message(one))

    async def play(self, *alerts: PendingAlert) -> None:
        """Runs until everything is over."""
        for one in alerts:
            self.add(one)
        task = asyncio.create_task(self.sender.run())
        await auntil(lambda: len(self.ended) >= len(alerts))
        task.cancel()


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were made, without making them."""
    made = []

    def none(failures: int, retry_after_sec: float | None, _chance: float) -> float:
        made.append(backoff_sec(failures, retry_after_sec, 0.5))
        return 0.0

    monkeypatch.setattr("marketswarm.channels.queue.backoff_sec", none)
    return made


async def test_it_is_tried_until_it_is_accepted_and_then_no_more(pauses):
    channel = Scripted(*[SendError("500")] * 5)
    scene = Scene(channel)
    one = alert()
    await scene.play(one)
    assert channel.tried == [one.event.id] * 6
    assert scene.accepted == scene.ended == [one.event.id]
    assert pauses == [1, 2, 4, 8, 16]
    assert scene.sender.trouble is None


async def test_one_that_is_never_accepted_holds_up_no_other_and_is_still_seen():
    ill, later = alert(1), alert(2)
    others = [alert(3 + n, Kind.BUS_MISS, f"bus-{n}") for n in range(3)]
    channel = Picky(ill.event.id)
    scene = Scene(channel)
    scene.add(ill)
    scene.add(later)
    for one in others:
        scene.add(one)
    task = asyncio.create_task(scene.sender.run())
    try:
        await auntil(lambda: len(scene.accepted) == len(others) and channel.tried.count(ill.event.id) > 3)
    finally:
        task.cancel()
    assert scene.accepted == scene.ended == [one.event.id for one in others]
    assert later.event.id not in channel.tried  # what is about the same service keeps its order
    assert scene.sender.trouble == "scripted: 500"


async def test_one_that_comes_during_a_pause_goes_at_once(monkeypatch):
    monkeypatch.setattr("marketswarm.channels.queue.backoff_sec", lambda *_: 300.0)
    ill, other = alert(1), alert(2, Kind.BUS_MISS, "market-redis")
    channel = Picky(ill.event.id)
    scene = Scene(channel)
    scene.add(ill)
    task = asyncio.create_task(scene.sender.run())
    try:
        await auntil(lambda: channel.tried == [ill.event.id])
        scene.add(other)
        await auntil(lambda: scene.accepted == [other.event.id])
    finally:
        task.cancel()


async def test_what_comes_later_goes_later():
    channel = Scripted(SendError("timeout"))
    scene = Scene(channel)
    first, second = alert(1), alert(2)
    await scene.play(first, second)
    assert channel.tried == [first.event.id, first.event.id, second.event.id]


async def test_a_refusal_for_good_is_not_repeated_is_seen_and_holds_nothing_up(capsys, pauses):
    channel = Scripted(SendError("404", Failure.BROKEN))
    scene = Scene(channel)
    first, second = alert(1), alert(2)
    scene.add(first)
    await scene.play(second)
    assert channel.tried[0] == first.event.id
    assert scene.ended[0] == first.event.id
    assert first.event.id not in scene.accepted
    assert pauses == [], "the next alert does not wait"
    assert "fallback.refused" in "".join(capsys.readouterr())


async def test_a_channels_own_mistake_ends_nobody(capsys):
    scene = Scene(Scripted(ZeroDivisionError("s3cret")))
    await scene.play(alert())
    assert scene.sender.trouble == "scripted: ZeroDivisionError"
    assert scene.accepted == []
    assert "s3cret" not in "".join(capsys.readouterr())


async def test_what_others_told_meanwhile_is_not_sent():
    channel = Scripted()
    scene = Scene(channel)
    one = alert()
    scene.unwanted.add(one.event.id)
    await scene.play(one)
    assert channel.tried == []
    assert scene.ended == [one.event.id]


async def test_it_holds_no_more_than_there_may_be_owed():
    scene = Scene(Scripted())
    for n in range(MAX_PENDING + 5):
        scene.add(alert(n))
    assert len(scene.sender) == MAX_PENDING
    assert scene.ended == [alert(n).event.id for n in range(5)]


def test_pauses_grow_to_five_minutes_waver_and_obey_the_receiver():
    means = [backoff_sec(n, None, 0.5) for n in range(1, 15)]
    assert means[:4] == [1, 2, 4, 8]
    assert means[-1] == 300
    assert all(a <= b for a, b in pairwise(means))
    assert (backoff_sec(1, None, 0.0), backoff_sec(1, None, 1.0)) == (0.75, 1.25)
    assert backoff_sec(1, 90, 0.0) == 90
    assert backoff_sec(10_000, 1, 0.5) == 300


async def test_each_attempt_says_how_late_it_is():
    channel = Scripted(SendError("500"))
    await Scene(channel).play(alert())
    texts = [message.text.partition("\n")[0] for message in channel.messages]
    assert len(texts) == 2
    assert all(" late)" in text and text.count("late)") == 1 for text in texts)
