"""What the operator curls: health, tables, caches, refreshes, the page of the API; on real servers."""

import asyncio
import contextlib
import time

import httpx
import pytest
import redis

from marketswarm.bus import Bus
from marketswarm.cli.board_reading import read_board
from marketswarm.cli.findings import Level, judge_board
from marketswarm.keys import ARCHIVE_BACKUP, SOURCES_REFRESH, SOURCES_REFRESH_REQUEST
from marketswarm.operator.source_refresh import RefreshReport, RefreshRequest, RefreshState
from marketswarm.operator.tokens import Scope, create_token, write_token
from support.market_board import NOW, open_market, run_apart
from support.rig import PLAIN
from support.waiting import until

SOURCES = [{"symbol": "SPY", "asset": "stocks", "kind": "quotes", "from": ["kraken", "yahoo"]}]


@pytest.fixture(scope="module")
def market(tmp_path_factory, postgres):
    services = {
        "archive": {"heartbeat": {"interval_sec": 60, "timeout_sec": 600}},
        "sources": {
            "heartbeat": {"interval_sec": 60, "timeout_sec": 600},
            "endpoints": SOURCES,
            "access_points": {
                "publish_to": [
                    {"bus": "market-redis", "key": key}
                    for key in ("market:bars", "market:quotes", "market:series", "market:sources")
                ]
            },
        },
    }
    environ = {"BOARD_ALLOWED_ORIGINS": "http://localhost:5173"}
    with open_market(
        tmp_path_factory.mktemp("asked"), run_apart(postgres.new_archive), services=services, environ=environ
    ) as market:
        yield market


@pytest.fixture(scope="module")
def token(market):
    token, text = create_token("kim", [Scope.WRITE], author="kim", now=time.time())

    async def write():
        async with contextlib.aclosing(Bus("system-redis", market.fleet.system.url)) as bus:
            await write_token(bus, token)

    run_apart(asyncio.run, write())
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture(scope="module")
def buses(market):
    """Clients of the two buses, by name."""
    fleet = market.fleet
    found = {"system-redis": fleet.system.url, "market-redis": fleet.market.url}
    with contextlib.ExitStack() as opened:
        yield {name: opened.enter_context(redis.Redis.from_url(url)) for name, url in found.items()}


def post(market, path, **how):
    return httpx.post(market.url + path, timeout=15, verify=PLAIN, **how)


def read(market, path):
    answer = market.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def test_health_names_each_part_with_its_age(market):
    def find():
        found = market.get("/health").json()
        return found if found["parts"].get("market", {}).get("status") == "ok" else None

    found = until(find)
    parts = found["parts"]
    assert {
        "system-redis",
        "market-redis",
        "postgresql",
        "gate",
        "oldest_series",
        "newest_bar",
        "backup",
    } <= set(parts)
    assert parts["postgresql"]["status"] == "ok", parts
    assert parts["system-redis"]["age_sec"] >= 0
    assert parts["oldest_series"]["name"]
    assert parts["backup"] == {"status": "off", "age_sec": None, "why": "no backups are made", "name": None}
    whole = read(market, "/api/v1/health")
    assert whole["resources"]["memory_bytes"] > 1e6
    assert whole["resources"]["cpu_sec"] > 0
    assert "hit_rate" in whole["performance"]["charts"]
    assert whole["performance"]["signals"] is None
    assert market.get("/healthz").text == "ok\n"


def test_doctor_reads_the_market_by_what_the_board_answers(market, tmp_path, monkeypatch):
    url = httpx.URL(str(market.get("/health").url))
    monkeypatch.setenv("BOARD_HOST", url.host)
    monkeypatch.setenv("BOARD_PORT", str(url.port))
    market.publish_bar("SPY", "1m", NOW, close=501.0)
    until(lambda: read(market, "/health")["parts"]["newest_bar"]["name"])
    found = asyncio.run(read_board(tmp_path))
    assert (found.is_named, found.reason, found.chart_why) == (True, None, None)
    assert found.symbol == found.parts["newest_bar"].name
    judged = {each.about: each.level for each in judge_board(found)}
    assert judged["chart"] in (Level.RIGHT, Level.NOTE)
    assert {"board", "market", "postgresql", "gate", "series", "newest bar"} <= set(judged)


