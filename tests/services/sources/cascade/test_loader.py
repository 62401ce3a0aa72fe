"""What an answer is worth, and what of it goes onto the bus."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import orjson
import pytest

from services.market.entries import parse_bar, parse_provenance
from services.market.records import AssetClass, Bar, Quote, RecordKind
from services.market.sessions import get_session
from services.sources.cascade.evaluation import encode_finding, evaluate_answer, find_outcomes, is_well
from services.sources.cascade.series import Series
from services.sources.cascade.state import Attempt, SeriesState, SeriesStatus, SourceFinding, SourceVerdict
from services.sources.cascade.store import encode_records, encode_request
from services.sources.catalog.answer import AnswerStatus, Misfit, SentRequest, SourceAnswer
from services.sources.preload import GateProgress, evaluate_gate

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC).timestamp()
NOW_MS = round(1000 * NOW)
SERIES = Series("BTC/USD", RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", ("kraken",), 300.0, 5.0, 60.0)
SESSION = get_session("24x7")
CLOCK = SimpleNamespace(wall=NOW, now=NOW, now_ms=NOW_MS, to_wall=lambda at_ms: at_ms / 1000)


def bar(minutes_ago, close=10.0, **more):
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": close, **more}
    return Bar("BTC/USD", "1m", NOW_MS - 60_000 * minutes_ago, **values)


def answer(*records, outcome=AnswerStatus.OK, **more):
    return SourceAnswer("kraken", outcome, records=records, asked_at=NOW, digest="d", **more)


def evaluate(*records, series=SERIES, **more):
    return evaluate_answer(series, SESSION, answer(*records, **more), CLOCK)


def test_an_answer_is_fresh_with_the_records_that_are_over():
    finding = evaluate(bar(2), bar(1), bar(0))
    assert (finding.verdict, finding.newest_ms) == (SourceVerdict.FRESH, NOW_MS - 60_000)
    assert [record.start_ms for record in finding.records] == [NOW_MS - 120_000, NOW_MS - 60_000]
    assert finding.fresh_until == NOW + 360


def test_an_answer_is_late_empty_or_wrong_by_its_records():
    late = evaluate(bar(20))
    assert (late.verdict, late.reason) == (SourceVerdict.LATE, "its newest record is old")
    assert (evaluate(bar(0)).verdict, evaluate(bar(0)).reason) == (
        SourceVerdict.EMPTY,
        "nothing that is over",
    )
    wrong = evaluate(bar(1), bar(-60))
    assert (wrong.verdict, wrong.reason, wrong.records) == (SourceVerdict.WRONG, "a time that lies ahead", ())
    misfits = evaluate(bar(1), misfits=(Misfit(0, "open", "'x' is not a number"), Misfit(1, "low", "is odd")))
    assert (misfits.verdict, misfits.reason) == (
        SourceVerdict.WRONG,
        "2 of 3 rows are wrong: open: 'x' is not a number",
    )
    assert evaluate(bar(1, low=-1.0)).reason == "a price that is not positive"


def test_a_bad_row_costs_a_row_and_not_the_answer():
    misfit = Misfit(0, "open", "'x' is not a number")
    finding = evaluate(bar(3), bar(2, low=0.0), bar(1), misfits=(misfit,))
    assert (finding.verdict, finding.records) == (SourceVerdict.FRESH, (bar(3), bar(1)))
    assert finding.set_aside == ("open: 'x' is not a number", "a price that is not positive")
    # also where the newest one is bad: its neighbour is the newest then
    finding = evaluate(bar(3), bar(2), bar(1, high=9.5))
    assert (finding.verdict, finding.newest_ms) == (SourceVerdict.FRESH, NOW_MS - 120_000)


def test_a_bar_between_two_minutes_is_left_out_and_many_of_them_make_the_answer_wrong():
    """Some sources end with the price of this moment, as a bar that begins now."""
    now_bar = replace(bar(1), start_ms=NOW_MS - 67_000)
    finding = evaluate(*(bar(n) for n in range(12, 1, -1)), now_bar)
    assert (finding.verdict, len(finding.records)) == (SourceVerdict.FRESH, 11)
    assert finding.newest_ms == NOW_MS - 120_000
    shifted = [replace(bar(n), start_ms=NOW_MS - 60_000 * n + 7_000) for n in (5, 4, 3, 2)]
    wrong = evaluate(*shifted, *(bar(n) for n in range(20, 5, -1)))
    assert (wrong.verdict, wrong.reason) == (SourceVerdict.WRONG, "4 of 19: a time between two bars")


def test_what_was_played_is_marked_with_the_time_of_its_clock():
    finding = evaluate(bar(1), is_replay=True, played_at=NOW - 9)
    assert (finding.answer.is_replay, finding.answer.played_at) == (True, NOW - 9)
    assert not evaluate(bar(1)).answer.is_replay


@pytest.mark.parametrize(
    ("outcome", "reason", "verdict"),
    [
        (AnswerStatus.EMPTY, "no rows", SourceVerdict.EMPTY),
        (AnswerStatus.REFUSED, "404", SourceVerdict.REFUSED),
        (AnswerStatus.LIMITED, "429", SourceVerdict.LIMITED),
        (AnswerStatus.FAILED, "500", SourceVerdict.FAILED),
        (AnswerStatus.FAILED, "breaker_open", SourceVerdict.BREAKER_OPEN),
        (AnswerStatus.FAILED, "paused", SourceVerdict.PAUSED),
        (AnswerStatus.FAILED, "no_key", SourceVerdict.NO_KEY),
        (AnswerStatus.FAILED, "not_served", SourceVerdict.NOT_SERVED),
    ],
)
def test_each_way_not_to_answer_stays_what_it_is(outcome, reason, verdict):
    finding = evaluate(outcome=outcome, reason=reason, wait_sec=7.0)
    assert (finding.verdict, finding.reason, finding.answer.wait_sec) == (verdict, reason, 7.0)


def fields_of(raw):
    pairs = orjson.loads(raw)
    return {name.encode(): value.encode() for name, value in zip(pairs[::2], pairs[1::2], strict=True)}


def test_a_record_goes_onto_the_bus_with_where_it_came_from_which_is_no_part_of_its_digest():
    finding = evaluate(bar(2), bar(1))
    (first, second) = encode_records(SERIES, finding)
    assert [first[0], second[0]] == [NOW_MS - 120_000, NOW_MS - 60_000]
    fields = fields_of(second[4])
    assert parse_bar(fields) == bar(1)
    assert (parse_provenance(fields).source, parse_provenance(fields).asked_at) == ("kraken", NOW)
    again = replace(evaluate(bar(2, close=11.0), bar(1)), source="okx", asked_at=NOW + 9)
    (changed, same) = encode_records(SERIES, again)
    assert (same[:4], changed[:3]) == (second[:4], first[:3])
    assert changed[3] != first[3]


def test_quotes_of_several_options_at_one_time_are_different_records():
    series = replace(SERIES, symbol="SPY", kind=RecordKind.QUOTES, timeframe="", asset=AssetClass.OPTIONS)
    quotes = tuple(Quote(symbol, NOW_MS, 1.0) for symbol in ("SPY", "SPY261218C00600000", "A|B"))
    finding = SourceFinding("cboe", SourceVerdict.FRESH, records=quotes, asked_at=NOW)
    buckets = [bucket for _, bucket, _, _, _ in encode_records(series, finding)]
    assert buckets == ["SPY", "SPY261218C00600000", "A|B"]


def test_a_request_and_a_reason_are_written_short_and_printable():
    sent = SentRequest("kraken", "https://x/" + "y" * 9000, 0.25, 500, b"{}", NOW, reason="a\x1b[2J\n" * 99)
    fields = fields_of(encode_request(SERIES, sent))
    assert (fields[b"status"], fields[b"took_ms"], fields[b"bytes"]) == (b"500", b"250", b"2")
    assert len(fields[b"url"]) == 2000
    assert len(fields[b"reason"]) <= 200
    assert fields[b"reason"].decode().isprintable()
    assert len(fields[b"digest"]) == 64
    assert b"replay" not in fields
    assert fields_of(encode_request(SERIES, replace(sent, is_replay=True)))[b"replay"] == b"1"


@pytest.mark.parametrize(
    ("verdict", "ok"),
    [
        (SourceVerdict.FRESH, True),
        (SourceVerdict.LATE, True),
        (SourceVerdict.EMPTY, True),
        (SourceVerdict.FAILED, False),
        (SourceVerdict.WRONG, False),
        (SourceVerdict.REFUSED, True),
        (SourceVerdict.LIMITED, True),
        (SourceVerdict.PAUSED, None),
        (SourceVerdict.BREAKER_OPEN, None),
        (SourceVerdict.NO_KEY, None),
    ],
)
def test_only_answers_and_failures_say_how_a_source_is(verdict, ok):
    assert is_well(SourceFinding("kraken", verdict)) is ok
    unasked = SourceFinding("massive", verdict, is_asked=False)
    assert is_well(unasked) is None
    assert orjson.loads(encode_finding(unasked))["add"]["answers"] == 0


@pytest.mark.parametrize("verdict", [SourceVerdict.FRESH, SourceVerdict.LATE, SourceVerdict.EMPTY])
def test_what_a_stream_brings_hides_no_reason_of_requests_that_failed(verdict):
    said = orjson.loads(encode_finding(SourceFinding("binance", verdict, is_asked=False)))
    assert said["first"] == {"outcome": verdict, "reason": ""}
    assert "set" not in said
    said = orjson.loads(encode_finding(SourceFinding("binance", SourceVerdict.BREAKER_OPEN, is_asked=False)))
    assert said["set"] == {"outcome": "breaker_open", "reason": "breaker_open"}


@pytest.mark.parametrize(("status", "ok"), [("404", True), ("402", None), ("403", None)])
def test_a_refusal_for_the_plan_of_a_key_neither_begins_nor_ends_an_outage(status, ok):
    assert is_well(SourceFinding("finnhub", SourceVerdict.REFUSED, status)) is ok


@pytest.mark.parametrize(
    ("verdict", "refusals", "miss_after", "error"),
    [
        (SourceVerdict.FRESH, 0, 3, None),
        (SourceVerdict.FAILED, 0, 3, "why"),
        (SourceVerdict.LIMITED, 2, 3, None),
        (SourceVerdict.LIMITED, 3, 3, "why"),  # the first of three
        (SourceVerdict.LIMITED, 4, 1, None),
        (SourceVerdict.LIMITED, 5, 1, "why"),
        (SourceVerdict.FRESH, 0, 10, None),
    ],
)
def test_the_last_of_many_refusals_in_a_row_are_failures(verdict, refusals, miss_after, error):
    finding = SourceFinding("kraken", verdict, "why")
    assert find_outcomes([finding], [refusals], miss_after) == {"kraken": error}


# -- the gate


def progress(**states):
    found = GateProgress(len(states), NOW)
    found.found |= {f"{name}:bars:1m": state for name, state in states.items() if state is not None}
    return found


def many(count, **more):
    return [replace(SERIES, symbol=f"S{n}", **more) for n in range(count)]


THERE = SeriesState(SeriesStatus.FRESH, "kraken", newest_ms=1, fresh_until=NOW + 60, asked_at=NOW)
OLD = replace(THERE, status=SeriesStatus.LATE, fresh_until=NOW - 1, loaded_at=NOW)
LAST_WEEK = replace(OLD, loaded_at=NOW - 604_800, attempts={"kraken": Attempt(SourceVerdict.FAILED, "500")})
FAILED = SeriesState(
    SeriesStatus.FAILED, attempts={"kraken": Attempt(SourceVerdict.FAILED, "500")}, asked_at=NOW
)


def test_the_gate_opens_with_the_share_that_is_wanted_and_not_below():
    states = {"S0": THERE, "S1": THERE, "S2": THERE, "S3": OLD, "S4": FAILED}
    report = evaluate_gate(many(5), progress(**states), 0.8, NOW)
    assert (report.is_open, report.loaded) == (True, 4)
    assert [(each.series, each.status, each.reason) for each in report.failures] == [
        ("S3:bars:1m", "late", ""),
        ("S4:bars:1m", "failed", "kraken failed (500)"),
    ]
    assert not evaluate_gate(many(5), progress(**states), 0.81, NOW).is_open
    assert evaluate_gate([], progress(), 0.8, NOW).is_open


def test_what_was_loaded_in_another_run_and_is_old_is_not_loaded():
    report = evaluate_gate(many(2), progress(S0=THERE, S1=LAST_WEEK), 0.6, NOW)
    assert (report.is_open, report.loaded) == (False, 1)
    assert report.failures[0].describe() == "S1:bars:1m late: kraken failed (500)"
    closed = replace(THERE, status=SeriesStatus.CLOSED, loaded_at=NOW - 604_800)
    assert evaluate_gate(many(1), progress(S0=closed), 1.0, NOW).loaded == 1


@pytest.mark.parametrize("state", [OLD, FAILED, LAST_WEEK, None])
def test_the_gate_stays_closed_without_a_critical_series_however_many_others_are_there(state):
    series = [*many(9), replace(SERIES, symbol="CRITICAL", critical=True)]
    states = {f"S{n}": THERE for n in range(9)} | {"CRITICAL": state}
    report = evaluate_gate(series, progress(**states), 0.5, NOW)
    assert (report.is_open, [each.critical for each in report.failures]) == (False, [True])
