"""The market on a real board, with a real Redis and a real PostgreSQL."""

import asyncio
import contextlib
import csv
import io
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import orjson
import polars as pl
import pytest
from websockets.sync.client import connect

from marketswarm.keys import chart_key, quote_key, source_account_key
from services.market.records import DAY_MS
from support.market_board import NOW, PLAYED, SYMBOLS, open_market, rescale, run_apart, walk
from support.postgres import Postgres, query
from support.waiting import until

PAGES = (
    "/market", "/market/economy", "/market/correlations", "/market/sources", "/market/symbol/SPY",
    "/market/rotation", "/market/breadth", "/market/rates", "/market/sentiment", "/market/quality",
    "/market/search?query=x",
)  # fmt: skip
SPY, BTC = (next(one for one in SYMBOLS if one.name == name) for name in ("SPY", "BTC/USD"))


@pytest.fixture(scope="module")
def archive(postgres):
    return run_apart(postgres.new_archive)


@pytest.fixture(scope="module")
def market(archive, tmp_path_factory):
    with open_market(tmp_path_factory.mktemp("market"), archive) as market:
        yield market


@contextlib.contextmanager
def follow(market, *topics, **how):
    """A client of `/ws` that has subscribed; what it was answered is `first`."""
    with connect(market.socket_url, max_size=None) as socket:
        socket.hello = orjson.loads(socket.recv(10))
        socket.send(orjson.dumps({"subscribe": topics, **how}).decode())
        socket.first = orjson.loads(socket.recv(10))
        yield socket


def hear(socket, topic, found):
    """Wait for an update of a topic whose data pass `found`; return it and all numbers that came."""
    numbers = []
    while True:
        message = orjson.loads(socket.recv(15))
        for one in message["updates"]:
            numbers.append(one["n"])
            if one["topic"] == topic and found(one["data"]):
                return one, numbers


def test_a_chart_has_every_bar_of_the_archive_once_over_all_its_pages(market):
    wanted = walk(SPY, "5m", NOW, 600)
    bars, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        params = {"timeframe": "5m", "limit": 170, **({"cursor": cursor} if cursor else {})}
        page = market.get("/api/v1/bars/SPY", params=params).json()
        bars, cursor, pages = page["bars"] + bars, page["cursor"], pages + 1
    assert [(one["start"], one["close"]) for one in bars] == [(one.start_ms, one.close) for one in wanted]
    assert pages == 4
    assert {(one["source"], one["replay"], one["digest"]) for one in bars} == {("massive", False, "cd" * 32)}


def test_a_range_is_cut_out_and_every_format_says_the_same(market):
    bars = walk(SPY, "1h", NOW, 300)
    params = {"timeframe": "1h", "from": bars[100].start_ms, "to": bars[110].start_ms}
    found = market.get("/api/v1/bars/SPY", params=params)
    starts = [one["start"] for one in found.json()["bars"]]
    assert starts == [one.start_ms for one in bars[100:110]]
    rows = list(
        csv.DictReader(io.StringIO(market.get("/api/v1/bars/SPY", params={**params, "format": "csv"}).text))
    )
    frame = pl.read_ipc(market.get("/api/v1/bars/SPY", params={**params, "format": "arrow"}).content)
    closes = [one["close"] for one in found.json()["bars"]]
    assert [float(row["close"]) for row in rows] == frame["close"].to_list() == closes
    assert frame["start"].dt.epoch("ms").to_list() == starts


def test_what_did_not_change_is_not_sent_again_and_hot_answers_stand_in_redis(market):
    path = "/api/v1/bars/QQQ?timeframe=15m"
    answer = market.get(path)
    assert market.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    kept = orjson.loads(market.client.get(chart_key("QQQ", "15m")))
    assert [row[0] for row in kept["rows"]] == [one["start"] for one in answer.json()["bars"]]
    assert 0 < market.client.ttl(chart_key("QQQ", "15m")) <= 300
    market.publish_quote("GBP/USD", 1.31, NOW)
    until(lambda: market.client.exists(quote_key("GBP/USD")), what="the quote to be kept")
    assert 0 < market.client.ttl(quote_key("GBP/USD")) <= 60
    (quote,) = market.get("/api/v1/quotes?symbols=GBP/USD").json()["quotes"]
    assert (quote["price"], quote["source"], quote["at"]) == (1.31, "twelve_data", NOW)


