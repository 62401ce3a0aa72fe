"""What is done about a history that came too short: from stand-ins of sources, over a bus in memory."""

import time
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.keys import MARKET_BARS, MARKET_DOWNLOADS, bar_marks_key, source_account_key
from services.market.records import RecordKind
from services.sources.cascade.history import LEAST_MS, PAUSE_SEC, conclude_older, find_missing
from services.sources.cascade.loader import LoadOutcome
from services.sources.cascade.state import (
    Attempt,
    HistoryAttempt,
    SeriesState,
    SeriesStatus,
    SourceFinding,
    SourceVerdict,
    parse_series_state,
)
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey
from support.rig.receiver import Answer
from support.scenes import sources as scene
from support.scenes.sources import SourcesMarket, answer_range_as_coinbase

DAYS = 4
"""The history of the series, and up to a day more: four parts of Coinbase, and more than Kraken has."""
PART = 30
KRAKEN_HAS = 92
COIN = replace(scene.COIN, timeframe="1h", history_days=DAYS, max_age_sec=7200.0)
ALONE = replace(COIN, sources=("coinbase",))
LONG_PAUSE = Answer(429, {"Retry-After": "3600"})


@pytest.fixture
async def market():
    """Sources with few bars in an answer: Coinbase has PART hours in each, Kraken KRAKEN_HAS in all."""
    async with SourcesMarket() as market:
        market["coinbase"].choose = answer_range_as_coinbase
        changes = {"coinbase": {"limit": PART}, "kraken": {"history_bars": KRAKEN_HAS}}
        market.catalog = {
            name: source.model_copy(
                update={
                    "serves": {
                        each: endpoint.model_copy(update=changes.get(name, {}))
                        for each, endpoint in source.serves.items()
                    }
                }
            )
            for name, source in shipped_catalog().items()
            if name in (*changes, "twelve_data", "massive")
        }
        yield market


def refuse_after(parts, answer):
    """Answer so many parts as Coinbase does, and then otherwise."""
    count = 0

    def choose(request):
        nonlocal count
        count += 1
        return answer_range_as_coinbase(request) if count <= parts else answer

    return choose


async def end_pauses(market):
    """Have all pauses of Coinbase over, and its limits free."""
    await market.bus.client.delete(source_account_key("coinbase"))


