"""What the entries of each stream become, and which are refused."""

import dataclasses
import re
from dataclasses import replace
from datetime import date, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.operator.healing import OutageEvidence
from marketswarm.packed_log import pack_log
from services.market.entries import encode_entry, parse_entry, parse_observation
from services.market.fields import MAX_MS
from services.market.records import (
    ActionKind,
    AssetClass,
    Bar,
    CorporateAction,
    Observation,
    Provenance,
    Quote,
)
from services.tables.rows import (
    BAR_CELLS,
    AlertRow,
    EntryError,
    SymbolRow,
    check_bar,
    make_action_row,
    make_alert_row,
    make_bar_row,
    make_download_row,
    make_evidence_row,
    make_feature_row,
    make_incident_event_row,
    make_indicator_row,
    make_observation_row,
    make_quote_row,
    make_source_bar_row,
    to_stream_position,
)
from services.tables.tables import STREAMS

ENTRY = b"1793000040000-3"
START_MS = 1_793_000_040_000  # 2026-10-26T07:34Z
ASKED = Provenance("yahoo", START_MS / 1000 + 0.125, "ab" * 32)


def raw(fields, **changes):
    merged = {**fields, **changes}
    return {name.encode(): str(value).encode() for name, value in merged.items() if value is not None}


def bar_fields(**changes):
    bar = Bar("SPY", "5m", START_MS, 10.0, 12.5, 9.0, 11.0, volume=5.0, trades=3)
    return raw(encode_entry(bar, AssetClass.STOCKS, ASKED), rev=2, epoch=9, final=1) | raw({}, **changes)


def test_a_bar_keeps_every_number_its_revision_and_where_it_came_from():
    row, symbol = make_bar_row(ENTRY, bar_fields())
    assert row[:12] == ("SPY", "5m", START_MS, 10.0, 12.5, 9.0, 11.0, 5.0, None, 3, True, 2)
    assert row[12:17] == (9, "yahoo", START_MS + 125, "ab" * 32, False)
    assert row[17:] == (*(None,) * 3, START_MS + 300_000, "raw", None, None, to_stream_position(ENTRY))
    assert dict(zip(BAR_CELLS, row.cells, strict=True)).items() <= row._asdict().items()
    assert symbol == SymbolRow("SPY", "stocks", START_MS, START_MS, False)


def test_a_built_bar_keeps_of_how_many_minutes_it_is_and_how_many_are_missing():
    row, _ = make_bar_row(ENTRY, bar_fields(minutes=60, missing=330))
    assert (row.minutes, row.missing) == (60, 330)
    for wrong in ("-1", "1.5", "x", "9" * 20):
        with pytest.raises(EntryError, match="missing: no whole number"):
            make_bar_row(ENTRY, bar_fields(missing=wrong))


def test_an_adjusted_bar_says_for_what_and_up_to_which_day():
    row, _ = make_bar_row(ENTRY, bar_fields(adjustment="splits", adjusted_to="2026-10-26"))
    assert (row.adjustment, row.adjusted_to) == ("splits", "2026-10-26")
    raw_row, _ = make_bar_row(ENTRY, bar_fields(adjusted_to="2026-10-26"))
    assert (raw_row.adjustment, raw_row.adjusted_to) == ("raw", None)
    for wrong in (None, "2026-13-01", "x"):
        with pytest.raises(EntryError, match="adjusted_to"):
            make_bar_row(ENTRY, bar_fields(adjustment="all", adjusted_to=wrong))
    with pytest.raises(EntryError, match="adjustment"):
        make_bar_row(ENTRY, bar_fields(adjustment="some", adjusted_to="2026-10-26"))


@pytest.mark.parametrize("kind", [None, "venue", "consolidated", "none"])
def test_a_bar_keeps_whose_volume_it_has_and_without_a_word_that_is_unknown(kind):
    assert make_bar_row(ENTRY, bar_fields(volume_kind=kind))[0].volume_kind == kind


