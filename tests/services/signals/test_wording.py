"""A model words signals that changed their side, and whatever it says changes nothing but that sentence."""

import asyncio
import contextlib
from types import SimpleNamespace

import orjson
import pytest

from marketswarm import log as logs
from marketswarm.bus.circuit_breaker import BreakerState
from marketswarm.keys import SIGNALS_WORDINGS, voter_budget_key
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.market.fields import EntryError
from services.signals.ask.endpoints import WORDING, WordingSettings
from services.signals.ask.keys import parse_keys
from services.signals.ask.metrics import AskMetrics
from services.signals.ask.sentences import OtherSideError, encode_wording_question, parse_sentence
from services.signals.cycle.states import SignalState
from services.signals.settings import SignalsSettings
from services.signals.wording import SignalWording, WordingOutcome
from services.tables.signal_places import parse_place
from services.tables.signal_wordings import MAX_WORDING, parse_wording_fields
from support.rig.receiver import Answer, Receiver
from support.scenes.votes import complete
from support.signal_log import START_MS, make_row, make_signal
from support.waiting import auntil

VOTERS = [
    {"voter": "trend", "rule": "trend", "weight": 1},
    {"voter": "volume", "rule": "volume", "weight": 1},
]
KEY = "xai-s3cret-key"
SENTENCE = "SPY is long because the short mean is above the long one."


def sentence(side="long", text=SENTENCE):
    return complete(orjson.dumps({"side": side, "sentence": text}))


@pytest.fixture
def model():
    with Receiver() as receiver:
        receiver.always = sentence()
        yield receiver


class Store:
    """Keeps wordings in memory, or raises."""

    def __init__(self):
        self.kept, self.error = {}, None

    async def write_wording(self, one):
        if self.error is not None:
            raise self.error
        return self.kept.setdefault((one.tick, one.symbol), one) is one


class Scene:
    """A wording on a bus in memory, of a process that leads."""

    def __init__(self, model, **limits):
        self.bus, self.store, self.asked = MemoryBus("market-redis"), Store(), AskMetrics()
        self.url = f"http://127.0.0.1:{model.port}/v1"
        self.options = {"wording": {"url": self.url, "model": "grok-4", **limits}}
        me = SimpleNamespace(
            section=parse_truth(b'{"services": {"signals": {}}}').truth.services["signals"],
            bus=lambda _name: self.bus,
            log=logs.get("signals"),
        )
        keys = parse_keys(f"http://127.0.0.1:{model.port} {KEY}")
        self.wording = SignalWording(me, lambda: self.settings, keys, self.asked, store=self.store)

    @property
    def settings(self):
        return SignalsSettings.model_validate({"endpoints": VOTERS, "settings": self.options})

    @property
    def counts(self):
        return {str(name): count for name, count in self.wording.wordings_total.items() if count}

    def tick(self, *symbols, side="long", began=True, score="0.450000000000", tick=1):
        """Commit a tick in which these symbols have a side, since now or since earlier."""
        contents = [make_signal(tick, symbol, side, score) for symbol in symbols]
        rows = [make_row(tick, at, START_MS, content) for at, content in enumerate(contents)]
        state = SignalState(side_ms=5, as_of_ms=5 if began else 9)
        self.wording.follow_tick(SimpleNamespace(rows=rows, states=dict.fromkeys(symbols, state)), None)

    async def until(self, count):
        await auntil(lambda: sum(self.counts.values()) >= count)


@contextlib.asynccontextmanager
async def running(model, **limits):
    scene = Scene(model, **limits)
    task = asyncio.create_task(scene.wording.run())
    try:
        yield scene
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_signal_that_changed_its_side_is_worded_stored_and_published(model):
    async with running(model) as scene:
        scene.tick("SPY")
        await scene.until(1)
        assert scene.counts == {"worded": 1}
        (one,) = scene.store.kept.values()
        assert (one.tick, one.symbol, one.side) == (1, "SPY", "long")
        assert one.wording[:2] == (SENTENCE, "grok-4")
        [(_, fields)] = await scene.bus.client.xrange(SIGNALS_WORDINGS)
        assert parse_wording_fields(fields) == one
        (request,) = model.seen
        assert request.headers["authorization"] == f"Bearer {KEY}"
        body = orjson.loads(request.body)
        assert body["model"] == "grok-4"
        told = orjson.loads(body["messages"][1]["content"])
        assert set(told) == {"symbol", "side", "before", "score", "conflict", "votes"}
        assert scene.asked.calls_total[WORDING] == 1
        assert scene.asked.hit_share is None, "it is no question about a vote"