def test_a_bar_is_on_the_socket_and_in_the_chart_before_the_archive_has_it(market):
    assert market.get("/api/v1/bars/SPY?limit=1").json()["bars"][0]["start"] == NOW - 60_000
    with follow(market, "bars:SPY:1m") as socket:
        assert socket.first["type"] == "snapshot"
        market.publish_bar("SPY", "1m", NOW, 580.0, final=False)
        one, _ = hear(socket, "bars:SPY:1m", lambda data: data["start"] == NOW)
        assert (one["data"]["close"], one["data"]["final"], one["data"]["source"]) == (
            580.0,
            False,
            "massive",
        )
        newest = market.get("/api/v1/bars/SPY?limit=1").json()["bars"][0]
        assert (newest["start"], newest["close"], newest["final"]) == (NOW, 580.0, False)
        market.publish_bar("SPY", "1m", NOW, 585.0, rev=1)
        market.publish_bar("SPY", "1m", NOW, 1.0, rev=0)  # came late: an older revision changes nothing
        market.publish_bar("SPY", "1m", NOW + 60_000, 586.0)
        hear(socket, "bars:SPY:1m", lambda data: data["start"] == NOW + 60_000)
        bars = market.get("/api/v1/bars/SPY?limit=2").json()["bars"]
        assert [(each["close"], each["rev"]) for each in bars] == [(585.0, 1), (586.0, 0)]
        market.publish_bar("SPY", "1m", NOW, 587.0, rev=0, epoch=1)  # counted anew after a loss
        hear(socket, "bars:SPY:1m", lambda data: (data["start"], data["epoch"]) == (NOW, 1))
        bars = market.get("/api/v1/bars/SPY?limit=2").json()["bars"]
        assert [(each["close"], each["epoch"], each["rev"]) for each in bars] == [
            (587.0, 1, 0),
            (586.0, 0, 0),
        ]


def test_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice(market):
    def publish(number):
        market.publish_bar("DIA", "5m", NOW + 300_000 * number, 400.0 + number)

    with follow(market, "bars:DIA:5m") as socket:
        publish(1)
        _, numbers = hear(socket, "bars:DIA:5m", lambda data: data["close"] == 401.0)
    for number in (2, 3, 4):
        publish(number)
    position = f"{socket.hello['position'].partition('-')[0]}-{numbers[-1]}"
    until(lambda: market.get("/api/v1/bars/DIA?timeframe=5m&limit=1").json()["bars"][0]["close"] == 404.0)
    with follow(market, "bars:DIA:5m", after=position) as socket:
        assert socket.first["type"] == "resumed"
        missed = []
        while len(missed) < 3:
            missed += [one["data"]["close"] for one in orjson.loads(socket.recv(15))["updates"]]
    assert missed == [402.0, 403.0, 404.0]
    with follow(market, "bars:DIA:5m", after="another-1") as socket:
        assert socket.first["type"] == "snapshot"


def test_what_is_left_of_the_limits_of_a_source_is_on_its_page_and_in_the_api(market):
    day = int(time.time()) // 4320  # a slot of a day's limit: the day has twenty
    key = source_account_key("yahoo")
    market.client.hset(key, mapping={"limits": "60:200 86400:5000", f"86400:{day - 2}": 130})
    name = "0123456789ab"
    market.client.hset(source_account_key("finnhub"), f"key:{name}", 1)
    blocked = {"limits": "60:60", "blocked": 1000 * (int(time.time()) + 600)}
    market.client.hset(source_account_key(f"finnhub:{name}"), mapping=blocked)

    def find_limits():
        return market.get("/api/v1/sources").json()["limits"]

    limits = until(find_limits, what="the limits to be read anew")
    windows = [{"sec": 60, "allowed": 200, "left": 200}, {"sec": 86400, "allowed": 5000, "left": 4870}]
    assert limits["yahoo"] == [{"windows": windows, "again_at": None}]
    assert limits["finnhub"][0]["again_at"] == blocked["blocked"] / 1000
    assert name not in orjson.dumps(limits).decode()
    page = market.get("/market/sources").text
    assert "200 of 200 a minute · 4,870 of 5,000 a day" in page
    assert "60 of 60 a minute, again at" in page


def find_section(page, heading):
    """The part of a page below a heading, up to the next one."""
    return page.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0]


