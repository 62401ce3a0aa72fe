"""FAILURES row 42: what programs keep on the buses is unusable; it is said, counted and replaced."""

import pytest

from support.rig import acl_users, free_port
from support.rig.metrics import key as metric
from support.rig.metrics import samples
from support.scenes.faults import TIMEOUT_SEC, Scene, service
from support.waiting import until

BAD: list[str | bytes] = [
    *("", "null", "inf", "-inf", "nan", "0x10", "[]", "{}", "9" * 400, b"\xff\xfe", "-inf 0", "0 nan"),
    *("inf nan 1 system-redis", "0x10 0x10 1 system-redis", "99999999999999 1 1 system-redis"),
    *('{"verdict":"up","ts":null}', '{"verdict":"down","ts":1e300,"since":"x","event":7,"i":-1}'),
    *('{"verdict":[]}', '{"boot":"b","i":1,"ts":null,"wall":1}', '{"id":null,"ts":null}'),
    *('{"boot":"b","i":1,"ts":1,"wall":1e300,"beside":7}', '{"id":"a","ts":1e300}'),
]
LOG = "healer:alerts:log"
CLOCKS = ["-inf -inf", "nan 1e300", "0x10 0x10"]
LEASES = ["0x10", "inf", "-1"]
MANY = {f"s{n}": service() for n in range(len(BAD))}


def plant(scene: Scene, key: str, *names: str) -> None:
    """Every unusable value under a field of a hash, on both buses."""
    for n, value in enumerate(BAD):
        for server in (scene.system, scene.market):
            server.cmd("HSET", key, names[n] if n < len(names) else f"nobody{n}", value)


def plant_type(scene: Scene, key: str) -> None:
    """A value of a type that none of these keys has; at once, since an agent may write the key meanwhile."""
    scene.system.cmd("EVAL", "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], '-inf')", 1, key)


def unusable(scene: Scene, agent: str) -> set[str]:
    """The keys of which an agent said that what they hold is unusable."""
    return {line["key"] for line in scene[agent].logs("state.unusable")}


def lives_on(scene: Scene, agent: str, starts: int) -> None:
    """It was not started more often than the test did, and nothing took it by surprise."""
    assert scene[agent].running
    assert len(scene[agent].logs("agent.joined")) == starts
    assert "Traceback" not in scene[agent].text()


@pytest.mark.parametrize(
    ("clock", "lease_sec"),
    [
        (CLOCKS[0], LEASES[0]),
        *(
            pytest.param(*each, marks=pytest.mark.nightly("the first pair"))
            for each in zip(CLOCKS[1:], LEASES[1:], strict=True)
        ),
    ],
)
def test_row_42_whatever_lies_in_its_memory_the_healer_starts_and_judges(tmp_path, clock, lease_sec):
    port = free_port()
    with Scene(tmp_path, MANY, env={"METRICS_PORT": str(port)}) as scene:
        scene["healer"].kill()
        for word in ("roster", "silence", "heard"):
            plant(scene, f"healer:{word}", *MANY)
        scene.system.cmd("HSET", "healer:silence", "@system-redis", clock)
        for field in ("epoch", "renewed", "lease_sec"):
            scene.system.cmd("HSET", "healer:lease", field, lease_sec)
        scene.watched_anew |= set(MANY)
        scene["healer"].start()
        scene.heard_again(2)
        scene.stop_beating("s0")
        miss = scene.alerts.wait("heartbeat_miss", "s0")
        assert miss["late_sec"] >= TIMEOUT_SEC
        scene.beat_again("s0")
        scene.alerts.wait("heartbeat_ok", "s0")
        said = {f"healer:{word}" for word in ("roster", "silence", "heard")}
        assert unusable(scene, "healer") >= said
        told = samples(port)
        assert all(told[metric("state_unusable_total", key=key)] >= len(BAD) / 2 for key in said)
        assert {event["svc"] for event in scene.log("heartbeat_miss")} == {"s0"}
        lives_on(scene, "healer", 2)


HEALERS_KEYS = ("roster", "silence", "heard", "lease", "canary", "alerts:log")
at_any_time = pytest.mark.parametrize("start", [True, False], ids=["at its start", "while it runs"])


@at_any_time
@pytest.mark.parametrize(
    "keys",
    [HEALERS_KEYS, *(pytest.param([key], marks=pytest.mark.nightly("all of them")) for key in HEALERS_KEYS)],
    ids=["all", *HEALERS_KEYS],
)
def test_row_42_keys_of_the_healers_that_hold_another_type_are_replaced(tmp_path, keys, start):
    keys = {f"healer:{key}" for key in keys}
    with Scene(tmp_path, {"alpha": service(), "beta": service()}) as scene:
        if start:
            scene["healer"].kill()
        for key in keys:
            plant_type(scene, key)
        if start:
            scene["healer"].start()
            scene.heard_again(2)
        scene.stop_beating("alpha")
        miss = scene.alerts.wait("heartbeat_miss", "alpha")
        assert miss["late_sec"] >= TIMEOUT_SEC
        scene.watched_anew |= {"alpha", "beta"}
        scene.beat_again("alpha")
        scene.alerts.wait("heartbeat_ok", "alpha")
        for key in keys:
            until(lambda key=key: scene.system.cmd("TYPE", key) != "list", what=f"{key} to be replaced")
        until(lambda: keys <= unusable(scene, "healer"), what=lambda: f"{keys} to be said: {scene['healer']}")
        lives_on(scene, "healer", 1 + start)


