"""The board on a real fleet: what the stream says, and how it ends."""

import contextlib
import re

import httpx

from support.rig import HOST, Proc, free_port
from support.scenes.board import BEATS, TRUTH
from support.waiting import until

PAGES = ("/", "/services/shop", "/alerts", "/incidents", "/topology", "/truth", "/public", "/public/public",
         "/announcements")  # fmt: skip


def test_a_service_that_dies_is_on_the_stream_and_in_the_log_of_alerts(board):
    with board.follow() as stream:
        stream.wait("reset")
        board.beater.stop("shop")
        alert = stream.wait("alert", svc="shop", type="heartbeat_miss")
        stream.wait_change("shop", state="down")
        assert alert.data["title"] == "shop is down"
        board.beater.resume("shop")
        stream.wait("alert", svc="shop", type="heartbeat_ok")
        stream.wait_change("shop", state="up")
    alerts = board.get("/api/v1/alerts", params={"svc": "shop"}).json()["events"]
    assert [one["type"] for one in alerts[:2]] == ["heartbeat_ok", "heartbeat_miss"]
    found = board.get(f"/api/v1/alerts/{alerts[1]['id']}").json()
    assert found["buses"] == ["system-redis"]
    assert found["event"]["svc"] == "shop"


def test_an_outage_folds_what_needs_it_and_is_on_the_badges_of_a_service_and_its_tag(board):
    assert board.get("/badge/shop.json").json()["status"] == "up"
    board.beater.stop("shop", "web")
    until(lambda: board.state("shop") == board.state("web") == "down")
    (incident,) = board.get("/api/v1/incidents").json()
    assert (incident["svc"], incident["dependants"]) == ("shop", ["web"])
    until(lambda: board.get("/badge/tag/public.json").json()["status"] == "down")
    picture = board.get("/badge/shop.svg")
    assert (picture.headers["content-type"], "shop: down" in picture.text) == ("image/svg+xml", True)
    assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
    assert board.get("/badge/web.svg").headers["cross-origin-resource-policy"] == "same-origin"


def test_a_browser_that_comes_back_gets_exactly_what_it_missed(board):
    with board.follow() as stream:
        stream.wait("reset")
        stream.wait("delta")
        last = stream.last_id
    board.beater.stop("shop")
    until(lambda: board.state("shop") == "down")
    with board.follow(last) as stream:
        stream.wait("alert", svc="shop")
        stream.wait_change("shop", state="down")
        numbers = [int(one.id.rpartition("-")[2]) for one in stream.events if one.id]
        assert numbers == list(range(int(last.rpartition("-")[2]) + 1, numbers[-1] + 1))
        assert not [one for one in stream.events if one.kind == "reset"]


def test_a_board_that_is_killed_loses_no_past_and_tells_a_browser_to_read_anew(board):
    def read_spans():
        return board.get("/api/v1/services/shop").json()["recent"]

    def find_downs():
        return [span["starts_at"] for span in read_spans() if span["state"] == "down"]

    board.beater.stop("shop")
    until(lambda: board.state("shop") == "down")
    until(lambda: read_spans()[-1]["state"] == "down", what="the outage to be recorded")
    downs = find_downs()
    board.beater.resume("shop")
    until(lambda: board.state("shop") == "up")
    with board.follow() as stream:
        stream.wait("delta")
        last = stream.last_id
        board.fleet["board"].kill()
        until(lambda: stream.ended_at)
    board.fleet.start("board")
    until(lambda: board.state("shop") == "up")
    with board.follow(last) as stream:
        stream.wait("reset")
    until(lambda: find_downs() == downs, what=lambda: f"{downs}, there is {read_spans()}")


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
    until(lambda: board.get("/readyz").status_code == 200)


def test_the_page_of_a_service_has_its_beats_its_badge_and_says_what_it_does_not_know(board):
    page = board.get("/services/shop").text
    assert "Mesh does not know who runs." in page
    assert f"![shop]({board.url}/badge/shop.svg)" in page
    assert "Everyone may ask for it." in page
    assert "It beats every 10 s, and the board" not in page
    assert "The board looks every 1 s, so it misses some" in page, "it beats every 0.3 s"


def test_open_streams_do_not_hold_up_its_end(board):
    with contextlib.ExitStack() as ends:
        streams = [ends.enter_context(board.follow()) for _ in range(20)]
        for stream in streams:
            stream.wait("reset")
        assert board.fleet["board"].stop(within=10) == 0
        until(lambda: all(stream.ended_at for stream in streams))
    assert not board.fleet["board"].logs("library.message")


