"""FAILURES rows 62 and 63: no other user ends the term of a leader, no dry run keeps a medic from healing."""

import contextlib
from pathlib import Path

import orjson
import pytest
import redis
from redis.exceptions import NoPermissionError

from marketswarm.keys import MEDIC_DRY, MEDIC_LEASE, own_lease_key
from marketswarm.operator.healing import TimelineEntry
from support.rig import Proc, acl_users
from support.scenes.faults import BUSES, INTERVAL_SEC, Scene, service
from support.waiting import until

HEALING, DRY = own_lease_key("medic", MEDIC_LEASE), own_lease_key("medic", MEDIC_DRY)
AGENT = {"heartbeat": {"interval_sec": INTERVAL_SEC, "timeout_sec": 5}}
QUICK = {"every_sec": 0.2, "wait_sec": 0.2, "start_grace_sec": 1, "rules_every_sec": 1}
LEADERS = ("healer", "notifier", "medic", "rss_agg")
"""Each leads by a lease; rss_agg divides its work by `members:rss_agg:feeds`."""
ATTEMPTS = (
    *("DEL {}", "HSET {} claim x boot x svc x epoch 9", "SET {} x", "PEXPIRE {} 86000000", "EXPIRE {} 1"),
    *("SET {} x PX 86000000 NX", "ZADD {} 9000000000000 x", "PERSIST {}", "RENAME {} x", "PUBLISH {} free"),
    *("UNLINK {}", "HDEL {} claim", "INCR {}", "GETDEL {}", "RESTORE {} 0 x REPLACE"),
)


@pytest.fixture
def users(monkeypatch):
    """Every agent is a user of its own, as `marketswarm acl` makes them."""
    monkeypatch.setattr(acl_users, "ON", True)


def enter(scene: Scene, bus: str, user: str) -> redis.Redis:
    password = f"the password of {user}"
    port = scene.server(bus).port
    return redis.Redis("127.0.0.1", port, username=user, password=password, protocol=2)


def let_through(client: redis.Redis, tries: list[str]) -> list[str]:
    """Those that the server does not refuse to this user; an error of another kind is no refusal."""
    found = []
    for line in tries:
        try:
            client.execute_command(*line.split())
        except NoPermissionError:
            continue
        except redis.ResponseError:
            pass
        found.append(line)
    return found


def list_leader_keys(scene: Scene, bus: str) -> dict[str, str]:
    """By key: the service that leads or shares by it, as all keys of a bus say that are there now."""
    found = {}
    for key in scene.server(bus).cmd("KEYS", "*"):
        words = key.split(":")
        if words[0] in ("own-lease", "own-lease-epoch", "members"):
            found[key] = words[1]
        elif (len(words) > 1 and words[1] == "lease") or key == "medic:state":
            found[key] = words[0]
    return found


def holder(scene: Scene, key: str) -> str:
    return scene.system.cmd("HGET", key, "boot") or ""


def epoch(scene: Scene, key: str = HEALING) -> str:
    return scene.system.cmd("HGET", key, "epoch") or ""


def boot(agent: Proc) -> str:
    return agent.logs("agent.joined")[-1]["boot"]


def renewed(scene: Scene, key: str) -> bool:
    """Whether a lease of 10 s was renewed just now."""
    return scene.system.cmd("PTTL", key) > 9_000


def count_members(scene: Scene) -> int:
    return sum(scene.server(bus).cmd("ZCARD", "members:rss_agg:feeds") for bus in BUSES)


