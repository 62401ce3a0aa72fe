"""FAILURES 20, 21 and 36 for bootstrap: a wrong truth or a broken bus leaves both buses as they were."""

import json
import signal

import pytest

from support.fixtures import opened
from support.rig import Proc, TcpProxy, free_port
from support.scenes.faults import BUSES, TIMEOUT_SEC, WARM_UP_SEC, Scene, only, service, truth_of
from support.scenes.seeding import agreed, state, truth, two_servers
from support.waiting import until

NOBODY = ("marker_of_the_new_one", "third")
"""Services of a new truth, which never beat."""
OLD, NEW = truth("rss_agg", "mesh"), truth("marker_of_the_new_one")


signals = pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.nightly("[SIGTERM]")),
    ],
)

shared = opened(lambda tmp_path_factory: two_servers(tmp_path_factory.mktemp("shared")), scope="module")
servers = opened(lambda tmp_path: two_servers(tmp_path))


def bootstrap(folder, raw, system, market, **env):
    """`python -m bootstrap`, started; `system` and `market` are servers or URLs."""
    path = folder / "truth.json"
    path.write_bytes(raw)
    urls = {
        f"{name}_REDIS_URL": bus if isinstance(bus, str) else bus.url
        for name, bus in (("SYSTEM", system), ("MARKET", market))
    }
    return Proc("bootstrap", {"TRUTH_PATH": str(path), **urls, **env}, folder)


def ends(proc, code, within=15.0):
    with proc:
        assert proc.wait(within) == code, str(proc)
    assert "Traceback" not in proc.text()
    return proc


def beat(**keys):
    return {"services": {"rss_agg": {"heartbeat": keys}}}


def healer(**section):
    return {"services": {"rss_agg": {}, "healer": section}}


def points(kind, *made):
    return healer(access_points={kind: list(made)})


BEAT = "services.rss_agg.heartbeat"
POINTS = "services.healer.access_points"
KINDS = [
    ("truth", ""),
    ("truth", "{"),
    ("truth", "[]"),
    ("truth", "\ufeff{}"),
    ("services", {}),
    ("services", {"services": []}),
    ("version", {"version": 7, "services": {}}),
    ('services["rss agg"]', {"services": {"rss agg": {}}}),
    ("services.rss_agg", '{"services": {"rss_agg": {}, "rss_agg": {}}}'),
    ("services.rss_agg", {"services": {"rss_agg": None}}),
    (BEAT, {"services": {"rss_agg": {"heartbeat": []}}}),
    (f"{BEAT}.interval_sec", beat(interval_sec=-5)),
    (f"{BEAT}.interval_sec", '{"services": {"rss_agg": {"heartbeat": {"interval_sec": NaN}}}}'),
    (f"{BEAT}.interval_sec", beat(interval_sec="10")),
    (f"{BEAT}.interval_sec", beat(interval_sec=True)),
    (f"{BEAT}.interval_sec", beat(interval_sec=1e300)),
    (f"{BEAT}.interval_sec", beat(interval_sec=60)),
    (f"{BEAT}.intervall_sec", beat(intervall_sec=10)),
    (f"{BEAT}.timeout_sec", beat(interval_sec=10, timeout_sec=10)),
    (f"{BEAT}.channel", beat(channel="")),
    (f"{BEAT}.monitored", beat(monitored=1)),
    (f"{BEAT}.redis_url", beat(redis_url="http://system-redis")),
    (f"{BEAT}.redis_url", beat(redis_url="redis://:hunter2@system-redis:6379")),
    ("services.rss_agg.settings.api_key", {"services": {"rss_agg": {"settings": {"api_key": "hunter2"}}}}),
    ("services.healer.threshold.heartbeat_cadance", healer(threshold={"heartbeat_cadance": 30})),
    ("services.healer.threshold.bus_timeout_sec", healer(threshold={"bus_timeout_sec": 0})),
    (f"{POINTS}.subscribe_to[0]", points("subscribe_to", "rss_agg:heartbeat")),
    (f"{POINTS}.publish_to[0].bus", points("publish_to", {"bus": "sytem-redis", "key": "healer:alerts"})),
    (f"{POINTS}.publish_to[0].key", points("publish_to", {"bus": "system-redis"})),
    (
        f"{POINTS}.subscribe_to[0].bus",
        points("subscribe_to", {"bus": "market-redis", "key": "rss_agg:heartbeat"}),
    ),
    ("buses.cache.uri", {"buses": {"cache": {"uri": "redis://cache"}}, "services": {}}),
    ("buses.cache.url", {"buses": {"cache": {"url": "redis://me:hunter2@cache"}}, "services": {}}),
    ("services.b.heartbeat.channel", {"services": {"a": {}, "b": {"heartbeat": {"channel": "a:heartbeat"}}}}),
    ("services.a.depends_on[0]", {"services": {"a": {"depends_on": ["nobody"]}}}),
    ("services.a.depends_on", {"services": {"a": {"depends_on": ["b"]}, "b": {"depends_on": ["a"]}}}),
]


