"""Signals on a real board: its API, its pages and its topic, with a real Redis and a real PostgreSQL."""

import asyncio
import csv
import io
from hashlib import sha256
from pathlib import Path

import asyncpg
import httpx
import jinja2
import orjson
import pytest
from playwright.sync_api import expect
from websockets.sync.client import connect

import services.board.signals
from marketswarm.cli.board_reading import read_board
from marketswarm.cli.findings import Level, judge_board
from marketswarm.fleet.log_witness import OWN_WITNESS
from marketswarm.keys import SIGNALS_LOG, SIGNALS_SHADOW, SIGNALS_WITNESS
from services.board.fleet.probe_pictures import FILTERS as PROBE_FILTERS
from services.board.fleet.words import FILTERS
from services.board.market.pictures import FILTERS as MARKET_FILTERS
from services.board.market.price_cells import make_cells
from services.board.operations.signal_health import CHECKPOINT, GAP, SIGNAL_PARTS, TICK, WITNESS
from services.board.signals.words import FILTERS as SIGNAL_FILTERS
from services.tables.signal_witness import WitnessReport
from support.market_board import open_market, publishes, run_apart
from support.postgres import Postgres
from support.rig.browser import PHONE, find_violations, needs_chromium
from support.signal_rows import (
    CONFLICT,
    ENDPOINTS,
    NOW_MS,
    PARTICIPATION,
    SCORE,
    VOTES,
    cosign,
    make_content,
    make_rows,
    make_tick,
    publish,
    seed_signals,
    word_signal,
    write_places,
)
from support.waiting import until

HURT = "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"
BIDI = "up\u202edown \x1b[31m\x07red \u2028 \x00nul"
HOSTILE = {**VOTES, "trend": {**VOTES["trend"], "reasons": [HURT, BIDI, "r" * 20_000]}}
WORDED = "SPY is long because its short mean is above the long one."
HURT_WORDED = "<b>short</b> \u202e\x1b[2J <script>window.hurt = 1</script>"
FORMULA = {**VOTES, "trend": {**VOTES["trend"], "reasons": ["=HYPERLINK(1)"]}}
TICKS = (
    make_tick(1, make_content("EUR/USD", 1), make_content("SPY", 1)),
    make_tick(2, make_content("SPY", 2, "short", score=f"-{SCORE}")),
    make_tick(3, make_content("QQQ", 3, votes=HOSTILE), make_content("SPY", 3, None)),
    make_tick(4, make_content("GLD", 4, None, votes={}, why="=1+1", replay=True)),
    make_tick(5, make_content("SPY", 5, "flat", score="0.050000000000", confidence="0.050000000000")),
)
COSIGNED = 3
SIGNALS = {"signals": {**publishes(SIGNALS_LOG), "endpoints": ENDPOINTS}}
IDS = {(tick.number, row.symbol): row.ident for tick in TICKS for row in make_rows(tick)}


@pytest.fixture(scope="module")
def archive(postgres):
    url = run_apart(postgres.new_archive)
    run_apart(asyncio.run, seed_signals(url, TICKS, cosigned=COSIGNED))
    run_apart(asyncio.run, word_signal(url, 1, "SPY", WORDED))
    run_apart(asyncio.run, word_signal(url, 3, "QQQ", HURT_WORDED, "<i>\x1bm"))
    return url


@pytest.fixture(scope="module")
def market(archive, tmp_path_factory):
    with open_market(tmp_path_factory.mktemp("signals"), archive, services=SIGNALS) as market:
        yield market


def test_the_health_has_the_ends_of_the_log_and_doctor_reads_them(market, tmp_path, monkeypatch):
    parts = market.get("/health").json()["parts"]
    found = {name: (parts[name]["status"], parts[name]["why"], parts[name]["name"]) for name in SIGNAL_PARTS}
    assert found == {
        TICK: ("degraded", "no tick is decided", "tick 5"),
        CHECKPOINT: ("ok", None, None),
        WITNESS: ("ok", None, "witness.example/one"),
        GAP: ("ok", None, "none within an hour"),
    }
    assert parts[TICK]["age_sec"] > 500
    assert 9 <= parts[WITNESS]["age_sec"] < 300
    url = httpx.URL(str(market.get("/health").url))
    monkeypatch.setenv("BOARD_HOST", url.host)
    monkeypatch.setenv("BOARD_PORT", str(url.port))
    levels = {each.about: each.level for each in judge_board(asyncio.run(read_board(tmp_path)))}
    read = [levels[about] for about in ("signals", "checkpoint", "witness", "gap")]
    assert read == [Level.WRONG, Level.RIGHT, Level.RIGHT, Level.RIGHT]


