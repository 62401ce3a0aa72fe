"""rss_agg on real buses, reading feeds from HTTP servers of the test's own."""

import re
import time
import urllib.request
from datetime import datetime

import pytest

from support.fixtures import opened
from support.rig import free_port
from support.rig.feed_site import Page, Site, drip, endless, rss, to
from support.scenes.agent import Scene, seed
from support.waiting import PATIENT_SEC, until

site = opened(Site)


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        yield scene
        for agent in scene.programs:
            if agent.running:
                agent.stop()  # one that is killed leaves its parser to find that out by itself


def truth(endpoints, key="rss:items", **settings):
    wishes = {"poll_sec": 0.2, "timeout_sec": 5, "host_spacing_sec": 0, **settings}
    return {
        "services": {
            "rss_agg": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "access_points": {"publish_to": [{"bus": "market-redis", "key": key}]},
                "endpoints": endpoints,
                "settings": wishes,
            }
        }
    }


def endpoint(site, name, **more):
    return {"url": site.url(f"/{name}"), "name": name, **more}


def items(scene, key="rss:items"):
    entries = [fields for _id, fields in scene.market.cmd("XRANGE", key, "-", "+")]
    return [one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in entries]


def titles(scene, key="rss:items"):
    return [fields["title"] for fields in items(scene, key)]


def test_without_feeds_it_just_beats(scene):
    seed(scene.buses, truth([]), 1)
    agent = scene.module("services.rss_agg")
    beat = scene.wait_beat(svc="rss_agg", i=3)
    assert "status" not in beat
    assert agent.stop() == 0


def test_a_feed_that_fails_is_named_and_only_all_failing_is_degraded(scene, site):
    site.pages["/a"] = rss(1)
    seed(scene.buses, truth([endpoint(site, "a"), endpoint(site, "b")]), 1)
    agent = scene.module("services.rss_agg")
    scene.wait_beat(svc="rss_agg", status="ok", detail="1 of 2 feeds fail: b (404)")
    site.pages["/a"] = 500
    scene.wait_beat(svc="rss_agg", status="degraded", detail="2 of 2 feeds fail: a (500), b (404)")
    site.pages["/a"] = site.pages["/b"] = rss()
    until(lambda: "detail" not in scene.beat("rss_agg"))
    assert {html_to_line["feed"] for html_to_line in agent.logs("feed.recovered")} == {"a", "b"}
    assert agent.running


def test_what_a_feed_is_told_by_is_remembered_over_a_restart(scene, site):
    """A feed whose turn has not come is not asked, and one that has is asked for what is new."""
    site.pages["/a"] = site.pages["/b"] = Page(rss(1), headers={"ETag": '"1"'})
    site.pages["/gone"] = 410
    endpoints = [endpoint(site, "a"), endpoint(site, "b", every_sec=3600), endpoint(site, "gone")]
    seed(scene.buses, truth(endpoints), 1)
    agent = scene.module("services.rss_agg")
    scene.wait_beat(svc="rss_agg", status="ok", detail="1 gone for good: gone")
    until(lambda: len(items(scene)) == 2)
    agent.kill()
    before = len(site.visits)
    agent.start()
    until(lambda: len(site.visits) >= before + 3)
    assert {(visit.path, visit.status) for visit in site.visits[before:]} == {("/a", 304)}
    assert len(site.of("/gone")) == len(site.of("/b")) == 1
    scene.wait_beat(svc="rss_agg", status="ok", detail="1 gone for good: gone")
    assert len(items(scene)) == 2


def test_a_thousand_new_feeds_are_no_burst(scene, site):
    feeds = [endpoint(site, f"f{n}", every_sec=3600) for n in range(1000)]
    seed(scene.buses, truth(feeds, host_at_once=100, at_once=100), 1)
    agent = scene.module("services.rss_agg")
    until(lambda: len(site.visits) >= 100)
    joined_at = datetime.fromisoformat(agent.wait_log("agent.joined")["ts"]).timestamp()
    began = joined_at - (time.time() - time.monotonic())
    visits = list(site.visits)
    assert sorted(visit.at for visit in visits)[99] - began >= 99 / 20 - 0.01  # 20 a second
    assert len({visit.path for visit in visits}) == len(visits)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><rss><channel><item><title>&j;</title></item></channel></rss>"
)
HOSTILE = {
    "endless": (endless, "too_long"),
    "drip": (drip, "timeout"),
    "inside": (to("http://127.0.0.2/"), "inside_address"),
    "binary": (bytes(range(256)) * 100, "not_a_feed"),
    "bomb": (BOMB, "entities"),
    "deep": (b"<a>" * 10_000, "not_a_feed"),
}


def test_hostile_feeds_harm_nobody(scene, site):
    site.pages |= {f"/{name}": page for name, (page, _why) in HOSTILE.items()}
    site.pages["/good"] = rss(1)
    endpoints = [endpoint(site, name, every_sec=3600) for name in HOSTILE] + [endpoint(site, "good")]
    seed(scene.buses, truth(endpoints, host_at_once=10), 1)
    agent = scene.module("services.rss_agg")
    until(lambda: len(agent.logs("feed.failed")) == len(HOSTILE), what=f"failures of {agent}")
    failed = {html_to_line["feed"]: html_to_line["why"] for html_to_line in agent.logs("feed.failed")}
    assert failed == {name: why for name, (_page, why) in HOSTILE.items()}
    before = scene.beat("rss_agg")["i"]
    site.pages["/good"] = rss(2, 1)
    until(lambda: len(items(scene)) == 2)
    until(lambda: scene.beat("rss_agg")["i"] > before + 2)
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()