EVERY_RUN = (
    "truth",
    "services.rss_agg",
    f"{BEAT}.interval_sec",
    f"{BEAT}.intervall_sec",
    f"{BEAT}.redis_url",
)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param([next(kind for kind in KINDS if kind[0] == path) for path in EVERY_RUN], id="some"),
        pytest.param(KINDS, id="all", marks=pytest.mark.nightly("[some]; tests/marketswarm/truth has each")),
    ],
)
def test_row_20_an_invalid_truth_ends_with_code_2_and_every_mistake_and_nothing_is_written(
    tmp_path, shared, kinds
):
    ends(bootstrap(tmp_path, OLD, *shared), 0)
    before = [state(server) for server in shared]
    for path, document in kinds:
        raw = document if isinstance(document, str) else json.dumps(document)
        ended = ends(bootstrap(tmp_path, raw.encode(), *shared), 2)
        (mistake,) = ended.logs("truth.error")
        assert mistake["path"] == path
        assert mistake["problem"].startswith(f"{path}: ")
        assert "1 mistake; nothing was written" in ended.logs("program.exit")[0]["message"]
        assert "hunter2" not in ended.text()
    services = {
        "rss_agg": {"heartbeat": {"interval_sec": -5, "chanel": "x"}, "settings": {"token": "hunter2"}},
        "mesh": {"depends_on": ["nobody"]},
    }
    ended = ends(bootstrap(tmp_path, json.dumps({"version": 2, "services": services}).encode(), *shared), 2)
    assert [line["path"] for line in ended.logs("truth.error")] == [
        "version",
        "services.rss_agg.heartbeat.interval_sec",
        "services.rss_agg.heartbeat.chanel",
        "services.rss_agg.settings.token",
        "services.mesh.depends_on[0]",
    ]
    assert "hunter2" not in ended.text()
    assert [state(server) for server in shared] == before


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param(None, id="first seeding", marks=pytest.mark.nightly("[reseeding]")),
        pytest.param(OLD, id="reseeding"),
    ],
)
def test_row_21_with_the_second_bus_down_the_first_stays_as_it_was(tmp_path, servers, earlier):
    market = servers[1]
    if earlier:
        ends(bootstrap(tmp_path, earlier, *servers), 0)
    before = [state(server) for server in servers]
    market.stop()
    ended = ends(bootstrap(tmp_path, NEW, *servers, BOOTSTRAP_TIMEOUT_SEC="2"), 3)
    message = ended.logs("program.exit")[0]["message"]
    assert "market-redis: refused" in message
    assert "system-redis" not in message
    market.start()
    assert [state(server) for server in servers] == before
    ends(bootstrap(tmp_path, NEW, *servers), 0)
    assert agreed(*servers)[0] == NEW


@pytest.mark.parametrize(
    "direction",
    [
        pytest.param("up", id="request lost", marks=pytest.mark.nightly("[reply lost]")),
        pytest.param("down", id="reply lost"),
    ],
)
def test_row_21_with_the_second_bus_lost_between_the_writes_both_are_as_before(tmp_path, servers, direction):
    system, market = servers
    ends(bootstrap(tmp_path, OLD, *servers), 0)
    before = [state(server) for server in servers]
    with TcpProxy(market.port) as wire:
        wire.swallow(only=b"marker_of_the_new_one", direction=direction)
        ended = ends(bootstrap(tmp_path, NEW, system, wire.url), 3)
    assert "market-redis: timeout" in ended.logs("program.exit")[0]["message"]
    assert ended.logs("seeding.put_back")[0]["bus"] == "system-redis"
    assert [state(server) for server in servers] == before


