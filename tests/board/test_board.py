"""The board on a real fleet: what the stream says, and when, and how it ends."""

import contextlib
import re
import socket
import time

import httpx
import pytest

from support.scenes.board import BEATS, TRUTH, open_board
from support.waiting import Stopwatch, until


@pytest.fixture
def board(tmp_path):
    with open_board(tmp_path) as board:
        yield board


def test_a_service_that_dies_is_on_the_stream_within_a_second_of_its_event(board):
    with board.follow() as stream:
        stream.wait("reset")
        board.beater.stop("shop")
        alert = stream.wait("alert", svc="shop", type="heartbeat_miss")
        change = stream.wait_change("shop", state="down")
        assert alert.at - alert.data["ts"] < 1
        assert change.at - alert.data["ts"] < 1
        assert alert.data["title"] == "shop is down"
        board.beater.resume("shop")
        recovery = stream.wait("alert", svc="shop", type="heartbeat_ok")
        assert stream.wait_change("shop", state="up").at - recovery.data["ts"] < 1
    alerts = board.get("/api/v1/alerts", params={"svc": "shop"}).json()["events"]
    assert [one["type"] for one in alerts[:2]] == ["heartbeat_ok", "heartbeat_miss"]
    found = board.get(f"/api/v1/alerts/{alerts[1]['id']}").json()
    assert found["buses"] == ["system-redis"]
    assert found["event"]["svc"] == "shop"


def test_one_cause_folds_what_needs_it(board):
    board.beater.stop("shop", "web")
    until(lambda: board.state("shop") == board.state("web") == "down", 10)
    (incident,) = board.get("/api/v1/incidents").json()
    assert (incident["svc"], incident["dependants"]) == ("shop", ["web"])


def test_a_browser_that_comes_back_gets_exactly_what_it_missed(board):
    with board.follow() as stream:
        stream.wait("reset")
        stream.wait("delta")
        last = stream.last_id
    board.beater.stop("shop")
    until(lambda: board.state("shop") == "down", 10)
    with board.follow(last) as stream:
        stream.wait("alert", svc="shop")
        stream.wait_change("shop", state="down")
        numbers = [int(one.id.rpartition("-")[2]) for one in stream.events if one.id]
        assert numbers == list(range(int(last.rpartition("-")[2]) + 1, numbers[-1] + 1))
        assert not [one for one in stream.events if one.kind == "reset"]


def test_after_a_restart_of_the_board_a_browser_is_told_to_read_anew(board):
    with board.follow() as stream:
        stream.wait("delta")
        last = stream.last_id
        board.fleet["board"].kill()
        until(lambda: stream.ended_at, 5)
    board.fleet.start("board")
    until(lambda: board.state("shop") == "up", 20)
    with board.follow(last) as stream:
        stream.wait("reset")


def test_a_bus_that_is_cut_off_is_said_and_comes_back_by_itself(board):
    with board.follow() as stream:
        stream.wait("delta")
        board.fleet.system.kill()
        stream.wait_change("shop", state="unknown")
        answer = board.get("/readyz")
        assert answer.status_code == 503
        assert "system-redis" in answer.text
        assert board.get("/healthz").status_code == 200
        board.fleet.system.start()
        stream.wait_change("shop", 20, state="up")
    until(lambda: board.get("/readyz").status_code == 200, 10)


def test_a_badge_shows_the_outage_of_a_service_and_of_its_tag(board):
    assert board.get("/badge/shop.json").json()["status"] == "up"
    board.beater.stop("shop")
    until(lambda: board.get("/badge/tag/public.json").json()["status"] == "down", 10)
    picture = board.get("/badge/shop.svg")
    assert (picture.headers["content-type"], "shop: down" in picture.text) == ("image/svg+xml", True)
    assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
    assert board.get("/badge/web.svg").headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_of_a_service_has_its_beats_its_badge_and_says_what_it_does_not_know(board):
    page = board.get("/services/shop").text
    assert "Mesh does not know who runs." in page
    assert f"![shop]({board.url}/badge/shop.svg)" in page
    assert "Everyone may ask for it." in page
    assert "It beats every 10 s, and the board" not in page
    assert "the board looks every 1 s: it misses some" in page, "it beats every 0.3 s"


def test_open_streams_do_not_hold_up_its_end(board):
    with contextlib.ExitStack() as ends:
        streams = [ends.enter_context(board.follow()) for _ in range(20)]
        for stream in streams:
            stream.wait("reset")
        assert board.fleet["board"].stop(within=10) == 0
        until(lambda: all(stream.ended_at for stream in streams), 10)
    assert not board.fleet["board"].logs("library.message")