def test_a_page_of_a_named_origin_reads_it(market):
    answer = market.get("/health", headers={"Origin": "http://localhost:5173"})
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


def test_each_table_has_its_rows_size_partitions_and_newest_row(market):
    found = read(market, "/api/v1/db/stats")
    bars = found["tables"]["bars"]
    assert bars["size_bytes"] > 0
    assert bars["newest_at"] > 1e9
    assert found["size_bytes"] > bars["size_bytes"]
    assert {"quotes", "observations", "incidents", "symbols"} <= set(found["tables"])
    assert (found["last_verified_restore_at"], found["away"]) == (None, None)


def test_caches_are_counted_and_cleared_and_nothing_else_is(market, buses, token):
    bus = buses["market-redis"]
    read(market, "/api/v1/bars/SPY?timeframe=1d")
    for n in range(3):
        bus.set(f"quotes:T{n}", b"[]", ex=60)
    bus.set("quotesque", b"stays")
    found = until(
        lambda: (stats := read(market, "/api/v1/cache/stats"))["redis"]["chart:*:*"]["keys"] and stats
    )
    assert found["redis"]["quotes:*"]["keys"] >= 3
    assert 0 <= found["redis"]["quotes:*"]["newest_age_sec"] <= 60
    assert found["redis"]["chart:*:*"]["bytes"] > 100
    assert found["memory"]["charts"]["answers"] >= 1
    others = {key for key in bus.scan_iter() if not key.startswith((b"quotes:", b"chart:"))}
    assert post(market, "/api/v1/cache/clear").status_code == 401
    answer = post(market, "/api/v1/cache/clear", headers=token)
    assert answer.status_code == 200, answer.text
    assert answer.json()["redis"]["quotes:*"] >= 3
    assert answer.json()["is_whole"]
    assert not bus.exists("quotes:T0", "quotes:T1", "quotes:T2")
    assert others <= set(bus.scan_iter())
    assert bus.get("quotesque") == b"stays"
    assert read(market, "/api/v1/cache/stats")["memory"]["charts"]["answers"] == 0
    log = [entry for _, entry in buses["system-redis"].xrange("board:audit")]
    assert [entry[b"outcome"] for entry in log if entry[b"action"] == b"clear_cache"] == [b"begun", b"done"]


def test_a_refresh_is_asked_for_once_by_name_and_its_report_is_shown(market, buses, token):
    bus = buses["system-redis"]
    assert market.get("/api/v1/sources/refresh").status_code == 404
    wrong = post(market, "/api/v1/sources/refresh", headers=token, json={"source": "krakn"})
    assert (wrong.status_code, "did you mean kraken" in wrong.text) == (404, True), wrong.text
    answer = post(market, "/api/v1/sources/refresh", headers=token, json={"source": "kraken"})
    assert (answer.status_code, answer.json()["report"]) == (202, None), "no sources runs"
    request = RefreshRequest.parse(bus.get(SOURCES_REFRESH_REQUEST))
    assert (request.id, request.source, request.by) == (answer.json()["id"], "kraken", "kim")
    report = RefreshReport(request=request.id, state=RefreshState.DONE, ts=request.ts, series=1, tried=1)
    bus.set(SOURCES_REFRESH, report.encode())
    assert read(market, "/api/v1/sources/refresh")["state"] == "done"


def test_the_page_of_the_api_needs_no_other_host(market):
    answer = market.get("/docs")
    assert answer.status_code == 200
    assert "/api/v1/cache/clear" in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_a_report_that_nobody_can_read_is_none(market, buses):
    buses["system-redis"].set(ARCHIVE_BACKUP, b"{")
    assert until(lambda: market.get("/health").json()["parts"]["backup"]["status"] == "off")


def test_a_bus_that_is_away_makes_a_503_that_says_so(tmp_path):
    with open_market(tmp_path, None) as market:
        market.fleet.market.kill()
        check_away(market)


def check_away(market):

    def find():
        found = market.get("/health")
        is_down = found.json()["parts"]["market-redis"]["status"] == "down"
        return found if is_down and found.status_code == 503 else None

    assert until(find).json()["status"] == "down"
    assert market.get("/api/v1/health").status_code == 503
