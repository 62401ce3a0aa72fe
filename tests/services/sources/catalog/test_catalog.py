"""Every source of the catalogue, held to a sample of each answer that it gives, and to its own limits."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.market.records import (
    SOURCE_TIMEFRAMES,
    TIMEFRAME_SEC,
    Adjustment,
    AssetClass,
    RecordKind,
    VolumeKind,
)
from services.sources.access.client import DAY_SEC, WAITED_FOR_SEC
from services.sources.cascade.series import OVERLAP_BARS, REVISED_DAYS
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import FOLDER, CatalogError, load_source, shipped_catalog
from services.sources.catalog.mapping import REFUSAL_SIGNS, SIGN_OUTCOMES, read_page, read_refusal
from services.sources.catalog.request import ApiKey, Question, make_request, split_question
from services.sources.catalog.source import AuthPlace
from services.sources.settings import ACTION_DAYS, DAYS_AN_ACTION, HISTORY_DAYS, OBSERVATION_DAYS, QUOTE_DAYS
from support.catalog_samples import SAMPLES, assert_all, read_limited, read_samples

CATALOG = shipped_catalog()
KEY = ApiKey("the-key", "the-secret")
WITHOUT_ROWS = {"json": b"[]", "csv": b""}
OTHER_SHAPES = (
    *(b"", b"null", b"[]", b"{}", b"<html>busy</html>", b"1", b'"x"', b"\xff"),
    *(b'{"maintenance": true}', b'{"data": {"rows": null}, "results": 5}'),
)
SAID_BY_A_SIGN = ("unknown symbol", "no trades")
"""The reasons of those sources that answer `{}` or `[]` where they have nothing."""
PRO_PLAN = b'{"message": "available starting with Pro"}'


def as_expected(record):
    """A record as the samples' files write it: times as text, and without what is None."""
    values = {name: value for name in record.__slots__ if (value := getattr(record, name)) is not None}
    times = {
        name: datetime.fromtimestamp(value / 1000, UTC).isoformat().replace("+00:00", "Z")
        for name, value in values.items()
        if name.endswith("_ms")
    }
    return values | times


def refuse(sample, status, body):
    return read_refusal(sample.source, sample.rules, sample.question, status, body).outcome


def sample_is_read_whole_and_right(sample):
    expected = sample.expected
    page = read_page(sample.source, sample.rules, sample.question, sample.body)
    assert (page.outcome, page.misfits) == (AnswerStatus.OK, ()), page.reason
    assert (len(page.records), page.missing) == (expected["records"], expected.get("missing", 0))
    assert as_expected(page.records[0]) == expected["first"]
    assert as_expected(page.records[-1]) == expected["last"]
    assert page.next_page == expected.get("next_page")


def address_is_as_documented_and_the_key_is_only_in_what_is_sent(sample):
    request = make_request(sample.source, sample.rules, sample.question)
    assert request.describe() == sample.expected["url"]
    sent = request.with_key(sample.source, KEY)
    assert "the-key" not in repr(request) + request.describe()
    assert (sent == request) == (sample.source.auth.place is AuthPlace.NONE)
    assert all("\x00" not in text for text in (sent.url, *(part for pair in sent.params for part in pair)))


def each_sign_of_the_file_has_a_sample_and_says_what_the_answer_is(sample):
    signs = sample.expected.get("signs", {})
    assert {sign for sign in SIGN_OUTCOMES if getattr(sample.rules.signs, sign)} <= set(signs)
    for sign, text in signs.items():
        page = read_page(sample.source, sample.rules, sample.question, text.encode())
        assert (page.outcome, page.records) == (SIGN_OUTCOMES[sign], ()), sign
        if sign in REFUSAL_SIGNS:
            assert refuse(sample, 400, text.encode()) is SIGN_OUTCOMES[sign], sign


def limit_is_a_limit_whatever_the_status_is(sample):
    for text in read_limited(sample.source.name):
        page = read_page(sample.source, sample.rules, sample.question, text.encode())
        assert (page.outcome, page.records) == (AnswerStatus.LIMITED, ()), text
        for status in (400, 402, 403, 500, 503):
            assert refuse(sample, status, text.encode()) is AnswerStatus.LIMITED, (status, text)


def observation_is_dated_at_midnight_of_utc(sample):
    """Otherwise an archive has a row of each source for one day."""
    if sample.rules.kind is RecordKind.OBSERVATIONS:
        dates = {sample.expected[at]["start_ms"][10:] for at in ("first", "last")}
        assert dates == {"T00:00:00Z"}


