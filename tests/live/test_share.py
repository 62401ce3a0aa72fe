"""Three real processes share keys on a real bus: no key is nobody's for longer than the timeout.

How long that takes is measured in bench/takeover.py.
"""

import time

import pytest

from support.scenes.agent import Scene, seed, truth
from support.waiting import until

TIMEOUT_SEC = 2.0
KEYS = [f"feed {number}" for number in range(30)]
SHARING = f"""
        keys = {KEYS!r}
        share = me.share()
        await share.known()
        while True:
            me.log.info("probe.has", mine=share.mine(keys), members=len(share.members))
            await me.rest(60)
"""


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        seed(scene.buses, truth(interval_sec=0.5, timeout_sec=TIMEOUT_SEC), 1)
        yield scene


def has(agent):
    """What an instance said last."""
    said = agent.logs("probe.has")
    return said[-1]["mine"] if said else None


def shared(*agents):
    """Whether these know of just each other, and have all keys between them, each once, and each some.

    The keys alone would not tell: of one that left, an instance inherits none in one run of 240.
    """
    said = [lines[-1] for agent in agents if (lines := agent.logs("probe.has"))]
    if [line["members"] for line in said] != [len(agents)] * len(agents):
        return False
    shares = [line["mine"] for line in said]
    return all(shares) and sorted(key for share in shares for key in share) == sorted(KEYS)


def three(scene):
    agents = [scene.agent(SHARING) for _ in range(3)]
    until(lambda: shared(*agents), what=lambda: f"three shares; {[each.text() for each in agents]}")
    return agents


def test_three_share_all_keys_and_one_that_is_killed_is_replaced_within_the_timeout(scene):
    one, two, three_ = three(scene)
    theirs = set(has(one)), set(has(two))
    three_.kill()
    until(lambda: shared(one, two), what="two shares")
    assert theirs[0] <= set(has(one))  # nobody lost what was his
    assert theirs[1] <= set(has(two))


def test_members_move_with_the_beats_when_the_truth_says_so(scene):
    agents = three(scene)
    document = truth(interval_sec=0.5, timeout_sec=TIMEOUT_SEC, redis_url="redis://market-redis:6379")
    seed(scene.buses, document, 2)
    until(lambda: scene.market.cmd("ZCARD", "members:probe") == 3, what="three members there")
    until(lambda: scene.system.cmd("EXISTS", "members:probe") == 0, what="none left here")
    until(lambda: shared(*agents), what="three shares again")


def test_a_truth_whose_bus_cannot_be_found_leaves_the_members_where_they_are(scene):
    named = SHARING.replace("me.share()", 'me.share(bus="third")')
    document = {**truth(interval_sec=0.5, timeout_sec=TIMEOUT_SEC), "buses": {"third": {"url": "env:THIRD"}}}
    seed(scene.buses, document, 2)
    agent = scene.agent(named, THIRD=scene.market.url)
    until(lambda: has(agent), what="its part")
    document["buses"] = {"third": {"url": "env:NOBODY_SET_THIS"}}
    seed(scene.buses, document, 3)
    boot = scene.wait_beat(rev=3)["boot"]
    before = float(scene.market.cmd("ZSCORE", "members:probe", boot))
    until(
        lambda: float(scene.market.cmd("ZSCORE", "members:probe", boot)) > before, what="a longer life there"
    )
    assert agent.running


def test_a_flood_on_its_channel_costs_nothing_but_a_look_now_and_then(scene):
    agent = scene.agent(SHARING)
    until(lambda: has(agent) == KEYS, what="all of it")
    before = scene.system.cmd("INFO", "commandstats")["cmdstat_zrange"]["calls"]
    begun = time.monotonic()
    while time.monotonic() < begun + 0.5:
        scene.system.cmd("EVAL", "for i = 1, 500 do redis.call('PUBLISH', 'members:probe', 'x') end", 0)
    looks = scene.system.cmd("INFO", "commandstats")["cmdstat_zrange"]["calls"] - before
    assert looks < 100 * (time.monotonic() - begun)
    assert agent.stop() == 0
    assert scene.system.cmd("EXISTS", "members:probe") == 0
