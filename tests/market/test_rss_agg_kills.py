"""Two instances of rss_agg share feeds that go on all the while; one is killed, at any moment.

KILLS is how often; a few are enough to see that the test can fail, a hundred were run by hand.
"""

import os
import random
import threading
import time
from collections import Counter

from support.rig.feed_site import Page, Site, rss
from support.scenes.agent import Scene, seed
from support.waiting import until

KILLS = int(os.environ.get("KILLS", "3"))
FEEDS = [f"f{n}" for n in range(8)]
SHOWN = 60
"""Items that a feed shows: at the pace below, for far longer than it takes to take over."""
PACE_SEC = 0.03
TIMEOUT_SEC = 2.0
TRUTH = {
    "services": {
        "rss_agg": {
            "replicas": 2,
            "heartbeat": {"interval_sec": 0.3, "timeout_sec": TIMEOUT_SEC},
            "settings": {"poll_sec": 0.3, "timeout_sec": 1, "host_spacing_sec": 0, "host_at_once": 4},
        }
    }
}


class Press:
    """Publishes item after item in one of the feeds, until told to stop."""

    def __init__(self, site):
        self.site, self.made = site, {name: [] for name in FEEDS}
        self.over, self.going = threading.Event(), threading.Event()
        self.going.set()
        for name in FEEDS:
            self._print(name)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def all(self):
        return {f"Item {ident}" for made in self.made.values() for ident in made}

    def stop(self):
        self.over.set()
        self._thread.join(5)

    def _run(self):
        while not self.over.wait(PACE_SEC):
            if self.going.is_set():
                self._print(random.choice(FEEDS))

    def _print(self, name):
        self.made[name].append(f"{name}-{len(self.made[name])}")
        body = rss(*reversed(self.made[name][-SHOWN:]))
        self.site.pages[f"/{name}"] = Page(body, headers={"ETag": f'"{len(self.made[name])}"'})


def titles(scene):
    entries = [fields for _id, fields in scene.market.cmd("XRANGE", "rss:items", "-", "+")]
    return [one["title"] if isinstance(one, dict) else one[one.index("title") + 1] for one in entries]


def members(agent):
    return [html_to_line["members"] for html_to_line in agent.logs("share.changed")]


def test_no_item_is_lost_and_none_is_repeated_when_one_of_two_is_killed(tmp_path):
    with Site() as site, Scene(tmp_path) as scene:
        press = Press(site)
        press.going.clear()  # however long the agents take to start, no feed may drop an item before
        document = TRUTH | {}
        document["services"]["rss_agg"]["endpoints"] = [
            {"url": site.url(f"/{name}"), "name": name} for name in FEEDS
        ]
        seed(scene.buses, document, 1)
        agents = [scene.module("services.rss_agg") for _ in range(2)]
        for agent in agents:
            until(lambda agent=agent: 2 in members(agent), 30, f"{agent} to know of the other")
        press.going.set()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.0, 1.0))  # at any moment
            victim, other = random.sample(agents, 2)
            assert other.running
            victim.kill()
            # from now on nothing is new: what the victim had and did not publish comes if it is asked for
            press.going.clear()
            until(lambda: press.all <= set(titles(scene)), 15, "what there was when it was killed")
            victim.start()
            press.going.set()
        press.stop()
        until(lambda: press.all <= set(titles(scene)), 15, "all items")
        repeated = {title: count for title, count in Counter(titles(scene)).items() if count > 1}
        assert not repeated
        assert set(titles(scene)) == press.all
        assert all(agent.running for agent in agents)
        for agent in agents:
            agent.stop()
        assert "Traceback" not in "".join(agent.text() for agent in agents)