def test_what_did_not_change_is_not_sent_again(board):
    answer = board.get("/api/v1/services")
    held = board.get("/api/v1/services", headers={"If-None-Match": answer.headers["etag"]})
    assert held.status_code in (200, 304)  # a beat may have come meanwhile
    until(
        lambda: (
            board.get(
                "/api/v1/services", headers={"If-None-Match": board.get("/api/v1/services").headers["etag"]}
            ).status_code
            == 304
        ),
        5,
    )


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example"])
def test_a_name_that_is_not_ours_gets_no_answer(board, host):
    answer = board.get("/api/v1/fleet", headers={"Host": host})
    assert answer.status_code == 421
    assert "shop" not in answer.text


def test_a_client_that_sends_nothing_or_too_slowly_is_closed(board):
    stopwatch = Stopwatch()
    with socket.create_connection(("127.0.0.1", board.port), 5) as silent:
        silent.settimeout(20)
        with socket.create_connection(("127.0.0.1", board.port), 5) as slow:
            slow.settimeout(0.5)
            slow.sendall(b"GET / HTTP/1.1\r\n")
            with contextlib.suppress(OSError):
                while stopwatch.own_sec < 20:
                    slow.sendall(b"X: y\r\n")
                    with contextlib.suppress(TimeoutError):
                        if not slow.recv(100):
                            break
        assert stopwatch.sec > 5
        assert stopwatch.own_sec < 15
        with contextlib.suppress(ConnectionError):
            assert silent.recv(100) == b""
    assert board.get("/healthz").status_code == 200


def test_headers_have_a_bound(board):
    assert board.get("/healthz", headers={"X": "y" * 40_000}).status_code == 431


def test_a_port_that_is_taken_is_said_with_its_variable(board):
    second = board.fleet.start("board", METRICS_PORT="")
    assert second.wait(20) == 2
    assert f"BOARD_PORT: port {board.port}" in second.text()


def test_the_past_of_a_service_is_shown_and_outlives_a_board_that_is_killed(board):
    def downs():
        spans = board.get("/api/v1/services/shop").json()["recent"]
        return [span["starts_at"] for span in spans if span["state"] == "down"]

    stopped_at = time.time()
    board.beater.stop("shop")
    until(lambda: board.state("shop") == "down", 10)
    begun = until(downs, 10)
    assert abs(begun[0] - stopped_at) < 5
    board.beater.resume("shop")
    until(lambda: board.state("shop") == "up", 10)
    board.fleet["board"].kill()
    board.fleet.start("board")
    until(lambda: board.state("shop") == "up", 20)
    assert until(downs, 10) == begun
    until(lambda: board.get("/api/v1/services/web").json()["uptime"]["24h"]["share"] == 1, 20)


def test_a_reseed_adds_and_removes_services_on_the_stream(board):
    services = {svc: section for svc, section in TRUTH["services"].items() if svc != "web"}
    with board.follow() as stream:
        stream.wait("reset")
        board.fleet.seed({"services": {**services, "new": {"heartbeat": BEATS, "tags": ["fresh"]}}})
        added = stream.wait_change("new", tags=["fresh"])
        assert added.data["removed"] == ["web"]
        assert added.data["order"] == ["healer", "board", "shop", "new"]
        assert added.data["fleet"]["revision"] == 2
    revisions = board.get("/truth", params={"older": 1, "newer": 2})
    assert revisions.status_code == 200
    assert "fresh" in revisions.text


def test_a_reseed_changes_how_many_browsers_may_follow(board):
    services = {**TRUTH["services"], "board": {"heartbeat": BEATS, "settings": {"max_streams": 1}}}
    with board.follow() as first, board.follow() as second:
        first.wait("reset")
        second.wait("reset")
        board.fleet.seed({"services": services})
        first.wait("delta")
        until(lambda: ask_for_stream(board) == 503, 10)


def ask_for_stream(board):
    """Return the status of one more stream, and end it."""
    with httpx.stream("GET", f"{board.url}/api/v1/stream", timeout=10) as answer:
        return answer.status_code


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/services/shop",
        "/alerts",
        "/incidents",
        "/topology",
        "/truth",
        "/public",
        "/public/public",
        "/announcements",
    ],
)
def test_every_page_says_that_nothing_inline_may_run_and_has_nothing_inline(board, path):
    answer = board.get(path)
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|style=|javascript:", answer.text)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", answer.text)


def test_a_browser_that_reads_nothing_is_given_up_and_the_others_go_on(board):
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(5)
        slow.connect(("127.0.0.1", board.port))
        stopwatch = Stopwatch()
        for _ in range(14):  # more than the buffers take, and fewer than the requests that may wait
            slow.sendall(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert board.get("/healthz").status_code == 200
        until(lambda: is_reset(slow), 20, "the slow connection to be given up")
        assert stopwatch.sec > 5
        assert stopwatch.own_sec < 18
    assert board.state("shop") == "up"


def is_reset(connection):
    """Return True if the other end has aborted a connection."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
