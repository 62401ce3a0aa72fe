"""Votes are asked for once, kept, shared, and never beyond what a voter allows."""

import errno
import threading
import time
from unittest.mock import AsyncMock

import orjson
import pytest

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.circuit_breaker import BreakerState
from marketswarm.bus.stored_values import count_unusable
from marketswarm.keys import signal_vote_key, voter_account_key, voter_breaker_key
from marketswarm.net.http import HttpClient, HttpError, HttpResponse
from services.signals.ask.asker import REST_SEC
from services.signals.ask.cache import LOOK_AGAIN_SEC
from services.signals.ask.endpoints import ChatSettings, HttpSettings, NewsSettings
from services.signals.ask.news import SymbolNote
from services.signals.consensus.consensus import UNIT, Abstention
from services.signals.voters.votes import Vote
from support.rig.receiver import Answer, Receiver
from support.scenes.votes import AS_OF_MS, PATIENT_SEC, ManualClock, ask_of, asking, complete, deadline, reply
from support.waiting import auntil


@pytest.fixture
def program():
    with Receiver() as receiver:
        receiver.always = reply()
        yield receiver


def mine(program, **more):
    return {"mine": HttpSettings(url=program.url, **more)}


def account_key(program):
    return voter_account_key("mine", mine(program)["mine"].endpoint)


async def ask_one(asker, *, clock=time.monotonic, **more):
    question = ask_of(**more)
    return (await asker.ask([question], clock() + PATIENT_SEC))[question.key]


async def test_a_vote_is_asked_for_once_and_then_kept_in_memory(bus, program):
    async with asking(bus, mine(program)) as asker:
        first = await ask_one(asker)
        again = await ask_one(asker, as_of_ms=AS_OF_MS + 60_000, price=139.5)
        assert first == again
        assert isinstance(first, Vote)
        assert first.expires_ms == AS_OF_MS + 900_000
        assert len(program.seen) == 1
        assert asker.metrics.cache_hits_total == {"memory": 1, "redis": 0}
        assert asker.metrics.hit_share == 0.5


async def test_the_next_leader_finds_it_in_redis(server, bus, program):
    async with asking(bus, mine(program)) as asker:
        vote = await ask_one(asker)
    assert 0 < int(server.cmd("PTTL", signal_vote_key("mine", "AAPL"))) <= 900_000
    async with asking(bus, mine(program)) as asker:
        assert await ask_one(asker, as_of_ms=AS_OF_MS + 1) == vote
        assert await ask_one(asker, as_of_ms=AS_OF_MS + 2) == vote
        assert asker.metrics.cache_hits_total == {"memory": 1, "redis": 1}
    assert len(program.seen) == 1


@pytest.mark.parametrize(
    "more",
    [{"as_of_ms": AS_OF_MS + 900_000}, {"price": 139 * 1.03}, {"is_open": False}, {"as_of_ms": AS_OF_MS - 1}],
)
async def test_a_vote_that_does_not_answer_any_more_is_asked_for_again(bus, program, more):
    async with asking(bus, mine(program)) as asker:
        await ask_one(asker)
        await ask_one(asker, **more)
        assert len(program.seen) == 2
        assert asker.metrics.cache_hits_total.total() == 0


@pytest.mark.parametrize(("cutoff", "is_asked"), [("2027-01-15", False), ("2027-01-14", True), (None, True)])
async def test_a_model_is_not_asked_about_days_that_it_was_trained_on(bus, cutoff, is_asked):
    """AS_OF_MS is 2027-01-15 08:00 UTC: the day of the cut-off is known to the model to its end."""
    with Receiver() as model:
        model.always = complete()
        chat = ChatSettings(url=model.url, model="trained", cutoff=cutoff)
        async with asking(bus, {"mine": chat}) as asker:
            found = await ask_one(asker)
            assert isinstance(found, Vote) is is_asked
            assert is_asked or found is Abstention.BEFORE_CUTOFF
            assert len(model.seen) == is_asked
            assert asker.metrics.answers_total["mine", "vote" if is_asked else "before_cutoff"] == 1