async def test_without_the_setting_and_without_a_change_nothing_is_asked(model):
    async with running(model) as scene:
        scene.tick("SPY", began=False)
        scene.tick("SPY", side="flat")  # it began in this tick, and was flat before
        options, scene.options = scene.options, {}
        scene.tick("SPY")
        scene.options = options
        scene.tick("QQQ")
        await scene.until(1)
        assert scene.counts == {"worded": 1}
        assert [symbol for _, symbol in scene.store.kept] == ["QQQ"]
        assert len(model.seen) == 1


async def test_of_a_tick_the_surest_are_worded_and_the_rest_is_counted(model):
    async with running(model, calls_per_cycle=1) as scene:
        scene.tick("AAA")
        await scene.until(1)
        decision = SimpleNamespace(rows=[], states={})
        for score, symbol in (
            ("0.310000000000", "BBB"),
            ("0.900000000000", "CCC"),
            ("0.500000000000", "DDD"),
        ):
            decision.rows.append(make_row(2, 0, START_MS, make_signal(2, symbol, "long", score)))
            decision.states[symbol] = SignalState(side_ms=5, as_of_ms=5)
        scene.wording.follow_tick(decision)
        await scene.until(4)
        assert scene.counts == {"worded": 2, "limited": 2}
        assert [symbol for _, symbol in scene.store.kept] == ["AAA", "CCC"]


async def test_an_hour_has_no_more_calls_than_the_truth_says(model):
    async with running(model, calls_per_hour=2) as scene:
        for tick in range(1, 5):
            scene.tick("SPY", tick=tick)
            await scene.until(tick)
        assert scene.counts == {"worded": 2, "limited": 2}
        assert len(model.seen) == 2
        assert await scene.bus.client.exists(voter_budget_key(WORDING))


async def test_a_tick_waits_for_nothing_and_what_is_in_flight_ends_with_the_process(model):
    with Receiver() as slow:
        slow.always = Answer(hang=True)
        async with running(slow, at_once=1) as scene:
            scene.tick("SPY")
            scene.tick("QQQ", tick=2)
            assert scene.counts == {}
            await scene.until(1)
            assert scene.counts == {"limited": 1}, "one may wait for an answer at the same time"
            await auntil(lambda: scene.asked.calls_total[WORDING] == 1)
        assert scene.store.kept == {}


HOSTILE = [
    *(
        "<script>alert(1)</script>",
        "\x1b[2J\x00\x07 long",
        "a\nb\r\nc\u2028d",
        "\u202e drawkcab",
        "x" * 10_000,
    ),
    *("SPY is short, sell everything", '{"score": 1, "side": "short"}', "٣٤ 42 %"),
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_a_sentence_says_it_is_one_short_printable_line(model, text):
    model.always = sentence(text=text)
    async with running(model) as scene:
        scene.tick("SPY")
        await scene.until(1)
        (one,) = scene.store.kept.values()
        line = one.wording.text
        assert line.isprintable()
        assert 0 < len(line) <= MAX_WORDING
        assert (one.tick, one.symbol, one.side, one.wording.model) == (1, "SPY", "long", "grok-4")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (sentence(side="short"), "other_side"),
        (sentence(side="Long"), "other_side"),
        *((sentence(text=text), "failed") for text in ("", " \n\t ", "\x00\x1b", "x" * 20_000)),
        *((complete(text), "failed") for text in (b"it rises", b"[]", b"5", b'{"sentence": "x"}')),
        (complete(b'{"side": "long", "sentence": 5}'), "failed"),
        (complete(b'{"side": 1, "sentence": "x"}'), "failed"),
        *((Answer(status), "failed") for status in (301, 401, 500)),
        (Answer(429, {"Retry-After": "100"}), "limited"),
        (Answer(reset=True), "failed"),
        (Answer(body=b" " * 1_000_000), "failed"),
        (Answer(body=b"<html>"), "failed"),
    ],
)
async def test_an_answer_that_can_not_be_used_leaves_the_signal_without_a_wording(model, answer, outcome):
    model.always = answer
    async with running(model) as scene:
        scene.tick("SPY")
        await scene.until(1)
        assert scene.counts == {outcome: 1}
        assert scene.store.kept == {}
        assert await scene.bus.client.xlen(SIGNALS_WORDINGS) == 0
        assert KEY not in repr(scene.asked.call_errors_total)


