"""Which session a symbol has, by the truth."""

import asyncio
import threading
import time
from dataclasses import replace

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.agent.worker_process import WorkerError, WorkerFailure
from marketswarm.truth import parse_truth
from services.board.market import calendar_process, calendars
from services.board.market.calendar_process import request_days
from services.board.market.calendars import SymbolSessions, list_symbol_sessions
from services.market.sessions import UnknownSessionError, compute_exchange_days, get_session


def publish(key):
    return {"publish_to": [{"bus": "market-redis", "key": key}]}


def make_truth(bars=(), series=()):
    services = {
        "loader": {"access_points": publish("market:series"), "endpoints": list(series)},
        "checker": {"access_points": publish("bars:bars"), "endpoints": list(bars)},
        "feeds": {"endpoints": [{"symbols": ["SPY"], "session": "XTKS"}]},
    }
    return parse_truth(orjson.dumps({"services": services})).truth


def test_the_truth_names_the_session_of_a_symbol_and_bars_counts_first():
    truth = make_truth(
        bars=[{"symbols": ["VOD", "SAP"], "session": "XLON"}, {"symbols": ["BTC/USD"], "asset": "crypto"}],
        series=[
            {"symbol": "VOD", "session": "XPAR"},
            {"symbols": ["SPY", "QQQ"]},
            {"symbol": "EUR/USD", "asset": "forex"},
        ],
    )
    assert list_symbol_sessions(truth) == {
        "VOD": "XLON",
        "SAP": "XLON",
        "BTC/USD": "24x7",
        "SPY": "XNYS",
        "QQQ": "XNYS",
        "EUR/USD": "24x5",
    }


def test_bars_names_a_session_for_all_symbols_of_a_class():
    services = {
        "sources": {"endpoints": [{"symbols": ["VOD", "SAP"], "from": ["yahoo"]}]},
        "bars": {
            "endpoints": [{"asset": "stocks", "session": "XLON"}, {"symbols": ["SAP"], "session": "XETR"}]
        },
    }
    truth = parse_truth(orjson.dumps({"services": services})).truth
    assert list_symbol_sessions(truth) == {"VOD": "XLON", "SAP": "XETR"}


def test_what_is_no_entry_is_left_out():
    odd = ["SPY", {}, {"symbols": "SPY"}, {"symbol": 5}, {"symbol": "A", "session": 5}, {"symbols": [None]}]
    assert list_symbol_sessions(make_truth(bars=odd)) == {}


async def test_a_symbol_that_the_truth_does_not_name_has_the_session_of_its_class():
    found = SymbolSessions(make_truth)
    assert (found.find_code("X", "crypto"), found.find_code("X", "")) == ("24x7", None)
    assert (await found.find("X", "crypto")).code == "24x7"
    assert await found.find("X", "") is None


async def test_a_new_truth_has_its_own_sessions():
    truths = [
        make_truth(bars=[{"symbols": ["SPY"]}]),
        make_truth(bars=[{"symbols": ["SPY"], "session": "24x7"}]),
    ]
    found = SymbolSessions(lambda: truths[0])
    assert found.find_code("SPY", "") == "XNYS"
    del truths[0]
    assert found.find_code("SPY", "") == "24x7"


async def test_a_calendar_is_computed_once_in_another_process_and_one_that_is_not_there_is_none(monkeypatch):
    asked = []

    async def request(code):
        asked.append(code)
        raise UnknownSessionError(code)

    monkeypatch.setattr(calendars, "request_days", request)
    truth = make_truth(bars=[{"symbols": ["SPY"]}, {"symbols": ["A"], "session": "NONE"}])
    found = SymbolSessions(lambda: truth)
    await asyncio.gather(found.prepare(), found.find("SPY", ""), found.find("A", ""))
    assert [await found.find(symbol, "") for symbol in ("SPY", "A")] == [None, None]
    assert sorted(asked) == ["NONE", "XNYS"]


@pytest.mark.parametrize("code", ["A\0B", "-c", "X" * 1_000_000])
async def test_a_code_that_is_none_starts_no_process(code, monkeypatch):
    monkeypatch.setattr(calendars, "request_days", None)
    found = SymbolSessions(lambda: make_truth(bars=[{"symbols": ["A"], "session": code}]))
    assert await found.find("A", "") is None


@pytest.mark.live
async def test_the_process_finds_the_same_days_as_the_library_does_here():
    days = await request_days("XTKS")
    assert days == compute_exchange_days("XTKS")
    with pytest.raises(UnknownSessionError):
        await request_days("NONE")


@pytest.mark.live
async def test_a_process_that_fails_is_logged_once_and_the_days_are_computed_here(monkeypatch):
    monkeypatch.setattr(calendar_process, "LIMITS", replace(calendar_process.LIMITS, start_sec=0.0))
    truth = make_truth(bars=[{"symbols": ["SPY"]}, {"symbols": ["A"], "session": "us_volatility"}])
    found = SymbolSessions(lambda: truth)
    with capture_logs() as logs:
        session, other = await found.find("SPY", ""), await found.find("A", "")
    assert (session, other) == (get_session("XNYS"), get_session("us_volatility"))
    assert [entry["event"] for entry in logs] == ["market.calendar_process_failed"]


async def test_calendars_are_computed_one_at_a_time(monkeypatch):
    busy = threading.Lock()

    def get(code):
        assert threading.current_thread() is not threading.main_thread(), "the event loop waits"
        assert busy.acquire(blocking=False), "the library is not for two threads"
        try:
            time.sleep(0.02)
            return get_session("24x7")
        finally:
            busy.release()

    async def request(code):
        raise WorkerError(WorkerFailure.DEAD, "it died")

    monkeypatch.setattr(calendars, "get_session", get)
    monkeypatch.setattr(calendars, "request_days", request)
    found = SymbolSessions(make_truth)
    sessions = await asyncio.gather(*(found.find("X", asset) for asset in ("stocks", "forex", "crypto")))
    assert None not in sessions


async def test_who_asks_does_not_wait_for_a_calendar_that_takes_long_but_the_next_has_it(monkeypatch):
    may_answer = asyncio.Event()
    days = compute_exchange_days("XLON")

    async def answer_late(_code):
        await may_answer.wait()
        return days

    monkeypatch.setattr(calendars, "request_days", answer_late)
    sessions = SymbolSessions(lambda: make_truth(bars=[{"symbols": ["VOD"], "session": "XLON"}]))
    assets = {"BTC/USD": "crypto", "VOD": "stocks", "FOO": "unknown"}
    await sessions.find("BTC/USD", "crypto")
    found, waiting = await sessions.find_soon(assets, 0.05)
    assert waiting == ["VOD"]
    assert (found["BTC/USD"].code, found["FOO"]) == ("24x7", None)
    may_answer.set()
    found, waiting = await sessions.find_soon(assets, 60.0)
    assert waiting == []
    assert found["VOD"] == await sessions.find("VOD", "stocks")