async def test_a_vote_that_is_kept_does_not_count_before_a_cutoff_that_was_set_since(bus):
    with Receiver() as model:
        model.always = complete()
        chat = ChatSettings(url=model.url, model="trained")
        async with asking(bus, {"mine": chat}) as asker:
            assert isinstance(await ask_one(asker), Vote)
            await asker.configure(bus, {"mine": chat.model_copy(update={"cutoff": "2027-01-15"})})
            assert await ask_one(asker) is Abstention.BEFORE_CUTOFF


async def test_a_vote_of_another_model_is_not_taken_over(bus):
    with Receiver() as model:
        text = orjson.dumps({"direction": "up", "strength": 1, "confidence": 1, "reason": "x"}).decode()
        model.always = reply({"choices": [{"message": {"content": text}}]})
        for name in ("one", "two", "two"):
            voter = ChatSettings(url=f"{model.url}/v1", model=name)
            async with asking(bus, {"mine": voter}) as asker:
                await ask_one(asker)
        assert [orjson.loads(each.body)["model"] for each in model.seen] == ["one", "two"]


@pytest.mark.parametrize("value", [b"", b"{}", b"x" * 5000, b'{"direction": 1}'])
async def test_what_others_put_under_its_key_is_set_aside_and_replaced(server, bus, program, value):
    key, before = signal_vote_key("mine", "AAPL"), count_unusable()
    server.cmd("SET", key, value)
    async with asking(bus, mine(program)) as asker:
        assert isinstance(await ask_one(asker), Vote)
        assert count_unusable() == before + bool(value)
    assert orjson.loads(server.cmd("GET", key))["symbol"] == "AAPL"


async def test_another_type_under_its_key_ends_nothing(server, bus, program):
    server.cmd("LPUSH", signal_vote_key("mine", "AAPL"), "x")
    async with asking(bus, mine(program)) as asker:
        assert isinstance(await ask_one(asker), Vote)
        assert isinstance(await ask_one(asker), Vote)
    assert len(program.seen) == 1


async def test_what_redis_lacks_is_not_looked_for_with_each_cycle(server, bus, program):
    clock = ManualClock()
    program.always = Answer(429, {"Retry-After": "1000"})
    async with asking(bus, mine(program), clock=clock) as asker:
        await ask_one(asker)
        async with asking(bus, mine(program)) as other:
            program.always = reply()
            server.cmd("DEL", account_key(program))
            await ask_one(other)
        server.cmd("HSET", account_key(program), "blocked", 9_999_999_999_999)
        assert await ask_one(asker) is Abstention.LIMITED
        clock.ahead_sec = LOOK_AGAIN_SEC + 1
        assert isinstance(await ask_one(asker, clock=clock), Vote)


class Held:
    """A program that holds each answer back until it is let go."""

    def __init__(self, receiver):
        self.receiver, self.asked, self.go = receiver, [], threading.Event()
        receiver.choose = self._hold

    def _hold(self, request):
        self.asked.append(orjson.loads(request.body)["symbol"])
        self.go.wait(60)
        return reply()


async def test_a_late_answer_is_late_now_and_counts_in_the_next_cycle(bus, program):
    held = Held(program)
    async with asking(bus, mine(program)) as asker:
        question = ask_of()
        for _ in range(3):
            found = await asker.ask([question], deadline(0.3))
            assert found == {question.key: Abstention.LATE}
        await auntil(lambda: held.asked)
        assert asker.take_arrived() == frozenset()
        held.go.set()
        arrived = set()
        await auntil(lambda: arrived.update(asker.take_arrived()) or arrived)
        assert arrived == {"AAPL"}
        found = await ask_one(asker, as_of_ms=AS_OF_MS + 5000)
        assert isinstance(found, Vote)
        assert held.asked == ["AAPL"], "one question in flight, over all cycles"
        assert asker.metrics.answers_total == {("mine", "late"): 3, ("mine", "vote"): 1}


