"""Every source of the catalogue, held to a sample of each answer that it gives.

The samples are of our own making, in the shape that the source's pages describe. `samples/<source>.toml` says
what is asked, at which address, and what must come out of `samples/<source>.<endpoint>.<format>`.
"""

import json
import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from marketswarm.market.records import AssetClass, RecordKind
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import FOLDER, CatalogError, load_catalog, load_source
from services.sources.catalog.mapping import REFUSAL_SIGNS, SIGN_OUTCOMES, read_page, read_refusal
from services.sources.catalog.request import ApiKey, Question, make_request
from services.sources.catalog.source import AuthPlace

SAMPLES = Path(__file__).with_name("samples")
CATALOG = load_catalog()
ENDPOINTS = [(name, endpoint) for name, source in CATALOG.items() for endpoint in source.serves]
KEY = ApiKey("the-key", "the-secret")
WITHOUT_ROWS = {"json": b"[]", "csv": b""}
OTHER_SHAPES = (
    *(b"", b"null", b"[]", b"{}", b"<html>busy</html>", b"1", b'"x"', b"\xff"),
    *(b'{"maintenance": true}', b'{"data": {"rows": null}, "results": 5}'),
)
SAID_BY_A_SIGN = ("unknown symbol", "no trades")
"""The reasons of those sources that answer `{}` or `[]` where they have nothing."""


@cache
def expected(name):
    return tomllib.loads((SAMPLES / f"{name}.toml").read_text(encoding="utf-8"))


def question_of(source, endpoint, told):
    start, end = (datetime.fromisoformat(told[at]).astimezone(UTC) for at in ("start", "end"))
    return Question(
        told["symbol"],
        AssetClass(told["asset"]),
        source.serves[endpoint].kind,
        start,
        end,
        told.get("timeframe", ""),
    )


def as_told(record):
    """A record as the samples' files write it: times as text, and without what is None."""
    told = {}
    for name in record.__slots__:
        value = getattr(record, name)
        if value is not None:
            told[name] = (
                datetime.fromtimestamp(value / 1000, UTC).isoformat().replace("+00:00", "Z")
                if name.endswith("_ms")
                else value
            )
    return told


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
def test_a_sample_of_each_answer_is_read_whole_and_right(name, endpoint):
    source, told = CATALOG[name], expected(name)[endpoint]
    body = (SAMPLES / f"{name}.{endpoint}.{source.serves[endpoint].format}").read_bytes()
    page = read_page(source, source.serves[endpoint], question_of(source, endpoint, told), body)
    assert (page.outcome, page.misfits) == (AnswerStatus.OK, ()), page.reason
    assert (len(page.records), page.missing) == (told["records"], told.get("missing", 0))
    assert as_told(page.records[0]) == told["first"]
    assert as_told(page.records[-1]) == told["last"]
    assert page.next_page == told.get("next_page")


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
def test_the_address_is_as_documented_and_the_key_is_only_in_what_is_sent(name, endpoint):
    source, told = CATALOG[name], expected(name)[endpoint]
    request = make_request(source, source.serves[endpoint], question_of(source, endpoint, told))
    assert request.describe() == told["url"]
    sent = request.with_key(source, KEY)
    assert "the-key" not in repr(request) + request.describe()
    assert (sent == request) == (source.auth.place is AuthPlace.NONE)
    assert all("\x00" not in text for text in (sent.url, *(part for pair in sent.params for part in pair)))


@pytest.mark.parametrize(
    ("name", "endpoint", "sign"),
    [
        (name, endpoint, sign)
        for name, endpoint in ENDPOINTS
        for sign in expected(name)[endpoint].get("signs", {})
    ],
)
def test_an_answer_that_is_none_says_which_it_is(name, endpoint, sign):
    source, told = CATALOG[name], expected(name)[endpoint]
    body = told["signs"][sign].encode()
    page = read_page(source, source.serves[endpoint], question_of(source, endpoint, told), body)
    assert (page.outcome, page.records) == (SIGN_OUTCOMES[sign], ())
    if sign in REFUSAL_SIGNS:
        refusal = read_refusal(
            source, source.serves[endpoint], question_of(source, endpoint, told), 400, body
        )
        assert refusal.outcome is SIGN_OUTCOMES[sign]


OBSERVED = [
    (name, endpoint) for name, endpoint in ENDPOINTS if CATALOG[name].serves[endpoint].kind == "observations"
]


@pytest.mark.parametrize(("name", "endpoint"), OBSERVED)
def test_the_date_of_an_observation_is_the_same_time_from_each_source(name, endpoint):
    """Otherwise an archive has a row of each source for one day."""
    told = expected(name)[endpoint]
    assert {each["start_ms"][10:] for each in (told["first"], told["last"])} == {"T00:00:00Z"}