def test_a_witness_that_refuses_is_a_red_line_whoever_named_it(market):
    """The truth of this fleet names none, so signals alone knows that there is one."""

    def read():
        part = market.get("/health").json()["parts"][WITNESS]
        return part["status"], part["why"]

    market.client.set(SIGNALS_WITNESS, WitnessReport(named=True, reason="bad_proof", refused=True).encode())
    try:
        until(lambda: read() == ("degraded", "the witness refuses: bad_proof"), what="the health to say it")
    finally:
        market.client.delete(SIGNALS_WITNESS)
    until(lambda: read() == ("ok", None), what="the health to forget it")


def ask(market, path="", **params):
    return market.get(f"/api/v1/signals{path}", params=params)


def list_keys(answer):
    return [(one["tick"], one["symbol"]) for one in answer.json()["signals"]]


def test_every_signal_is_there_once_with_its_numbers_as_they_were_hashed(market):
    answer = ask(market)
    assert (answer.status_code, answer.json()["paper"], answer.json()["cursor"]) == (
        200,
        "paper, no advice",
        None,
    )
    assert list_keys(answer) == sorted(IDS)
    first = answer.json()["signals"][0]
    assert first["id"] == IDS[1, "EUR/USD"]
    assert [first[name] for name in ("score", "conflict", "participation")] == [
        SCORE,
        CONFLICT,
        PARTICIPATION,
    ]
    assert (first["side"], first["n"], first["voted"], first["voters"]) == ("long", 0, 3, 4)
    assert first["why"] == "trend: the mean of 10 closes is above that of 30"
    assert (first["source"], first["replay"], first["price"]) == ("massive", False, "581.2")


def test_a_signal_is_proven_once_a_cosigned_checkpoint_has_it(market):
    states = {one["tick"]: (one["witness"], one["witnessed_at"]) for one in ask(market).json()["signals"]}
    proven, waiting = ("proven", NOW_MS - 9000), ("not yet witnessed", None)
    assert states == {1: proven, 2: proven, 3: proven, 4: waiting, 5: waiting}
    one = ask(market, f"/{IDS[2, 'SPY']}").json()["signal"]
    assert one["checkpoint"] == {"size": COSIGNED, "witness": "witness.example/one"}
    assert one["age_sec"] >= 9
    late = ask(market, f"/{IDS[5, 'SPY']}").json()["signal"]
    assert (late["checkpoint"], late["witness"]) == (None, "not yet witnessed")
    assert late["age_sec"] >= 500
    past = ask(market, as_of=NOW_MS - 9001).json()["signals"]
    assert {one["witness"] for one in past} == {"not yet witnessed"}, "it was cosigned later"


@pytest.mark.parametrize(
    ("params", "keys"),
    [
        ({"symbol": "SPY"}, [(1, "SPY"), (2, "SPY"), (3, "SPY"), (5, "SPY")]),
        ({"symbol": "SPY", "side": "short"}, [(2, "SPY")]),
        ({"side": "flat"}, [(5, "SPY")]),
        ({"outcome": "abstained"}, [(3, "SPY"), (4, "GLD")]),
        ({"since": TICKS[3].at_ms}, [(4, "GLD"), (5, "SPY")]),
        ({"until": TICKS[1].at_ms}, [(1, "EUR/USD"), (1, "SPY")]),
        ({"since": TICKS[1].at_ms, "until": TICKS[2].at_ms}, [(2, "SPY")]),
        ({"since": NOW_MS + 60_000}, []),
        ({"as_of": TICKS[0].at_ms}, [(1, "EUR/USD"), (1, "SPY")]),
        ({"as_of": TICKS[0].at_ms - 1}, []),
    ],
)
def test_a_filter_leaves_out_what_does_not_fit(market, params, keys):
    assert list_keys(ask(market, **params)) == keys