def test_of_the_requests_to_sources_the_ones_that_a_recording_answered_are_marked(market):
    page = market.get("/market/sources").text
    rows = find_section(page, "Requests").split("<tr>")[2:]
    assert len(rows) == 12
    assert [n for n, row in enumerate(rows) if 'class="tag replay"' in row] == [PLAYED]
    assert "\\u202e" in rows[0]
    assert "\u202e" not in page, "which would turn the text after it around"
    for heading in ("Sources", "Quarantine"):
        assert 'class="tag replay"' not in find_section(page, heading), "nothing else was played"


UNKNOWN = (
    "/api/v1/bars/{}", "/api/v1/bars/{}?timeframe=1d&from=30d", "/api/v1/bars/{}?format=csv",
    "/api/v1/indicators/{}", "/api/v1/features/{}", "/api/v1/quotes?symbols={}",
    "/api/v1/quotes?symbols={},GLD", "/api/v1/quotes?symbols={}&from=1d",
    "/api/v1/correlations?symbols=SPY,{}", "/api/v1/actions/{}", "/market/symbol/{}",
)  # fmt: skip


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_symbol_is_refused_with_the_nearest_name(market, path):
    answer = market.get(path.format("SPPY"))
    assert answer.status_code == 404
    assert "here is no symbol SPPY; did you mean SPY?" in answer.text
    assert market.get(path.format("XLE")).status_code == 200


def test_an_unknown_series_timeframe_or_group_is_refused_with_the_names_that_there_are(market):
    found = market.get("/api/v1/observations/DGS1")
    assert (found.status_code, found.json()["detail"]) == (
        404,
        "there is no series DGS1; did you mean DGS10?",
    )
    assert market.get("/api/v1/observations/SPY").status_code == 404, "it has prices, and is no series"
    for path in ("/api/v1/bars/SPY?timeframe=2m", "/market/symbol/SPY?timeframe=2m"):
        refused = market.get(path)
        assert refused.status_code == 422, path
        assert "1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, 1mo" in refused.text, path
    assert "did you mean sectors?" in market.get("/api/v1/market/sector").json()["detail"]


PAST_DAY = datetime.fromtimestamp(NOW / 1000 - 5 * 86_400, UTC).date().isoformat()


@pytest.mark.parametrize(
    "path",
    [
        *("/market", "/market/economy", "/market/correlations", "/market/rotation?group=crypto&by=1w"),
        *("/market/breadth", "/market/rates", "/market/sentiment", "/market/symbol/BTC/USD?timeframe=1h"),
    ],
)
def test_a_page_of_the_past_says_so_and_leads_back_to_now(market, path):
    mark = "&" if "?" in path else "?"
    page = market.get(f"{path}{mark}as_of={PAST_DAY}").text
    end = datetime.fromisoformat(PAST_DAY).replace(tzinfo=UTC) + timedelta(days=1)
    assert f"The market as it was known at {end:%Y-%m-%dT%H:%M:%SZ}" in page
    assert f'<a href="{path.replace("&", "&amp;")}">Back to now</a>' in page
    assert "Back to now" not in market.get(path).text
    assert 'data-topics="cells' not in page
    if path in {"/market", "/market/symbol/BTC/USD?timeframe=1h"}:
        assert "Which symbols the truth had then is not known" in page
        days = [bar for bar in walk(BTC, "1d", NOW, 300) if bar.start_ms + DAY_MS <= 1000 * end.timestamp()]
        assert f"{rescale(days[-1], 1 - 20 * BTC.step).close:,.2f}" in page, "the last close of then"
    refused = market.get(f"{path}{mark}as_of=soon")
    assert (refused.status_code, "s_of: is not a time" in refused.text) == (422, True)


@pytest.mark.parametrize("path", ["/market/sources", "/market/quality", "/market/search?query=SPY"])
def test_a_page_that_has_no_past_refuses_it_by_name(market, path):
    answer = market.get(f"{path}{'&' if '?' in path else '?'}as_of={PAST_DAY}")
    assert (answer.status_code, "s_of: " in answer.text) == (422, True)


def test_a_symbol_that_only_the_truth_names_has_no_bars_and_is_no_mistake(market):
    assert market.get("/api/v1/bars/CPIAUCSL").json()["bars"] == []


def test_a_topic_of_an_unknown_symbol_is_an_error(market):
    with follow(market, "bars:SPPY:1m") as socket:
        wanted = {"type": "error", "detail": "there is no symbol SPPY; did you mean SPY?"}
        assert socket.first == wanted


