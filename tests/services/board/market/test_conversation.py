"""Conversations over a WebSocket in memory."""

import asyncio
from types import SimpleNamespace

import orjson
import pytest
from starlette.websockets import WebSocketDisconnect

from marketswarm.tasks import end_tasks
from marketswarm.web.limits import RateLimiter
from marketswarm.web.updates import UpdateHub
from services.board.market import conversation
from services.board.market.conversation import MessageError, find_cost, is_topic, parse_message, serve_client
from support.waiting import PATIENT_SEC

ADDRESS = "10.0.0.1"


class Wire:
    """A WebSocket whose client is the test. Unless `flows` is set nothing that is sent arrives."""

    def __init__(self, address):
        self.client = SimpleNamespace(host=address)
        self.sent, self.received = asyncio.Queue(), asyncio.Queue()
        self.closed, self.flows = None, asyncio.Event()
        self.flows.set()

    async def accept(self):
        pass

    async def send_text(self, text):
        await self.flows.wait()
        await self.sent.put(orjson.loads(text))

    async def receive_text(self):
        text = await self.received.get()
        if text is None:
            raise WebSocketDisconnect(1000)
        return text

    async def close(self, code, reason):
        self.closed = code, reason

    def say(self, **message):
        self.received.put_nowait(orjson.dumps(message).decode())

    async def hear(self):
        async with asyncio.timeout(PATIENT_SEC):
            return await self.sent.get()


class Topics:
    """Has a snapshot of each topic that it was asked to prepare."""

    def __init__(self, hub):
        self.hub, self.prepared = hub, set()

    async def prepare_snapshots(self, topics):
        self.prepared.update(topics)

    def find_snapshot(self, topic):
        return {"of": topic} if topic in self.prepared else None


@pytest.fixture
async def talk():
    """A hub, and a function that begins a conversation; all are ended."""
    hub, tasks = UpdateHub("b"), []

    async def begin(address=ADDRESS, *, hello=True):
        wire = Wire(address)
        tasks.append(asyncio.create_task(serve_client(wire, Topics(hub))))
        if hello:
            assert (await wire.hear())["type"] == "hello"
        return wire, tasks[-1]

    yield hub, begin
    await end_tasks(*tasks)


async def test_a_client_gets_a_snapshot_and_then_each_update_once(talk):
    hub, begin = talk
    hub.publish("quotes:SPY", b"0")
    wire, _ = await begin()
    wire.say(subscribe=["quotes:SPY"])
    found = await wire.hear()
    assert (found["type"], found["position"]) == ("snapshot", "b-1")
    assert found["topics"] == {"quotes:SPY": {"of": "quotes:SPY"}}
    hub.publish("quotes:SPY", b"1")
    assert await wire.hear() == {
        "type": "updates",
        "last": 2,
        "updates": [{"n": 2, "topic": "quotes:SPY", "data": 1}],
    }


async def test_a_client_that_comes_back_goes_on_where_it_was(talk):
    hub, begin = talk
    wire, task = await begin()
    wire.say(subscribe=["quotes:SPY"])
    await wire.hear()
    wire.received.put_nowait(None)
    await task
    assert len(hub) == 0
    hub.publish("quotes:SPY", b"1")
    wire, _ = await begin()
    wire.say(subscribe=["quotes:SPY"], after="b-0")
    assert (await wire.hear())["type"] == "resumed"
    assert [one["n"] for one in (await wire.hear())["updates"]] == [1]
    wire.say(subscribe=["quotes:QQQ"], after="other-0")
    assert (await wire.hear())["type"] == "snapshot"