def test_row_62_no_other_user_can_end_the_term_of_a_leader(tmp_path, users):
    sections = {name: dict(AGENT) for name in LEADERS if name != "healer"}
    sections["medic"] = {**AGENT, "settings": QUICK}
    others = {name: service() for name in ("alpha", "massive", "vexy_ai", "sources", "archive", "bars")}
    others |= {name: service() for name in ("mesh", "board")}
    with Scene(tmp_path, {**sections, **others}, LEADERS) as scene:
        until(lambda: holder(scene, HEALING), what="a medic that leads")
        until(lambda: count_members(scene) == 1, what="a member of rss_agg")
        before = epoch(scene), boot(scene["medic"]), holder(scene, "healer:lease")
        lead = {bus: list_leader_keys(scene, bus) for bus in BUSES}
        assert {owner for found in lead.values() for owner in found.values()} == {*LEADERS}
        for bus in BUSES:
            assert acl_users.refused(scene.server(bus).port) == [], "what the agents themselves did"
            for user in {*sections, *others, "healer", "sentinel", "bootstrap"}:
                if user not in acl_names(scene, bus):
                    continue
                tries = [
                    each.format(key) for key, owner in lead[bus].items() if owner != user for each in ATTEMPTS
                ]
                with contextlib.closing(enter(scene, bus, user)) as client:
                    assert let_through(client, tries) == [], f"{user} on {bus}"
            scene.server(bus).cmd("ACL", "LOG", "RESET")
        # the key of older releases is everyone's, and nobody leads by it any more
        with contextlib.closing(enter(scene, "system-redis", "alpha")) as alpha:
            alpha.delete("lease:medic")
            alpha.hset("lease:medic", mapping={"claim": "x", "epoch": 9, "boot": "x", "svc": "medic"})
            alpha.pexpire("lease:medic", 86_000_000)
            alpha.set("lease-epoch:medic", 8_000_000_000_000)
        # the next renewal takes it along, so that a medic of an older release waits
        until(lambda: holder(scene, "lease:medic") == before[1], what="the key of older releases to be ours")
        until(lambda: renewed(scene, HEALING), what="a renewal")
        assert (epoch(scene), holder(scene, HEALING), holder(scene, "healer:lease")) == before
        assert count_members(scene) == 1
        assert not [line for name in LEADERS for line in scene[name].logs("lease.lost")]


def acl_names(scene: Scene, bus: str) -> set[str]:
    return {line.split()[1] for line in scene.server(bus).cmd("ACL", "LIST")}


@pytest.mark.nightly("a minute without a leader: tests/marketswarm/agent/test_loops.py has it in moved time")
def test_row_62_a_medic_that_its_own_store_refuses_says_so_and_people_hear_of_it(tmp_path, users):
    """The way out of docs/services/medic.md is the operator's, and nothing has to be started again."""
    sections = {"medic": {**AGENT, "settings": QUICK}, "alpha": service()}
    with Scene(tmp_path, sections, ("healer", "medic")) as scene:
        until(lambda: holder(scene, HEALING), what="a medic that leads")
        assert scene.last_beat("medic").get("status", "ok") == "ok"
        ahead = int(scene.system.cmd("TIME")[0]) * 1000 + 250_000
        scene.system.cmd("HSET", "medic:state", "epoch", ahead)
        scene.stop_beating("alpha")
        miss = scene.wait_logged("monitor_miss", "medic/stopped/fleet", within=120)
        assert "no process leads (healing)" in miss["reason"]
        assert "a medic with a newer lease has written" in miss["reason"]
        beat = scene.last_beat("medic")
        assert beat["status"] == "degraded"
        assert "no process leads (healing)" in beat["detail"]
        with contextlib.closing(enter(scene, "system-redis", "operator")) as operator:
            assert operator.delete("medic:state") == 1
        scene.wait_logged("monitor_ok", "medic/stopped/fleet", within=60)
        until(lambda: scene.last_beat("medic").get("status", "ok") == "ok", what="a beat that is well")
        assert len(scene["medic"].logs("agent.joined")) == 1


def entries(scene: Scene, stream: str) -> list[TimelineEntry]:
    found = (fields for _, fields in scene.system.cmd("XRANGE", stream, "-", "+"))
    raw = (each["entry"] if isinstance(each, dict) else each[1] for each in found)
    return [entry for each in raw if (entry := TimelineEntry.parse(each.encode())) is not None]