def test_a_search_leads_to_the_symbol_by_its_own_or_another_name(market):
    def find(query):
        return market.get("/api/v1/db/search", params={"query": query, "limit": 3}).json()["results"]

    (gold,) = find("gold")
    assert (gold["symbol"], gold["kind"], gold["asset"]) == ("GLD", "symbol", "stocks")
    assert gold["names"] == "Gold Shares"
    assert gold["last_seen"] == NOW
    assert [(one["symbol"], one["kind"]) for one in find("dgs")] == [("DGS10", "series")]
    assert [one["symbol"] for one in find("usd")] == ["USD/JPY", "BTC/USD", "ETH/USD"]
    assert find("nothing of this name") == []
    assert market.get("/api/v1/db/search").status_code == 422
    led = market.get("/market/search?query=eur/usd")
    assert (led.status_code, led.headers["location"]) == (303, "/market/symbol/EUR/USD")
    assert 'href="/market/symbol/GLD"' in market.get("/market/search?query=gold").text
    assert "Nothing is called so" in market.get("/market/search?query=nothing+of+this").text


def test_the_symbols_of_a_group_are_ranked_by_their_return(market):
    found = market.get("/api/v1/market/rotation?by=3m").json()
    closes = {one.name: walk_days(one) for one in SYMBOLS if one.group == "sectors"}
    wanted = {name: round(100 * (some[-1] - some[-64]) / some[-64], 4) for name, some in closes.items()}
    assert {one["symbol"]: one["percent_3m"] for one in found["rotation"]} == pytest.approx(wanted, abs=0.001)
    assert [one["rank_3m"] for one in found["rotation"]] == [1, 2, 3]
    percents = [one["percent_3m"] for one in found["rotation"]]
    assert percents == sorted(percents, reverse=True)
    assert all(one["since_12m"] < one["since_1w"] < one["day"] for one in found["rotation"])
    assert "did you mean sectors?" in market.get("/api/v1/market/rotation?group=sector").json()["detail"]
    assert market.get("/api/v1/market/rotation?by=2m").status_code == 422
    rows = list(csv.DictReader(io.StringIO(market.get("/api/v1/market/rotation?format=csv").text)))
    assert len(rows) == 3


def walk_days(symbol):
    """The closes that `seed_archive` has of a symbol's days."""
    return [rescale(bar, 1 - 20 * symbol.step).close for bar in walk(symbol, "1d", NOW, 300)]


def test_breadth_counts_the_symbols_of_each_group_on_its_newest_day(market):
    rows = {one["group"]: one for one in market.get("/api/v1/market/breadth").json()["breadth"]}
    assert next(iter(rows)) == "all"
    for group in ("indices", "sectors", "forex"):
        closes = [walk_days(one) for one in SYMBOLS if one.group == group]
        row = rows[group]
        assert row["advancers"] == sum(some[-1] > some[-2] for some in closes), group
        assert row["advancers"] + row["decliners"] + row["unchanged"] == row["symbols"] == row["measured"]
        assert row["new_highs"] == sum(some[-1] >= max(some[-252:]) for some in closes)
    whole = [one for one in SYMBOLS if one.kind == "bars"]
    assert rows["all"]["symbols"] == len(whole)
    (alone,) = market.get("/api/v1/market/breadth?group=forex").json()["breadth"]
    assert alone == rows["forex"]


def test_rates_have_what_there_is_and_name_what_lacks(market):
    curve = market.get("/api/v1/market/yield-curve").json()
    (ten,) = curve["yields"]
    assert (ten["series"], ten["years"], ten["source"], ten["year_ago"]) == ("DGS10", 10.0, "treasury", None)
    assert curve["slopes"] == {"10y_2y": None, "10y_3m": None}
    assert "US.2Y" in curve["missing"]
    missing = ["US.HIGH_YIELD_SPREAD", "US.CORPORATE_SPREAD"]
    assert market.get("/api/v1/market/credit").json()["missing"] == missing
    assert market.get("/api/v1/market/sentiment").json()["sentiment"] == []
    page = market.get("/market/rates").text
    assert "10 years" in page
    assert "<code>US.2Y</code>" in page
    assert "^VIX" in market.get("/market/sentiment").text