async def test_a_question_that_there_was_no_time_to_send_is_asked_in_the_next_cycle(bus, program):
    program.always = reply()
    async with asking(bus, mine(program)) as asker:
        question = ask_of()
        assert await asker.ask([question], deadline(0)) == {question.key: Abstention.LATE}
        assert program.seen == []
        assert asker.take_arrived() == {"AAPL"}
        assert asker.take_arrived() == frozenset()
        assert isinstance(await ask_one(asker), Vote)


async def test_a_cycle_that_waits_gets_the_answer_to_a_question_of_an_earlier_one(bus, program):
    held = Held(program)
    async with asking(bus, mine(program)) as asker:
        assert await asker.ask([ask_of()], deadline(0.3)) == {("AAPL", "mine"): Abstention.LATE}
        timer = threading.Timer(0.3, held.go.set)
        timer.start()
        assert isinstance(await ask_one(asker, as_of_ms=AS_OF_MS + 5000), Vote)
        timer.join()
        assert asker.take_arrived() == frozenset(), "it was collected"


async def test_an_answer_that_is_out_of_date_when_it_comes_has_expired(bus, program):
    held = Held(program)
    async with asking(bus, mine(program)) as asker:
        await asker.ask([ask_of()], deadline(0.3))
        timer = threading.Timer(0.3, held.go.set)
        timer.start()
        assert await ask_one(asker, as_of_ms=AS_OF_MS + 900_000) is Abstention.EXPIRED
        timer.join()
        assert len(held.asked) == 1


async def test_a_deadline_that_is_over_asks_nobody_for_long(bus, program):
    async with asking(bus, mine(program)) as asker:
        assert await asker.ask([ask_of()], deadline(-1)) == {("AAPL", "mine"): Abstention.LATE}


async def test_the_most_volatile_symbols_are_asked_about_and_no_more_than_the_settings_say(bus, program):
    questions = [ask_of(f"S{at}", volatility=at / 1000) for at in range(1, 11)]
    async with asking(bus, mine(program, calls_per_cycle=3)) as asker:
        for sent in (3, 6):
            found = await asker.ask(questions, deadline())
            assert sum(isinstance(each, Vote) for each in found.values()) == sent
            assert sum(each is Abstention.LIMITED for each in found.values()) == 10 - sent
            assert len(program.seen) == sent
    asked = [orjson.loads(each.body)["symbol"] for each in program.seen]
    assert sorted(asked[:3]) == ["S10", "S8", "S9"]
    assert sorted(asked[3:]) == ["S5", "S6", "S7"]


async def test_no_more_questions_wait_than_may(bus, program):
    held = Held(program)
    questions = [ask_of(f"S{at}") for at in range(5)]
    async with asking(bus, mine(program, at_once=2)) as asker:
        for _ in range(2):
            found = await asker.ask(questions, deadline(0.3))
            assert sorted(found.values()) == ["late", "late", "limited", "limited", "limited"]
        held.go.set()


@pytest.mark.parametrize("limit", [{"calls_per_minute": 2}, {"calls_per_hour": 2}])
async def test_the_limits_are_shared_by_all_instances(bus, program, limit):
    for symbols in (["A"], ["B", "C", "D"]):
        async with asking(bus, mine(program, **limit)) as asker:
            found = await asker.ask([ask_of(each) for each in symbols], deadline())
    assert [found[each, "mine"] for each in "CD"] == [Abstention.LIMITED] * 2
    assert isinstance(found["B", "mine"], Vote)
    assert len(program.seen) == 2


async def test_a_voter_that_wants_a_pause_gets_it(server, bus, program):
    program.script.append(Answer(429, {"Retry-After": "100"}))
    async with asking(bus, mine(program)) as asker:
        assert await ask_one(asker) is Abstention.LIMITED
        assert await ask_one(asker) is Abstention.LIMITED
        assert await ask_one(asker, symbol="MSFT") is Abstention.LIMITED
        assert len(program.seen) == 1
        assert asker.metrics.call_errors_total == {("mine", "429"): 1}
        assert asker.metrics.breakers == {"mine": BreakerState.CLOSED}
        server.cmd("HSET", account_key(program), "blocked", 0)
        assert isinstance(await ask_one(asker), Vote)