@pytest.mark.nightly("test_row_21_with_the_second_bus_down; test_rows_11_12_… has a replica")
def test_rows_12_21_a_second_bus_that_is_a_replica_is_named_read_only(tmp_path, servers):
    market = servers[1]
    ends(bootstrap(tmp_path, OLD, *servers), 0)
    before = [state(server) for server in servers]
    market.cmd("REPLICAOF", "127.0.0.1", free_port())
    ended = ends(bootstrap(tmp_path, NEW, *servers), 3)
    assert "market-redis: readonly" in ended.logs("program.exit")[0]["message"]
    market.cmd("REPLICAOF", "NO", "ONE")
    assert [state(server) for server in servers] == before


@signals
def test_row_36_a_signal_while_it_waits_for_a_bus_ends_it_with_code_3(tmp_path, servers, number):
    system, market = servers
    market.stop()
    with bootstrap(tmp_path, NEW, *servers) as waiting:
        waiting.wait_log("bus.waiting")
        waiting.signal(number)
        ends(waiting, 3)
    assert f"stopped by {number.name} before it was done" in waiting.logs("program.exit")[0]["message"]
    assert state(system)["doc"] == b"none"


@signals
def test_rows_21_36_a_signal_between_the_writes_undoes_what_was_written(tmp_path, servers, number):
    system, market = servers
    ends(bootstrap(tmp_path, OLD, *servers), 0)
    before = [state(server) for server in servers]
    with TcpProxy(market.port) as wire:
        wire.swallow(only=b"marker_of_the_new_one", direction="down")
        with bootstrap(tmp_path, NEW, system, wire.url) as halfway:
            until(lambda: state(market)["doc"] == NEW, what="the second write, whose answer is lost")
            assert state(system)["doc"] == NEW
            halfway.signal(number)
            ends(halfway, 3)
    assert [state(server) for server in servers] == before


@pytest.mark.parametrize(
    ("direction", "again"),
    [
        pytest.param("up", "the same", id="request lost"),
        *(
            pytest.param(way, again, marks=pytest.mark.nightly("[request lost]"))
            for way, again in [("up", "another"), ("down", "the same"), ("down", "another")]
        ),
    ],
)
def test_row_21_what_a_bootstrap_killed_between_its_writes_leaves_harms_no_one_and_is_mended_by_the_next(
    tmp_path, direction, again
):
    services = {"rss_agg": service(timeout_sec=5), "alive": service(), "other": service("market-redis")}
    with Scene(tmp_path, services, ("healer", "rss_agg")) as scene, TcpProxy(scene.market.port) as wire:
        servers = scene.system, scene.market
        old = state(scene.market)["doc"]
        new = json.dumps(truth_of({**services, "marker_of_the_new_one": service()})).encode()
        wire.swallow(only=b"marker_of_the_new_one", direction=direction)
        with bootstrap(tmp_path, new, scene.system, wire.url) as halfway:
            until(lambda: state(scene.system)["doc"] == new, what="the first write")
            if direction == "down":
                until(lambda: state(scene.market)["doc"] == new, what="the second write")
            halfway.kill()
        assert state(scene.market)["doc"] == (old if direction == "up" else new)
        # those who run go by the first bus
        until(
            lambda: json.loads(scene.system.cmd("GET", "beat:rss_agg")).get("rev") == 2, what="rss_agg on 2"
        )
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        latest = new
        if again == "another":
            latest = json.dumps(truth_of({**services, "third": service()})).encode()
        scene.watched_anew.update(("marker_of_the_new_one", "third"))
        ends(bootstrap(tmp_path, latest, *servers), 0)
        assert agreed(*servers) == (latest, 3 if again == "another" else 2)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        told = {(event["type"], event["svc"]) for event in scene.alarms()}
        assert told <= {(f"heartbeat_{what}", svc) for what in ("miss", "unwatched") for svc in NOBODY}
        for name in ("healer", "rss_agg"):
            assert only(scene[name].logs("agent.joined"))
            assert "Traceback" not in scene[name].text()