def refusal_of_a_plan_leaves_the_source_well_and_that_of_a_key_does_not(sample):
    has_plans = sample.source.auth.place is not AuthPlace.NONE
    for status in (402, 403):
        outcome = refuse(sample, status, PRO_PLAN)
        assert outcome is (AnswerStatus.REFUSED if has_plans else AnswerStatus.FAILED), status
    assert refuse(sample, 401, PRO_PLAN) is AnswerStatus.FAILED
    if sample.rules.signs.denied:
        for status in (400, 401, 402, 403):
            body = sample.expected["signs"]["denied"].encode()
            assert refuse(sample, status, body) is AnswerStatus.FAILED, status


def document_of_another_shape_is_a_failure_and_never_no_records(sample):
    for body in OTHER_SHAPES:
        page = read_page(sample.source, sample.rules, sample.question, body)
        assert page.records == (), body
        if body != WITHOUT_ROWS.get(sample.rules.format) and page.reason not in SAID_BY_A_SIGN:
            assert page.outcome is AnswerStatus.FAILED, body


@pytest.mark.parametrize("name", CATALOG)
def test_a_source_is_asked_and_read_as_its_pages_describe(name):
    assert_all(
        ((sample.endpoint, sample) for sample in read_samples(name)),
        sample_is_read_whole_and_right,
        address_is_as_documented_and_the_key_is_only_in_what_is_sent,
        each_sign_of_the_file_has_a_sample_and_says_what_the_answer_is,
        limit_is_a_limit_whatever_the_status_is,
        observation_is_dated_at_midnight_of_utc,
        refusal_of_a_plan_leaves_the_source_well_and_that_of_a_key_does_not,
        document_of_another_shape_is_a_failure_and_never_no_records,
    )


@pytest.mark.parametrize("name", CATALOG)
def test_a_file_says_how_its_limit_looks_or_why_nothing_tells_it(name):
    source, texts = CATALOG[name], read_limited(name)
    assert bool(source.limited) != bool(source.limited_by_status)
    if source.limited_by_status:
        assert texts == []
        assert "429" in source.limited_by_status
        return
    (sample, *_) = read_samples(name)
    for path in source.limited:  # each of them is needed for one of the documents
        alone = source.model_copy(update={"limited": (path,)})
        pages = [read_page(alone, sample.rules, sample.question, text.encode()) for text in texts]
        assert AnswerStatus.LIMITED in [page.outcome for page in pages], path


def test_a_time_before_the_first_bar_of_yahoo_is_empty_and_other_bad_requests_are_refused():
    said = "Data doesn't exist for startDate = 1565740800, endDate = 1596067200"
    bars = [sample for sample in read_samples("yahoo") if sample.rules.kind is RecordKind.BARS]
    assert len(bars) == 5
    for sample in bars:
        for text, outcome in ((said, AnswerStatus.EMPTY), ("Invalid input", AnswerStatus.REFUSED)):
            error = {"code": "Bad Request", "description": text}
            body = json.dumps({"chart": {"result": None, "error": error}}).encode()
            assert refuse(sample, 400, body) is outcome, sample.endpoint


NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0)
HOUR_SEC = 3600


def count_parts(rules, timeframe, known_until=None):
    """The requests of a first load, or of one that knows a record, as the settings have it by default."""
    usual = {
        RecordKind.QUOTES: QUOTE_DAYS,
        RecordKind.OBSERVATIONS: OBSERVATION_DAYS,
        RecordKind.ACTIONS: ACTION_DAYS,
    }
    days = usual.get(rules.kind)
    start = NOW - timedelta(days=days or HISTORY_DAYS[timeframe])
    if known_until is not None and timeframe:
        start = max(start, known_until - OVERLAP_BARS * timedelta(seconds=TIMEFRAME_SEC[timeframe]))
    elif known_until is not None:
        start = max(start, known_until - timedelta(days=REVISED_DAYS))
    question = Question("X", rules.assets[0], rules.kind, start, NOW, timeframe, known_until)
    return len(split_question(rules, question, NOW))


def find_limits(source):
    """The narrower limits of a source: those without a key, if it has such. Only what is not waited for."""
    windows = (source.limits_without_key or source.limits).windows()
    return [(sec, count) for sec, count in windows if sec > WAITED_FOR_SEC]


