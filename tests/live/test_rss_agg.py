"""rss_agg on real buses, reading feeds from an HTTP server of the test's own."""

import http.server
import threading
import time

import pytest
from agent_scene import Scene, seed
from rig import until

FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>t</title>{}</channel></rss>"""
ITEM = "<item><guid>{0}</guid><title>Item &lt;b&gt;{0}&lt;/b&gt;</title><link>https://a/{0}</link></item>"


class Web(http.server.ThreadingHTTPServer):
    """Serves `pages`: path to body, status, or a function of the handler."""

    daemon_threads = True

    def __init__(self):
        self.pages = {}
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = self.server.pages.get(self.path, 404)
        if callable(page):
            page(self)
            return
        self.send_response(page if isinstance(page, int) else 200)
        self.end_headers()
        if not isinstance(page, int):
            self.wfile.write(page if isinstance(page, bytes) else page.encode())

    def log_message(self, *_args):
        pass


@pytest.fixture
def web():
    web = Web()
    yield web
    web.shutdown()
    web.server_close()


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        yield scene


def truth(endpoints, key="rss:items", **settings):
    return {
        "services": {
            "rss_agg": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "access_points": {"publish_to": [{"bus": "market-redis", "key": key}]},
                "endpoints": endpoints,
                "settings": {"poll_sec": 0.2, "timeout_sec": 1, **settings},
            }
        }
    }


def items(scene, key="rss:items"):
    return [fields for _id, fields in scene.market.cmd("XRANGE", key, "-", "+")]


def field(entry, name):
    return entry[name] if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))[name]


def test_without_feeds_it_just_beats(scene):
    seed(scene.buses, truth([]), 1)
    agent = scene.module("services.rss_agg")
    beat = scene.wait_beat(svc="rss_agg", i=3)
    assert "status" not in beat
    assert agent.stop() == 0


def test_each_item_goes_on_the_stream_once_also_over_a_restart(scene, web):
    web.pages["/a"] = FEED.format(ITEM.format(2) + ITEM.format(1))
    seed(scene.buses, truth([{"url": web.url("/a"), "name": "a", "tags": ["x"]}], key="news:all"), 1)
    agent = scene.module("services.rss_agg")
    until(lambda: len(agent.logs("feed.read")) >= 3, 20)
    assert [field(entry, "title") for entry in items(scene, "news:all")] == ["Item 1", "Item 2"]
    agent.kill()
    web.pages["/a"] = FEED.format(ITEM.format(3) + ITEM.format(2))
    agent.start()
    until(lambda: len(items(scene, "news:all")) == 3, 20)
    assert field(items(scene, "news:all")[2], "link") == "https://a/3"
    assert 0 < scene.market.cmd("TTL", "news:all:seen") <= 7 * 86_400
    assert "127.0.0.1" not in "".join(str(line) for line in agent.logs("feed.read"))


def test_a_feed_that_fails_is_named_and_only_all_failing_is_degraded(scene, web):
    web.pages["/a"] = FEED.format(ITEM.format(1))
    endpoints = [{"url": web.url("/a"), "name": "a"}, {"url": web.url("/none"), "name": "b"}]
    seed(scene.buses, truth(endpoints), 1)
    agent = scene.module("services.rss_agg")
    scene.wait_beat(svc="rss_agg", status="ok", detail="1 of 2 feeds fail: b (404)")
    web.pages["/a"] = 500
    scene.wait_beat(svc="rss_agg", status="degraded", detail="2 of 2 feeds fail: a (500), b (404)")
    web.pages["/a"] = web.pages["/none"] = FEED.format("")
    until(lambda: "detail" not in scene.beat("rss_agg"), 20)
    assert agent.running


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"<item>" * 10_000)
    except OSError:
        return


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)  # the peer is slow on purpose
    except OSError:
        return


def round_and_round(handler):
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


def hang_up(handler):
    handler.connection.close()


def to_a_file(handler):
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><rss><channel><item><title>&j;</title></item></channel></rss>"
)
HOSTILE = {
    "endless": (endless, "too_long"),
    "drip": (drip, "timeout"),
    "round": (round_and_round, "too_many_redirects"),
    "hang_up": (hang_up, "broken"),
    "to_a_file": (to_a_file, "bad_url"),
    "a_path": (b"/etc/passwd", "not_a_feed"),
    "binary": (bytes(range(256)) * 100, "not_a_feed"),
    "empty": (b"", "not_a_feed"),
    "bomb": (BOMB, None),
    "deep": (b"<a>" * 200_000, None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_feed_harms_nobody(scene, web, name):
    page, why = HOSTILE[name]
    web.pages["/bad"] = page
    web.pages["/good"] = FEED.format(ITEM.format(1))
    endpoints = [{"url": web.url("/bad"), "name": "bad"}, {"url": web.url("/good"), "name": "good"}]
    seed(scene.buses, truth(endpoints), 1)
    agent = scene.module("services.rss_agg")
    if why:
        assert agent.wait_log("feed.failed", 15)["why"].startswith(why)
    until(lambda: len(items(scene)) >= 1, 15)
    before = scene.beat("rss_agg").get("i", 0)
    until(lambda: scene.beat("rss_agg").get("i", 0) > before + 2, 20)
    assert agent.running
    assert "root:" not in str(items(scene))
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()


def test_a_slow_feed_does_not_hold_the_beats_up(scene, web):
    web.pages["/slow"] = drip
    seed(scene.buses, truth([{"url": web.url("/slow"), "name": "slow"}], timeout_sec=8), 1)
    scene.module("services.rss_agg", WATCHDOG_SEC="1")
    scene.wait_beat(svc="rss_agg", i=12)


def test_a_bus_that_is_away_costs_no_item(scene, web):
    web.pages["/a"] = FEED.format(ITEM.format(1))
    seed(scene.buses, truth([{"url": web.url("/a"), "name": "a"}]), 1)
    scene.market.stop()
    scene.module("services.rss_agg")
    scene.wait_beat(svc="rss_agg", status="degraded", detail="1 of 1 feeds fail: a (market-redis refused)")
    scene.market.start()
    until(lambda: len(items(scene)) == 1, 20)


def test_a_reseed_changes_what_is_read_and_a_bad_one_does_not(scene, web):
    for name in ("a", "b"):
        web.pages[f"/{name}"] = FEED.format(ITEM.format(name))
    seed(scene.buses, truth([{"url": web.url("/a"), "name": "a"}]), 1)
    agent = scene.module("services.rss_agg")
    until(lambda: len(items(scene)) == 1, 20)
    seed(scene.buses, truth([{"url": "gopher://x", "name": "x"}]), 2)
    beat = scene.wait_beat(svc="rss_agg", status="degraded")
    assert "services.rss_agg.endpoints.0.url" in beat["detail"]
    seed(scene.buses, truth([{"url": web.url("/b"), "name": "b"}]), 3)
    until(lambda: len(items(scene)) == 2, 3)
    assert agent.running


def test_a_section_that_makes_no_sense_at_the_start_ends_it_with_2(scene):
    seed(scene.buses, truth([{"url": "gopher://x", "name": "x"}]), 1)
    agent = scene.module("services.rss_agg")
    assert agent.wait() == 2
    assert "services.rss_agg.endpoints.0.url" in agent.logs("program.exit")[0]["message"]
