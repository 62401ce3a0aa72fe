"""What every source says of the market, read by the product's rules without a network."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.records import DAY_MS, TIMEFRAME_SEC, RecordKind
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.mapping import keep_asked, read_page
from services.sources.catalog.request import ApiKey, Question, make_request
from support.market_prices import EARLY_CLOSE_WEEK, Market
from support.market_shapes import SHAPES, Asked
from support.market_view import MarketView, Vice, ViceKind

MARKET = Market(EARLY_CLOSE_WEEK)
VICES_OF_DATA = list(ViceKind)[list(ViceKind).index(ViceKind.FROZEN) :]
KEY = ApiKey("a-key", "a-secret")
SHORT = {"1m", "5m", "15m", "30m"}
EXTRAS = {
    **dict.fromkeys(("kraken", "alpaca", "massive"), ("volume", "vwap", "trades")),
    "binance": ("volume", "trades"),
    **dict.fromkeys(("oanda", "cboe"), ()),
}
"""What a source has of a bar beside its four prices; the volume, where it is not said here."""


def served(name):
    """What a source serves of this market: endpoints, symbols of each class, and timeframes."""
    source = shipped_catalog()[name]
    for endpoint in source.serves.values():
        if endpoint.kind is RecordKind.ACTIONS:  # nothing happens to the shares of this market
            continue
        known = MARKET.series if endpoint.kind is RecordKind.OBSERVATIONS else MARKET.instruments
        for asset in sorted(endpoint.assets):
            rule = source.symbol_rule(endpoint, asset)
            spelled = (each for each in known.values() if each.asset is asset and rule.spell(each.symbol))
            for each in [*spelled][:1]:
                for timeframe in endpoint.timeframes or ("",):
                    if timeframe not in {"1w", "1mo"}:
                        yield source, endpoint, each.symbol, asset, timeframe


SERVED = [each for name in sorted(SHAPES) for each in served(name)]


def ask_shape(source, endpoint, question, view):
    """The page that a source's answer is read as, or None for an answer that is no document."""
    request = make_request(source, endpoint, question).with_key(source, KEY)
    parts = urlsplit(request.url)
    path = parts.path.removeprefix(urlsplit(source.base_url).path)
    query = dict([*parse_qsl(parts.query), *request.params])
    headers = {name.lower(): value for name, value in request.headers}
    answer = SHAPES[source.name].answer(view, Asked(unquote(path), query, headers))
    return read_page(source, endpoint, question, answer.body) if answer.status == 200 else None


def ask_at(now_ms, case):
    """A question about the time before."""
    _, endpoint, symbol, asset, timeframe = case
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    span = timedelta(days=300) if endpoint.kind is RecordKind.OBSERVATIONS else timedelta(days=3)
    return Question(
        symbol,
        asset,
        endpoint.kind,
        now - (timedelta(hours=4) if timeframe in SHORT else span),
        now,
        timeframe,
    )


def expect(source, endpoint, question, now_ms):
    """What the market had, with what the source says of it."""
    view = MarketView(MARKET, now_ms)
    if question.kind is RecordKind.OBSERVATIONS:
        return view.find_observations(question.symbol, round(question.start.timestamp() * 1000), now_ms)
    extras, found = EXTRAS.get(source.name, ("volume",)), []
    for bar in MARKET.find_known(question.symbol, question.timeframe, now_ms):
        said = {name: getattr(bar, name) if name in extras else None for name in ("volume", "vwap", "trades")}
        if source.name in {"yahoo", "finnhub"}:
            said["volume"] = bar.volume or 0.0  # they have a 0 where there is none
        if "volume" not in endpoint.fields or question.asset in endpoint.without_volume:
            said["volume"] = None
        at_ms = bar.start_ms
        if question.timeframe == "1d" and source.name in {"yahoo", "finnhub"}:
            at_ms = view.find_opening(bar) if source.name == "yahoo" else at_ms // DAY_MS * DAY_MS
        is_known = source.name != "oanda" or bar.start_ms + 1000 * TIMEFRAME_SEC[bar.timeframe] <= now_ms
        if is_known and question.start.timestamp() * 1000 <= at_ms < now_ms:
            found.append(replace(bar, start_ms=at_ms, **said))
    return found