def test_what_did_not_change_is_not_sent_again(board):
    def is_held():
        tag = board.get("/api/v1/services").headers["etag"]
        return board.get("/api/v1/services", headers={"If-None-Match": tag}).status_code == 304

    until(is_held, what="no beat to come between two requests")


def test_a_name_that_is_not_ours_and_a_head_without_a_bound_get_no_answer(board):
    answer = board.get("/api/v1/fleet", headers={"Host": "127.0.0.1.evil.example"})
    assert answer.status_code == 421
    assert "shop" not in answer.text
    assert board.get("/healthz", headers={"X": "y" * 40_000}).status_code == 431


def test_a_port_that_is_taken_is_said_with_its_variable(board):
    env = {**board.fleet.env, "METRICS_PORT": ""}
    with Proc("services.board", env, board.fleet.folder) as second:
        assert second.wait(20) == 2
        assert f"BOARD_PORT: port {board.port}" in second.text()


def test_behind_a_proxy_that_is_named_each_client_is_one_of_its_own(board):
    port = free_port()
    env = board.fleet.env | {
        "METRICS_PORT": "",
        "BOARD_PORT": str(port),
        "BOARD_PUBLIC_URL": "https://up.example/board/",
        "BOARD_TRUSTED_PROXIES": "127.0.0.1",
    }
    with Proc("services.board", env, board.fleet.folder) as second:
        second.wait_log("board.listening", 30)

        def ask(path="/api/v1/truth", **headers):
            """Return the status of a request for the public name, as a proxy on this machine sends it."""
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            url = f"http://{HOST}:{port}{path}"
            return httpx.get(url, headers={"host": "up.example", **headers}).status_code

        assert ask() == 200
        assert ask(x_forwarded_for="203.0.113.5") == 401
        assert ask(x_forwarded_for="127.0.0.1, 203.0.113.5") == 401
        assert ask(forwarded="for=127.0.0.1", x_forwarded_for="203.0.113.5") == 401
        assert ask(forwarded="for=127.0.0.1;proto=https") == 200
        assert ask(host="down.example") == 421
        until(lambda: ask("/") == 200, what="the fleet to be read")
        for path in ("/", "/market"):  # pages that are kept after the first request
            own, foreign = {"path": path}, {"path": path, "x_forwarded_for": "203.0.113.5"}
            asked = (own, own, foreign, {**own, "host": "down.example"}, own)
            assert [ask(**one) for one in asked] == [200, 200, 401, 421, 200]


def test_a_reseed_changes_the_services_on_the_stream_and_how_many_browsers_may_follow(board):
    def ask_for_stream():
        """Return the status of one more stream, and end it."""
        with httpx.stream("GET", f"{board.url}/api/v1/stream", timeout=10) as answer:
            return answer.status_code

    services = {svc: section for svc, section in TRUTH["services"].items() if svc != "web"}
    services["board"] = {"heartbeat": BEATS, "settings": {"max_streams": 1}}
    revision = board.get("/api/v1/fleet").json()["fleet"]["revision"]
    with board.follow() as stream:
        stream.wait("reset")
        board.seed({"services": {**services, "new": {"heartbeat": BEATS, "tags": ["fresh"]}}})
        added = stream.wait_change("new", tags=["fresh"])
        assert added.data["removed"] == ["web"]
        assert added.data["order"] == ["healer", "board", "shop", "new"]
        assert added.data["fleet"]["revision"] == revision + 1
        until(lambda: ask_for_stream() == 503)
    revisions = board.get("/truth", params={"older": revision, "newer": revision + 1})
    assert revisions.status_code == 200
    assert "fresh" in revisions.text


def test_every_page_says_that_nothing_inline_may_run_and_has_nothing_inline(board):
    for path in PAGES:
        answer = board.get(path)
        assert answer.status_code == 200, path
        assert "script-src 'self'" in answer.headers["content-security-policy"], path
        assert "unsafe" not in answer.headers["content-security-policy"], path
        assert answer.headers["cache-control"] == "no-store", path
        inline = r"<script(?![^>]*\ssrc=)|<style|\son\w+=|style=|javascript:|(src|href)=[\"']?(https?:)?//"
        assert re.search(inline, answer.text) is None, path
