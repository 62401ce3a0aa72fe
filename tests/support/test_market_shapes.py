"""Every shape with every vice of its data, read by the product's rules without a network: nothing breaks."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.market.records import AssetClass, RecordKind
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.mapping import keep_asked, read_page
from services.sources.catalog.request import ApiKey, Question, make_request
from support.market_answers import Asked, NotServedError
from support.market_prices import EARLY_CLOSE_WEEK, Market, session_hours
from support.market_shapes import SHAPES
from support.market_view import MarketView, Vice, ViceKind

MARKET = Market(EARLY_CLOSE_WEEK)
VICES_OF_DATA = (
    ViceKind.FROZEN,
    ViceKind.LATE,
    ViceKind.PARTIAL,
    ViceKind.SPLIT,
    ViceKind.WRONG_ZONE,
    ViceKind.OFF_MINUTE,
    ViceKind.NEGATIVE,
    ViceKind.CROSSED,
    ViceKind.MISSING,
    ViceKind.DUPLICATED,
    ViceKind.UNORDERED,
)
KEY = ApiKey("a-key", "a-secret")


def served(name):
    """What a source serves of this market: endpoints, and a symbol and a timeframe to ask for."""
    source = shipped_catalog()[name]
    known = [(each.symbol, each.asset) for each in MARKET.instruments.values()]
    known += [(each.symbol, each.asset) for each in MARKET.series.values()]
    for endpoint in source.serves.values():
        for symbol, asset in known:
            is_known = symbol in (
                MARKET.series if endpoint.kind is RecordKind.OBSERVATIONS else MARKET.instruments
            )
            rule = source.symbol_rule(endpoint, asset)
            if is_known and asset in endpoint.assets and rule.spell(symbol) is not None:
                for timeframe in endpoint.timeframes or ("",):
                    if timeframe not in {"1w", "1mo"}:
                        yield source, endpoint, symbol, asset, timeframe


SERVED = [each for name in sorted(SHAPES) for each in served(name)]
NAMED = {f"{each[0].name} {each[2]} {each[1].kind} {each[4]}": each for each in SERVED}


def ask_shape(source, endpoint, question, view):
    """The page that a source's answer is read as, or None for an answer that is no document."""
    request = make_request(source, endpoint, question).with_key(source, KEY)
    parts = urlsplit(request.url)
    path = parts.path.removeprefix(urlsplit(source.base_url).path)
    query = dict([*parse_qsl(parts.query), *request.params])
    headers = {name.lower(): value for name, value in request.headers}
    try:
        answer = SHAPES[source.name].answer(view, Asked(unquote(path), query, headers))
    except NotServedError as error:
        answer = error.answer
    return read_page(source, endpoint, question, answer.body) if answer.status == 200 else None


@given(
    name=st.sampled_from(sorted(NAMED)),
    kinds=st.sets(st.sampled_from(VICES_OF_DATA), max_size=4),
    minute=st.integers(1, 7 * 1440),
    every=st.integers(1, 20),
    hours=st.integers(-24, 24),
)
def test_no_vice_of_data_makes_a_document_that_breaks_the_reader(name, kinds, minute, every, hours):
    source, endpoint, symbol, asset, timeframe = NAMED[name]
    now_ms = MARKET.begin_ms + minute * 60_000 - 17_000
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    view = MarketView(MARKET, now_ms, [Vice(kind, every=every, hours=hours) for kind in kinds])
    span = timedelta(hours=4) if timeframe in {"1m", "5m", "15m", "30m"} else timedelta(days=3)
    question = Question(symbol, asset, endpoint.kind, now - span, now, timeframe)
    page = ask_shape(source, endpoint, question, view)
    if page is None:
        return
    is_known = endpoint.kind is not RecordKind.QUOTES or view.find_quote(symbol) is not None
    assert page.outcome in (AnswerStatus.OK, AnswerStatus.EMPTY) or not is_known, page.reason
    assert page.misfits == ()
    kept = keep_asked(question, page.records)
    if endpoint.kind is not RecordKind.QUOTES:
        starts = [each.start_ms for each in kept]
        assert starts == sorted(set(starts))
    if not kinds and endpoint.kind is RecordKind.BARS:
        truth = {
            (bar.open, bar.high, bar.low, bar.close) for bar in MARKET.find_known(symbol, timeframe, now_ms)
        }
        assert {(bar.open, bar.high, bar.low, bar.close) for bar in kept} <= truth


def test_the_vices_of_data_are_tried_over_every_kind_of_record_and_asset():
    assert {endpoint.kind for _, endpoint, *_ in SERVED} == set(RecordKind)
    assert {asset for *_, asset, _ in SERVED} >= {
        AssetClass.STOCKS,
        AssetClass.FOREX,
        AssetClass.CRYPTO,
        AssetClass.ECONOMIC,
        AssetClass.VOLATILITY,
    }
    assert {source.name for source, *_ in SERVED} == set(SHAPES)
    assert {endpoint.format for _, endpoint, *_ in SERVED} == {"json", "csv", "xml"}
    assert {endpoint.layout for _, endpoint, *_ in SERVED} == {"rows", "columns", "by_key"}
    assert len(SERVED) > 100


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_an_unknown_symbol_has_the_answer_that_the_source_documents_for_it(name):
    """None of these is an answer with records, and none breaks the shape."""
    view = MarketView(MARKET, MARKET.end_ms - 1)
    day = session_hours("24x7", EARLY_CLOSE_WEEK)[0]
    asked_for = {"AAPL": "ZZZZ", "BTC/USD": "QQQ/USD", "BTC/USDT": "QQQ/USDT", "EUR/USD": "EUR/NOK"}
    tried = 0
    for source, endpoint, symbol, asset, timeframe in served(name):
        start = datetime.fromtimestamp(day / 1000, UTC)
        unknown = asked_for.get(symbol)
        if unknown and source.symbol_rule(endpoint, asset).spell(unknown) is not None:
            question = Question(unknown, asset, endpoint.kind, start, start + timedelta(hours=2), timeframe)
            page = ask_shape(source, endpoint, question, view)
            assert page is None or page.records == ()
            tried += 1
    assert tried or name in {"bank_of_england", "cboe", "fred", "us_treasury"}  # they have lists of symbols
