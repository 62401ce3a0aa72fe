"""The fleet as `make run` has it, at work: a feed's items become notes, a lost site is told, one of two dies.

Everything is real and on this machine: the fleet by `marketswarm up`, the shipped truth with other endpoints
and quicker beats, two web sites that the test makes.
"""

import contextlib
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import orjson
import pytest
import redis

from support.rig import HOST, Proc, free_port
from support.rig.certificates import Authority
from support.rig.feed_site import Page, Site, rss
from support.rig.process import descendants
from support.rig.shell import Shell
from support.rig.web_site import Page as WebPage
from support.rig.web_site import Site as WebSite
from support.waiting import until

pytestmark = [
    pytest.mark.nightly(
        "test_kills has feeds and notes, test_massive a lost site, tests/live/test_mesh_flow the picture"
    ),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc"),
]

FEEDS = [f"f{n}" for n in range(6)]
SHIPPED = Path(__file__).parents[2] / "truth.json"
TIMEOUT_SEC = 3.0
PACE_SEC = 0.1
SHOWN = 60
"""Items that a feed shows: at the pace above for longer than a takeover takes."""


def truth(site: Site, shop: str, ca: Path) -> dict:
    document = orjson.loads(SHIPPED.read_bytes())
    services = document["services"]
    for section in services.values():
        section["heartbeat"]["interval_sec"] = 0.5
    services["healer"]["threshold"] = {"heartbeat_cadence": TIMEOUT_SEC}
    services["rss_agg"] |= {
        "replicas": 2,
        "endpoints": [{"url": site.url(f"/{name}"), "name": name} for name in FEEDS],
        "settings": {"poll_sec": 0.5, "host_spacing_sec": 0, "host_at_once": 4},
    }
    services["massive"]["settings"] = {
        "probe_sec": 0.5,
        "targets": [{"name": "shop", "kind": "https", "url": shop, "ca_file": str(ca)}],
    }
    services["vexy_ai"]["settings"] = {"digest_sec": 2, "claim_sec": 2}
    return document


class Press:
    """Puts a new item into one feed after the other, until it is stopped."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.made: dict[str, list[str]] = {name: [] for name in FEEDS}
        self._over = threading.Event()
        for name in FEEDS:
            self._print(name)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(5)

    @property
    def titles(self) -> set[str]:
        return {f"Item {ident}" for made in self.made.values() for ident in made}

    def _run(self) -> None:
        turn = 0
        while not self._over.wait(PACE_SEC):
            self._print(FEEDS[turn % len(FEEDS)])
            turn += 1

    def _print(self, name: str) -> None:
        self.made[name].append(f"{name}-{len(self.made[name])}")
        self.site.pages[f"/{name}"] = Page(rss(*reversed(self.made[name][-SHOWN:])))


class Flow:
    """A running fleet, its buses, and what is on them."""

    def __init__(self, folder: Path, document: dict) -> None:
        port, self.shell = free_port(), Shell(folder)
        self.shell.write(document)
        self.fleet = Proc("marketswarm", {"BOARD_PORT": str(free_port())}, folder, "up", "--port", str(port))
        self.system, self.market = (redis.Redis(HOST, one, decode_responses=True) for one in (port, port + 1))

    def close(self) -> None:
        self.system.close()
        self.market.close()
        assert self.fleet.stop(15) == 0, self.fleet

    def entries(self, key: str) -> list[dict[str, str]]:
        return [fields for _id, fields in self.market.xrange(key)]

    def items(self) -> Counter[str]:
        return Counter(one["title"] for one in self.entries("rss:items"))

    def notes(self) -> Counter[str]:
        return Counter(one["title"] for one in self.entries("vexy:notes") if one["kind"] == "note")

    def told(self, kind: str) -> list[dict]:
        events = [orjson.loads(fields["event"]) for _id, fields in self.system.xrange("healer:alerts:log")]
        return [event for event in events if event["type"] == kind]

    def marketswarm(self, *words: str) -> str:
        return self.shell.said(*words, COLUMNS="160")


@pytest.fixture
def shop(tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate = authority.certificate("shop")
    with contextlib.ExitStack() as ends:
        yield (
            authority.ca,
            lambda port=0: ends.enter_context(
                WebSite({"/health": WebPage(b"ok")}, certificate=certificate, port=port)
            ),
        )


def test_items_become_notes_a_lost_site_is_told_and_one_of_two_readers_may_die(tmp_path, shop):
    ca, open_shop = shop
    site_of_shop = open_shop()
    with Site() as site, contextlib.ExitStack() as ends:
        press = Press(site)
        flow = Flow(tmp_path, truth(site, site_of_shop.url("/health"), ca))
        ends.callback(flow.close)
        flow.fleet.wait_log("fleet.up", 60)

        # a feed's items are on the stream once, and so are the notes about them
        until(lambda: set(flow.notes()) == press.titles, 20, "a note about each item")
        assert set(flow.items()) == press.titles
        assert set(flow.items().values()) == set(flow.notes().values()) == {1}
        until(lambda: [one for one in flow.entries("vexy:notes") if one["kind"] == "digest"], 15, "a digest")

        # the loss of a site is told like that of a service, and so is its return
        until(
            lambda: orjson.loads(flow.market.get("probe:shop") or "{}").get("ok"), 10, "a probe that is well"
        )
        site_of_shop.close()
        miss = until(lambda: flow.told("probe_miss"), 15, "its miss")
        assert [event["svc"] for event in miss] == ["massive/shop"]
        open_shop(site_of_shop.port)
        until(lambda: flow.told("probe_ok"), 15, "its ok")

        # one of the two that share the feeds is killed while items come
        until(lambda: flow.system.zcard("members:rss_agg:feeds") == 2, 10, "both to share the feeds")
        readers = [pid for pid, line in descendants(flow.fleet.pid) if "-m services.rss_agg " in line]
        assert len(readers) == 2
        press.start()
        until(lambda: len(flow.items()) > len(FEEDS) + 5, 10, "new items")
        os.kill(readers[0], signal.SIGKILL)
        after = {f"Item {name}-{len(made)}" for name, made in press.made.items()}
        until(lambda: after <= set(flow.items()), 20, "what came after that in each feed")
        press.stop()
        until(lambda: set(flow.notes()) == press.titles, 20, "a note about each item")
        assert set(flow.items()) == press.titles
        assert set(flow.items().values()) == set(flow.notes().values()) == {1}

        # and one command shows it all
        drawn = flow.marketswarm("topology")
        for word in ("rss_agg", "massive", "mesh", "vexy_ai", "rss:items", "vexy:notes", "massive:probes"):
            assert word in drawn, drawn
        assert "rss:items" in flow.marketswarm("topology", "--mermaid")
        assert "rss:items" in flow.marketswarm("topology", "--dot")