def test_a_kind_of_volume_that_is_not_known_is_refused():
    with pytest.raises(EntryError, match="volume_kind: unknown"):
        make_bar_row(ENTRY, bar_fields(volume_kind="all"))


# 2026-10-26 is a Monday; a week or a month may begin on any of its days, and forex on the evening before
@pytest.mark.parametrize(
    ("timeframe", "start", "day", "is_right"),
    [
        ("1w", "2026-10-25T21:00Z", "2026-10-26", True),
        ("1w", "2026-10-26T13:30Z", "2026-10-26", True),
        ("1w", "2026-10-30T13:30Z", "2026-10-26", True),
        ("1w", "2026-10-26T13:30Z", "2026-10-27", False),
        ("1w", "2026-10-26T13:30Z", "2026-10-19", False),
        ("1w", "2026-11-01T14:30Z", "2026-10-26", True),
        ("1w", "2026-10-22T13:30Z", "2026-10-26", False),
        ("1mo", "2026-10-31T21:00Z", "2026-11-01", True),
        ("1mo", "2026-11-02T14:30Z", "2026-11-01", True),
        ("1mo", "2026-11-02T14:30Z", "2026-11-02", False),
        ("1mo", "2026-12-01T14:30Z", "2026-11-01", False),
        ("1mo", "2026-10-28T14:30Z", "2026-11-01", False),
        ("1w", "2026-10-26T13:30Z", "2026-13-01", False),
        ("1w", "2026-10-26T13:30Z", "9999-10-26", False),
        ("1h", "2026-10-26T13:30Z", "2026-10-26", None),
    ],
)
def test_a_week_has_the_date_of_its_monday_and_a_month_that_of_its_first(timeframe, start, day, is_right):
    start_ms = round(datetime.fromisoformat(start).timestamp() * 1000)
    fields = bar_fields(timeframe=timeframe, start=start_ms, day=day)
    if is_right is False:
        with pytest.raises(EntryError, match="day"):
            make_bar_row(ENTRY, fields)
    else:
        assert make_bar_row(ENTRY, fields)[0].day == (day if is_right else None)
    del fields[b"day"]
    assert make_bar_row(ENTRY, fields)[0].day is None


def test_a_minute_of_massive_that_names_neither_timeframe_nor_class_is_one_of_a_stock():
    fields = raw(
        {"sym": "A", "start": START_MS, "open": 1, "high": 2, "low": 1, "close": 2, "source": "replay"}
    )
    row, symbol = make_bar_row(ENTRY, fields)
    assert (row.timeframe, row.rev, row.final, row.replay, row.asked_at) == ("1m", 0, False, True, None)
    assert symbol.asset == "stocks"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"low": 10.5}, "low, open, close and high"),
        ({"high": 10.5}, "low, open, close and high"),
        ({"low": 0}, "not above 0"),
        ({"volume": -1}, "volume"),
        ({"vwap": 0}, "vwap"),
        ({"trades": -1}, "trades"),
        ({"rev": "-1"}, "rev"),
        ({"rev": "1.5"}, "rev"),
        ({"rev": 2**31}, "rev"),
        ({"epoch": "soon"}, "epoch"),
        ({"final": "yes"}, "final"),
        ({"close": "nan"}, "close"),
        ({"sym": "S P"}, "sym"),
        ({"timeframe": "7m"}, "timeframe"),
        ({"asset": "pets"}, "asset"),
        ({"start": "1e3"}, "start"),
        ({"asked_at": "9e15"}, "out of bounds"),
        ({"source": "x" * 200}, "source"),
    ],
)
def test_a_bar_that_can_not_be_is_refused_by_the_name_of_its_field(changes, why):
    with pytest.raises(EntryError, match=why):
        make_bar_row(ENTRY, bar_fields(**changes))