def test_a_bus_that_is_away_costs_no_item_and_bothers_no_feed(scene, site):
    site.pages["/a"] = rss(1)
    seed(scene.buses, truth([endpoint(site, "a")]), 1)
    scene.market.stop()
    scene.module("services.rss_agg")
    scene.wait_beat(svc="rss_agg", status="degraded", detail="market-redis refused: feeds are not read")
    assert site.visits == []
    scene.market.start()
    until(lambda: len(items(scene)) == 1)
    until(lambda: "status" not in scene.beat("rss_agg"))
    scene.market.cmd("CONFIG", "SET", "maxmemory", "1")
    site.pages["/a"] = rss(2, 1)
    scene.wait_beat(svc="rss_agg", status="degraded", detail="market-redis oom: feeds are not read")
    scene.market.cmd("CONFIG", "SET", "maxmemory", "0")
    until(lambda: len(items(scene)) == 2)


def test_a_reseed_changes_what_is_read_and_a_bad_one_does_not(scene, site):
    site.pages |= {f"/{name}": rss(name) for name in ("a", "b")}
    seed(scene.buses, truth([endpoint(site, "a")]), 1)
    agent = scene.module("services.rss_agg")
    until(lambda: len(items(scene)) == 1)
    seed(scene.buses, truth([{"url": "gopher://x", "name": "x"}]), 2)
    beat = scene.wait_beat(svc="rss_agg", status="degraded")
    assert "services.rss_agg.endpoints[0].url" in beat["detail"]
    seed(scene.buses, truth([endpoint(site, "b")]), 3)
    until(lambda: len(items(scene)) == 2)
    count = len(site.of("/a"))
    until(lambda: len(site.of("/b")) > 4)
    assert len(site.of("/a")) <= count + 1  # one may have been under way
    assert agent.running


def test_a_url_with_a_secret_is_read_and_never_written_down(scene, site):
    relative = b"<item><link>#2</link></item><item><link>?p=3</link></item><item><link>/news/4</link></item>"
    document = rss(1).replace(b"</channel>", relative + b"</channel>")
    site.pages |= {"/a?key=s3cret": to("/b?key=s3cret", 301), "/b?key=s3cret": document, "/x?key=s3cret": 404}
    endpoints = [
        {"url": f"env:{name}", "name": name.lower()}
        for name in ("FEED", "A_FEED_URL", "LOST_FEED", "OTHER_URL")
    ]
    seed(scene.buses, truth(endpoints), 1)
    secrets = {
        "FEED": site.url("/a?key=s3cret").replace("//", "//me:s3cret@"),
        "A_FEED_URL": site.url("/x?key=s3cret"),
        "OTHER_URL": site.url("/not-for-feeds?key=s3cret"),
    }
    agent = scene.module("services.rss_agg", **secrets)
    until(lambda: len(site.of("/b?key=s3cret")) >= 2)
    scene.wait_beat(
        svc="rss_agg",
        detail="3 of 4 feeds fail: a_feed_url (404), lost_feed (not_set), other_url (not_allowed)",
    )
    assert site.of("/not-for-feeds?key=s3cret") == []
    assert agent.stop() == 0
    stored = scene.market.cmd("KEYS", "*")
    texts = [str(scene.market.cmd("HGETALL", key)) for key in stored if ":feed:" in key]
    assert len(texts) == 4
    links = {item["link"] for item in items(scene)}
    assert links == {"https://a.example/1", *(site.url(path) for path in ("/#2", "/?p=3", "/news/4"))}
    assert "s3cret" not in "".join([*stored, *texts, str(items(scene)), agent.text()])


def test_what_it_does_can_be_measured(scene, site):
    site.pages["/a"] = rss(2, 1)
    seed(scene.buses, truth([endpoint(site, "a"), endpoint(site, "b")]), 1)
    port = free_port()
    scene.module("services.rss_agg", METRICS_PORT=str(port))
    until(lambda: len(items(scene)) == 2)
    now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    dated = rss(3, 2, 1).replace(b"<guid>3<", f"<pubDate>{now}</pubDate><guid>3<".encode())
    site.pages["/a"] = dated
    until(lambda: len(items(scene)) == 3)

    def value(name):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENT_SEC) as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else None

    until(lambda: value('marketswarm_rss_agg_items_total{kind="new"}') == 3)
    assert value("marketswarm_rss_agg_item_lag_seconds_count") == 1
    assert value('marketswarm_rss_agg_item_lag_seconds_bucket{le="60"}') == 1
    until(lambda: value('marketswarm_rss_agg_feeds{state="failing"}') == 1)
    until(lambda: value('marketswarm_rss_agg_feeds{state="well"}') == 1)
    until(lambda: (value('marketswarm_rss_agg_readings_total{outcome="unchanged"}') or 0) > 0)
    assert value('marketswarm_rss_agg_readings_total{outcome="failed"}') > 0


def test_without_its_libraries_it_says_what_to_install_and_only_when_there_are_feeds(scene, site):
    hide = "import sys\nsys.modules['feedparser'] = None\n"
    (scene.folder / "sitecustomize.py").write_text(hide, encoding="utf-8")
    seed(scene.buses, truth([]), 1)
    agent = scene.module("services.rss_agg", PYTHONPATH=str(scene.folder))
    scene.wait_beat(svc="rss_agg", i=2)
    seed(scene.buses, truth([endpoint(site, "a")]), 2)
    assert agent.wait() == 2
    assert "needs feedparser: pip install" in agent.logs("program.exit")[0]["message"]