def test_the_quality_of_each_day_says_what_lacks_and_who_served(market):
    days = market.get("/api/v1/market/quality?symbol=BTC/USD&days=2").json()["quality"]
    assert len(days) == 2
    assert sum(one["minutes"] for one in days) == 900 - 28
    assert all(one["missing"] == one["expected"] - one["minutes"] for one in days)
    assert {one["sources"].partition(" ")[0] for one in days} - {""} == {"kraken"}
    assert market.get("/api/v1/market/quality?symbol=NOPE").status_code == 404
    assert market.get("/api/v1/market/quality?days=99").status_code == 422
    until(
        lambda: not market.get("/api/v1/market/quality").json()["waiting"],
        what="the calendars to be computed",
    )
    everything = market.get("/api/v1/market/quality").json()["quality"]
    assert {one["symbol"] for one in everything} >= {"SPY", "BTC/USD", "EUR/USD"}
    rejected = sum(one["rejected"] for one in everything if one["symbol"] == "SPY")
    assert rejected == 0, "the records in quarantine do not say their time"


def test_news_are_on_the_page_of_the_symbol_that_they_name(market):
    market.publish_note("Gold <b>shines</b>", "GLD", "XAU/USD")
    market.publish_note("Oil", "USO", link="javascript:alert(1)")
    until(lambda: market.get("/api/v1/news?symbol=GLD").json()["news"], what="the news to be read anew")
    (gold,) = market.get("/api/v1/news?symbol=GLD").json()["news"]
    assert (gold["title"], gold["tickers"], gold["sentiment"]) == ("Gold <b>shines</b>", "GLD, XAU/USD", 0.44)
    assert [one["link"] for one in market.get("/api/v1/news").json()["news"]] == [
        "",
        "https://news.example/1",
    ]
    page = market.get("/market/symbol/GLD").text
    assert "Gold &lt;b&gt;shines" in page
    assert "names SPY" in market.get("/market/symbol/SPY").text
    assert market.get("/api/v1/news?symbol=NOPE").status_code == 404


def test_groups_have_prices_with_their_source_and_what_they_are_compared_with(market):
    found = market.get("/api/v1/market/crypto").json()
    assert found["away"] is None
    bitcoin = next(one for one in found["symbols"] if one["symbol"] == "BTC/USD")
    assert (bitcoin["price"], bitcoin["source"], bitcoin["serving"]) == (96_412.0, "kraken", "kraken")
    assert (bitcoin["compared"], bitcoin["status"]) == ("previous close", "fresh")
    assert len(bitcoin["points"]) == 60
    assert market.get("/api/v1/market/nothing").status_code == 422


def _assert_actions_are_served(market):
    """SPY has two actions on one day and one before; another was withdrawn."""
    page = market.get("/api/v1/actions/SPY?limit=1").json()
    values = [(one["ex_day"], one["kind"], one["ratio"], one["amount"]) for one in page["actions"]]
    assert values == [("2020-08-31", "dividend", None, 0.8), ("2020-08-31", "split", 4.0, None)]
    older = market.get("/api/v1/actions/SPY", params={"limit": 1, "cursor": page["cursor"]}).json()
    assert [one["ex_day"] for one in older["actions"]] == ["2020-08-07"]
    whole = market.get("/api/v1/actions/SPY").json()
    assert (len(whole["actions"]), whole["cursor"], whole["symbol"]) == (3, None, "SPY")
    for bounds, count in (("from=2020-08-07&to=2020-08-31", 1), ("from=2020-08-08", 2), ("to=2020-08-07", 0)):
        assert len(market.get(f"/api/v1/actions/SPY?{bounds}").json()["actions"]) == count, bounds
    text = market.get("/api/v1/actions/SPY?format=csv").text.splitlines()
    assert text[0].startswith("ex_day,kind,ratio,amount,new_symbol,source")
    assert text[1].startswith("2020-08-07,dividend,,0.5,,yahoo,")