@pytest.mark.nightly("the same of a healer without a user; tests/servers/test_acl_closed.py")
@at_any_time
def test_row_42_a_log_of_another_type_is_replaced_by_a_healer_with_a_user_of_its_own(
    tmp_path, monkeypatch, start
):
    monkeypatch.setattr(acl_users, "ON", True)
    test_row_42_keys_of_the_healers_that_hold_another_type_are_replaced(tmp_path, ["alerts:log"], start)


@pytest.mark.nightly("test_row_42_whatever_lies_in_its_memory_the_sentinel_…")
def test_row_42_a_log_of_another_type_is_replaced_by_a_sentinel_with_a_user_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(acl_users, "ON", True)
    env = {"SENTINEL_TIMEOUT_SEC": "1.5", "WEBHOOK_URL": "http://127.0.0.1:9/"}
    services = {
        "alpha": service(),
        "sentinel": service(timeout_sec=60),
    }  # no event of its start is in the log
    with Scene(tmp_path, services, env=env, idle={"sentinel"}) as scene:
        scene.start("sentinel")
        until(
            lambda: "health:healer" in scene.system.cmd("KEYS", "health:healer"), what="the healer to be up"
        )
        scene["healer"].kill()
        plant_type(scene, LOG)
        scene.alerts.wait("healer_miss", "healer")
        until(lambda: LOG in unusable(scene, "sentinel"), what="the sentinel to say so")
        assert [event["svc"] for event in scene.log("healer_miss")] == ["healer"]
        lives_on(scene, "sentinel", 1)
        scene["healer"].start()
        scene.heard_again(2)


@pytest.mark.parametrize("how", ["fields", pytest.param("type", marks=pytest.mark.nightly("[fields]"))])
def test_row_42_whatever_lies_in_its_memory_the_sentinel_starts_and_tells(tmp_path, how):
    env = {"SENTINEL_TIMEOUT_SEC": "1.5", "WEBHOOK_URL": "http://127.0.0.1:9/"}
    with Scene(tmp_path, {"alpha": service(), "sentinel": service()}, env=env, idle={"sentinel"}) as scene:
        for word in ("roster", "silence", "heard", "direct", "canary"):
            if how == "type":
                plant_type(scene, f"sentinel:{word}")
            elif word != "canary":
                plant(scene, f"sentinel:{word}", "healer", "@system-redis", "truth:market-redis", "bus:x")
        scene.start("sentinel")
        until(lambda: scene["sentinel"].logs("monitor.state_loaded"), what=lambda: str(scene["sentinel"]))
        until(
            lambda: "health:healer" in scene.system.cmd("KEYS", "health:healer"), what="the healer to be up"
        )
        scene["healer"].kill()
        scene.alerts.wait("healer_miss", "healer")
        said = {f"sentinel:{word}" for word in ("roster", "silence", "heard", "direct")}
        until(
            lambda: said <= unusable(scene, "sentinel"),
            what=lambda: f"{unusable(scene, 'sentinel')} of {said}",
        )
        lives_on(scene, "sentinel", 1)
        scene["healer"].start()
        scene.heard_again(2)


KEYS = {
    "notifier": ("notifier:state", "notifier:lease", "notifier:silences", "notifier:asks", "notifier:dead"),
    "mesh": ("mesh:topology", "mesh:events", "mesh:flow"),
    "massive": ("massive:roster", "massive:probes", "probe:tcp"),
}


@pytest.mark.parametrize("how", ["fields", "type"])
def test_row_42_whatever_lies_under_their_keys_the_others_start_and_go_on(tmp_path, how):
    env = {"WEBHOOK_URL": "http://127.0.0.1:9/", "NOTIFIER_LEASE_SEC": "0.6"}
    services = {agent: service(timeout_sec=60) for agent in KEYS}
    with Scene(tmp_path, services, agents=(), env=env, idle=KEYS) as scene:
        for name in (name for names in KEYS.values() for name in names):
            if how == "type":
                plant_type(scene, name)
            else:
                plant(scene, name, "seq", "d:asks", "d:pauses", "dns")
        for agent in KEYS:
            scene.start(agent)
        for agent, names in KEYS.items():
            scene.wait_beats(agent, 12)
            until(
                lambda a=agent, key=names[0]: key in unusable(scene, a),
                what=f"{names[0]} to be said unusable",
            )
            lives_on(scene, agent, 1)