@pytest.mark.parametrize("params", [{}, {"symbol": "SPY"}, {"side": "long"}])
def test_pages_lead_through_all_signals_and_repeat_none(market, params):
    whole, found, cursor, pages = list_keys(ask(market, **params)), [], None, 0
    while pages == 0 or cursor:
        answer = ask(market, limit=2, **params, **({"cursor": cursor} if cursor else {}))
        found, cursor, pages = list_keys(answer) + found, answer.json()["cursor"], pages + 1
    assert found == whole
    assert pages >= len(whole) / 2


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "5",
        "5,",
        ",SPY",
        "-1,SPY",
        "99999999999999999999,SPY",
        "5,SPY\n",
        "1e3,SPY",
        "\u0665,SPY",
        "0,SPY",
    ],
)
def test_a_cursor_that_no_page_gave_is_refused_and_never_an_error(market, cursor):
    answer = ask(market, cursor=cursor)
    assert (answer.status_code, answer.json()["detail"]) == (422, "cursor: is not one that a page gave")


@pytest.mark.parametrize("cursor", ["999999999999999999,SPY", "3,'; drop table signals", "3,%00", "1,A"])
def test_a_cursor_that_lies_leads_to_other_signals_and_to_no_failure(market, cursor):
    assert ask(market, cursor=cursor).status_code in (200, 422)
    assert len(list_keys(ask(market))) == len(IDS)