def test_a_file_whose_observations_have_a_zone_is_refused(tmp_path):
    path = tmp_path / "fred.toml"
    text = (FOLDER / "fred.toml").read_text(encoding="utf-8")
    zoned = text.replace('format = "period" }', 'format = "period", zone = "America/New_York" }')
    assert zoned != text
    path.write_text(zoned, encoding="utf-8")
    with pytest.raises(CatalogError, match="midnight of UTC"):
        load_source(path)


DENIED = [(name, endpoint) for name, endpoint in ENDPOINTS if CATALOG[name].serves[endpoint].signs.denied]


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
@pytest.mark.parametrize("status", [402, 403])
def test_what_the_plan_of_a_key_does_not_have_is_refused_and_the_source_is_well(name, endpoint, status):
    source, told = CATALOG[name], expected(name)[endpoint]
    question, body = question_of(source, endpoint, told), b'{"message": "available starting with Pro"}'
    page = read_refusal(source, source.serves[endpoint], question, status, body)
    has_plans = source.auth.place is not AuthPlace.NONE
    assert page.outcome is (AnswerStatus.REFUSED if has_plans else AnswerStatus.FAILED)
    assert read_refusal(source, source.serves[endpoint], question, 401, body).outcome is AnswerStatus.FAILED


@pytest.mark.parametrize(("name", "endpoint"), DENIED)
def test_a_key_that_is_wrong_is_a_failure_of_its_source_with_any_status(name, endpoint):
    source, told = CATALOG[name], expected(name)[endpoint]
    body = told["signs"]["denied"].encode()
    for status in (400, 401, 402, 403):
        page = read_refusal(
            source, source.serves[endpoint], question_of(source, endpoint, told), status, body
        )
        assert page.outcome is AnswerStatus.FAILED


@pytest.mark.parametrize("endpoint", ["minute_bars", "short_bars", "hour_bars", "day_bars"])
def test_a_time_before_the_first_bar_of_yahoo_is_empty_and_other_bad_requests_are_refused(endpoint):
    source = CATALOG["yahoo"]
    question = question_of(source, endpoint, expected("yahoo")[endpoint])
    said = "Data doesn't exist for startDate = 1565740800, endDate = 1596067200"
    for told, outcome in ((said, AnswerStatus.EMPTY), ("Invalid input", AnswerStatus.REFUSED)):
        error = {"code": "Bad Request", "description": told}
        body = json.dumps({"chart": {"result": None, "error": error}}).encode()
        assert read_refusal(source, source.serves[endpoint], question, 400, body).outcome is outcome


@pytest.mark.parametrize("name", CATALOG)
def test_each_sign_of_a_file_has_a_sample(name):
    for endpoint, rules in CATALOG[name].serves.items():
        signs = {sign for sign in SIGN_OUTCOMES if getattr(rules.signs, sign)}
        assert signs <= set(expected(name)[endpoint].get("signs", {})), endpoint


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
def test_a_document_of_another_shape_is_a_failure_and_never_no_records(name, endpoint):
    source = CATALOG[name]
    question, rules = question_of(source, endpoint, expected(name)[endpoint]), source.serves[endpoint]
    for body in OTHER_SHAPES:
        page = read_page(source, rules, question, body)
        assert page.records == (), body
        if body != WITHOUT_ROWS.get(rules.format) and page.reason not in SAID_BY_A_SIGN:
            assert page.outcome is AnswerStatus.FAILED, body


def test_there_are_files_of_many_sources_over_all_classes():
    assert {
        asset for source in CATALOG.values() for rules in source.serves.values() for asset in rules.assets
    } == set(AssetClass)
    assert {rules.kind for source in CATALOG.values() for rules in source.serves.values()} == set(RecordKind)


def test_no_sample_is_left_of_a_source_that_is_gone():
    wanted = {f"{name}.toml" for name in CATALOG} | {
        f"{name}.{endpoint}.{CATALOG[name].serves[endpoint].format}" for name, endpoint in ENDPOINTS
    }
    assert {path.name for path in SAMPLES.iterdir()} == wanted
    assert FOLDER.is_dir()


@pytest.mark.parametrize(
    ("key", "value"),
    [("url", "ws://x.example"), ("url", "wss://x.example/"), ("protocol", "morse"), ("assets", [])],
)
def test_a_stream_of_which_a_file_says_nonsense_is_refused(tmp_path, key, value):
    stream = {"protocol": "binance_klines", "url": "wss://x.example", "assets": ["crypto"], key: value}
    path = tmp_path / "binance.toml"
    text = (FOLDER / "binance.toml").read_text(encoding="utf-8")
    lines = "\n".join(f"{name} = {json.dumps(each)}" for name, each in stream.items())
    path.write_text(re.sub(r"\[stream\]\n(.+\n)+", f"[stream]\n{lines}\n", text), encoding="utf-8")
    with pytest.raises(CatalogError, match=f"stream.{key}"):
        load_source(path)
