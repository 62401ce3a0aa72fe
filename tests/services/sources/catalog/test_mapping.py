"""Reading what a source sends: whatever it is, there is a page, and no record that is none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from services.market.records import DAY_MS, AssetClass, Bar, Observation, RecordKind
from services.sources.catalog import mapping
from services.sources.catalog.answer import AnswerStatus, Misfit
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.mapping import (
    MAX_NEXT_PAGE,
    MisfitError,
    keep_asked,
    parse_document,
    read_page,
    read_time,
)
from services.sources.catalog.request import ApiKey, Question
from services.sources.catalog.source import FieldRule, MarketSource

START = datetime(2026, 11, 2, tzinfo=UTC)
QUESTION = Question("EUR/USD", AssetClass.FOREX, RecordKind.OBSERVATIONS, START, START)
RATES = {
    "kind": "observations",
    "assets": ["forex"],
    "path": "/rates",
    "records": "rows",
    "fields": {"start": {"path": "day", "format": "period"}, "value": {"path": "rate"}},
}


XML_ROWS = [(b"2026-11-02", b"1.5"), (b"2026-11-03", b"1600.25")]


def read(body, question=QUESTION, key=None, **endpoint):
    source = MarketSource.model_validate(
        {
            "name": "example",
            "title": "Example",
            "docs": ["https://example.org/"],
            "base_url": "https://api.example.org",
            "symbols": {"forex": {"template": "{base}_{quote}"}},
            "serves": {"rates": RATES | endpoint},
        }
    )
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_page(source, source.serves["rates"], question, raw, key=key)


def values(page):
    return [
        (datetime.fromtimestamp(each.start_ms / 1000, UTC).date().isoformat(), each.value)
        for each in page.records
    ]


def test_rows_columns_and_objects_by_time_are_read_alike():
    rows = {"rows": [{"day": "2026-11-02", "rate": 1.5}, {"day": "2026-11-03", "rate": "1,600.25 "}]}
    expected = [("2026-11-02", 1.5), ("2026-11-03", 1600.25)]
    assert values(read(rows, thousands=",")) == expected
    columns = {"rows": {"day": ["2026-11-02", "2026-11-03"], "rate": [1.5, "1600.25"]}}
    assert values(read(columns, layout="columns")) == expected
    by_key = {"rows": {"2026-11-02": {"EUR_USD": 1.5}, "2026-11-03": {"EUR_USD": 1600.25}}}
    fields = {"start": {"path": "key", "format": "period"}, "value": {"path": 'value."{symbol}"'}}
    assert values(read(by_key, layout="by_key", fields=fields)) == expected
    csv = b"\xef\xbb\xbfa title\nday;rate\n2026-11-02;1.5\n2026-11-03;1600.25\n"
    assert values(read(csv, format="csv", delimiter=";", skip_lines=1, records="@")) == expected
    first, second = (b"<row><day>%b</day><rate>%b</rate></row>" % each for each in XML_ROWS)
    assert values(read(b"<all>" + first + second + b"</all>", format="xml", records="all.row")) == expected
    assert values(read(b"<all>" + first + b"</all>", format="xml", records="all.row")) == expected[:1]


@pytest.mark.parametrize(
    ("layout", "document", "outcome", "reason"),
    [
        ("rows", {"rows": []}, "empty", "no rows"),
        ("rows", {"data": []}, "failed", "no rows at rows"),
        ("rows", {"rows": None}, "failed", "no rows at rows"),
        ("rows", {"rows": "busy"}, "failed", "no rows at rows"),
        ("rows", {"rows": [{"date": "2026-11-02"}]}, "failed", "no row fits: the row has no field"),
        ("rows", {"rows": [5]}, "failed", "no row fits: the row has no field"),
        ("rows", {"rows": {}}, "failed", "no row fits: the row has no field"),
        ("rows", {"rows": [{"date": "2026-11-02", "rate": 1}]}, "failed", "no row fits: the row has no time"),
        ("rows", {"rows": [{"day": "2026-11-02"}]}, "empty", "no values"),
        ("columns", {"rows": {"day": [], "rate": []}}, "empty", "no rows"),
        ("columns", {"rows": {"day": ["2026-11-02"]}}, "failed", "no rows at rows"),
        ("columns", {"rows": {"day": "2026-11-02", "rate": 1}}, "failed", "no rows at rows"),
        ("columns", {"rows": []}, "failed", "no rows at rows"),
        ("by_key", {"rows": {}}, "empty", "no rows"),
        ("by_key", {"rows": []}, "failed", "no rows at rows"),
        ("by_key", {}, "failed", "no rows at rows"),
    ],
)
def test_nothing_where_rows_should_be_is_a_failure_and_a_list_without_rows_is_none(
    layout, document, outcome, reason
):
    page = read(document, layout=layout)
    assert (page.outcome.value, page.reason, page.records) == (outcome, reason, ())


def test_an_xml_document_without_rows_is_empty_since_it_has_no_empty_lists():
    page = read(b"<all><title>rates</title></all>", format="xml", records="all.row")
    assert (page.outcome, page.reason) == (AnswerStatus.EMPTY, "no rows")
    page = read(b"<all><row>busy</row></all>", format="xml", records="all.row")
    assert page.outcome is AnswerStatus.FAILED


def test_numbers_are_scaled_divided_and_turned_round():
    rule = {"path": "rate", "scale": 0.01, "divide_by": "units", "inverse": True}
    fields = RATES["fields"] | {"value": rule}
    page = read({"rows": [{"day": "2026-11-02", "rate": 800, "units": 2}]}, fields=fields)
    assert values(page) == [("2026-11-02", 0.25)]
    page = read({"rows": [{"day": "2026-11-02", "rate": 8, "units": 0}]}, fields=fields)
    assert (page.outcome, page.records) == (AnswerStatus.FAILED, ())


def test_a_value_that_is_marked_missing_is_no_misfit():
    page = read({"rows": [{"day": "2026-11-02", "rate": "."}, {"day": "2026-11-03", "rate": None}]})
    assert (page.outcome, page.reason, page.missing, page.misfits) == (AnswerStatus.EMPTY, "no values", 2, ())
    page = read({"rows": [{"day": "2026-11-02", "rate": "n.a."}, {"day": "2026-11-03", "rate": 1}]})
    assert page.misfits == (Misfit(0, "value", "'n.a.' is not a number"),)
    assert values(page) == [("2026-11-03", 1)]


XML_ENTITY = b'<!DOCTYPE a [<!ENTITY x "%b">]><all><row><day>2026-11-02</day><rate>&x;</rate></row></all>'


@pytest.mark.parametrize(
    "body",
    [
        XML_ENTITY % (b"y" * 100),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><all><row><day>&x;</day></row></all>',
        b"<all><row>",
        b"<" * 10_000,
        *(
            b'<?xml version="1.0" encoding="%b"?><all><row/></all>' % encoding
            for encoding in (b"foo", b"hex", b"rot13", b"undefined", b"x" * 300)
        ),
    ],
)
def test_an_xml_document_that_is_broken_or_has_entities_or_an_unknown_encoding_is_malformed(body):
    page = read(body, format="xml", records="all.row")
    assert (page.outcome, page.records) == (AnswerStatus.FAILED, ())
    assert page.reason.startswith("no xml: ")


@pytest.mark.parametrize("depth", [100, 5_000, 20_000])
def test_a_deep_document_is_no_records(depth):
    assert read(b"[" * depth + b"]" * depth, records="@").records == ()
    xml = b"<a>" * depth + b"</a>" * depth
    assert read(xml, format="xml", records="a").records == ()


@pytest.mark.parametrize("field", ["day", "rate"])
def test_a_deep_value_of_a_field_is_a_misfit(field):
    row = {"day": b'"2026-11-02"', "rate": b"1", field: b"[" * 1000 + b"]" * 1000}
    body = b'{"rows": [{"day": %b, "rate": %b}]}' % (row["day"], row["rate"])
    page = read(body)
    assert page.outcome is AnswerStatus.FAILED
    assert page.reason.startswith("no row fits: a list is not a ")


SECRET = ApiKey("SECRETSECRET0123456789/ABCDEF", "HIDDENHIDDEN0123456789")


def describe_page(page):
    """Return what a page says to people."""
    return " ".join([page.reason, *(misfit.why for misfit in page.misfits)])


@pytest.mark.parametrize("secret", [SECRET.key, SECRET.secret, "SECRETSECRET0123456789%2FABCDEF"])
def test_no_part_of_a_key_is_left_where_a_text_is_cut(secret):
    for before in range(3, 210, 5):
        said = "x" * before + secret
        for body in (
            {"error": said, "rows": []},
            {"rows": [{"day": "2026-11-02", "rate": said}]},
            {"rows": [{"day": said, "rate": 1}]},
            said.encode(),
        ):
            page = read(body, key=SECRET, signs={"failed": ["error", "contains(@, 'xxx') && @"]})
            assert page.outcome is AnswerStatus.FAILED
            assert not any(secret[at : at + 6] in describe_page(page) for at in range(len(secret) - 5))


def test_a_key_that_is_named_as_an_encoding_is_hidden():
    body = b'<?xml version="1.0" encoding="%b"?><all/>' % SECRET.secret.encode()
    page = read(body, key=SECRET, format="xml", records="all.row")
    assert page.reason == "no xml: unknown encoding: KEY"


def test_a_next_page_whose_address_is_too_long_is_not_followed():
    rows = {"rows": [{"day": "2026-11-02", "rate": 1}]}
    paging = {"next": "next", "param": "page"}
    assert read(rows | {"next": "x" * MAX_NEXT_PAGE}, paging=paging).outcome is AnswerStatus.OK
    page = read(rows | {"next": "x" * (MAX_NEXT_PAGE + 1)}, paging=paging)
    assert (page.outcome, page.next_page) == (AnswerStatus.FAILED, None)


@pytest.mark.parametrize("symbol", ["", "\x1b[2J", "A B", "A" * 41, "'; DROP", 5, "é"])
def test_a_symbol_that_a_source_gives_must_be_one(symbol):
    question = Question("EUR/USD", AssetClass.FOREX, RecordKind.QUOTES, START, START)
    fields = {"price": {"path": "rate"}, "symbol": {"path": "name"}}
    document = {"rows": [{"rate": 1, "name": symbol}, {"rate": 2, "name": "SPXW261218C00600000"}]}
    page = read(document, question, kind="quotes", fields=fields, missing=[])
    assert [each.symbol for each in page.records] == ["SPXW261218C00600000"]
    assert [misfit.field for misfit in page.misfits] == ["symbol"]


def test_no_more_misfits_are_kept_than_people_read():
    page = read({"rows": [{"day": "x", "rate": 1}] * 101})
    assert (page.outcome, len(page.misfits)) == (AnswerStatus.FAILED, 100)


@pytest.mark.parametrize(
    ("value", "form", "zone", "told"),
    [
        (1793498584, "epoch_s", "UTC", "2026-11-01T02:03:04+00:00"),
        ("1793498584000", "epoch_ms", "UTC", "2026-11-01T02:03:04+00:00"),
        (1793498584.5, "epoch_s", "UTC", "2026-11-01T02:03:04.500000+00:00"),
        (1793498584000000001, "epoch_ns", "UTC", "2026-11-01T02:03:04+00:00"),
        ("2026-11-01T02:03:04+02:00", "iso", "UTC", "2026-11-01T00:03:04+00:00"),
        ("2026-11-20 09:30", "%Y-%m-%d %H:%M", "America/New_York", "2026-11-20T14:30:00+00:00"),
        ("2026-07-20 09:30", "%Y-%m-%d %H:%M", "America/New_York", "2026-07-20T13:30:00+00:00"),
        ("2026-Q4", "period", "UTC", "2026-10-01T00:00:00+00:00"),
        ("2026M11", "period", "UTC", "2026-11-01T00:00:00+00:00"),
        ("2026", "period", "UTC", "2026-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_read_in_the_zone_of_its_source(value, form, zone, told):
    millis = read_time(value, FieldRule(path="x", format=form, zone=zone))
    assert datetime.fromtimestamp(millis / 1000, UTC).isoformat() == told


@pytest.mark.parametrize(
    "value", [None, True, "", "yesterday", [], {}, -(10**20), 10**30, float("inf"), "9" * 400]
)
@pytest.mark.parametrize("form", ["epoch_s", "epoch_ns", "iso", "period", "%Y-%m-%d"])
def test_what_is_no_time_is_a_misfit(value, form):
    with pytest.raises(MisfitError):
        read_time(value, FieldRule(path="x", format=form))


def read_hour(**row):
    question = Question("EUR/USD", AssetClass.FOREX, RecordKind.BARS, START, START, "1h")
    fields = {name: {"path": name} for name in ("open", "high", "low", "close")}
    fields["start"] = {"path": "t", "format": "epoch_s"}
    rows = [{"t": 1793498400, "open": 1, "high": 2, "low": 0.5, "close": 1.5, **row}]
    return read({"rows": rows}, question, kind="bars", timeframes={"1h": "1h"}, fields=fields, stamp="close")


def test_a_bar_that_is_stamped_by_its_close_begins_a_timeframe_earlier():
    assert read_hour().records == (Bar("EUR/USD", "1h", 1793494800000, 1, 2, 0.5, 1.5),)


def test_a_bar_whose_close_is_a_hair_above_its_high_has_that_high():
    (bar,) = read_hour(close=2.00001).records
    assert (bar.high, bar.close) == (2.00001, 2.00001)


def test_a_price_that_was_kept_in_single_precision_is_the_decimal_that_it_was():
    (bar,) = read_hour(open=577.969970703125, high=600.0).records
    assert bar.open == 577.97


HUGE = 19_800_000
"""The size of a document that is within the limit of bytes."""
TOO_MANY_VALUES = {
    "json": (b'{"results":[', b"{},", b"{}]}"),
    "xml": (b"<feed>", b"<entry/>", b"</feed>"),
    "csv": (b"DATE,X\n", b"1,2\n", b""),
}
"""How such a document begins, what it repeats, and how it ends."""


def test_a_minute_of_kraken_in_which_nobody_traded_has_no_vwap():
    kraken = shipped_catalog()["kraken"]
    row = [1_795_185_000, "91000.1", "91000.1", "91000.1", "91000.1", "0.0", "0.00000000", 0]
    body = orjson.dumps({"error": [], "result": {"XXBTZUSD": [row], "last": row[0]}})
    start = datetime(2026, 11, 20, tzinfo=UTC)
    question = Question("BTC/USD", AssetClass.CRYPTO, RecordKind.BARS, start, start, "1m")
    (bar,) = read_page(kraken, kraken.serves["bars"], question, body).records
    assert (bar.vwap, bar.volume, bar.trades) == (None, 0.0, 0)


@pytest.mark.parametrize(
    ("source", "endpoint"), [("massive", "bars"), ("us_treasury", "yields"), ("bank_of_england", "series")]
)
def test_a_document_with_too_many_values_is_refused_before_it_is_parsed(source, endpoint, monkeypatch):
    """Parsed, each of them would take hundreds of megabytes and seconds."""
    found = shipped_catalog()[source]
    rules = found.serves[endpoint]
    for parser in ("orjson.loads", "xmltodict.parse", "csv.DictReader"):
        monkeypatch.setattr(f"services.sources.catalog.mapping.{parser}", None)
    end = datetime(2026, 11, 24, tzinfo=UTC)
    timeframe = next(iter(rules.timeframes), "")
    question = Question("US.10Y", rules.assets[0], rules.kind, end - timedelta(days=5), end, timeframe)
    head, value, tail = TOO_MANY_VALUES[rules.format]
    page = read_page(found, rules, question, head + value * (HUGE // len(value)) + tail)
    assert (page.outcome, page.reason) == (
        AnswerStatus.FAILED,
        f"no {rules.format}: more than 1000000 values",
    )


def test_attributes_of_xml_are_counted_too(monkeypatch):
    monkeypatch.setattr(mapping, "MAX_VALUES", 1000)
    for count, reason in ((1000, "no rows"), (1001, "no xml: more than 1000 values")):
        body = b"<all>" + b"<x " + b" ".join(b'a%d=""' % number for number in range(count - 3)) + b"/></all>"
        assert read(body, format="xml", records="all.row").reason == reason


@pytest.mark.parametrize("mark", [b"\r", b"\x0b", b"\x1c", "\x85".encode(), "\u2028".encode()])
def test_only_a_line_feed_ends_a_row_of_a_csv(mark):
    """Others are not counted, so their rows would be without a bound."""
    body = b"day,rate\n2026-11-02,1" + (mark + b"ab") * 5
    page = read(body, format="csv", records="@")
    assert (page.outcome, len(page.misfits) <= 1) == (AnswerStatus.FAILED, True)
    page = read(b"day,rate\r\n2026-11-02,1\r\n2026-11-03,2\r\n", format="csv", records="@")
    assert values(page) == [("2026-11-02", 1), ("2026-11-03", 2)]


def test_fifty_thousand_bars_are_not_too_many_values():
    """This is the fullest answer that a source gives."""
    row = {"t": 1_795_000_020_000, "o": 1.5, "h": 2.5, "l": 1.25, "c": 2.0, "v": 100.0, "vw": 1.7, "n": 12}
    bars = shipped_catalog()["massive"].serves["bars"]
    assert bars.limit == 50_000
    document = parse_document(bars, orjson.dumps({"results": [row] * bars.limit}))
    assert document["results"][-1] == row


def test_each_value_that_a_period_had_is_kept_and_of_those_that_were_known_at_once_the_later():
    question = replace(QUESTION, end=START + timedelta(days=2))
    start_ms, known_ms = round(1000 * START.timestamp()), round(1000 * START.timestamp()) + 40 * DAY_MS
    revised = Observation("US.UNRATE", start_ms, 3.7, known_ms + 30 * DAY_MS)
    again, printed = (Observation("US.UNRATE", start_ms, value, known_ms) for value in (3.9, 3.8))
    before = Observation("US.UNRATE", start_ms - DAY_MS, 3.6, known_ms)
    assert keep_asked(question, [revised, again, before, printed]) == (printed, revised)