def first_load_by_the_defaults_fits_the_limits(case):
    source, rules, timeframe = case
    parts = count_parts(rules, timeframe)
    for sec, count in find_limits(source):
        assert parts <= (count / 2 if sec >= DAY_SEC and parts > 1 else count), (sec, count)


def refresh_of_each_hour_fits_the_limits(case):
    source, rules, timeframe = case
    parts = count_parts(rules, timeframe, MIDNIGHT - timedelta(days=1))
    for sec, count in find_limits(source):
        assert parts <= count, (sec, count)
        if sec > HOUR_SEC:
            assert parts * sec / max(HOUR_SEC, rules.min_interval_sec) <= count, (parts, sec, count)


def test_a_first_load_and_the_hourly_refresh_fit_the_limits_of_each_source():
    cases = (
        (f"{name} {endpoint} {timeframe}", (source, rules, timeframe))
        for name, source in CATALOG.items()
        for endpoint, rules in source.serves.items()
        for timeframe in rules.timeframes or ("",)
        if timeframe in ("", *SOURCE_TIMEFRAMES)
    )
    assert_all(cases, first_load_by_the_defaults_fits_the_limits, refresh_of_each_hour_fits_the_limits)


PAGE_ROWS = {
    ("alpaca", "actions"): 1000,
    ("alpaca", "bars"): 10_000,
    ("alpaca", "crypto_bars"): 10_000,
    ("alpaca", "option_bars"): 10_000,
    ("deribit", "volatility_bars"): 1000,
    ("intrinio", "daily_bars"): 100,
    ("intrinio", "minute_bars"): 100,
    ("massive", "bars"): 50_000,
    ("massive", "day_bars"): 50_000,
    ("massive", "dividends"): 5000,
    ("massive", "splits"): 5000,
    ("massive", "yields"): 50_000,
    ("nasdaq_data_link", "table"): 10_000,
}
"""How many rows a page of each endpoint with pages has."""
OF_MINUTES = ("massive", "bars")
"""Its rows are the minutes of which its bars are made."""
LONGEST_DAYS = 40_000
"""The longest history that the truth may ask for."""


def longest_part_fits_the_pages(case):
    where, rules, timeframe = case
    start = NOW - timedelta(days=LONGEST_DAYS)
    question = Question("X", rules.assets[0], rules.kind, start, NOW, timeframe)
    longest_sec = max(
        (part.end - part.start).total_seconds() for part in split_question(rules, question, NOW)
    )
    usual_sec = DAY_SEC * (DAYS_AN_ACTION if rules.kind is RecordKind.ACTIONS else 1)
    row_sec = TIMEFRAME_SEC.get("1m" if where == OF_MINUTES else timeframe, usual_sec)
    rows = longest_sec // row_sec + 1  # both ends may count
    assert -(-rows // PAGE_ROWS[where]) <= rules.paging.max_pages, rows


def test_the_longest_part_of_a_question_fits_the_pages_that_are_read():
    """Otherwise all of them are read and thrown away, each time, as a failure of the source."""
    cases = [
        ((name, endpoint), rules, timeframe)
        for name, source in CATALOG.items()
        for endpoint, rules in source.serves.items()
        for timeframe in rules.timeframes or ("",)
        if rules.paging is not None
    ]
    assert {where for where, *_ in cases} == set(PAGE_ROWS)
    assert_all(((f"{case[0]} {case[2]}", case) for case in cases), longest_part_fits_the_pages)


def test_a_file_whose_observations_have_a_zone_is_refused(tmp_path):
    path = tmp_path / "fred.toml"
    text = (FOLDER / "fred.toml").read_text(encoding="utf-8")
    zoned = text.replace('format = "period" }', 'format = "period", zone = "America/New_York" }')
    assert zoned != text
    path.write_text(zoned, encoding="utf-8")
    with pytest.raises(CatalogError, match="midnight of UTC"):
        load_source(path)


@pytest.mark.parametrize(
    ("source", "asset", "symbol", "timeframe", "is_served"),
    [
        ("massive", AssetClass.STOCKS, "SPY", "1h", False),
        ("massive", AssetClass.STOCKS, "SPY", "15m", True),
        ("massive", AssetClass.FOREX, "EUR/USD", "4h", False),
        ("massive", AssetClass.FOREX, "EUR/USD", "1h", True),
        ("massive", AssetClass.CRYPTO, "BTC/USD", "4h", True),
        ("alpaca", AssetClass.STOCKS, "SPY", "4h", False),
        ("alpaca", AssetClass.CRYPTO, "BTC/USD", "1d", False),
        ("oanda", AssetClass.FOREX, "EUR/USD", "4h", True),
    ],
)
def test_bars_that_begin_where_none_of_ours_do_are_not_asked_for(source, asset, symbol, timeframe, is_served):
    found = CATALOG[source].find_endpoints(RecordKind.BARS, asset, symbol, timeframe)
    assert bool(list(found)) is is_served


def test_a_file_that_leaves_out_a_timeframe_that_it_does_not_have_is_refused(tmp_path):
    path = tmp_path / "massive.toml"
    text = (FOLDER / "massive.toml").read_text(encoding="utf-8")
    path.write_text(text.replace('forex = ["4h"]', 'forex = ["3h"]'), encoding="utf-8")
    with pytest.raises(CatalogError, match="3h: not of its timeframes"):
        load_source(path)


@pytest.mark.parametrize(
    ("name", "line", "instead", "why"),
    [
        ("tiingo", 'adjustment = "raw"\n', "", "adjustment: bars of stocks and dividends need it"),
        ("tiingo", 'adjustment = "raw"', 'adjustment = "some"', "adjustment"),
        (
            "fred",
            'kind = "observations"\n',
            'kind = "observations"\nadjustment = "raw"\n',
            "adjustment: of bars",
        ),
        (
            "kraken",
            'kind = "bars"\n',
            'kind = "bars"\nadjustment = "raw"\n',
            "adjustment: of bars of stocks and of dividends alone",
        ),
    ],
)
def test_a_file_says_of_its_bars_of_stocks_and_of_nothing_else_how_they_are_adjusted(
    tmp_path, name, line, instead, why
):
    path = tmp_path / f"{name}.toml"
    text = (FOLDER / path.name).read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, instead), encoding="utf-8")
    with pytest.raises(CatalogError, match=why):
        load_source(path)