def test_quotes_and_observations_keep_what_their_source_said():
    quote = Quote("BTC/USDT", START_MS + 7, -3.5, bid=1.25, implied_volatility=0.5)
    row, symbol = make_quote_row(ENTRY, raw(encode_entry(quote, AssetClass.CRYPTO, ASKED)))
    assert row[:5] == ("BTC/USDT", START_MS + 7, -3.5, 1.25, None)
    assert (row.implied_volatility, symbol.asset) == (0.5, "crypto")
    assert row.stream_position == to_stream_position(ENTRY)
    found = Observation("US.CPI", -2_208_988_800_000, 8.25)  # the year 1900
    row, symbol = make_observation_row(ENTRY, raw(encode_entry(found, AssetClass.ECONOMIC, ASKED)))
    assert (row.start, row.value) == (-2_208_988_800_000, 8.25)
    assert symbol.first_seen == symbol.last_seen == row.start


def test_an_action_is_a_row_and_one_that_is_withdrawn_has_no_value():
    split = CorporateAction("AAPL", ActionKind.SPLIT, date(2020, 8, 31), ratio=4.0)
    fields = raw(encode_entry(split, AssetClass.STOCKS, ASKED))
    row, symbol = make_action_row(ENTRY, fields)
    assert row[:7] == ("AAPL", "2020-08-31", "split", 4.0, None, None, False)
    assert (row.source, row.stream_position, symbol) == ("yahoo", to_stream_position(ENTRY), None)
    withdrawn, _ = make_action_row(ENTRY, fields | {b"withdrawn": b"1"})
    assert withdrawn == row._replace(ratio=None, withdrawn=True)
    for field, value in ((b"ratio", b"0"), (b"amount", b"1"), (b"ex_day", b"soon"), (b"withdrawn", b"2")):
        with pytest.raises(EntryError, match=field.decode() if field != b"amount" else "kind"):
            make_action_row(ENTRY, fields | {field: value})


def test_an_observation_is_known_since_its_source_says_else_since_it_was_asked_or_written():
    asked_ms = round(1000 * ASKED.asked_at)
    printed = Observation("US.CPI", START_MS, 8.25, START_MS + 40)
    for found, provenance, known_ms in (
        (printed, ASKED, START_MS + 40),
        (replace(printed, known_ms=None), ASKED, asked_ms),
        (replace(printed, known_ms=None), Provenance("fred", asked_ms / 1000, played_at=7.0), 7000),
        (replace(printed, known_ms=None), Provenance("fred"), int(ENTRY.partition(b"-")[0])),
    ):
        entry = raw(encode_entry(found, AssetClass.ECONOMIC, provenance))
        assert make_observation_row(ENTRY, entry)[0].known_at == known_ms
        assert parse_entry(parse_observation, entry)[0] == found
    with pytest.raises(EntryError, match="known_at"):
        make_observation_row(
            ENTRY, raw(encode_entry(printed, AssetClass.ECONOMIC, ASKED)) | {b"known_at": b"x"}
        )


def test_a_bar_is_known_at_its_end_and_a_correction_since_it_was_seen():
    assert make_bar_row(ENTRY, bar_fields(end=START_MS + 60_000))[0].known_at == START_MS + 60_000
    late = make_bar_row(ENTRY, bar_fields(end=START_MS + 60_000, known_at=START_MS + 90_000))[0]
    assert late.known_at == START_MS + 90_000
    without_end = {name: value for name, value in bar_fields().items() if name != b"end"}
    assert make_bar_row(ENTRY, without_end)[0].known_at is None


def test_a_bar_that_is_only_restated_and_its_indicators_do_not_say_since_when_they_are_known():
    """What is restated stays known since when the row that it replaces was."""
    times = {"end": START_MS + 60_000, "known_at": START_MS + 90_000}
    assert make_bar_row(ENTRY, bar_fields(**times, restated=1))[0].known_at is None
    values = {b"sym": b"SPY", b"timeframe": b"1d", b"start": b"%d" % START_MS, b"values": b"{}"}
    values |= {b"known_at": b"%d" % (START_MS + 90_000)}
    assert make_indicator_row(ENTRY, values)[0].known_at == START_MS + 90_000
    assert make_indicator_row(ENTRY, values | {b"restated": b"1"})[0].known_at is None
    with pytest.raises(EntryError, match="restated"):
        make_bar_row(ENTRY, bar_fields(**times, restated=2))


