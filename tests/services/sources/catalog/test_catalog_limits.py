"""What each source of the catalogue lets be asked: a first load and the hourly refresh fit its limits."""

from datetime import UTC, datetime, timedelta

import pytest

from marketswarm.market.records import TIMEFRAME_SEC, RecordKind
from services.sources.access.client import DAY_SEC, WAITED_FOR_SEC
from services.sources.cascade.series import OVERLAP_BARS, REVISED_DAYS
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import Question, split_question
from services.sources.settings import HISTORY_DAYS, OBSERVATION_DAYS, QUOTE_DAYS

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
HOUR_SEC = 3600
QUESTIONS = [
    (name, endpoint, timeframe)
    for name, source in shipped_catalog().items()
    for endpoint, rules in source.serves.items()
    for timeframe in rules.timeframes or ("",)
]


def ask(rules, timeframe, known_until=None):
    """The question of a first load, or of one that knows a record, as the settings have it by default."""
    days = {RecordKind.QUOTES: QUOTE_DAYS, RecordKind.OBSERVATIONS: OBSERVATION_DAYS}.get(rules.kind)
    start = NOW - timedelta(days=days or HISTORY_DAYS[timeframe])
    if known_until is not None and timeframe:
        start = max(start, known_until - OVERLAP_BARS * timedelta(seconds=TIMEFRAME_SEC[timeframe]))
    elif known_until is not None:
        start = max(start, known_until - timedelta(days=REVISED_DAYS))
    question = Question("X", rules.assets[0], rules.kind, start, NOW, timeframe, known_until)
    return split_question(rules, question, NOW)


def find_limits(source):
    """The narrower limits of a source: those without a key, if it has such."""
    return (source.limits_without_key or source.limits).windows()


@pytest.mark.parametrize(("name", "endpoint", "timeframe"), QUESTIONS)
def test_a_first_load_by_the_defaults_fits_the_limits(name, endpoint, timeframe):
    source = shipped_catalog()[name]
    parts = len(ask(source.serves[endpoint], timeframe))
    for sec, count in find_limits(source):
        if sec > WAITED_FOR_SEC:
            assert parts <= (count / 2 if sec >= DAY_SEC and parts > 1 else count), (sec, count)


@pytest.mark.parametrize(("name", "endpoint", "timeframe"), QUESTIONS)
def test_a_series_that_is_refreshed_each_hour_fits_the_limits(name, endpoint, timeframe):
    source = shipped_catalog()[name]
    rules = source.serves[endpoint]
    midnight = NOW.replace(hour=0, minute=0)
    parts = len(ask(rules, timeframe, midnight - timedelta(days=1)))
    for sec, count in find_limits(source):
        if sec > WAITED_FOR_SEC:
            assert parts <= count
        if sec > HOUR_SEC:
            assert parts * sec / max(HOUR_SEC, rules.min_interval_sec) <= count, (parts, sec, count)
