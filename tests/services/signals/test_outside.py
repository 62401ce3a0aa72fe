"""What voters outside are asked about the symbols of a tick."""

from datetime import UTC, datetime

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.signals.ask.answers import CLOSED_TIMES, find_life_ms
from services.signals.ask.endpoints import ChatSettings, NewsSettings
from services.signals.ask.metrics import AskMetrics
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import TickPlan
from services.signals.outside import count_needed, make_questions

AT_MS = 1_767_571_200_000


def test_a_question_says_whether_the_market_of_its_symbol_is_open_and_so_does_the_life_of_its_answer():
    market = MarketBars("1m", ["A", "B"])
    plan = TickPlan({"B": AT_MS, "A": AT_MS}, (), {"A": 0.0, "B": 0.0}, frozenset({"B"}))
    questions = make_questions(market, plan, ["grok", "sonar"])
    assert [(each.key, each.is_open) for each in questions] == [
        (("B", "grok"), False),
        (("B", "sonar"), False),
        (("A", "grok"), True),
        (("A", "sonar"), True),
    ]
    lives = {each.symbol: find_life_ms(900.0, each) for each in questions}
    assert lives["B"] == 900_000 * CLOSED_TIMES > lives["A"]


def test_an_opinion_of_each_voter_that_is_called_is_needed_about_each_open_symbol():
    market = MarketBars("1m", ["A", "B", "C", "D"])
    plan = TickPlan({"A": AT_MS}, (), {"A": 0.0}, frozenset({"D"}))
    chat = ChatSettings(url="https://api.x.ai/v1", model="grok-4")
    voters = {"grok": chat, "sonar": chat, "news": NewsSettings()}
    assert count_needed(market, plan, voters, AT_MS) == (6, 4)
    assert count_needed(market, plan, {"news": NewsSettings()}, AT_MS) == (0, 0)


def test_no_opinion_is_needed_of_a_model_about_days_that_it_was_trained_on():
    market = MarketBars("1m", ["A", "B", "C", "PLAYED"])
    played_ms = 1000 * int(datetime(2018, 12, 1, tzinfo=UTC).timestamp())
    bar = Bar("PLAYED", "1m", played_ms, 1.0, 1.0, 1.0, 1.0, volume=1.0)
    origin = Provenance("replay_a", is_replay=True, played_at=played_ms / 1000 + 120)
    fields = {**encode_entry(bar, AssetClass.CRYPTO, origin), "final": "1"}
    market.take({name.encode(): str(each).encode() for name, each in fields.items()}, AT_MS)
    as_of = dict(zip(market.symbols, market.list_as_of(AT_MS).tolist(), strict=True))
    assert as_of["A"] == AT_MS
    assert as_of["PLAYED"] < AT_MS - 1e11, "it has its recording's clock"
    plan = TickPlan({"A": AT_MS, "PLAYED": as_of["PLAYED"]}, (), {}, frozenset({"C"}))

    def count(**more):
        voters = {"grok": ChatSettings(url="https://api.x.ai/v1", model="grok-4", **more)}
        return count_needed(market, plan, voters, AT_MS)

    assert count() == (3, 1)
    assert count(cutoff="2025-07-01") == (2, 1), "it knows what came after the recording"
    assert count(cutoff="2018-11-30") == (3, 1), "the day after its cut-off is asked about"
    assert count(cutoff="2099-01-01") == (0, 0)


def test_what_was_had_without_a_call_is_unchanged_or_a_hit():
    metrics = AskMetrics()
    assert metrics.had_share is None
    metrics.count_needed(10, 6)
    metrics.cache_hits_total.update(memory=1, redis=1)
    metrics.calls_total["grok"] = 1
    assert metrics.had_share == 0.8
    families = {family.name: family for family in metrics.collect()}
    assert {"marketswarm_signals_opinions_needed", "marketswarm_signals_opinions_unchanged"} <= {
        name.removesuffix("_total") for name in families
    }