async def read_hours(market):
    """Return the hours since 1970 whose bars are on the stream, and check that no source gave one twice."""
    entries = await market.bus.client.xrange(MARKET_BARS)
    starts = Counter((fields[b"source"], int(fields[b"start"]) // 3_600_000) for _, fields in entries)
    assert set(starts.values()) <= {1}
    return sorted({hour for _, hour in starts})


async def assert_is_whole(market, days=DAYS):
    """Check that every hour since the begin of the day on which the history begins is on the stream.

    It may be tomorrow by the clocks of the loaders already.
    """
    now = int(time.time() + market.ahead_sec)
    found, first = await read_hours(market), (now - days * 86_400) // 86_400 * 24
    assert found[0] in (first, first - 24), "or of the day before, if a day began meanwhile"
    assert set(range(found[0], now // 3600 - 1)) <= set(found)


async def test_what_a_long_pause_left_out_of_a_first_load_is_asked_for_when_the_pause_is_over(market):
    market["coinbase"].choose = refuse_after(1, LONG_PAUSE)
    result = await market.load(ALONE)
    assert (result.state.status, len(await read_hours(market)) <= PART) == (SeriesStatus.FRESH, True)
    market["coinbase"].choose = answer_range_as_coinbase
    await end_pauses(market)
    result = await market.load(ALONE)
    assert (result.outcome, result.state.status) == (LoadOutcome.LOADED, SeriesStatus.FRESH)
    await assert_is_whole(market)
    sent = len(market["coinbase"].seen)
    result = await market.load(ALONE)
    assert (len(market["coinbase"].seen) - sent, result.new <= 1) == (1, True), "nothing is missing now"
    assert await market.bus.client.xlen(MARKET_DOWNLOADS) == sent + 1, "each request is recorded"


async def test_what_the_limits_did_not_allow_of_a_first_load_is_asked_for_later_a_part_at_a_time(market):
    market.work = {"limits": {"coinbase": {"per_minute": 2}}}
    assert len((await market.load(ALONE)).requests) == 2
    assert (await market.load(ALONE)).requests == (), "no limit is exceeded for it"
    assert len(await read_hours(market)) <= 2 * PART
    await end_pauses(market)
    result = await market.load(ALONE)
    assert (len(result.requests), result.state.status) == (2, SeriesStatus.FRESH)
    market.ahead_sec = PAUSE_SEC + 1
    await end_pauses(market)
    await market.load(ALONE)
    await assert_is_whole(market)


async def test_of_a_long_history_a_step_takes_half_of_what_the_limits_allow_and_the_next_one_a_minute_later(
    market,
):
    """Eight parts are missing: others get something of the eight requests that are left."""
    series = replace(ALONE, history_days=8.1 * PART / 24)
    market["coinbase"].choose = refuse_after(1, LONG_PAUSE)
    await market.load(series)
    market["coinbase"].choose = answer_range_as_coinbase
    market.work = {"limits": {"coinbase": {"per_minute": 9}}}
    await end_pauses(market)
    assert len((await market.load(series)).requests) == 1 + 4
    assert len((await market.load(series)).requests) == 1, "at once"
    market.ahead_sec = PAUSE_SEC + 1
    await end_pauses(market)
    assert len((await market.load(series)).requests) == 1 + 4
    await assert_is_whole(market, series.history_days)


async def test_what_a_source_with_a_shorter_history_could_not_serve_is_had_from_the_one_that_comes_back(
    market,
):
    newest = int(time.time()) // 3600 * 3600
    rows = [[at, "2", "3", "1", "2", "2", "5", 1] for at in range(newest - KRAKEN_HAS * 3600, newest, 3600)]
    body = orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 1}})
    market["kraken"].choose = lambda _request: Answer(200, {}, body)
    market["coinbase"].choose = lambda _request: Answer(500)
    result = await market.load(COIN)
    assert (result.state.serving, result.new >= KRAKEN_HAS - 1) == ("kraken", True)
    sent = len(market["kraken"].seen)
    result = await market.load(COIN)
    assert len(market["kraken"].seen) == sent + 1, "it has nothing older, as its file says"
    market["coinbase"].choose = answer_range_as_coinbase
    result = await market.load(COIN)
    assert (result.state.serving, result.state.status) == ("coinbase", SeriesStatus.FRESH)
    await assert_is_whole(market)
    assert len(market["coinbase"].seen) == 2 + 2, "what is new, and one part"


async def test_a_source_that_has_nothing_older_is_asked_for_it_once(market):
    market["coinbase"].choose = refuse_after(1, LONG_PAUSE)
    begun = (await market.load(ALONE)).state.history_ms
    for answer in (Answer(200, {}, b"[]"), Answer(404)):
        await end_pauses(market)
        market["coinbase"].choose = refuse_after(1, answer)
        first, second = await market.load(ALONE), await market.load(ALONE)
        assert (first.state.status, second.state.history_ms) == (SeriesStatus.FRESH, begun)
        assert len(second.requests) == 1
        assert second.state.attempts["coinbase"].history.begins_ms == begun
        assert first.state.attempts["coinbase"].failures == 0
        await market.bus.client.delete("market:series")
        market["coinbase"].choose = refuse_after(1, LONG_PAUSE)
        await end_pauses(market)
        begun = (await market.load(ALONE)).state.history_ms


@pytest.mark.parametrize("answer", [Answer(500), Answer(200, {}, b"<html>"), Answer(429)])
async def test_a_failure_in_the_older_part_takes_nothing_from_the_newest_and_is_tried_after_a_pause(
    market, answer
):
    market["coinbase"].choose = refuse_after(1, LONG_PAUSE)
    before = (await market.load(ALONE)).state
    await end_pauses(market)
    market["coinbase"].choose = refuse_after(1, answer)
    result = await market.load(ALONE)
    assert (result.state.status, result.state.serving) == (SeriesStatus.FRESH, "coinbase")
    assert result.outcomes == {"coinbase": None}
    assert (await market.read_source("coinbase"))["fails"] == 0
    assert result.state.history_ms == before.history_ms
    await end_pauses(market)
    market["coinbase"].choose = answer_range_as_coinbase
    assert len((await market.load(ALONE)).requests) == 1, "at once"
    market.ahead_sec = 910.0
    await market.load(ALONE)
    await assert_is_whole(market)


async def test_the_parts_before_a_failure_are_kept_and_the_others_asked_for_later(market):
    market["coinbase"].choose = refuse_after(1, LONG_PAUSE)
    await market.load(ALONE)
    await end_pauses(market)
    market["coinbase"].choose = refuse_after(2, Answer(500))
    assert (await market.load(ALONE)).new >= PART
    market.ahead_sec = PAUSE_SEC + 1
    market["coinbase"].choose = answer_range_as_coinbase
    await market.load(ALONE)
    await assert_is_whole(market)


async def test_a_longer_history_in_the_truth_is_asked_for(market):
    await market.load(replace(ALONE, history_days=1))
    await assert_is_whole(market, 1)
    await market.load(ALONE)
    await assert_is_whole(market)


async def test_of_the_stream_of_massive_nothing_older_is_asked_for(market):
    market.keys = {"twelve_data": (ApiKey("one"),)}
    series = replace(scene.STOCK, sources=("massive", "twelve_data"), history_days=1.0)
    result = await market.load(replace(series, history_days=0.1))
    assert (result.state.serving, result.state.history_ms is None) == ("twelve_data", False)
    market.ahead_sec = 70.0  # after the pause of one that had nothing
    mark = str(1000 * scene.last_minutes()[-1])
    await market.bus.client.hset(bar_marks_key(MARKET_BARS), series.symbol, mark)
    result = await market.load(series)
    assert (result.state.serving, result.requests) == ("massive", ())
    assert result.state.attempts["massive"].history == HistoryAttempt()


# -- what is asked for, and when

NOW = 1_795_000_000.0
NOW_MS = round(1000 * NOW)
WANTED_MS = NOW_MS - 800 * 60_000
SHORT = SeriesState(
    SeriesStatus.FRESH,
    "coinbase",
    newest_ms=NOW_MS,
    history_ms=NOW_MS - 300 * 60_000,
    attempts={"coinbase": Attempt(SourceVerdict.FRESH)},
)


def with_history(**history):
    return replace(
        SHORT, attempts={"coinbase": Attempt(SourceVerdict.FRESH, history=HistoryAttempt(**history))}
    )


def find(state, series=COIN, source="coinbase"):
    found = find_missing(series, state, source, WANTED_MS, NOW)
    return None if found is None else (found.start_ms, found.end_ms)


def test_the_part_from_what_is_wanted_or_from_what_the_source_has_up_to_what_is_known_is_missing():
    assert find(SHORT) == (WANTED_MS, SHORT.history_ms)
    assert find(with_history(begins_ms=WANTED_MS + 60_000 * 200)) == (
        WANTED_MS + 60_000 * 200,
        SHORT.history_ms,
    )
    assert find(with_history(begins_ms=WANTED_MS - 1)) == (WANTED_MS, SHORT.history_ms)


@pytest.mark.parametrize(
    "state",
    [
        replace(SHORT, history_ms=None),
        replace(SHORT, history_ms=WANTED_MS),
        replace(SHORT, history_ms=WANTED_MS + LEAST_MS),
        replace(SHORT, replay=True),
        replace(SHORT, attempts={}),
        with_history(retry_at=NOW + 1),
        with_history(begins_ms=SHORT.history_ms),
    ],
)
def test_nothing_is_asked_for_of_a_history_that_is_whole_unknown_played_or_settled(state):
    assert find(state) is None


def test_quotes_have_no_history():
    assert find(SHORT, replace(COIN, kind=RecordKind.QUOTES, timeframe="")) is None


findings = st.builds(
    SourceFinding,
    source=st.just("coinbase"),
    verdict=st.sampled_from(SourceVerdict),
    asked_at=st.just(NOW),
    is_asked=st.booleans(),
    answer=st.builds(
        SourceAnswer,
        st.just("coinbase"),
        st.just(AnswerStatus.OK),
        wait_sec=st.floats(0, 1e5),
        parts_left=st.integers(0, 3),
        since_ms=st.none() | st.integers(WANTED_MS, SHORT.history_ms),
    ),
)


def found(verdict, *, is_asked=True, **answer):
    answered = SourceAnswer("coinbase", AnswerStatus.EMPTY, **answer)
    return SourceFinding("coinbase", verdict, asked_at=NOW, is_asked=is_asked, answer=answered)


@given(findings)
def test_whatever_a_source_answers_it_is_not_asked_for_the_same_at_once(finding):
    after = conclude_older(SHORT, finding)
    assert after.history_ms <= SHORT.history_ms
    assert after == replace(SHORT, history_ms=after.history_ms, attempts=after.attempts)
    assert (
        find(after) is None
        or after.history_ms < SHORT.history_ms
        or finding.answer.since_ms == SHORT.history_ms
    )
    assert after.attempts["coinbase"].history.retry_at < NOW + 1.3e5
    assert parse_series_state(after.encode(COIN)) == after


def test_if_only_the_newest_of_the_missing_parts_are_empty_the_others_are_asked_for_later():
    reached = WANTED_MS + 7_200_000
    empty = found(SourceVerdict.EMPTY, since_ms=reached, parts_left=2)
    after = conclude_older(SHORT, empty)
    assert find_missing(COIN, after, "coinbase", WANTED_MS, NOW + PAUSE_SEC) is not None
    assert (after.history_ms, after.attempts["coinbase"].history.begins_ms) == (reached, None)
    settled = conclude_older(SHORT, found(SourceVerdict.EMPTY, since_ms=WANTED_MS))
    assert (settled.history_ms, find(settled)) == (SHORT.history_ms, None)


def test_an_attempt_for_which_the_limits_allowed_no_request_is_no_failure():
    limited = found(SourceVerdict.LIMITED, is_asked=False)
    history = conclude_older(SHORT, limited).attempts["coinbase"].history
    assert history == HistoryAttempt(retry_at=NOW + PAUSE_SEC)
    limited = found(SourceVerdict.LIMITED, is_asked=False, wait_sec=500.0)
    history = conclude_older(SHORT, limited).attempts["coinbase"].history
    assert history == HistoryAttempt(retry_at=NOW + 500)


def test_the_pauses_after_failures_grow_to_a_day_and_begin_anew_after_a_part_that_came():
    state, failed = SHORT, found(SourceVerdict.FAILED)
    pauses = []
    for _ in range(9):
        state = conclude_older(state, failed)
        pauses.append(state.attempts["coinbase"].history.retry_at - NOW)
    assert pauses[:3] == [900, 1800, 3600]
    assert pauses[-1] == 86_400
    came = found(SourceVerdict.LATE, since_ms=WANTED_MS + 60_000, parts_left=1)
    state = conclude_older(state, came)
    assert (state.history_ms, state.attempts["coinbase"].history) == (
        WANTED_MS + 60_000,
        HistoryAttempt(retry_at=NOW + PAUSE_SEC),
    )
