"""Which source of a series serves, when the next one takes over, and when it is loaded again."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.records import AssetClass, RecordKind
from services.sources.cascade.series import Pace, Series
from services.sources.cascade.state import (
    LONGEST_RETRY_SEC,
    WAITING,
    SeriesStatus,
    SourceFinding,
    SourceVerdict,
    choose_next,
    choose_serving,
    conclude_load,
    find_known_until,
    find_status,
    forget_future,
    is_stale,
    needs_refresh,
    parse_series_state,
    plan_load,
)
from services.sources.catalog.answer import AnswerStatus, SourceAnswer

SERIES = Series(
    "SPY", RecordKind.BARS, "1m", AssetClass.STOCKS, "XNYS", ("massive", "yahoo", "tiingo"), 900.0, 5.0, 60.0
)
NOW = 1_795_000_000.0
DID_NOT_SERVE = [verdict for verdict in SourceVerdict if verdict is not SourceVerdict.FRESH]


def found(source, verdict, age_sec=0.0, at=NOW, **more):
    """A finding whose newest record is so old; one of a minute ago is fresh."""
    has_records = verdict in (SourceVerdict.FRESH, SourceVerdict.LATE)
    newest = round(1000 * (at - age_sec)) if has_records else None
    until = at + 900 - age_sec if has_records else 0.0
    answer = SourceAnswer(source, AnswerStatus.OK, **more)
    return SourceFinding(source, verdict, newest_ms=newest, fresh_until=until, asked_at=at, answer=answer)


def load(state, verdicts, at=NOW, age_sec=0.0):
    """The state after a load in which each source answers so, and the sources that were asked."""
    findings = []
    while (source := choose_next(SERIES, state, [each.source for each in findings], at)) is not None:
        verdict = verdicts.get(source, SourceVerdict.FAILED)
        findings.append(
            found(source, verdict, 2000 + age_sec if verdict is SourceVerdict.LATE else age_sec, at)
        )
        if verdict is SourceVerdict.FRESH:
            break
    return conclude_load(SERIES, state, findings, at), [each.source for each in findings]


def test_the_first_fresh_source_serves_and_no_other_is_asked():
    state, asked = load(WAITING, {"massive": SourceVerdict.FRESH})
    assert asked == ["massive"]
    assert (state.serving, state.since, state.reason, state.status) == (
        "massive",
        NOW,
        "",
        SeriesStatus.FRESH,
    )


@pytest.mark.parametrize("verdict", DID_NOT_SERVE)
def test_the_next_source_takes_over_in_the_same_load_and_the_reason_is_named(verdict):
    state, asked = load(WAITING, {"massive": verdict, "yahoo": SourceVerdict.FRESH})
    assert asked == ["massive", "yahoo"]
    assert (state.serving, state.reason) == ("yahoo", f"massive {verdict}")
    assert state.status is SeriesStatus.FRESH


@pytest.mark.parametrize("verdict", DID_NOT_SERVE)
def test_the_first_source_has_its_place_back_as_soon_as_it_is_fresh_again(verdict):
    state, _ = load(WAITING, {"massive": verdict, "yahoo": SourceVerdict.FRESH})
    later = NOW + LONGEST_RETRY_SEC * 2
    state, asked = load(state, {"massive": SourceVerdict.FRESH, "yahoo": SourceVerdict.FRESH}, later)
    assert asked == ["massive"]
    assert (state.serving, state.since, state.reason) == ("massive", later, "")
    assert state.attempts["massive"].failures == 0


@pytest.mark.parametrize(
    "verdict", [SourceVerdict.LATE, SourceVerdict.WRONG, SourceVerdict.EMPTY, SourceVerdict.REFUSED]
)
def test_a_source_that_answers_nothing_of_use_is_asked_less_and_less_often(verdict):
    state, pauses, at = WAITING, [], NOW
    for _ in range(6):
        state, asked = load(state, {"massive": verdict, "yahoo": SourceVerdict.FRESH}, at)
        assert asked == ["massive", "yahoo"]
        pauses.append(state.attempts["massive"].retry_at - at)
        assert load(state, {"yahoo": SourceVerdict.FRESH}, at + pauses[-1] - 1)[1] == ["yahoo"]
        at += pauses[-1]
    assert pauses == [60, 120, 240, 480, 900, 900]
    assert choose_next(SERIES, state, [], at - 1, forced=True) == "massive"


def test_whether_a_limited_source_may_be_asked_again_is_for_its_limits_to_say():
    """They know of a new key, and of a plan that allows more; what was noted with a series does not."""
    finding = found("massive", SourceVerdict.LIMITED, wait_sec=72_000.0)
    state = conclude_load(SERIES, WAITING, [finding, found("yahoo", SourceVerdict.FRESH)], NOW)
    assert choose_next(SERIES, state, [], NOW + 1) == "massive"
    assert state.attempts["massive"].retry_at == NOW + 72_000, "for those who show it"


def test_a_late_source_serves_if_no_other_has_anything_newer():
    findings = [found("massive", SourceVerdict.LATE, 3000), found("yahoo", SourceVerdict.LATE, 2000)]
    assert choose_serving(findings).source == "yahoo"
    state = conclude_load(SERIES, WAITING, findings, NOW)
    assert (state.serving, state.status) == ("yahoo", SeriesStatus.LATE)
    after = conclude_load(SERIES, state, [found("tiingo", SourceVerdict.LATE, 5000)], NOW)
    assert (after.serving, after.newest_ms) == ("yahoo", state.newest_ms), "what it has is older"


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([SourceVerdict.FAILED, SourceVerdict.FAILED], SeriesStatus.FAILED),
        ([SourceVerdict.LIMITED, SourceVerdict.FAILED], SeriesStatus.LIMITED),
        ([SourceVerdict.FAILED, SourceVerdict.EMPTY], SeriesStatus.EMPTY),
        ([SourceVerdict.FAILED, SourceVerdict.LATE], SeriesStatus.LATE),
        ([SourceVerdict.PAUSED, SourceVerdict.NO_KEY], SeriesStatus.FAILED),
    ],
)
def test_empty_limited_and_failed_are_different_answers(verdicts, status):
    findings = [
        found(source, verdict, 2000) for source, verdict in zip(SERIES.sources, verdicts, strict=False)
    ]
    assert conclude_load(SERIES, WAITING, findings, NOW).status is status


def test_while_every_source_fails_what_was_fresh_stays_so_for_its_time():
    state, _ = load(WAITING, {"massive": SourceVerdict.FRESH})
    state, asked = load(state, {}, NOW + 60)
    assert asked == ["massive", "yahoo", "tiingo"]
    assert (state.serving, state.status, is_stale(state, NOW + 60)) == ("massive", SeriesStatus.FRESH, False)
    assert (find_status(SERIES, state, NOW + 901), is_stale(state, NOW + 901)) == (SeriesStatus.FAILED, True)
    assert not is_stale(WAITING, NOW), "nobody asked for it yet"


def test_a_closed_market_is_left_alone_until_its_next_record():
    state, _ = load(WAITING, {"massive": SourceVerdict.FRESH})
    planned = plan_load(SERIES, state, NOW, next_record_at=NOW + 50_000)
    assert (planned.status, planned.due_at) == (SeriesStatus.CLOSED, NOW + 50_000)
    assert not needs_refresh(planned, NOW + 49_000, 3300)
    assert needs_refresh(planned, NOW + 50_000, 3300)
    failed, _ = load(WAITING, {})
    assert plan_load(SERIES, failed, NOW, next_record_at=NOW + 50_000).due_at == NOW + 60


def test_what_was_planned_by_a_clock_that_was_ahead_says_nothing_once_that_was_set_back():
    ahead = NOW + 3600
    late, _ = load(WAITING, {"massive": SourceVerdict.LATE, "yahoo": SourceVerdict.FRESH}, ahead)
    planned = replace(plan_load(SERIES, late, ahead, next_record_at=ahead + 50_000), history_ms=1)
    assert forget_future(planned, ahead) is planned
    assert forget_future(planned, ahead - 60) is planned, "clocks differ by a minute"
    assert not needs_refresh(planned, NOW, 3300)
    found = forget_future(planned, NOW)
    assert (found.serving, found.reason, found.history_ms) == ("yahoo", "massive late", 1)
    assert (found.due_at, found.fresh_until, found.newest_ms) == (0.0, 0.0, None)
    assert needs_refresh(found, NOW, 3300)
    assert [choose_next(SERIES, each, [], NOW) for each in (planned, found)] == ["yahoo", "massive"]
    assert forget_future(found, NOW) == found
    again, _ = load(found, {"massive": SourceVerdict.FRESH}, NOW)
    assert (again.serving, again.fresh_until, again.newest_ms) == ("massive", NOW + 900, round(1000 * NOW))


def test_a_load_that_was_under_way_when_the_clock_was_set_back_is_not_planned_by_what_that_was():
    asked = NOW + 3600
    state = conclude_load(SERIES, WAITING, [found("massive", SourceVerdict.FRESH, at=asked)], NOW)
    planned = plan_load(SERIES, state, asked, next_record_at=None)
    assert (planned.asked_at, planned.due_at, planned.fresh_until) == (NOW, asked + 60, asked + 900)
    again = forget_future(planned, NOW)
    assert (again.due_at, again.fresh_until, again.newest_ms) == (0.0, 0.0, None)
    assert forget_future(again, NOW) == again
    for later in (NOW + 60, NOW + 7200):
        again, _ = load(again, {}, later)
        assert again.status is SeriesStatus.FAILED


def test_the_newest_record_counts_after_a_clock_was_set_back_if_it_has_a_time_of_its_own():
    state, _ = load(WAITING, {"massive": SourceVerdict.LATE}, NOW + 3600, age_sec=1800)
    assert forget_future(state, NOW).newest_ms == state.newest_ms == 1000 * (NOW - 200)
    assert find_known_until(forget_future(state, NOW), "massive") == state.newest_ms


@pytest.mark.parametrize(("pace", "sec"), [(Pace.QUIET, 120), (Pace.NORMAL, 60), (Pace.VOLATILE, 30)])
def test_an_answer_counts_for_longer_while_the_market_is_quiet(pace, sec):
    state, _ = load(WAITING, {"massive": SourceVerdict.FRESH})
    state = replace(state, pace=pace)
    assert plan_load(SERIES, state, NOW, None).due_at == NOW + sec
    assert plan_load(SERIES, state, NOW, None, speed=60.0).due_at == NOW + sec / 60
    narrow = replace(SERIES, max_age_sec=100.0)
    assert plan_load(narrow, state, NOW, None).due_at <= NOW + 60, "it must not become late by being cached"


def test_without_an_interval_a_series_waits_for_the_refresh_unless_it_is_not_there():
    series = replace(SERIES, every_sec=None)
    fresh, failed = load(WAITING, {"massive": SourceVerdict.FRESH})[0], load(WAITING, {})[0]
    assert plan_load(series, fresh, NOW, None).due_at is None
    assert plan_load(series, failed, NOW, None).due_at == NOW + 60
    assert [needs_refresh(fresh, NOW + sec, 3300) for sec in (3299, 3300)] == [False, True]


def test_a_series_of_hours_that_is_not_fresh_is_loaded_again_within_a_quarter_of_an_hour():
    series = replace(SERIES, every_sec=21_600.0, max_age_sec=43_200.0)
    fresh, failed = load(WAITING, {"massive": SourceVerdict.FRESH})[0], load(WAITING, {})[0]
    assert plan_load(series, fresh, NOW, None).due_at == NOW + 21_600
    assert plan_load(series, failed, NOW, None).due_at == NOW + 900


def test_going_over_to_a_recording_its_time_counts_and_no_other():
    state, _ = load(WAITING, {"massive": SourceVerdict.FRESH})
    played = found("yahoo", SourceVerdict.FRESH, is_replay=True)
    played = replace(played, newest_ms=1000)
    after = conclude_load(SERIES, state, [found("massive", SourceVerdict.FAILED), played], NOW)
    assert (after.serving, after.newest_ms, after.replay) == ("yahoo", 1000, True)


verdicts = st.dictionaries(st.sampled_from(SERIES.sources), st.sampled_from(SourceVerdict))


@given(st.lists(st.tuples(verdicts, st.integers(1, 2000)), max_size=12))
def test_after_any_history_a_state_survives_the_bus_and_a_fresh_source_always_serves(history):
    state, at = WAITING, NOW
    for answers, pause_sec in history:
        at += pause_sec
        state, asked = load(state, answers, at)
        if any(answers.get(source) is SourceVerdict.FRESH for source in asked):
            assert (state.status, answers[state.serving]) == (SeriesStatus.FRESH, SourceVerdict.FRESH)
        planned = plan_load(SERIES, state, at, None)
        assert at < planned.due_at <= at + 120
        assert parse_series_state(planned.encode(SERIES)) == planned
        state = planned


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"{", b'{"status": "odd"}', b'{"newest_ms": "x"}', b"\xff"),
        b'{"newest_ms": 1%b}' % (b"0" * 30),
        b'{"attempts": {"x": {"verdict": "late", "failures": -1e30}}}',
    ],
)
def test_a_state_that_somebody_else_wrote_is_none(raw):
    assert parse_series_state(raw) is WAITING


def test_readers_find_what_the_truth_says_beside_the_state():
    document = orjson.loads(load(WAITING, {"massive": SourceVerdict.FRESH})[0].encode(SERIES))
    assert (document["id"], document["from"]) == ("SPY:bars:1m", ["massive", "yahoo", "tiingo"])
    assert document["serving"] == "massive"
    assert {
        "symbol",
        "kind",
        "timeframe",
        "asset",
        "group",
        "critical",
        "replay",
        "loaded_at",
    } <= document.keys()


def test_a_source_that_is_fresh_and_a_little_behind_shortens_nothing():
    state, _ = load(WAITING, {"massive": SourceVerdict.FRESH})
    after = conclude_load(SERIES, state, [found("yahoo", SourceVerdict.FRESH, 600)], NOW)
    assert after.serving == "yahoo"
    assert (after.newest_ms, after.fresh_until) == (state.newest_ms, state.fresh_until)


def test_a_source_that_comes_back_is_asked_for_all_since_its_own_newest_record():
    state, _ = load(WAITING, {"massive": SourceVerdict.FRESH})
    assert find_known_until(state, "massive") == state.newest_ms == 1000 * NOW
    later = NOW + 7200
    state, _ = load(state, {"massive": SourceVerdict.LIMITED, "yahoo": SourceVerdict.FRESH}, later)
    # what massive said last may have been corrected since, and yahoo can't tell that
    assert find_known_until(state, "massive") == 1000 * NOW
    assert find_known_until(state, "yahoo") == find_known_until(state, "tiingo") == 1000 * later
    assert find_known_until(WAITING, "massive") is None


def test_a_source_with_few_requests_is_asked_when_its_answer_no_longer_counts():
    daily = replace(SERIES, kind=RecordKind.OBSERVATIONS, timeframe="", max_age_sec=172_800.0)
    fresh = found("massive", SourceVerdict.FRESH, min_interval_sec=28_800.0)
    fresh = replace(fresh, fresh_until=NOW + 172_800)
    state = plan_load(daily, conclude_load(daily, WAITING, [fresh], NOW), NOW, None)
    assert state.due_at == NOW + 28_800
    assert [needs_refresh(state, NOW + sec, 3300) for sec in (28_799, 28_800)] == [False, True]
    assert choose_next(daily, state, [], NOW + 28_799) is None, "its answer counts, and no other takes over"
    assert choose_next(daily, state, [], NOW + 28_799, forced=True) is None
    assert choose_next(daily, state, [], NOW + 28_800) == "massive"


def test_the_next_source_serves_while_one_with_few_requests_may_not_be_asked():
    fresh = found("massive", SourceVerdict.FRESH, min_interval_sec=28_800.0)
    state = plan_load(SERIES, conclude_load(SERIES, WAITING, [fresh], NOW), NOW, None)
    assert state.due_at == NOW + 900, "when it is no longer fresh"
    assert choose_next(SERIES, state, [], NOW + 901) == "yahoo"
    late = found("massive", SourceVerdict.LATE, 5000, min_interval_sec=28_800.0)
    attempt = conclude_load(SERIES, WAITING, [late], NOW).attempts["massive"]
    assert attempt.retry_at == NOW + 28_800