async def test_a_snapshot_begins_before_the_updates_that_still_wait_so_a_break_loses_none(talk):
    hub, begin = talk
    wire, task = await begin()
    wire.say(subscribe=["quotes:SPY"], interval_sec=60)
    await wire.hear()
    hub.publish("quotes:SPY", b"1")
    assert (await wire.hear())["last"] == 1
    hub.publish("quotes:SPY", b"2")
    wire.say(subscribe=["quotes:QQQ"])
    position = (await wire.hear())["position"]
    assert position == "b-1", "the second update still waits for its interval"
    wire.received.put_nowait(None)
    await task
    wire, _ = await begin()
    wire.say(subscribe=["quotes:SPY", "quotes:QQQ"], after=position)
    resumed = await wire.hear()
    assert (resumed["type"], resumed["position"]) == ("resumed", position)
    assert [one["data"] for one in (await wire.hear())["updates"]] == [2]


async def test_a_client_that_is_dropped_learns_it_at_once_though_its_interval_is_long(talk, monkeypatch):
    monkeypatch.setattr("marketswarm.web.updates.PENDING_UPDATES", 2)
    hub, begin = talk
    wire, task = await begin()
    wire.say(subscribe=["bars:SPY:1m"], interval_sec=60)
    await wire.hear()
    hub.publish("bars:SPY:1m", b"1")
    await wire.hear()
    for number in range(3):
        hub.publish("bars:SPY:1m", b"2", subject=str(number))
    async with asyncio.timeout(PATIENT_SEC):
        await task
    assert wire.closed[0] == conversation.TOO_SLOW


async def test_a_client_that_missed_what_was_lost_is_told_to_come_back(talk):
    hub, begin = talk
    wire, task = await begin()
    wire.say(subscribe=["quotes:SPY"])
    await wire.hear()
    hub.note_loss()
    async with asyncio.timeout(PATIENT_SEC):
        await task
    assert wire.closed == (conversation.LOST, "updates were lost: connect again")


async def test_updates_come_at_the_pace_that_the_client_asks_for(talk, monkeypatch):
    hub, begin = talk
    wire, _ = await begin()
    wire.say(subscribe=["quotes:SPY"], interval_sec=0.1)
    await wire.hear()
    for number in range(3):
        hub.publish("quotes:SPY", b"%d" % number)
    first = await wire.hear()
    begun = asyncio.get_running_loop().time()
    for number in range(3, 9):
        hub.publish("quotes:SPY", b"%d" % number)
    second = await wire.hear()
    assert first["updates"][0]["data"] == 2
    assert second["updates"] == [{"n": 9, "topic": "quotes:SPY", "data": 8}]
    assert asyncio.get_running_loop().time() - begun > 0.09


async def test_a_client_that_does_not_read_is_dropped_with_the_reason(talk, monkeypatch):
    monkeypatch.setattr(conversation, "SEND_SEC", 0.05)
    hub, begin = talk
    wire, task = await begin()
    wire.say(subscribe=["quotes:SPY"])
    await wire.hear()
    wire.flows.clear()
    hub.publish("quotes:SPY", b"1")
    async with asyncio.timeout(PATIENT_SEC):
        await task
    assert wire.closed == (conversation.TOO_SLOW, "too slow: updates waited longer than this client read")
    assert len(hub) == 0


async def test_a_wrong_message_is_answered_and_too_many_end_the_conversation(talk):
    _, begin = talk
    wire, task = await begin()
    wire.received.put_nowait("{")
    assert await wire.hear() == {"type": "error", "detail": "the message is not JSON"}
    for _ in range(conversation.MESSAGES):
        wire.say(subscribe=["nothing"])
    async with asyncio.timeout(PATIENT_SEC):
        await task
    assert wire.closed[0] == conversation.TOO_MANY


async def test_a_client_that_asks_for_many_topics_again_and_again_waits_and_others_do_not(talk, monkeypatch):
    hub, begin = talk
    monkeypatch.setattr(hub, "topic_limiter", RateLimiter(100, 0.001))
    wire, _ = await begin()
    topics = [f"bars:S{number}:1m" for number in range(100)]
    wire.say(subscribe=topics)
    assert (await wire.hear())["type"] == "snapshot"
    wire.say(subscribe=topics)
    other, _ = await begin("10.0.0.2")
    other.say(subscribe=topics)
    assert (await other.hear())["type"] == "snapshot", "another address has its own"
    assert wire.sent.empty(), "the second hundred waits until it is allowed"