@pytest.mark.parametrize(
    ("name", "line", "instead", "why"),
    [
        ("yahoo", 'ratio = { path = "numerator", divide_by = "denominator" }\n', "", "come in one document"),
        ("tiingo", "[serves.actions]\n", "[serves.actions]\nmax_days = 365\n", None),
        (
            "massive",
            'ratio = { path = "split_to", divide_by = "split_from" }\n',
            "",
            "have a ratio, an amount",
        ),
        ("massive", 'ex_day = { path = "execution_date", format = "period" }\n', "", "actions need ex_day"),
        ("tiingo", 'amount = { path = "divCash" }', 'value = { path = "divCash" }', "actions have no value"),
    ],
)
def test_a_file_whose_actions_are_no_whole_list_is_refused(tmp_path, name, line, instead, why):
    path = tmp_path / f"{name}.toml"
    text = (FOLDER / path.name).read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, instead), encoding="utf-8")
    if why is None:  # what is not divided by later splits may come in parts
        assert load_source(path).name == name
        return
    with pytest.raises(CatalogError, match=why):
        load_source(path)


def test_a_dividend_in_another_currency_than_the_prices_does_not_fit():
    for name in ("massive", "eodhd"):
        [sample] = [each for each in read_samples(name) if each.endpoint == "dividends"]
        body = sample.body.replace(b'"currency":"USD"', b'"currency":"CAD"', 1)
        page = read_page(sample.source, sample.rules, sample.question, body)
        assert (len(page.records), len(page.misfits)) == (sample.expected["records"] - 1, 1), name


def test_spin_offs_mergers_and_rights_are_those_of_the_share_itself_and_other_kinds_are_counted():
    [sample] = [each for each in read_samples("alpaca") if each.endpoint == "actions"]
    page = read_page(sample.source, sample.rules, sample.question, sample.body)
    found = {each.kind.value: each for each in page.records}
    rest = [(each.ex_day.isoformat(), each.new_symbol, each.ratio, each.amount)
            for each in (found["spin_off"], found["rights"], found["merger"])]  # fmt: skip
    assert rest == [
        ("2021-08-16", "SRM", 0.05, None),
        ("2021-09-16", "FB.RTWI", 1.0, None),
        ("2023-07-18", "FRBA", 0.7733, 7.8),
    ]
    assert (page.misfits, page.missing, page.unknown_actions) == ((), 0, {"unit_split": 1})


