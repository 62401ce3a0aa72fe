"""With which questions a source is tried."""

from datetime import UTC, datetime, timedelta

import pytest

from services.market.records import AssetClass, RecordKind
from services.market.sessions import DEFAULT_SESSIONS, get_session
from services.sources.access.trial import find_assets, make_questions
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import make_request, split_question
from support.catalog_samples import assert_all

CATALOG = shipped_catalog()
NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def can_be_tried_without_a_symbol_by_one_request_for_each_question(source):
    questions = dict(make_questions(source, None, None, NOW))
    options_alone = {
        name for name, rules in source.serves.items() if set(rules.assets) == {AssetClass.OPTIONS}
    }
    assert set(source.serves) - options_alone <= set(questions)
    for endpoint, question in questions.items():
        rules = source.serves[endpoint]
        parts = list(split_question(rules, question, NOW))
        assert len(parts) == (1 if not rules.by_year else len({part.start.year for part in parts}))
        make_request(source, rules, parts[0])


def is_asked_on_a_sunday_about_a_time_at_which_somebody_traded(source):
    sunday = datetime(2026, 11, 22, 20, tzinfo=UTC)
    for _, question in make_questions(source, None, None, sunday):
        if question.kind is RecordKind.BARS:
            session = get_session(DEFAULT_SESSIONS[question.asset])
            start_ms, end_ms = (round(1000 * at.timestamp()) for at in (question.start, question.end))
            assert session.find_day(end_ms - 1) is not None
            assert end_ms - start_ms > 3_600_000


def test_each_source_can_be_tried():
    assert_all(
        CATALOG.items(),
        can_be_tried_without_a_symbol_by_one_request_for_each_question,
        is_asked_on_a_sunday_about_a_time_at_which_somebody_traded,
    )


def test_a_symbol_and_a_timeframe_choose_what_is_asked():
    asked = [*make_questions(CATALOG["yahoo"], "EUR/USD", "1d", NOW)]
    assert [(name, question.asset, question.timeframe) for name, question in asked] == [
        ("forex_day_bars", AssetClass.FOREX, "1d"),
        ("quote", AssetClass.FOREX, ""),
    ]
    assert asked[0][1].end - asked[0][1].start == timedelta(days=100)
    assert [*make_questions(CATALOG["fred"], "US.NOTHING", None, NOW)] == []


@pytest.mark.parametrize(
    ("name", "symbol", "asset"),
    [
        ("yahoo", "AAPL", AssetClass.STOCKS),
        ("yahoo", "EUR/USD", AssetClass.FOREX),
        ("yahoo", "BTC/USD", AssetClass.CRYPTO),
        ("yahoo", "VIX", AssetClass.VOLATILITY),
        ("yahoo", "GC", AssetClass.COMMODITIES),
        ("fred", "US.CPI", AssetClass.ECONOMIC),
        ("fred", "EUR/USD", AssetClass.FOREX),
        ("kraken", "SOL/USDT", AssetClass.CRYPTO),
        ("massive", "SPY270115C00600000", AssetClass.OPTIONS),
    ],
)
def test_the_class_of_a_symbol_is_told_by_the_file_or_by_its_spelling(name, symbol, asset):
    assert find_assets(CATALOG[name], symbol)[0] is asset
    kinds = {question.kind for _, question in make_questions(CATALOG[name], symbol, None, NOW)}
    assert kinds <= set(RecordKind)
    assert kinds