@pytest.mark.parametrize(
    ("path", "status", "names"),
    [
        ("?side=up", 422, "side"), ("?outcome=won", 422, "outcome"), ("?limit=0", 422, "limit"),
        ("?limit=1001", 422, "limit"), ("?format=arrow", 422, "format"), ("?since=soon", 422, "since"),
        ("?since=2026-01-02&until=2026-01-01", 422, "since"), ("?colour=red", 422, "colour"),
        ("?symbol=%3Cb%3E", 422, "symbol"), ("?symbol=SPPY", 404, "SPY"), ("/SPPY", 404, "SPY"),
        ("/" + "0" * 64, 404, "no such signal"), ("/" + "A" * 64, 422, ""), ("/" + "a" * 65, 422, ""),
        ("/SPY/x?side=up", 422, "side"), (f"/{'a' * 64}?as_of=2026-01-01", 422, "as_of"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(market, path, status, names):
    answer = market.get(f"/api/v1/signals{path}")
    assert (answer.status_code, names in answer.json()["detail"]) == (status, True), answer.text


def test_a_symbol_has_its_newest_signal_whole_and_its_history(market):
    answer = ask(market, "/SPY")
    assert list_keys(answer) == [(1, "SPY"), (2, "SPY"), (3, "SPY"), (5, "SPY")]
    newest = answer.json()["newest"]
    assert (newest["id"], newest["tick"]) == (IDS[5, "SPY"], 5)
    assert len(newest["votes"]) == 4
    for path in ("/EUR/USD", "/EUR%2FUSD"):
        assert list_keys(market.get(f"/api/v1/signals{path}")) == [(1, "EUR/USD")]
    assert ask(market, "/SPY", as_of=TICKS[1].at_ms).json()["newest"]["tick"] == 2
    empty = ask(market, "/IWM").json()
    assert (empty["newest"], empty["signals"]) == (None, [])


def test_a_signal_has_its_votes_the_sum_and_the_text_of_its_id(market):
    one = ask(market, f"/{IDS[1, 'SPY']}").json()["signal"]
    assert sha256(b"\x00" + one["content"].encode()).hexdigest() == one["id"] == IDS[1, "SPY"]
    votes = {each["voter"]: each for each in one["votes"]}
    assert list(votes) == ["trend", "breakout", "reversion", "xai_grok"]
    assert (votes["trend"]["opinion"], votes["trend"]["weight_used"]) == ("0.720000000000", "0.470588235294")
    assert (votes["xai_grok"]["abstained"], votes["xai_grok"]["adds"]) == ("late", None)
    assert one["sum"] == {"score": SCORE, "conflict": CONFLICT, "adds_up": True, "weights_of": "place"}
    assert ask(market, f"/{IDS[2, 'SPY']}").json()["signal"]["sum"]["adds_up"] is False
    assert (one["made_by"]["truth"], one["made_by"]["consensus"], one["bars"]["count"]) == ("7", "6.0", 30)


def test_a_signal_has_its_sentence_by_rule_and_how_a_model_worded_it(market):
    one, plain = (ask(market, f"/{IDS[key]}").json()["signal"] for key in ((1, "SPY"), (2, "SPY")))
    assert one["sentence"].startswith("SPY is now long: 3 of 4 voters voted, with a score of 0.415294117647;")
    assert (one["wording"]["text"], one["wording"]["model"]) == (WORDED, "grok-4")
    assert one["wording"]["at"] > NOW_MS - 60_000
    assert plain["wording"] is None
    assert plain["sentence"].startswith("SPY ")
    page = market.get(f"/market/signals/{IDS[1, 'SPY']}").text
    assert f"“{WORDED}”" in page
    assert "worded by grok-4" in page
    assert "worded by" not in market.get(f"/market/signals/{IDS[2, 'SPY']}").text


def test_a_wording_is_text_whatever_a_model_said(market):
    one = ask(market, f"/{IDS[3, 'QQQ']}").json()["signal"]
    assert one["wording"]["text"].isprintable()
    assert one["wording"]["model"] == r"<i>\x1bm"
    page = market.get(f"/market/signals/{IDS[3, 'QQQ']}").text
    assert "&lt;b&gt;short" in page
    assert "<b>short" not in page
    assert "worded by &lt;i&gt;" in page
    assert "\u202e" not in page


def test_an_answer_that_did_not_change_is_not_sent_again(market):
    for path in ("", "/SPY", f"/{IDS[1, 'SPY']}"):
        answer = ask(market, path)
        known = {"If-None-Match": answer.headers["etag"]}
        assert market.get(f"/api/v1/signals{path}", headers=known).status_code == 304, path
        asked = httpx.head(f"{market.url}/api/v1/signals{path}")
        assert (asked.status_code, asked.headers["etag"], asked.content) == (200, answer.headers["etag"], b"")


def test_no_cell_of_a_csv_is_a_formula_and_a_negative_score_is_a_number(market):
    answer = ask(market, format="csv", limit=4)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["x-cursor"] == "3,QQQ"
    rows = list(csv.DictReader(io.StringIO(ask(market, format="csv").text)))
    by_key = {(int(row["tick"]), row["symbol"]): row for row in rows}
    assert set(by_key) == set(IDS)
    assert by_key[4, "GLD"]["why"] == "'=1+1"
    assert by_key[2, "SPY"]["score"] == f"-{SCORE}"
    assert all(each[:1] not in ("=", "+", "@", "\t") for row in rows for each in row.values())
    assert "\u202e" not in answer.text
    assert "\x1b" not in answer.text


def test_what_voters_say_is_cut_and_printable(market):
    vote = ask(market, f"/{IDS[3, 'QQQ']}").json()["signal"]["votes"][0]
    assert vote["reasons"][0] == HURT
    assert vote["reasons"][1].isprintable()
    assert r"\u202e" in vote["reasons"][1]
    assert len(vote["reasons"][2]) == 300


def follow(socket, *topics):
    socket.recv(10)
    socket.send(orjson.dumps({"subscribe": topics}).decode())
    return orjson.loads(socket.recv(10))


def hear(socket):
    return [(one["topic"], one["data"]["id"]) for one in orjson.loads(socket.recv(15))["updates"]]


def test_followers_get_each_signal_once_and_what_is_no_signal_is_set_aside(market):
    spy, gld = make_tick(101, make_content("SPY", 101)), make_tick(102, make_content("GLD", 102, "short"))
    with connect(market.socket_url, max_size=None) as everything, connect(market.socket_url) as one:
        assert follow(everything, "signals")["type"] == "snapshot"
        assert follow(one, "signals:GLD")["topics"] == {"signals:GLD": None}
        market.client.xadd(SIGNALS_LOG, {"id": "0" * 64, "content": "{}", "tick": "1"})
        market.client.xadd(SIGNALS_LOG, {"content": b"\xff" * 100})
        market.client.xadd(SIGNALS_LOG, {"content": "x" * 1_000_000})
        (first,) = publish(market.client, spy)
        assert hear(everything) == [("signals:SPY", first)]
        publish(market.client, spy)  # a new leader does not know that it was published
        (second,) = publish(market.client, gld)
        assert hear(everything) == [("signals:GLD", second)]
        assert hear(one) == [("signals:GLD", second)]
    with connect(market.socket_url, max_size=None) as later:
        state = follow(later, "signals", "signals:SPY", "signals:QQQ")["topics"]
        assert [each["id"] for each in state["signals"]] == [first, second]
        assert (state["signals:SPY"]["id"], state["signals:SPY"]["score"], state["signals:QQQ"]) == (
            first, SCORE, None,
        )  # fmt: skip
    with connect(market.socket_url) as wrong:
        assert follow(wrong, "signals:SPPY")["type"] == "error"


def test_pages_need_no_script_and_say_what_they_show(market):
    page = market.get("/market/signals").text
    assert page.index(IDS[5, "SPY"]) < page.index(IDS[1, "SPY"]), "the newest first"
    assert "paper, no advice" in page
    assert page.count("not yet witnessed") == 2
    chosen = market.get("/market/signals?symbol=SPY&side=short").text
    assert (IDS[2, "SPY"] in chosen, IDS[1, "SPY"] in chosen) == (True, False)
    assert IDS[1, "SPY"] in market.get("/market/signals?symbol=&side=").text, "as the form sends it"
    assert "No such signal of IWM" in market.get("/market/signals?symbol=IWM").text
    assert market.get("/market/signals?symbol=SPPY").status_code == 404
    assert market.get("/market/signals?side=up").status_code == 422
    assert market.get("/market/signals?cursor=x").status_code == 422
    past = market.get(f"/market/signals?as_of={TICKS[0].at_ms}").text
    assert (IDS[1, "SPY"] in past, IDS[2, "SPY"] in past, 'data-topics=""' in past) == (True, False, True)
    assert [market.get(f"/market/signals/{one}").status_code for one in ("x", "0" * 64)] == [404, 404]
    assert market.get(f"/market/signals/{IDS[1, 'SPY']}?as_of=2026-01-01").status_code == 422


def test_a_revision_in_the_shadow_is_shown_and_a_report_that_is_none_is_not(market):
    one = {"tick": 5, "at": NOW_MS, "symbol": "GLD", "live": "long", "shadow": "flat", "live_score": SCORE}
    report = {"name": "7.0-trial", "began": NOW_MS, "at": NOW_MS, "ticks": 9, "evaluated": 40, "same": 38}
    report |= {"counts": {"long flat": 2}, "now_count": 1, "now": [one], "last": [one, one]}
    try:
        market.client.set(SIGNALS_SHADOW, orjson.dumps(report))
        until(lambda: "7.0-trial" in market.get("/market/signals").text, what="the report")
        page = market.get("/market/signals").text
        assert "decided 38 of 40 times as the revision in force did" in page
        assert "7.0-trial" not in market.get(f"/market/signals?as_of={NOW_MS - 1}").text
        for raw in (b"x" * 1_000_000, b"[]", orjson.dumps({**report, "name": "<b>" * 20})):
            market.client.set(SIGNALS_SHADOW, raw)
            until(lambda: "In the shadow" not in market.get("/market/signals").text, what="no report")
    finally:
        market.client.delete(SIGNALS_SHADOW)


def test_the_page_of_a_signal_has_the_sum_and_how_to_prove_it(market):
    page = market.get(f"/market/signals/{IDS[1, 'SPY']}").text
    for text in (SCORE, "which is the score", "0.470588235294", "abstains: late", IDS[1, "SPY"],
                 "witness.example/one", "marketswarm audit prove SPY", "paper, no advice"):  # fmt: skip
        assert text in page, text
    assert "and the score is" in market.get(f"/market/signals/{IDS[2, 'SPY']}").text
    box = market.get("/market/symbol/SPY").text
    assert f"/market/signals/{IDS[5, 'SPY']}" in box
    assert "none yet" in market.get("/market/symbol/IWM").text
    assert IDS[2, "SPY"] in market.get(f"/market/symbol/SPY?as_of={TICKS[1].at_ms}").text


def test_a_witness_of_the_fleet_itself_is_shown_as_a_copy_and_no_anchor():
    parts = Path(services.board.signals.__path__[0]).parent / "templates" / "market_signal_parts.html"
    page = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(parts.parent))
    # the parts that it imports are compiled, too
    page.filters |= {**FILTERS, **PROBE_FILTERS, **MARKET_FILTERS, **SIGNAL_FILTERS, "cells": make_cells}
    show = page.from_string(parts.read_text("utf-8")).make_module().witness_name
    assert "a copy, and no anchor" in show(f"a-fleet/{OWN_WITNESS}")
    assert show("witness.example/one") == "witness.example/one"


@needs_chromium
def test_what_voters_say_is_never_markup(market, new_tab):
    tab = new_tab()
    for path in ("/market/signals", f"/market/signals/{IDS[3, 'QQQ']}", "/market/symbol/QQQ"):
        page = tab.open(market.url + path)
        assert page.evaluate("window.hurt") is None
        assert page.locator("main script, main img").count() == 0
        assert "\u202e" not in page.locator("main").inner_text()
    assert "<script>" in page.locator("#signal").inner_text()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("how", [{}, {"viewport": PHONE}, {"viewport": {"width": 320, "height": 700}}])
def test_no_page_is_wider_than_its_window_and_everyone_can_use_it(market, new_tab, how, scheme):
    tab = new_tab(color_scheme=scheme, **how)
    for path in ("/market/signals", f"/market/signals/{IDS[3, 'QQQ']}", f"/market/signals/{IDS[1, 'SPY']}"):
        page = tab.open(market.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert find_violations(page) == [], path


@needs_chromium
def test_a_page_shows_a_new_signal_by_itself(market, archive, new_tab):
    page = new_tab().open(f"{market.url}/market/signals?symbol=USO")
    expect(page.locator(".empty")).to_contain_text("No such signal of USO")
    tick = make_tick(200, make_content("USO", 200))
    run_apart(asyncio.run, seed_signals(archive, [tick], first=len(TICKS)))
    publish(market.client, tick)
    expect(page.locator("#signals tbody tr")).to_have_count(1)


async def _change(url):
    """Write a place that does not fit its hash, and one whose content is no place, as a superuser could."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("insert into signal_epochs values (2, now(), 'x')")
        for n, (symbol, text) in enumerate((("SPY", None), ("QQQ", '{"symbol": 5}')), 1):
            (row,) = make_rows(make_tick(n + 1, make_content(symbol, n + 1)))
            await connection.execute(
                "insert into signal_log values ($1, 'tick', $2, 2, now(), '[]')", n, n + 1
            )
            changed = row.content.replace("581.2", "999.9") if text is None else text
            digest = row.hash if text is None else sha256(b"\x00" + changed.encode()).digest()
            await write_places(connection, [row._replace(content=changed, hash=digest)])
        await cosign(connection, 3)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """A board whose database the test freezes, with a place that was changed."""
    with Postgres() as server:
        url = run_apart(server.new_archive)
        run_apart(asyncio.run, seed_signals(url, [make_tick(1, make_content("SPY", 1))]))
        run_apart(asyncio.run, _change(url))
        with open_market(tmp_path_factory.mktemp("away"), url, services=SIGNALS) as market:
            yield server, market


def test_a_signal_that_was_changed_is_not_proven_and_one_that_can_not_be_read_is_shown_all_the_same(away):
    _, market = away
    first, changed, broken = ask(market).json()["signals"]
    assert (first["witness"], changed["witness"], broken["witness"]) == ("proven", "changed", "proven")
    assert broken["why"] == "its content can't be read"
    for one in (changed, broken):
        assert ask(market, f"/{one['id']}").status_code == 200
    assert "was changed in the database" in market.get(f"/market/signals/{changed['id']}").text
    assert "can't be read" in market.get(f"/market/signals/{broken['id']}").text


def test_while_the_archive_is_away_answers_say_so_and_when_to_come_back(away):
    server, market = away
    server.freeze()
    try:
        until(lambda: ask(market).status_code == 503, what="the board to know that its database is away")
        for path in ("", "/SPY", f"/{'a' * 64}"):
            answer = ask(market, path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
        page = market.get("/market/signals")
        assert (page.status_code, "can't be read now" in page.text) == (200, True)
        assert "not known" in market.get("/market/symbol/SPY").text
    finally:
        server.thaw()


def test_a_fleet_without_signals_says_how_to_get_them(archive, tmp_path):
    with open_market(tmp_path, None) as market:
        page = market.get("/market/signals").text
        assert "No archive" in page
        assert 'id="signal"' not in market.get("/market/symbol/SPY").text
        parts = market.get("/health").json()["parts"]
        assert {parts[name]["status"] for name in SIGNAL_PARTS} == {"off"}
