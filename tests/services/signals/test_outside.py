"""What voters outside are asked about the symbols of a tick."""

from services.signals.ask.answers import CLOSED_TIMES, find_life_ms
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import TickPlan
from services.signals.outside import make_questions

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