def test_a_topic_of_all_symbols_counts_for_many():
    wide, narrow = ("quotes", "series", "bars:1m"), ("quotes:SPY", "bars:SPY:1m", "indicators:X:BTC:1d")
    assert {find_cost(topic) for topic in wide} == {conversation.WIDE_COST}
    assert {find_cost(topic) for topic in narrow} == {1}


async def test_resumes_of_one_address_are_limited_as_topics_are(talk, monkeypatch):
    hub, begin = talk
    monkeypatch.setattr(hub, "topic_limiter", RateLimiter(2 * conversation.RESUME_COST, 0.001))
    wire, _ = await begin()
    for _ in range(3):
        wire.say(after="b-0")
    assert [(await wire.hear())["type"] for _ in range(2)] == ["resumed"] * 2
    other, _ = await begin("10.0.0.2")
    other.say(after="b-0")
    assert (await other.hear())["type"] == "resumed"
    assert wire.sent.empty(), "the third one waits"


async def test_a_client_too_many_is_told_so_by_the_reason_of_the_close(talk):
    hub, begin = talk
    for _ in range(50):
        hub.join(ADDRESS)
    wire, task = await begin(hello=False)
    async with asyncio.timeout(PATIENT_SEC):
        await task
    assert wire.closed == (conversation.FULL, "too many clients of this address follow the market")


async def test_a_break_that_was_too_long_ends_in_a_snapshot_and_the_connection_stays(talk, monkeypatch):
    monkeypatch.setattr("marketswarm.web.updates.PENDING_UPDATES", 5)
    hub, begin = talk
    for number in range(10):
        hub.publish("bars:SPY:1m", b"1", subject=str(number))
    wire, _ = await begin()
    wire.say(subscribe=["bars:SPY:1m"], after="b-0")
    assert (await wire.hear())["type"] == "snapshot"
    hub.publish("bars:SPY:1m", b"2")
    assert [one["data"] for one in (await wire.hear())["updates"]] == [2]


async def test_the_end_of_the_board_is_said(talk):
    hub, begin = talk
    wire, task = await begin()
    hub.close()
    async with asyncio.timeout(PATIENT_SEC):
        await task
    assert wire.closed[0] == conversation.GOING_AWAY


@pytest.mark.parametrize(
    "text",
    ["[]", "null", '{"a": 1}', '{"subscribe": "quotes"}', '{"interval_sec": 0}',
     '{"subscribe": ["bars:SPY"]}',
     '{"interval_sec": 1e999}', " " * 70_000],
)  # fmt: skip
def test_a_message_that_is_none_is_an_error_without_its_text(text):
    with pytest.raises(MessageError) as error:
        parse_message(text)
    assert "SPY" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"subscribed": 1}', 'wrong: message.subscribed: is not a known key (did you mean "subscribe"?)'),
     ('{"\\u001b": 1}', 'wrong: message["\\u001b"]: is not a known key'),
     ('{"subscribe": ["x", 5]}', "wrong: message.subscribe[1]: is not text"),
     ("[]", "wrong: message: is not an object")],
)  # fmt: skip
def test_an_error_says_which_key_is_wrong_and_how(text, words):
    with pytest.raises(MessageError) as error:
        parse_message(text)
    assert str(error.value).removesuffix(" (known: subscribe, unsubscribe, after, interval_sec)") == words


def test_topics_are_those_that_are_published():
    known = (
        "quotes",
        "series",
        "quotes:EUR/USD",
        "cells:EUR/USD",
        "bars:SPY:1m",
        "bars:1m",
        "indicators:X:BTC:1d",
    )
    assert all(map(is_topic, known))
    assert not any(
        map(
            is_topic,
            (
                "",
                "bars",
                "bars:SPY",
                "bars:SPY:2m",
                "quotes:",
                "quotes:<a>",
                "x:SPY:1m",
                "bars:2m",
                "indicators:1m",
            ),
        )
    )