@pytest.mark.slow
def test_what_every_source_says_is_what_the_market_had():
    now_ms = MARKET.begin_ms + 2 * DAY_MS + 16 * 3_600_000 + 20_000  # a Wednesday, 11:00 in New York
    for case in SERVED:
        source, endpoint, symbol, _, timeframe = case
        question = ask_at(now_ms, case)
        page = ask_shape(source, endpoint, question, MarketView(MARKET, now_ms))
        name = f"{source.name} {symbol} {endpoint.kind} {timeframe}"
        assert page is not None, name
        assert (page.outcome, page.misfits) == (AnswerStatus.OK, ()), name
        kept = keep_asked(question, page.records)
        if endpoint.kind is RecordKind.QUOTES:
            [quote], true = kept, MarketView(MARKET, now_ms).find_quote(symbol)
            assert abs(quote.price - true.price) < 1e-6, name  # some say bid and ask only
            assert {quote.bid, quote.ask} <= {true.bid, true.ask, None}, name
            assert abs(quote.at_ms - true.at_ms) < 1000, name
        else:
            wanted = expect(source, endpoint, question, now_ms)
            assert list(kept) == wanted[-len(kept) :], name
            assert len(kept) >= min(len(wanted), 100) > 0, name
    assert {source.name for source, *_ in SERVED} == set(SHAPES)
    assert {endpoint.format for _, endpoint, *_ in SERVED} == {"json", "csv", "xml"}
    assert {endpoint.kind for _, endpoint, *_ in SERVED} == set(RecordKind) - {RecordKind.ACTIONS}


@given(
    case=st.sampled_from(SERVED),
    kinds=st.sets(st.sampled_from(VICES_OF_DATA), min_size=1, max_size=4),
    minute=st.integers(1, 7 * 1440),
    every=st.integers(1, 20),
    hours=st.integers(-24, 24),
)
def test_no_vice_of_data_makes_a_document_that_breaks_the_reader(case, kinds, minute, every, hours):
    source, endpoint, symbol, *_ = case
    now_ms = MARKET.begin_ms + minute * 60_000 - 17_000
    view = MarketView(MARKET, now_ms, [Vice(kind, every=every, hours=hours) for kind in kinds])
    question = ask_at(now_ms, case)
    page = ask_shape(source, endpoint, question, view)
    if page is None:
        return
    is_known = endpoint.kind is not RecordKind.QUOTES or view.find_quote(symbol) is not None
    # a close that is no number is set aside with its row alone
    spoiled = [each for each in page.misfits if ViceKind.NOT_A_NUMBER in kinds and "not a number" in each.why]
    is_read = page.outcome in (AnswerStatus.OK, AnswerStatus.EMPTY) or (spoiled and not page.records)
    assert is_read or not is_known, page.reason
    assert list(page.misfits) == spoiled or not is_known, (
        "a quote of nothing that was traded yet has no field"
    )
    if endpoint.kind is not RecordKind.QUOTES:
        starts = [each.start_ms for each in keep_asked(question, page.records)]
        assert starts == sorted(set(starts))


def test_a_source_has_no_records_of_an_unknown_symbol():
    view = MarketView(MARKET, MARKET.end_ms - 1)
    asked_for = {
        "AAPL": "ZZZZ",
        "SPY": "ZZZZ",
        "BTC/USD": "QQQ/USD",
        "BTC/USDT": "QQQ/USDT",
        "EUR/USD": "EUR/NOK",
    }
    tried = set()
    for source, endpoint, symbol, asset, timeframe in SERVED:
        unknown = asked_for.get(symbol)
        if unknown and source.symbol_rule(endpoint, asset).spell(unknown) is not None:
            page = ask_shape(
                source, endpoint, ask_at(MARKET.end_ms, (source, endpoint, unknown, asset, timeframe)), view
            )
            assert page is None or page.records == (), source.name
            tried.add(source.name)
    assert tried >= set(SHAPES) - {
        "bank_of_england",
        "cboe",
        "fred",
        "us_treasury",
    }  # they have lists of symbols