def test_indicators_and_features_are_numbers_and_nulls_by_name():
    values = '{"sma_20": 1.5, "rsi_14": null, "obv": 7}'
    fields = raw({"sym": "SPY", "timeframe": "1d", "start": START_MS, "rev": 1, "final": 1, "values": values})
    row, symbol = make_indicator_row(ENTRY, fields)
    assert orjson.loads(row.values) == {"sma_20": 1.5, "rsi_14": None, "obv": 7}
    assert (row.rev, row.final, symbol) == (1, True, None)
    assert make_feature_row(ENTRY, fields)[0].start == START_MS
    for make in (make_indicator_row, make_feature_row):
        assert make(ENTRY, fields)[0].known_at is None
        assert make(ENTRY, fields | {b"known_at": b"%d" % START_MS})[0].known_at == START_MS
    for wrong in ("[]", "nothing", '{"a": "text"}', '{"a": true}', '{"A B": 1}', '{"a": [1]}', '{"a": NaN}'):
        with pytest.raises(EntryError, match="values"):
            make_indicator_row(ENTRY, fields | {b"values": wrong.encode()})
    many = orjson.dumps({f"f{n}": n for n in range(301)})
    with pytest.raises(EntryError, match="more than 300"):
        make_feature_row(ENTRY, fields | {b"values": many})


def test_indicators_and_features_of_the_year_2100_are_refused_as_its_bars_are():
    """No partition can hold them: its end would be a time that no row may have."""
    last = raw({"sym": "SPY", "timeframe": "1d", "start": MAX_MS - 1, "rev": 1, "values": "{}"})
    for make in (make_indicator_row, make_feature_row):
        assert make(ENTRY, last)[0].start == MAX_MS - 1
        with pytest.raises(EntryError, match="start"):
            make(ENTRY, last | {b"start": str(MAX_MS).encode()})


def test_a_download_is_kept_by_the_id_of_its_entry_and_its_texts_are_cut():
    fields = raw(
        {
            "source": "yahoo",
            "series": "SPY:bars:1m",
            "symbol": "SPY",
            "kind": "bars",
            "timeframe": "",
            "asked_at": "1793000040.125",
            "took_ms": 12,
            "url": "x" * 5000,
            "status": 429,
            "digest": "",
            "outcome": "rate_limited",
            "reason": "429 \0",
            "bytes": 10,
            "records": 0,
        }
    )
    row, _ = make_download_row(ENTRY, fields)
    assert (row.id, row.status, row.timeframe, row.digest) == (ENTRY.decode(), 429, None, None)
    assert (len(row.url), row.reason, row.records) == (2000, "429 �", 0)
    for name, value in ((b"asked_at", b""), (b"outcome", b""), (b"kind", b"pets"), (b"status", b"1000")):
        with pytest.raises(EntryError):
            make_download_row(ENTRY, fields | {name: value})


TIMELINE = {
    "incident": "feed.17",
    "ts": 1_793_000_040.25,
    "svc": "feed",
    "what": "acted",
    "remedy": "restart",
}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"incident": "a b"}, {"incident": 7}, {"ts": "now"}, {"ts": None}, {"ts": 1e12}, {"svc": ""}),
        *({"what": ""}, {"what": 1}, {"sec": -1}, {"sec": True}, {"text": "x" * 301}, {"text": "a\0b"}),
        *({"svc": "a\0"}, {"remedy": ["restart"]}, {"severity": "x" * 21}),
    ],
)
def test_an_entry_of_a_timeline_is_kept_and_one_with_a_wrong_field_is_refused(wrong):
    row, symbol = make_incident_event_row(ENTRY, {b"entry": orjson.dumps(TIMELINE | {"new": [1]})})
    assert row[:5] == ("1793000040000-3", "feed.17", 1_793_000_040_250, "feed", "acted")
    assert row[5:] == ("", "restart", "", "", None, (1_793_000_040_000 << 20) + 3, None)
    assert symbol is None
    with pytest.raises(EntryError, match="entry"):
        make_incident_event_row(ENTRY, {b"entry": orjson.dumps(TIMELINE | wrong)})
    with pytest.raises(EntryError, match="entry"):
        make_incident_event_row(ENTRY, {})