def test_a_share_that_has_the_name_of_its_newest_event_was_not_renamed():
    [sample] = [each for each in read_samples("massive") if each.endpoint == "renames"]
    body = sample.body.replace(b'"META"', b'"FB"').replace(b'"ticker":"FB"}', b'"ticker":"OLD"}', 0)
    page = read_page(sample.source, sample.rules, sample.question, body)
    assert (page.outcome, page.records) == (AnswerStatus.EMPTY, ())


def test_actions_are_asked_for_a_few_times_a_day_at_most():
    found = {
        (name, rules.min_interval_sec)
        for name, source in CATALOG.items()
        for rules in source.serves.values()
        if rules.kind is RecordKind.ACTIONS
    }
    assert {name for name, _ in found} == {"alpaca", "eodhd", "massive", "tiingo", "yahoo"}
    assert all(interval_sec >= 6 * HOUR_SEC for _, interval_sec in found)


def test_volumes_of_coins_that_are_in_dollars_are_left_out_and_those_of_others_are_not():
    """By a day's volume of 31 billion at a price of 91,000: there are 20 million bitcoin."""
    served = {
        (name, endpoint): rules.find_volume(AssetClass.CRYPTO)
        for name in ("yahoo", "eodhd", "fmp")
        for endpoint, rules in CATALOG[name].serves.items()
        if AssetClass.CRYPTO in rules.assets and rules.kind is RecordKind.BARS
    }
    assert len(served) == 7
    assert set(served.values()) == {VolumeKind.NONE}
    for name, symbol in (("yahoo", "quote"), ("eodhd", "quote"), ("fmp", "quote")):
        assert AssetClass.CRYPTO in CATALOG[name].serves[symbol].without_volume
    assert CATALOG["yahoo"].serves["day_bars"].find_volume(AssetClass.STOCKS) is VolumeKind.CONSOLIDATED


def test_a_volume_that_is_left_out_is_so_for_its_classes_alone():
    [sample] = [each for each in read_samples("yahoo") if each.endpoint == "quote"]
    assert read_page(sample.source, sample.rules, sample.question, sample.body).records[0].volume > 0
    coin = replace(sample.question, symbol="BTC/USD", asset=AssetClass.CRYPTO)
    page = read_page(sample.source, sample.rules, coin, sample.body)
    assert (page.outcome, page.records[0].volume) == (AnswerStatus.OK, None)


@pytest.mark.parametrize(
    ("asked", "dated"),
    [
        ("2026-11-20T15:00:00+00:00", "2026-11-20T15:00:00+00:00"),
        ("2026-11-20T21:00:01+00:00", "2026-11-20T21:00:00+00:00"),
        ("2026-11-21T12:00:00+00:00", "2026-11-20T21:00:00+00:00"),
    ],
)
def test_a_price_of_a_day_is_of_its_close_once_that_is_over_and_until_then_of_when_it_was_asked_for(
    asked, dated
):
    """Friday's price is not of Saturday, also if that is the first answer since a start."""
    [sample] = [each for each in read_samples("alpha_vantage") if each.endpoint == "quote"]
    question = replace(sample.question, end=datetime.fromisoformat(asked))
    [quote] = read_page(sample.source, sample.rules, question, sample.body).records
    assert quote.at_ms == 1000 * datetime.fromisoformat(dated).timestamp()
    assert sample.rules.is_untimed


def test_a_file_that_has_a_close_for_times_that_it_does_not_have_is_refused(tmp_path):
    path = tmp_path / "alpha_vantage.toml"
    text = (FOLDER / path.name).read_text(encoding="utf-8")
    line = next(each for each in text.splitlines() if "latest trading day" in each)
    path.write_text(text.replace(line, ""), encoding="utf-8")
    with pytest.raises(CatalogError, match="at_close: quotes with an at"):
        load_source(path)


def test_a_file_that_leaves_out_a_volume_that_it_does_not_have_is_refused(tmp_path):
    path = tmp_path / "yahoo.toml"
    text = (FOLDER / path.name).read_text(encoding="utf-8")
    line = 'volume = { path = "regularMarketVolume" }\n'
    assert line in text
    path.write_text(text.replace(line, ""), encoding="utf-8")
    with pytest.raises(CatalogError, match="without_volume: it has none"):
        load_source(path)


def test_the_time_of_a_quote_is_no_date():
    """The price of a day was not known when it began, and at one time only the first of them counts."""
    dates = [
        (name, endpoint)
        for name, source in CATALOG.items()
        for endpoint, rules in source.serves.items()
        if rules.kind is RecordKind.QUOTES and "at" in rules.fields
        if not rules.fields["at"].format.startswith(("epoch", "iso"))
        and "%H" not in rules.fields["at"].format
    ]
    assert dates == []