def test_everything_else_of_the_archive_is_served(market, archive):
    values = market.get("/api/v1/indicators/EUR/USD?timeframe=1h&limit=2").json()["indicators"]
    assert [set(one["values"]) for one in values] == [{"sma_20", "bb_upper", "bb_lower", "rsi_14"}] * 2
    assert (
        market.get("/api/v1/features/SPY?limit=1").json()["features"][0]["values"]["volatility_20d"] is None
    )
    (row,) = query(
        archive, "select value from observations where symbol = 'UNRATE' order by start desc limit 1"
    )
    assert market.get("/api/v1/observations/UNRATE?limit=1").json()["observations"][0]["value"] == row[0]
    _assert_actions_are_served(market)
    pairs = market.get("/api/v1/correlations?symbols=SPY,QQQ,GLD").json()["correlations"]
    assert [(one["a"], one["b"]) for one in pairs] == [("GLD", "QQQ"), ("GLD", "SPY"), ("QQQ", "SPY")]
    names, cursor = [], None
    while not names or cursor:
        params = {"limit": 7, **({"cursor": cursor} if cursor else {})}
        page = market.get("/api/v1/symbols", params=params).json()
        names, cursor = names + [one["symbol"] for one in page["symbols"]], page["cursor"]
    assert sorted(names) == sorted(one.name for one in SYMBOLS)
    sources = market.get("/api/v1/sources").json()
    named = {source for one in sources["series"] for source in one["from"]}
    assert [one["name"] for one in sources["sources"]] == sorted(named), "also those that were never asked"
    assert sources["gate"]["state"] == "open"


def test_hostile_entries_are_counted_and_what_follows_them_is_shown(market):
    for fields in ({"sym": "<script>"}, {"x": "y" * 70_000}, {"sym": "IWM", "rev": "-1"}):
        market.client.xadd("bars:bars", fields)
    market.client.hset("market:series", "evil", "{")
    with follow(market, "bars:IWM:1m") as socket:
        market.publish_bar("IWM", "1m", NOW, 222.0)
        hear(socket, "bars:IWM:1m", lambda data: data["close"] == 222.0)
    assert market.get("/market").status_code == 200


def find_detail(market):
    """What the board's beats say of it while it is degraded."""
    found = market.get("/api/v1/services/board").json()
    return found["detail"] if found["status"] == "degraded" else None


@pytest.mark.nightly("test_market_archive freezes a database; test_market_pages has a board without one")
def test_a_database_that_freezes_or_goes_is_said_and_comes_back_by_itself(tmp_path):
    with Postgres() as server, open_market(tmp_path, server.new_archive()) as market:
        market.publish_quote("SPY", 612.34, NOW + 1000)
        price, path = "/api/v1/quotes?symbols=SPY", "/api/v1/indicators/SPY?limit=1"
        until(lambda: market.get(price).json()["quotes"][0]["price"] == 612.34, what="the quote to come")
        server.freeze()
        with ThreadPoolExecutor(len(PAGES)) as threads:
            pages = dict(zip(PAGES, threads.map(market.get, PAGES), strict=True))
        assert {path: page.status_code for path, page in pages.items()} == dict.fromkeys(PAGES, 200)
        assert [path for path, page in pages.items() if "No archive: the database" not in page.text] == []
        assert "612.34" in pages["/market"].text
        assert "612.34" in pages["/market/symbol/SPY"].text
        assert pages["/market/sources"].text.count('data-row="') > len(SYMBOLS)
        assert market.get(path).status_code == 503
        until(lambda: find_detail(market) == "market: the database did not answer in time", what="its beat")
        server.thaw()
        until(lambda: "No archive" not in market.get("/market").text, what="the database to be read again")
        until(lambda: find_detail(market) is None, what="a beat that is well again")
        board = market.fleet["board"]
        lines = [len(board.logs(f"market.{event}")) for event in ("database_away", "database_back")]
        assert lines == [1, 1]
        assert market.get(path).status_code == 200
        server.kill()
        answer = market.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "database" in answer.json()["detail"]
        server.start()
        until(lambda: market.get(path).status_code == 200, what="the database to be read again")


@pytest.fixture
def many_files():
    """This process may open as many files as the system allows: each user of a board is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.nightly("the tests above ask the same board, one after the other")
def test_a_thousand_users_are_answered_at_once(market, many_files):
    request = b"GET /api/v1/bars/SPY HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n"

    async def ask_all():
        turn = asyncio.Semaphore(100)  # as many as come at once: the others wait in line

        async def ask():
            async with turn:
                reader, writer = await asyncio.open_connection("127.0.0.1", market.port)
                writer.write(request)
            return writer, await reader.readline()

        users = await asyncio.gather(*(ask() for _ in range(1000)))
        for writer, _ in users:
            writer.transport.abort()
        return {line for _, line in users}

    assert asyncio.run(ask_all()) == {b"HTTP/1.1 200 OK\r\n"}