async def test_the_breaker_opens_after_failures_in_a_row_and_closes_after_a_trial(server, bus, program):
    program.always = Answer(500)
    async with asking(bus, mine(program)) as asker:
        for symbol in "ABC":
            assert await ask_one(asker, symbol=symbol) is Abstention.FAILED
        assert asker.metrics.breakers["mine"] is BreakerState.OPEN
        assert await ask_one(asker, symbol="D") is Abstention.FAILED
        assert len(program.seen) == 3
        async with asking(bus, mine(program)) as other:
            assert await ask_one(other, symbol="D") is Abstention.FAILED, "all instances leave it alone"
        assert len(program.seen) == 3
        program.always = reply()
        endpoint = HttpSettings(url=program.url).endpoint
        server.cmd("HSET", voter_breaker_key("mine", endpoint), "opened", 1)
        questions = [ask_of(each) for each in "EFG"]
        found = await asker.ask(questions, deadline())
        assert sorted(isinstance(each, Vote) for each in found.values()) == [False, False, True]
        assert len(program.seen) == 4, "one question tries it"
        assert asker.metrics.breakers["mine"] is BreakerState.CLOSED
        assert isinstance(await ask_one(asker, symbol="H"), Vote)
        assert asker.metrics.call_errors_total["mine", "breaker_open"] == 2


async def test_a_question_that_stands_there_twice_is_sent_once(bus, program):
    async with asking(bus, mine(program)) as asker:
        await asker.ask([ask_of(), ask_of(), ask_of("B"), ask_of()], deadline())
    assert len(program.seen) == 2


async def test_a_failure_of_this_process_says_nothing_of_the_voter(bus, program, monkeypatch):
    async with asking(bus, mine(program)) as asker:
        program.always = Answer(500)
        for symbol in "AB":
            await ask_one(asker, symbol=symbol)
        with monkeypatch.context() as patch:
            too_many = OSError(errno.EMFILE, "too many open files")
            patch.setattr(
                HttpClient, "fetch", AsyncMock(side_effect=HttpError(too_many, HttpResponse(0, b"")))
            )
            assert await ask_one(asker, symbol="C") is Abstention.FAILED
        assert asker.metrics.call_errors_total["mine", "no_resources"] == 1
        await ask_one(asker, symbol="D")
        assert len(program.seen) == 3
        assert asker.metrics.breakers["mine"] is BreakerState.OPEN, "the third failure in a row"


async def test_a_voter_that_fails_now_and_then_is_logged_now_and_then(bus, program, capsys):
    logs.configure("signals")
    async with asking(bus, mine(program)) as asker:
        for symbol, answer in zip("ABCDEF", [Answer(500), reply()] * 3, strict=True):
            program.always = answer
            await ask_one(asker, symbol=symbol)
    said = capsys.readouterr().err
    assert (said.count("voter.failed"), said.count("voter.recovered")) == (1, 1)


async def test_a_voter_that_a_reseed_mends_is_asked_at_once(bus, program):
    async with asking(bus, mine(program, answer_sec=60)) as asker:
        program.script.append(Answer(500))
        assert await ask_one(asker) is Abstention.FAILED
        await asker.configure(bus, mine(program))
        assert isinstance(await ask_one(asker), Vote)


@pytest.mark.parametrize("refusal", [Answer(500), Answer(429, headers={"Retry-After": "60"})])
async def test_a_voter_at_another_url_has_neither_the_breaker_nor_the_pause_of_the_old_one(
    bus, program, refusal
):
    program.always = refusal
    with Receiver() as moved:
        moved.always = reply()
        async with asking(bus, mine(program)) as asker:
            for symbol in "ABCD":
                assert not isinstance(await ask_one(asker, symbol=symbol), Vote)
            before = len(program.seen)
            await asker.configure(bus, mine(moved))
            assert isinstance(await ask_one(asker, symbol="E"), Vote)
            await asker.configure(bus, mine(program))
            assert not isinstance(await ask_one(asker, symbol="F"), Vote)
    assert len(program.seen) == before < 4, "the old one is still left alone"