def test_no_day_of_a_stock_is_that_of_one_exchange_alone():
    """As a bar of a whole interval it would replace the day that is built of the minutes of all exchanges."""
    asked = [
        (name, endpoint)
        for name, source in CATALOG.items()
        for endpoint, rules in source.serves.items()
        if rules.kind is RecordKind.BARS and {"1d", "1w", "1mo"} & rules.timeframes.keys()
        if AssetClass.STOCKS in rules.assets and rules.find_volume(AssetClass.STOCKS) is VolumeKind.VENUE
    ]
    assert asked == []


def test_all_bars_of_cryptocompare_are_of_many_exchanges():
    timeframes = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
    kinds = [
        CATALOG["cryptocompare"].find_volume_kind(AssetClass.CRYPTO, "BTC/USD", each) for each in timeframes
    ]
    assert kinds == [VolumeKind.CONSOLIDATED] * len(timeframes)


def test_a_request_for_bars_of_stocks_asks_for_raw_prices_where_it_can():
    switches = {
        "alpaca": ("adjustment", "raw"),
        "alpha_vantage": ("adjusted", "false"),
        "fmp": ("nonadjusted", "true"),
        "marketdata_app": ("adjustsplits", "false"),
        "massive": ("adjusted", "false"),
        "twelve_data": ("adjust", "none"),
    }
    asked = {
        name: [
            rules.params.get(switches[name][0]) for rules in CATALOG[name].serves.values() if rules.adjustment
        ]
        for name in switches
    }
    assert all(switches[name][1] in found for name, found in asked.items()), asked
    adjusted = {
        (name, rules.adjustment.value)
        for name, source in CATALOG.items()
        for rules in source.serves.values()
        if rules.adjustment and rules.adjustment is not Adjustment.RAW
    }
    assert adjusted == {("finnhub", "splits"), ("stooq", "all"), ("tradier", "splits"), ("yahoo", "splits")}


@pytest.mark.parametrize(
    ("symbol", "spelled"),
    [
        ("FRED.BAMLC0A4CBBB", "BAMLC0A4CBBB"),
        ("US.BBB_SPREAD", "BAMLC0A4CBBB"),
        ("FRED.T10Y2Y", "T10Y2Y"),
        ("FRED.", None),
        ("FRED.gdp", None),
        ("FRED.A/B", None),
        ("FRED.GDP&api_key=1", None),
        ("FREDGDP", None),
        ("US.NOTHING", None),
    ],
)
def test_fred_is_asked_for_any_series_by_its_own_id_whose_form_is_right(symbol, spelled):
    assert CATALOG["fred"].symbols[AssetClass.ECONOMIC].spell(symbol) == spelled


def test_a_prefix_without_the_form_of_what_follows_is_refused(tmp_path):
    path = tmp_path / "fred.toml"
    text = (FOLDER / "fred.toml").read_text(encoding="utf-8")
    path.write_text(re.sub("^ids = .*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(CatalogError, match="prefix: goes with `ids`"):
        load_source(path)


def test_yahoo_is_asked_as_a_browser_asks():
    yahoo = CATALOG["yahoo"]
    now = datetime(2026, 11, 23, tzinfo=UTC)
    question = Question("SPY", AssetClass.STOCKS, RecordKind.QUOTES, now - timedelta(days=1), now)
    request = make_request(yahoo, yahoo.serves["quote"], question)
    assert dict(request.headers)["User-Agent"].startswith("Mozilla/5.0 ")


def test_oanda_is_asked_for_the_days_of_new_york_which_are_its_own():
    params = CATALOG["oanda"].serves["bars"].params
    assert not [name for name in params if "lignment" in name]


def test_there_are_files_of_many_sources_over_all_classes():
    assert {
        asset for source in CATALOG.values() for rules in source.serves.values() for asset in rules.assets
    } == set(AssetClass)
    assert {rules.kind for source in CATALOG.values() for rules in source.serves.values()} == set(RecordKind)


def test_no_sample_is_left_of_a_source_that_is_gone():
    wanted = {f"{name}.toml" for name in CATALOG} | {
        f"{name}.{endpoint}.{rules.format}"
        for name, source in CATALOG.items()
        for endpoint, rules in source.serves.items()
    }
    assert {path.name for path in SAMPLES.iterdir()} == wanted


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