async def test_a_model_that_fails_is_left_alone(model):
    model.always = Answer(500)
    async with running(model) as scene:
        for tick in range(1, 6):
            scene.tick("SPY", tick=tick)
            await scene.until(tick)
        assert scene.counts == {"failed": 5}
        assert len(model.seen) == 3
        assert scene.asked.breakers[WORDING] is BreakerState.OPEN


async def test_while_the_database_is_away_nothing_is_published_and_it_goes_on_after(model):
    async with running(model) as scene:
        scene.store.error = PostgresAwayError("gone")
        scene.tick("SPY")
        await scene.until(1)
        assert await scene.bus.client.xlen(SIGNALS_WORDINGS) == 0
        scene.store.error = ValueError("a defect")
        scene.tick("SPY", tick=2)
        await scene.until(2)
        scene.store.error = None
        scene.tick("SPY", tick=3)
        await scene.until(3)
        assert scene.counts == {"not_stored": 1, "failed": 1, "worded": 1}


async def test_another_url_of_the_truth_gets_no_key_that_is_not_its_own(model):
    with Receiver() as other:
        other.always = sentence()
        async with running(model) as scene:
            scene.tick("SPY")
            await scene.until(1)
            scene.options = {"wording": {"url": f"http://127.0.0.1:{other.port}/v1", "model": "m"}}
            scene.tick("SPY", tick=2)
            await scene.until(2)
            assert len(model.seen) == len(other.seen) == 1
            assert "authorization" not in other.seen[0].headers


def test_the_question_has_what_the_place_has_and_bounded():
    vote = {
        "direction": -1,
        "strength": "0.5",
        "confidence": "1",
        "expires": 1,
        "reasons": ["\u202e" + "x" * 9000] * 6,
    }
    content = {
        "symbol": "SPY",
        "outcome": "signal",
        "side": "short",
        "votes": {"a": vote, "b": {"abstained": "late"}},
    }
    told = orjson.loads(encode_wording_question(parse_place(orjson.dumps(content).decode())))
    assert told["votes"]["a"]["direction"] == "down"
    assert told["votes"]["b"] == {"abstained": "late"}
    assert len(told["votes"]["a"]["reasons"]) == 3
    assert all(each.isprintable() and len(each) < 400 for each in told["votes"]["a"]["reasons"])


def test_a_sentence_about_another_side_is_not_that_of_the_signal():
    assert parse_sentence('{"side": "flat", "sentence": "x", "score": 7}', "flat") == "x"
    with pytest.raises(OtherSideError):
        parse_sentence('{"side": "short", "sentence": "x"}', "long")


@pytest.mark.parametrize(
    "change",
    [{b"id": b"x"}, {b"tick": b"0"}, {b"side": b"up"}, {b"text": b""}, {b"model": b""}, {b"at": b"x"}],
)
def test_an_entry_that_is_no_wording_is_refused(change):
    fields = {b"id": b"a" * 64, b"tick": b"1", b"at": b"1", b"sym": b"SPY", b"side": b"long"}
    fields |= {b"model": b"m\x1b", b"text": b"\xff\x1b[2J" + b"x" * 500}
    one = parse_wording_fields(fields)
    assert one.wording.text.isprintable()
    assert one.wording.model.isprintable()
    with pytest.raises(EntryError):
        parse_wording_fields(fields | change)


def test_no_voter_has_the_name_of_the_model_that_words():
    wording = WordingSettings(url="https://api.x.ai/v1", model="m")
    assert wording.calls_per_hour == 100
    named = [{**VOTERS[0], "voter": WORDING}, VOTERS[1]]
    assert SignalsSettings.model_validate({"endpoints": named})
    with pytest.raises(ValueError, match="a voter is called wording"):
        SignalsSettings.model_validate(
            {"endpoints": named, "settings": {"wording": {"url": "https://x.y", "model": "m"}}}
        )
    assert {str(each) for each in WordingOutcome} == {
        *("worded", "limited", "failed", "other_side", "not_stored")
    }