def steps(scene: Scene, stream: str) -> set[str]:
    return {f"{each.what} {each.reason}".strip() for each in entries(scene, stream) if each.svc == "alpha"}


def found_by(scene: Scene, states: str) -> set[str]:
    """Return the boots of those who found that the rule holds."""
    raw = scene.system.cmd("HGET", states, "always/host")
    return set(orjson.loads(raw)["seen"]) if raw else set()


def boots(agent: Proc) -> set[str]:
    return {line["boot"] for line in agent.logs("agent.joined")}


@pytest.mark.parametrize(
    ("restarted", "end"),
    [
        ("medic", "stop"),
        pytest.param("dry", "stop", marks=pytest.mark.nightly("[medic-stop]")),
        pytest.param("medic", "kill", marks=pytest.mark.nightly("[medic-stop]")),
        pytest.param("dry", "kill", marks=pytest.mark.nightly("[medic-stop]")),
    ],
)
def test_row_63_beside_a_dry_run_the_real_medic_leads_and_heals_whichever_is_restarted(
    tmp_path, users, restarted, end
):
    target = {"mode": "act", "ladder": ["command"]}
    always = {"metric": "host_memory", "above": 0, "severity": "warning"}
    settings = {**QUICK, "targets": {"alpha": target}, "shipped_rules": False, "rules": {"always": always}}
    sections = {"medic": {**AGENT, "settings": settings}, "alpha": service()}
    with Scene(tmp_path, sections, ("healer",), idle=("medic",)) as scene:
        acted = {name: scene.folder / f"acted-{name}" for name in ("medic", "dry")}
        agents = {}
        for name, env in (("medic", {}), ("dry", {"MEDIC_DRY_RUN": "true"})):
            command = {"MEDIC_COMMAND": f"touch {acted[name]}"}
            agents[name] = Proc("services.medic", {**scene.env, **command, **env}, scene.folder)
            scene.resources.enter_context(agents[name])

        def leads() -> bool:
            found = holder(scene, HEALING), holder(scene, DRY)
            return found == (boot(agents["medic"]), boot(agents["dry"]))

        until(lambda: all(each.logs("lease.held") for each in agents.values()), what="both to lead")
        assert leads()
        until(
            lambda: "a dry run is running" in scene.last_beat("medic").get("detail", ""),
            what="that the one that heals is the one that beats, and says that a dry run is running",
        )
        getattr(agents[restarted], end)()
        agents[restarted].start()
        until(lambda: len(agents[restarted].logs("lease.held")) == 2, what="the restarted one to lead again")
        assert leads()
        assert holder(scene, "lease:medic") == boot(agents["medic"])
        scene.stop_beating("alpha")
        until(acted["medic"].exists, what="the remedy")
        until(lambda: "refused dry_run" in steps(scene, "medic:dry:incidents"), what="what it would do")
        until(lambda: "acted" in steps(scene, "medic:incidents"), what="its outcome")
        assert "refused dry_run" not in steps(scene, "medic:incidents")
        assert not Path(acted["dry"]).exists()
        assert not {"intended", "acted"} & steps(scene, "medic:dry:incidents")
        stored = scene.system.cmd("HGET", "medic:state", "repair:alpha")
        assert orjson.loads(stored)["attempts"][-1]["remedy"] == "command"
        # a rule that holds is told by the real one alone
        scene.wait_logged("monitor_miss", "medic/always/host")
        until(lambda: found_by(scene, "medic:dry:alerts:outages"), what="what the dry run found")
        assert found_by(scene, "medic:dry:alerts:outages") <= boots(agents["dry"])
        assert found_by(scene, "medic:alerts:outages") <= boots(agents["medic"])
        dry = [key for key in scene.system.cmd("KEYS", "medic:dry:*") if "alerts" not in key]
        assert sorted(dry) == ["medic:dry:evidence", "medic:dry:incidents", "medic:dry:state"]