EVIDENCE = OutageEvidence(
    svc="feed",
    incident="feed.17",
    ts=1_793_000_040.25,
    step="intended restart",
    facts={"health": "down", "down_sec": 1.5, "process_age_sec": None},
    readings={"process_cpu": 99.0},
    packed_log=pack_log("one\ntw\0o"),
)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"incident": "a b"}, {"svc": 7}, {"ts": "now"}, {"ts": 1e10}, {"step": None}, {"facts": [1]}),
        *(
            {"readings": {"a": {}}},
            {"packed_log": "x" * 12_001},
            {"facts": {"a": "b\0"}},
            {"facts": {"a": []}},
        ),
    ],
)
def test_evidence_has_its_log_unpacked_and_what_is_wrong_is_refused(wrong):
    row, symbol = make_evidence_row(ENTRY, {b"entry": EVIDENCE.encode()})
    assert row[:5] == (ENTRY.decode(), "feed.17", 1_793_000_040_250, "feed", "intended restart")
    assert orjson.loads(row.facts) == EVIDENCE.facts
    assert orjson.loads(row.readings) == EVIDENCE.readings
    assert (row.log, symbol) == ("one\ntw�o", None)
    with pytest.raises(EntryError, match="entry"):
        make_evidence_row(ENTRY, {b"entry": orjson.dumps(orjson.loads(EVIDENCE.encode()) | wrong)})


def test_evidence_whose_log_can_not_be_unpacked_is_kept_without_it():
    for packed in ("junk", "eJw=", pack_log("x")[:-8]):
        row, _ = make_evidence_row(
            ENTRY, {b"entry": dataclasses.replace(EVIDENCE, packed_log=packed).encode()}
        )
        assert row.log in ("", "x")


def test_an_alert_of_any_type_is_kept_and_one_without_an_id_by_that_of_its_entry():
    event = {"type": "source_miss", "svc": "source:yahoo", "ts": 1_793_000_040.125, "new": [1]}
    row, _ = make_alert_row(ENTRY, {b"event": orjson.dumps(event)})
    assert isinstance(row, AlertRow)
    assert (row.id, row.type, row.svc) == (ENTRY.decode(), "source_miss", "source:yahoo")
    assert orjson.loads(row.event) == event
    named = {b"event": orjson.dumps({**event, "id": "source_miss.1"})}
    assert make_alert_row(ENTRY, named)[0].id == "source_miss.1"
    for wrong in ({"type": 1}, {"svc": ""}, {"ts": "now"}, {"ts": True}, {"ts": 1e300}, {"id": "x" * 301}):
        with pytest.raises(EntryError):
            make_alert_row(ENTRY, {b"event": orjson.dumps(event | wrong)})
    with pytest.raises(EntryError, match="code 0"):
        make_alert_row(ENTRY, {b"event": orjson.dumps(event | {"reason": "\0"})})


BACKSLASHES = [
    # the text, and what is stored of it where a character of code 0 is replaced
    (r"ERROR: \u0000 cannot be converted to text", r"ERROR: \u0000 cannot be converted to text"),
    (r"\\u0000", r"\\u0000"),
    ("\0", "�"),
    ("\\\0\0\\u0000", "\\��\\u0000"),
    (r"\u0000" + "\0", r"\u0000�"),
]