async def test_a_question_that_failed_is_not_repeated_with_each_cycle(bus, program):
    program.always, clock = reply(strength=7), ManualClock()
    async with asking(bus, mine(program), clock=clock) as asker:
        for _ in range(5):
            assert await ask_one(asker) is Abstention.OUT_OF_RANGE
        assert len(program.seen) == 1
        clock.ahead_sec = REST_SEC + 1
        assert await ask_one(asker, clock=clock) is Abstention.OUT_OF_RANGE
        assert len(program.seen) == 2
        assert asker.metrics.breakers["mine"] is BreakerState.CLOSED, "it answered"


async def test_voters_are_asked_at_the_same_time_and_a_slow_one_costs_the_others_nothing(bus, program):
    with Receiver() as slow:
        held = Held(slow)
        voters = {**mine(program), "slow": HttpSettings(url=slow.url), "news": NewsSettings()}
        async with asking(bus, voters) as asker:
            asker.news.add("AAPL", SymbolNote(AS_OF_MS, -0.5, "Falls", "wire"))
            questions = [ask_of(voter=each) for each in voters]
            await asker.ask(questions[:1], deadline())
            found = await asker.ask(questions, deadline(0.5))
            assert found["AAPL", "slow"] is Abstention.LATE
            assert found["AAPL", "mine"].direction == 1
            assert found["AAPL", "news"].direction == -1
            held.go.set()


async def test_a_price_that_is_no_number_asks_nobody(bus, program):
    async with asking(bus, mine(program)) as asker:
        assert await ask_one(asker, price=float("nan")) is Abstention.NOT_A_NUMBER
        assert await ask_one(asker, price=float("inf")) is Abstention.NOT_A_NUMBER
    assert program.seen == []


async def test_a_bus_that_is_away_asks_nobody_beyond_the_limits_and_ends_nothing(program):
    bus = Bus("market-redis", "redis://127.0.0.1:1", within_sec=1)
    async with asking(bus, mine(program)) as asker:
        assert await ask_one(asker) is Abstention.FAILED
    assert program.seen == []
    await bus.aclose()


async def test_a_voter_that_is_gone_is_not_waited_for_and_a_changed_one_is_another(bus, program):
    held = Held(program)
    async with asking(bus, mine(program)) as asker:
        await asker.ask([ask_of()], deadline(0.3))
        await asker.configure(bus, {})
        with pytest.raises(KeyError):
            await ask_one(asker)
        held.go.set()
        program.choose = None
        await asker.configure(bus, mine(program, answer_sec=60))
        found = await ask_one(asker)
        assert found.expires_ms == AS_OF_MS + 60_000


async def test_a_reseed_that_changes_another_voter_leaves_what_is_in_flight(bus, program):
    held = Held(program)
    async with asking(bus, mine(program)) as asker:
        await asker.ask([ask_of()], deadline(0.3))
        await asker.configure(bus, {**mine(program), "news": NewsSettings()})
        held.go.set()
        assert isinstance(await ask_one(asker), Vote)
    assert len(held.asked) == 1


async def test_what_it_counts_is_exported(bus, program):
    program.script.extend([reply(), Answer(500)])
    async with asking(bus, mine(program)) as asker:
        for symbol in ("A", "B", "A"):  # one by one: the second one fails
            await ask_one(asker, symbol=symbol)
        families = {each.name: dict(each.values) for each in asker.metrics.collect()}
    assert families["marketswarm_signals_calls_total"] == {("mine",): 2}
    assert families["marketswarm_signals_call_errors_total"] == {("mine", "500"): 1}
    assert sum(families["marketswarm_signals_answers_total"].values()) == 3
    assert families["marketswarm_signals_breaker_state"] == {("mine", "closed"): 1}
    assert families["marketswarm_signals_call_seconds_total"]["mine",] > 0
    assert set(families["marketswarm_signals_cache_hits_total"]) == {("memory",), ("redis",)}


async def test_an_opinion_is_at_most_one(bus, program):
    program.always = reply(strength=1, confidence=1)
    async with asking(bus, mine(program)) as asker:
        assert (await ask_one(asker)).opinion == UNIT
