"""What a source has late, or corrects, is asked for while it may change. From stand-ins of sources."""

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.bus.stream_loss import LostSpan
from marketswarm.keys import MARKET_BARS, source_account_key
from services.market.records import Adjustment, AssetClass
from services.market.sessions import get_session
from services.sources.cascade.history import (
    REVISE_PAUSE_SEC,
    choose_filler,
    conclude_revision,
    find_holes,
    find_revision,
    is_restated,
)
from services.sources.cascade.loader import PUBLISHED_LATE_MS, LoadOutcome
from services.sources.cascade.state import (
    REVISE_EVERY_SEC,
    Attempt,
    HistoryAttempt,
    SeriesState,
    SourceFinding,
    SourceVerdict,
    needs_refresh,
)
from services.sources.cascade.store import SeriesStore
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.catalog.files import shipped_catalog
from support.rig.receiver import Answer
from support.scenes import sources as scene
from support.scenes.sources import SourcesMarket, answer_range_as_coinbase

COIN = replace(scene.COIN, timeframe="1h", history_days=4, max_age_sec=7200.0, sources=("coinbase",))
HOUR_MS = 3_600_000
LATE, WRONG = 40, 30
"""The hours before now whose bar comes late, and is corrected: long before the ten newest."""


class Vendor:
    """Coinbase, which lacks one hour and has a wrong one until it is `healed`."""

    def __init__(self):
        self.healed = False
        self.now = int(time.time())

    def __call__(self, request):
        rows = orjson.loads(answer_range_as_coinbase(request).body)
        late, wrong = ((self.now // 3600 - back) * 3600 for back in (LATE, WRONG))
        if not self.healed:
            rows = [[at, *([7, 9, 8, 8, 5] if at == wrong else rest)] for at, *rest in rows if at != late]
        return Answer(200, {}, orjson.dumps(rows))

    def hour_ms(self, back):
        return (self.now // 3600 - back) * HOUR_MS


@pytest.fixture
async def market():
    async with SourcesMarket() as market:
        yield market


@pytest.fixture
def vendor(market):
    market["coinbase"].choose = vendor = Vendor()
    return vendor


def limit_parts(market, limit):
    """Let an answer of Coinbase have no more bars."""
    catalog = shipped_catalog()
    source = catalog["coinbase"]
    serves = {name: each.model_copy(update={"limit": limit}) for name, each in source.serves.items()}
    market.catalog = {**catalog, "coinbase": source.model_copy(update={"serves": serves})}


async def read_closes(market):
    """Return the last close on the stream by the start of each bar."""
    entries = await market.bus.client.xrange(MARKET_BARS)
    return {int(fields[b"start"]): float(fields[b"close"]) for _, fields in entries}


async def load_an_hour_later(market):
    """Load when the limits are free again, and what was asked this hour is due."""
    await market.bus.client.delete(source_account_key("coinbase"))
    market.ahead_sec += REVISE_EVERY_SEC
    return await market.load(COIN)


def answer_hours_as_kraken(now, lacks=None):
    """Answer with the 90 hours before `now` (epoch seconds), one of them aside."""
    rows = [[now - 3600 * back, "2", "3", "1", "2", "2", "5", 1] for back in range(90, 0, -1)]
    kept = [row for row in rows if row[0] != lacks]
    return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": kept, "last": 1}}))


@pytest.mark.parametrize("limit", [300, 20])
async def test_a_bar_that_comes_late_or_is_corrected_is_taken_after_the_next_hour(market, vendor, limit):
    limit_parts(market, limit)
    await market.load(COIN)
    closes = await read_closes(market)
    assert vendor.hour_ms(LATE) not in closes
    assert closes[vendor.hour_ms(WRONG)] == 8
    vendor.healed = True
    result = await market.load(COIN)
    assert (result.new, vendor.hour_ms(LATE) in await read_closes(market)) == (0, False), "not each time"
    await load_an_hour_later(market)
    closes = await read_closes(market)
    assert closes[vendor.hour_ms(LATE)] == closes[vendor.hour_ms(WRONG)] == 2


async def test_a_source_that_is_late_is_asked_for_corrections_too(market, vendor):
    """As of a symbol that trades seldom: it may be for hours, and corrects bars meanwhile."""
    limit_parts(market, 20)
    await market.load(COIN)
    vendor.healed = True
    market.ahead_sec += 5 * 3600
    result = await load_an_hour_later(market)
    assert result.state.attempts["coinbase"].verdict is SourceVerdict.LATE
    closes = await read_closes(market)
    assert closes[vendor.hour_ms(LATE)] == closes[vendor.hour_ms(WRONG)] == 2


async def test_where_one_request_has_all_no_more_are_sent(market, vendor):
    limit_parts(market, 300)
    await market.load(COIN)
    vendor.healed = True
    before = len(market["coinbase"].seen)
    await load_an_hour_later(market)
    (request,) = market["coinbase"].seen[before:]
    asked = dict(parse_qsl(urlsplit(request.path).query))
    assert asked["start"] < asked["end"]
    assert vendor.hour_ms(LATE) in await read_closes(market)
    market.ahead_sec = 0  # the answers of the stand-in have the real time
    result = await market.load(COIN)
    (request,) = result.requests
    again = dict(parse_qsl(urlsplit(request.url).query))
    assert again["start"] > asked["start"], "only the newest ones until the next hour"


async def test_parts_that_fail_cost_neither_the_newest_bars_nor_the_next_try(market, vendor):
    limit_parts(market, 20)
    await market.load(COIN)
    vendor.healed = True
    answers = iter([vendor])  # the newest part is answered, the others are not
    market["coinbase"].choose = lambda request: next(answers, lambda _request: Answer(500))(request)
    result = await load_an_hour_later(market)
    assert result.state.newest_ms is not None
    attempt = result.state.attempts["coinbase"]
    assert attempt.verdict is SourceVerdict.FRESH
    assert attempt.history.revise_at - time.time() - market.ahead_sec <= REVISE_PAUSE_SEC
    market["coinbase"].choose = vendor
    market.ahead_sec += REVISE_PAUSE_SEC + 1
    await market.bus.client.delete(source_account_key("coinbase"))
    await market.load(COIN)
    assert vendor.hour_ms(LATE) in await read_closes(market)


async def test_what_an_answer_holds_anyway_is_never_thrown_away(market):
    """Kraken sends its last 720 bars with each new one."""
    series = replace(COIN, sources=("kraken",))
    now, lacks = int(time.time()) // 3600 * 3600, True
    late = now - LATE * 3600

    def answer(_request):
        return answer_hours_as_kraken(now, late if lacks else None)

    market["kraken"].choose = answer
    async with market.make_client() as client:
        loader = market.make_loader(client)
        await loader.load(series)
        assert 1000 * late not in await read_closes(market)
        assert (await loader.load(series)).new == 0
        lacks = False
        await loader.load(series)
    assert 1000 * late in await read_closes(market)


async def test_what_the_serving_source_lacks_is_asked_of_another_one_and_nothing_else_of_that_is_taken(
    market, vendor
):
    limit_parts(market, 300)
    series, kraken = replace(COIN, sources=("coinbase", "kraken")), market["kraken"]
    now = vendor.now // 3600 * 3600
    kraken.choose = lambda _request: answer_hours_as_kraken(now, lacks=now - 3600 * LATE)
    await market.load(series)
    assert kraken.seen == []
    result = await market.load(series)
    assert (len(kraken.seen), result.new, result.state.serving) == (1, 0, "coinbase")
    kraken.choose = lambda _request: answer_hours_as_kraken(now)
    await market.load(series)
    assert len(kraken.seen) == 1, "once an hour"
    market.ahead_sec += REVISE_EVERY_SEC
    await market.bus.client.delete(source_account_key("coinbase"))
    await market.load(series)
    entries = [fields for _, fields in await market.bus.client.xrange(MARKET_BARS)]
    (filled,) = [fields for fields in entries if fields[b"source"] == b"kraken"]
    assert (int(filled[b"start"]), filled[b"rank"]) == (vendor.hour_ms(LATE), b"1")
    market.ahead_sec += REVISE_EVERY_SEC
    await market.load(series)
    assert len(kraken.seen) == 2, "nothing is missing any more"
    vendor.healed = True
    market.ahead_sec += REVISE_EVERY_SEC
    await market.bus.client.delete(source_account_key("coinbase"))
    await market.load(series)
    last = [fields for _, fields in await market.bus.client.xrange(MARKET_BARS)][-1]
    assert (int(last[b"start"]), last[b"source"]) == (vendor.hour_ms(WRONG), b"coinbase"), "it has it, too"


async def test_what_bars_has_lost_is_published_again_and_nothing_else(market, vendor):
    limit_parts(market, 300)
    vendor.healed = True
    await market.load(COIN)
    before = await market.bus.client.xlen(MARKET_BARS)
    lost = [vendor.hour_ms(back) for back in (LATE, LATE - 1)]
    span = LostSpan(lost[0] + HOUR_MS + PUBLISHED_LATE_MS, lost[1])
    async with market.make_client() as client:
        loader = market.make_loader(client)
        assert (await loader.publish_again(COIN, span)).outcome is LoadOutcome.LOADED
    await market.bus.client.delete(source_account_key("coinbase"))
    await market.load(COIN)
    entries = (await market.bus.client.xrange(MARKET_BARS))[before:]
    again = [int(fields[b"start"]) for _, fields in entries if int(fields[b"start"]) < vendor.hour_ms(1)]
    assert again == lost
    unloaded = replace(COIN, symbol="ETH/USD")
    async with market.make_client() as client:
        result = await market.make_loader(client).publish_again(unloaded, span)
    assert result.outcome is LoadOutcome.UNUSED


@pytest.mark.parametrize(
    ("timeframe", "session", "known", "holes"),
    [
        ("1h", "24x7", [1, 2, 4, 5, 8], [3, 6, 7]),
        ("1h", "24x7", [3], []),
        ("1h", "24x7", [], []),
        ("30m", "24x7", [1, 2.5], [1.5, 2]),
        ("1w", "24x7", [0, 336], []),
        ("4h", "24x7", [0, 12], [4, 8]),
        ("1d", "24x7", [0, 72], [24, 48]),
        ("1d", "XNYS", [24, 48, 96, 168], [86.5]),  # named by the midnights of their dates; over a weekend
        ("1h", "XNYS", [14.5, 38.5], [15.5, 16.5, 17.5, 18.5, 19.5, 20.5]),
    ],
)
def test_holes_are_intervals_of_the_session_between_bars_that_are_known(timeframe, session, known, holes):
    """In hours since the Monday 2026-01-05; New York opens at 14:30, closes at 21:00."""
    begin = 1_767_571_200_000
    series = replace(COIN, timeframe=timeframe, session=session)
    times = [begin + round(at * HOUR_MS) for at in known]
    found = find_holes(series, get_session(session), times, begin, begin + 1000 * HOUR_MS)
    assert [(each - begin) / HOUR_MS for each in found] == holes


def test_a_lunch_break_is_no_hole():
    begin = 1_767_571_200_000  # Tokyo trades 00:00 to 02:30 and 03:30 to 06:30
    series, session = replace(COIN, timeframe="1m", session="XTKS"), get_session("XTKS")
    known = [begin, begin + 389 * 60_000]
    found = [
        (each - begin) // 60_000 for each in find_holes(series, session, known, begin, begin + HOUR_MS * 9)
    ]
    assert found == [*range(1, 150), *range(210, 389)]


@pytest.mark.parametrize(
    ("attempts", "filler"),
    [
        ({}, "kraken"),
        ({"kraken": HistoryAttempt(revise_at=9.0)}, "kraken"),
        ({"kraken": HistoryAttempt(revise_at=9.5)}, "gemini"),
        ({"kraken": HistoryAttempt(revise_at=9.5), "gemini": HistoryAttempt(revise_at=9.5)}, None),
    ],
)
def test_each_other_source_is_asked_in_its_turn(attempts, filler):
    series = replace(COIN, sources=("coinbase", "kraken", "gemini"))
    found = {name: Attempt(SourceVerdict.EMPTY, history=each) for name, each in attempts.items()}
    state = replace(STATE, attempts={**STATE.attempts, **found})
    assert choose_filler(series, state, "coinbase", 9.0) == filler
    assert choose_filler(series, replace(state, replay=True), "coinbase", 9.0) is None
    assert choose_filler(replace(series, kind="quotes"), state, "coinbase", 9.0) is None


STATE = SeriesState(
    newest_ms=100 * HOUR_MS,
    history_ms=0,
    attempts={"coinbase": Attempt(SourceVerdict.FRESH)},
    serving="coinbase",
)


@pytest.mark.parametrize(
    ("series", "state", "is_due"),
    [
        ({}, {}, True),
        ({"kind": "quotes"}, {}, False),
        ({}, {"newest_ms": None}, False),
        ({}, {"replay": True}, False),
        ({}, {"attempts": {}}, False),
        ({}, {"newest_ms": 5 * HOUR_MS}, False),  # all of it is asked for with the newest ones
        ({}, {"attempts": {"coinbase": Attempt("fresh", history=HistoryAttempt(revise_at=9.5))}}, False),
    ],
)
def test_bars_are_asked_for_again_that_are_due(series, state, is_due):
    found = find_revision(replace(COIN, **series), replace(STATE, **state), "coinbase", 3 * HOUR_MS, 9.0)
    assert (found is not None) is is_due
    if found is not None:
        assert (found.start_ms, found.end_ms, found.is_revision) == (3 * HOUR_MS, 90 * HOUR_MS, True)


@pytest.mark.parametrize(
    ("verdict", "parts_left", "is_asked", "pause_sec"),
    [
        ("late", 0, True, REVISE_EVERY_SEC),
        ("empty", 0, True, REVISE_EVERY_SEC),
        ("late", 2, True, REVISE_PAUSE_SEC),
        ("failed", 0, True, REVISE_PAUSE_SEC),
        ("limited", 0, False, REVISE_PAUSE_SEC),
    ],
)
def test_only_when_it_is_due_next_is_noted(verdict, parts_left, is_asked, pause_sec):
    answer = SourceAnswer("coinbase", AnswerStatus.OK, parts_left=parts_left)
    finding = SourceFinding(
        "coinbase", SourceVerdict(verdict), asked_at=50.0, is_asked=is_asked, answer=answer
    )
    after = conclude_revision(STATE, finding)
    assert after.attempts["coinbase"].history == HistoryAttempt(revise_at=50.0 + pause_sec)
    assert replace(after, attempts=STATE.attempts) == STATE


@pytest.mark.parametrize(("revise_at", "is_refreshed"), [(0.0, False), (90.0, True), (110.0, False)])
def test_a_stream_does_not_keep_its_source_from_being_asked_for_corrections(revise_at, is_refreshed):
    attempt = Attempt(SourceVerdict.FRESH, history=HistoryAttempt(revise_at=revise_at))
    state = replace(STATE, attempts={"coinbase": attempt}, loaded_at=99.0)
    assert needs_refresh(state, 100.0, 3300) is is_refreshed
    assert not needs_refresh(replace(state, not_before=101.0), 100.0, 3300)


class SplitVendor:
    """A source that adjusts its bars: once `ratio` is not 1, for its whole past."""

    ratio = 1

    def __call__(self, request):
        rows = orjson.loads(answer_range_as_coinbase(request).body)
        rows = [[at, *(price / self.ratio for price in prices), volume] for at, *prices, volume in rows]
        return Answer(200, {}, orjson.dumps(rows))


def adjust_all(market, adjustment, limit, name="coinbase"):
    """Let a source's file say that it has stocks, how it adjusts, and that an answer has no more."""
    source = market.catalog[name]
    assets = (AssetClass.CRYPTO, AssetClass.STOCKS)
    changes = {"limit": limit, "adjustment": adjustment, "assets": assets}
    serves = {part: each.model_copy(update=changes) for part, each in source.serves.items()}
    market.catalog = {**market.catalog, name: source.model_copy(update={"serves": serves})}


@pytest.mark.parametrize(
    ("asset", "adjustment", "limit"),
    [
        (AssetClass.STOCKS, Adjustment.SPLITS, 2000),
        (AssetClass.STOCKS, Adjustment.SPLITS, 300),
        (AssetClass.STOCKS, Adjustment.RAW, 2000),
        (AssetClass.CRYPTO, Adjustment.SPLITS, 2000),
    ],
)
async def test_a_source_that_has_adjusted_its_past_anew_is_asked_for_all_of_it(
    market, asset, adjustment, limit
):
    """With 300 bars an answer, all that may be corrected is asked for in parts. Coins have no splits."""
    is_adjusting = asset is AssetClass.STOCKS and adjustment is Adjustment.SPLITS
    market["coinbase"].choose = vendor = SplitVendor()
    adjust_all(market, adjustment, limit)
    share = replace(COIN, asset=asset, history_days=40)
    await market.load(share)
    before = await read_closes(market)
    assert len(before) > 900
    vendor.ratio = 10
    for _ in range(4):  # what may be corrected, then what is older, then nothing
        await market.bus.client.delete(source_account_key("coinbase"))
        market.ahead_sec += REVISE_EVERY_SEC
        await market.load(share)
    after = await read_closes(market)
    old = [at for at in before if after[at] == before[at]]
    assert (not old) if is_adjusting else old
    entries = await market.bus.client.xrange(MARKET_BARS)
    wanted = {b"splits"} if is_adjusting else {None}
    assert {fields.get(b"adjustment") for _, fields in entries} == wanted


@pytest.mark.parametrize("asset", [AssetClass.STOCKS, AssetClass.CRYPTO])
async def test_missing_bars_that_an_adjusting_source_fills_are_no_past_that_it_adjusted_anew(market, asset):
    now = int(time.time()) // 3600 * 3600
    missing = {now - 3600 * back for back in range(30, 38)}

    def answer(request):
        rows = orjson.loads(answer_range_as_coinbase(request).body)
        return Answer(200, {}, orjson.dumps([row for row in rows if row[0] not in missing]))

    market["coinbase"].choose = answer
    market["kraken"].choose = lambda _request: answer_hours_as_kraken(now)
    for name in ("coinbase", "kraken"):
        adjust_all(market, Adjustment.SPLITS, 2000, name)
    series = replace(COIN, asset=asset, sources=("coinbase", "kraken"))
    before = (await market.load(series)).state
    with capture_logs() as logged:
        result = await market.load(series)
    assert (result.new, result.state.history_ms) == (len(missing), before.history_ms)
    assert "series.restated" not in [line["event"] for line in logged]
    (stored,) = (await SeriesStore(lambda: market.bus).read_states([series.id], time.time())).values()
    assert stored.history_ms == before.history_ms, "nothing older is asked for again"


async def test_what_came_during_a_long_stop_is_no_past_that_a_source_adjusted_anew(market):
    adjust_all(market, Adjustment.SPLITS, 20_000)
    market["coinbase"].choose = answer_range_as_coinbase
    share = replace(COIN, asset=AssetClass.STOCKS)
    stop_days = 60
    market.ahead_sec = -86_400 * stop_days
    before = (await market.load(share)).state
    market.ahead_sec = REVISE_EVERY_SEC  # its requests had the real time
    await market.bus.client.delete(source_account_key("coinbase"))
    with capture_logs() as logged:
        result = await market.load(replace(share, history_days=stop_days + 2))
    assert result.new >= 24 * stop_days - 1
    assert result.known > 40, "all that may be corrected was asked for, too"
    assert result.state.history_ms == before.history_ms
    assert "series.restated" not in [line["event"] for line in logged]


@pytest.mark.parametrize(
    ("known", "corrected", "adjustment", "is_anew"),
    [
        (100, 100, Adjustment.SPLITS, True),
        (100, 90, Adjustment.ALL, True),
        (100, 89, Adjustment.SPLITS, False),  # many corrections
        (4, 4, Adjustment.SPLITS, False),
        (100, 100, Adjustment.RAW, False),
        (0, 0, Adjustment.SPLITS, False),  # bars that were missing
    ],
)
def test_a_past_counts_as_adjusted_anew_if_nearly_all_of_it_is_other(known, corrected, adjustment, is_anew):
    answer = SourceAnswer("yahoo", AnswerStatus.OK, adjustment=adjustment)
    finding = SourceFinding("yahoo", SourceVerdict.FRESH, answer=answer)
    assert is_restated(finding, known, corrected) is is_anew