@pytest.mark.parametrize(("text", "storable"), BACKSLASHES)
def test_a_backslash_before_u0000_in_a_text_is_no_character_of_code_0(text, storable):
    event = {b"event": orjson.dumps({"type": "x", "svc": "y", "ts": 1_793_000_040.125, "reason": text})}
    if text == storable:
        assert orjson.loads(make_alert_row(ENTRY, event)[0].event)["reason"] == text
    else:
        with pytest.raises(EntryError, match="code 0"):
            make_alert_row(ENTRY, event)
    diagnosis = orjson.dumps({"incident": TIMELINE["incident"], "text": text})
    fields = {b"entry": orjson.dumps(TIMELINE), b"diagnosis": diagnosis}
    row, _ = make_incident_event_row(ENTRY, fields)
    assert orjson.loads(row.diagnosis or "") == {"incident": TIMELINE["incident"], "text": storable}


def test_later_entries_have_a_greater_position():
    idents = [b"1-0", b"1-1", b"2-0", b"1793000040000-0", b"1793000040000-9", b"1793000040001-0"]
    positions = [to_stream_position(each) for each in idents]
    assert positions == sorted(set(positions))
    with pytest.raises(EntryError):
        to_stream_position(b"newest")


def test_an_id_of_the_far_future_has_the_greatest_position_that_the_tables_hold():
    """Redis gives every entry after it a greater id: to refuse one would be to refuse all."""
    for ident in (b"8796093022208-0", b"9000000000000-7", b"18446744073709551615-18446744073709551615"):
        assert to_stream_position(ident) == 2**63 - 1
        assert make_bar_row(ident, bar_fields())[0].stream_position == 2**63 - 1
    assert to_stream_position(b"8796093022207-0") < 2**63 - 1


def test_a_daily_bar_and_its_features_keep_their_trading_day():
    evening_ms = 1_792_962_000_000  # 2026-10-25T21:00Z: when the forex day 2026-10-26 begins
    daily = {"timeframe": "1d", "start": evening_ms, "day": "2026-10-26"}
    row, _ = make_bar_row(ENTRY, bar_fields(**daily))
    assert row.day == "2026-10-26"
    assert make_bar_row(ENTRY, bar_fields(**{**daily, "day": None}))[0].day is None
    assert make_bar_row(ENTRY, bar_fields(day="2026-10-26"))[0].day is None  # only a daily bar has one
    fields = raw({"sym": "EUR/USD", "start": evening_ms, "rev": 1, "values": "{}", "day": "2026-10-26"})
    assert make_feature_row(ENTRY, fields)[0].day == "2026-10-26"
    for wrong in ("20261026", "2026-10-32", "26.10.2026", "2026-W44-1", "2026-11-02", "2026-10-20", "0"):
        with pytest.raises(EntryError, match="day"):
            make_bar_row(ENTRY, bar_fields(**{**daily, "day": wrong}))
        with pytest.raises(EntryError, match="day"):
            make_feature_row(ENTRY, fields | {b"day": wrong.encode()})


def test_what_was_played_from_a_recording_is_marked_in_every_record():
    values = raw({"sym": "SPY", "timeframe": "1d", "start": START_MS, "rev": 1, "values": "{}"})
    values |= raw({"source": "yahoo", "asked_at": "1793000040", "outcome": "fresh"})
    for make in (make_indicator_row, make_feature_row, make_download_row):
        assert make(ENTRY, values)[0].replay is False
        assert make(ENTRY, values | {b"replay": b"1"})[0].replay is True
        with pytest.raises(EntryError, match="replay"):
            make(ENTRY, values | {b"replay": b"perhaps"})


def test_a_symbol_has_the_span_of_its_records_and_is_a_replay_only_if_all_are():
    early, late = (SymbolRow("A", "stocks", at, at, at == 1) for at in (1, 9))
    assert early.merge(late) == SymbolRow("A", "stocks", 1, 9, False)
    assert late.merge(early).first_seen == 1


JUNK = st.dictionaries(
    st.sampled_from(
        b"sym timeframe start at open high low close values event rev source asked_at value price outcome "
        b"final asset trades digest day replay".split()
    ),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"1", b"1m", b"1d", b"{}", b"1793000040000", b"2026-10-26", b"SPY", b"stocks"]),
    ),
)


@given(JUNK, st.sampled_from(sorted(STREAMS)), st.sampled_from([ENTRY, b"8796093022208-0", b"0-1"]))
def test_whatever_stands_in_an_entry_it_is_a_row_or_refused_without_its_values(fields, stream, entry):
    table, make = STREAMS[stream]
    try:
        row, _ = make(entry, fields)
    except EntryError as error:
        assert re.fullmatch(r"[\w ,.:()-]+", str(error))  # noqa: PT017 - either way is right
    else:
        assert len(row) == len(table.columns)


def test_json_that_can_be_read_and_not_written_again_is_refused():
    deep = "[" * 300 + "]" * 300
    event = {"event": f'{{"type": "heartbeat_miss", "svc": "a", "ts": 1, "x": {deep}}}'}
    with pytest.raises(EntryError, match="event: nested too deep"):
        make_alert_row(ENTRY, raw(event))


DAY_MS = 86_400_000
NOW_MS = START_MS + 5000
MINUTE = {"sym": "SPY", "timeframe": "1m", "values": "{}"}
ALERT = '{"type": "heartbeat_miss", "svc": "a", "ts": %s}'


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (make_bar_row, lambda ms: bar_fields(start=ms)),
        (make_bar_row, lambda ms: bar_fields(asked_at=ms / 1000)),
        (make_bar_row, lambda ms: bar_fields(epoch=ms)),
        (make_quote_row, lambda ms: raw(encode_entry(Quote("SPY", ms, 1.0), AssetClass.STOCKS, ASKED))),
        (
            make_observation_row,
            lambda ms: raw(encode_entry(Observation("US.CPI", ms, 1.0), AssetClass.ECONOMIC, ASKED)),
        ),
        (make_indicator_row, lambda ms: raw(MINUTE, start=ms)),
        (make_feature_row, lambda ms: raw(MINUTE, start=START_MS, epoch=ms)),
        (make_download_row, lambda ms: raw({"source": "x", "outcome": "fresh", "asked_at": ms / 1000})),
        (make_alert_row, lambda ms: raw({"event": ALERT % (ms / 1000)})),
    ],
)
def test_a_record_of_the_future_is_refused_and_one_of_today_is_not(make, fields):
    table = next(table for table, maker in STREAMS.values() if maker is make)
    table.require_past(make(ENTRY, fields(NOW_MS + DAY_MS))[0], NOW_MS)
    with pytest.raises(EntryError, match="more than a day ahead"):
        table.require_past(make(ENTRY, fields(NOW_MS + DAY_MS + 1))[0], NOW_MS)


def test_only_a_commodity_may_cost_nothing_or_less():
    oil = Bar("CL", "1m", 0, 2.0, 3.0, -40.32, -37.63, 5.0, -1.0)
    check_bar(oil, AssetClass.COMMODITIES)
    for asset in set(AssetClass) - {AssetClass.COMMODITIES}:
        with pytest.raises(EntryError, match="not above 0"):
            check_bar(oil, asset)
    with pytest.raises(EntryError, match="not in this order"):
        check_bar(dataclasses.replace(oil, low=-1.0), AssetClass.COMMODITIES)


def test_a_bar_of_one_source_is_a_row_of_its_symbol_and_says_nothing_of_the_symbol():
    bar = Bar("SPY", "1m", START_MS, 1.0, 3.0, 0.5, 2.0)
    fields = {**encode_entry(bar, AssetClass.STOCKS, ASKED), "final": "1", "rev": "3", "epoch": "9"}
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    row, symbol = make_source_bar_row(ENTRY, {**raw, b"sym": b"SPY@yahoo"})
    assert (row, symbol) == (make_bar_row(ENTRY, raw)[0], None)
    for sym, why in ((b"SPY", "sym: not"), (b"SPY@tiingo", "source: not that")):
        with pytest.raises(EntryError, match=why):
            make_source_bar_row(ENTRY, {**raw, b"sym": sym})
