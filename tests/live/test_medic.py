"""The medic on real fleets: what it does, what it leaves alone, and each action once (FAILURES 57 to 59)."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import count

import orjson
import pytest
import redis

from marketswarm.operator.healing import TimelineEntry, fold_incidents
from marketswarm.status.fleet_state import parse_instances
from marketswarm.testing import Fleet as UpFleet
from support.rig import Fleet, Proc
from support.rig.beats import Feed
from support.rig.container_engine import ContainerEngineStandIn
from support.rig.process import descendants
from support.rig.systemd_bus import run_bus, stand_in
from support.waiting import auntil, until

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
QUICK = {"every_sec": 0.2, "wait_sec": 0.2, "settle_sec": 20, "stable_sec": 1, "start_grace_sec": 10}


def truth(**settings):
    medic = {"heartbeat": BEATS, "settings": {**QUICK, **settings}}
    return {"services": {"healer": {"heartbeat": BEATS}, "mesh": {"heartbeat": BEATS}, "medic": medic}}


@contextlib.contextmanager
def up(folder, env=None, **settings):
    """Run a fleet with a medic that knows of no outage; a slow start may have been one."""
    with UpFleet(folder, "mesh", "medic", truth=truth(**settings), env=env, timeout_sec=1.5) as fleet:
        forget(fleet)
        yield fleet


def forget(fleet):
    """Wait until no outage is open, and delete what was."""
    bus = fleet.bus("system-redis")
    roster = lambda: bus.hget("healer:roster", "mesh") or ""  # noqa: E731 - asked again and again
    is_quiet = lambda: '"up"' in roster() and not open_repairs(bus)  # noqa: E731 - the same
    fleet.until(is_quiet, what="no open outage")
    bus.delete("medic:incidents")


def open_repairs(bus):
    return [name for name in bus.hkeys("medic:state") if name.startswith("repair:")]


def pid_of(fleet, svc):
    return next((pid for pid, line in descendants(fleet.pid) if f"services.{svc}" in line), None)


def incidents(bus, stream="medic:incidents"):
    entries = [TimelineEntry.parse(fields["entry"].encode()) for _, fields in bus.xrange(stream)]
    return fold_incidents(entries)


def timeline(bus, stream="medic:incidents"):
    return [
        " ".join(filter(None, (each.what, each.reason)))
        for one in incidents(bus, stream)
        for each in one.timeline
    ]


def show_incident(folder, ident):
    return run_command(folder, "incident", ident, "--data", str(folder / "fleet"))


def run_command(folder, *words):
    command = [sys.executable, "-m", "marketswarm", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout


def is_over(bus, stream="medic:incidents"):
    return any(each.startswith("resolved") for each in timeline(bus, stream))


def test_a_killed_agent_is_left_to_its_owner_and_a_hung_one_is_restarted_verified_and_on_record(tmp_path):
    with up(tmp_path, mode="act") as fleet:
        bus = fleet.bus("system-redis")
        fleet.kill("mesh")
        fleet.until(lambda: is_over(bus), what="the end of the incident")
        told = timeline(bus)
        assert "refused owner_restarts" in told
        assert not {"intended", "acted"} & set(told)
        assert told[-1] == "resolved restarted"
        forget(fleet)
        pid, boot, before = pid_of(fleet, "mesh"), fleet.beat("mesh")["boot"], len(fleet.alerts())
        os.kill(pid, signal.SIGSTOP)
        alerts = lambda: [event["type"] for event in fleet.alerts()[before:] if event["svc"] == "mesh"]  # noqa: E731
        fleet.until(lambda: alerts() == ["heartbeat_miss", "heartbeat_ok"], what="its miss and its return")
        fleet.until(lambda: is_over(bus), what="the end of the incident")
        told = [each for each in timeline(bus) if each != "refused start_grace"]  # the fleet may be young
        assert told == ["opened silent", "waiting", "intended", "acted", "verified", "resolved healed"]
        assert pid_of(fleet, "mesh") != pid
        assert fleet.beat("mesh")["boot"] != boot
        assert open_repairs(bus) == []
        shown = show_incident(tmp_path, incidents(bus)[0].id)
        assert "## Evidence of `intended restart`" in shown
        assert "- health: down\n" in shown
        assert f'"boot":"{boot}"' in shown.partition("lines of its log:")[2], "of the process that hung"


def test_a_false_picture_by_mesh_s_password_holds_back_no_remedy(tmp_path):
    """docs/security.md: with it, others see false instances, and no more."""
    document = truth(mode="act")
    document["services"]["rss_agg"] = {"heartbeat": BEATS}
    del document["services"]["mesh"]  # the test writes what it would
    with UpFleet(tmp_path, "rss_agg", "medic", truth=document, timeout_sec=1.5) as fleet:
        bus = fleet.bus("system-redis")
        instances = [{"boot": boot, "beat_at": time.time() + 3600} for boot in ("b1", "b2")]
        bus.set("mesh:topology", orjson.dumps({"services": {"rss_agg": {"instances": instances}}}))
        found = parse_instances(bus.get("mesh:topology").encode())
        assert found["rss_agg"].running == 2, "it is a picture that is believed"
        pid = pid_of(fleet, "rss_agg")
        os.kill(pid, signal.SIGSTOP)
        fleet.until(lambda: "verified" in timeline(bus), what="its restart")
        assert "refused several_processes" not in timeline(bus)
        assert pid_of(fleet, "rss_agg") != pid


def test_where_the_medic_is_the_owner_it_starts_a_killed_agent_at_once_and_none_that_was_stopped(tmp_path):
    with up(tmp_path, mode="act", targets={"mesh": {"owner": "medic"}}) as fleet:
        bus = fleet.bus("system-redis")
        for _ in range(4):  # on a busy machine the pause of `up` may be over before the medic has its turn
            fleet.kill("mesh")
            fleet.until(lambda: is_over(bus), what="the end of the incident")
            if "verified" in timeline(bus):
                break
            forget(fleet)
        (incident,) = incidents(bus)
        assert "not after its pause" in next(each.text for each in incident.timeline if each.what == "acted")
        forget(fleet)
        fleet.stop("mesh")
        fleet.until(lambda: "refused stopped" in timeline(bus), what="the refusal")
        assert pid_of(fleet, "mesh") is None
        assert "intended" not in timeline(bus)


@pytest.mark.parametrize(
    ("mode", "env", "reason", "stream"),
    [
        ("observe", {}, "observed", "medic:incidents"),
        ("act", {"MEDIC_DRY_RUN": "true"}, "dry_run", "medic:dry:incidents"),
    ],
)
def test_in_observe_and_in_a_dry_run_nothing_is_touched_and_the_incident_says_what_would_be(
    tmp_path, mode, env, reason, stream
):
    with up(tmp_path, env=env, mode=mode) as fleet:
        bus, pid = fleet.bus("system-redis"), pid_of(fleet, "mesh")
        bus.delete(stream)  # a slow start may have been an outage
        os.kill(pid, signal.SIGSTOP)
        fleet.until(lambda: f"refused {reason}" in timeline(bus, stream), what="what would be done")
        assert pid_of(fleet, "mesh") == pid
        incident = incidents(bus, stream)[0]
        assert [each.remedy for each in incident.timeline if each.reason == reason] == ["restart"]
        os.kill(pid, signal.SIGCONT)
        fleet.until(lambda: is_over(bus, stream), what="the end of the incident")
        assert timeline(bus, stream)[-1] == "resolved recovered"
        assert pid_of(fleet, "mesh") == pid
        if reason == "dry_run":
            assert bus.keys("medic:incidents") == bus.keys("medic:state") == []
            command = ("incidents", "--dry-run", "--json", "--data", str(tmp_path / "fleet"))
            shown = run_command(tmp_path, *command)
            assert [each["id"] for each in orjson.loads(shown)] == [incident.id]
            shown = run_command(tmp_path, "incident", incident.id, "--dry-run", *command[3:])
            assert "this is a dry run" in shown


def test_a_proposal_waits_for_a_person_and_what_helped_then_is_done_unasked_if_that_can_be_earned(tmp_path):
    with up(tmp_path, mode="earned", earn_after=1, rules_every_sec=1) as fleet:
        bus, pid = fleet.bus("system-redis"), pid_of(fleet, "mesh")
        os.kill(pid, signal.SIGSTOP)
        fleet.until(lambda: "proposed" in timeline(bus), what="the proposal")
        (incident,) = incidents(bus)
        ident = incident.timeline[-1].text.rpartition(" ")[2]
        told = lambda: [each for each in fleet.alerts() if each["svc"] == "medic/proposed/mesh"]  # noqa: E731 - short
        fleet.until(told, what="its event")
        assert told()[0]["reason"].endswith(f"marketswarm medic approve {ident}")
        bus.hset("medic:approvals", "junk", "junk")
        bus.hset("medic:approvals", ident, orjson.dumps({"id": ident, "by": "ann", "ts": time.time()}))
        fleet.until(lambda: is_over(bus), what="the end of the incident")
        assert {"approved", "verified"} <= set(timeline(bus))
        assert bus.hkeys("medic:approvals") == ["junk"]
        shown = run_command(tmp_path, "medic", "status", "--json", "--data", str(tmp_path / "fleet"))
        (approved,) = orjson.loads(shown)["approvals"]
        assert (approved["svc"], approved["helped"], approved["mode"]) == ("mesh", 1, "earned: act")
        os.kill(pid_of(fleet, "medic"), signal.SIGKILL)  # the next one knows it by the record alone
        os.kill(pid_of(fleet, "mesh"), signal.SIGSTOP)
        fleet.until(lambda: timeline(bus).count("resolved healed") == 2, what="the end of the next one")
        assert timeline(bus).count("proposed") == 1


class FleetSocket:
    """A stand-in for the control socket of a fleet with one process, `feed`; `on_restart` does a restart."""

    def __init__(self, folder, on_restart):
        self.path = str(folder / "c")
        self.identity, self.asked = "start 1", []
        self._on_restart = on_restart
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
                    answer = self._answer(orjson.loads(lines.readline()))
                    connection.sendall(orjson.dumps(answer) + b"\n")

    def _answer(self, request):
        if request["do"] == "state":
            feed = {"name": "feed", "state": "running", "wanted": True, "identity": self.identity}
            return {"processes": [{**feed, "age_sec": 1000, "restarts": 0}]}
        self.asked.append(request["identity"])
        self._on_restart(self)
        return {"done": True, "result": "done", "said": "restarted"}

    def close(self):
        self._listener.close()


def test_a_medic_that_is_killed_between_intent_and_act_leaves_nothing_that_is_done_twice(tmp_path):
    for is_done in (True, False):
        folder = tmp_path / str(is_done)
        folder.mkdir()
        killed_between(folder, is_done)


def killed_between(folder, is_done):
    """Kill the medic when its order arrives: after the fleet has followed it, or before."""
    document = truth(mode="act", wait_sec=0.1)
    document["services"] = {**document["services"], "feed": {"heartbeat": BEATS}}
    del document["services"]["mesh"]
    with contextlib.ExitStack() as ends:
        killed = threading.Event()

        def follow(control):
            if not killed.is_set():
                killed.set()
                medic.signal(signal.SIGKILL)
                if not is_done:
                    return
            control.identity = f"{control.identity}+"
            feed.restart()

        control = ends.enter_context(contextlib.closing(FleetSocket(folder, follow)))
        fleet = ends.enter_context(Fleet(folder, document, ["healer"], tail=False))
        feed = ends.enter_context(contextlib.closing(Feed(fleet.system)))
        medic: Proc = fleet.start("medic", MEDIC_FLEET_SOCKET=control.path)
        until(lambda: medic.logs("lease.held"))
        until(lambda: '"up"' in (fleet.system.cmd("HGET", "healer:roster", "feed") or ""))
        feed.is_up = False
        until(killed.is_set, what="the order")
        medic.wait()
        medic.start()
        bus = ends.enter_context(redis.Redis.from_url(fleet.system.url, decode_responses=True))
        if is_done:
            until(lambda: is_over(bus), what="the end of the incident")
            assert "verified" in timeline(bus)
        else:
            until(lambda: "abandoned unknown" in timeline(bus), what="the intent to be given up")
            feed.is_up = True
            until(lambda: is_over(bus), what="the end of the incident")
            assert "verified" not in timeline(bus)
        assert control.asked == ["start 1"], "no action twice"
        assert timeline(bus).count("intended") == 1


def test_a_container_that_hangs_is_restarted_by_its_engine_and_one_that_was_stopped_is_left_alone(tmp_path):
    """The engine is a stand-in: five requests of the documented API."""
    document = truth(mode="act", wait_sec=0.1)
    document["services"] = {**document["services"], "feed": {"heartbeat": BEATS}}
    del document["services"]["mesh"]
    with contextlib.ExitStack() as ends:
        engine = ends.enter_context(contextlib.closing(ContainerEngineStandIn(tmp_path)))
        fleet = ends.enter_context(Fleet(tmp_path, document, ["healer"], tail=False))
        feed = ends.enter_context(contextlib.closing(Feed(fleet.system)))
        container = engine.add("feed")

        def restart(restarted):
            restarted.start_again()
            feed.restart()

        engine.on_restart = restart
        medic = fleet.start("medic", MEDIC_ENGINE_SOCKET=str(engine.path), MEDIC_ENGINE_PROJECT="shop")
        until(lambda: medic.logs("lease.held"))
        until(lambda: '"up"' in (fleet.system.cmd("HGET", "healer:roster", "feed") or ""))
        bus = ends.enter_context(redis.Redis.from_url(fleet.system.url, decode_responses=True))
        feed.is_up = False
        until(lambda: is_over(bus), what="the end of the incident")
        told = timeline(bus)
        assert told == ["opened silent", "waiting", "intended", "acted", "verified", "resolved healed"]
        assert [path for method, path in engine.asked if method == "POST"] == [
            f"/v1.44/containers/{container.id}/restart"
        ]
        container.state, feed.is_up = "exited", False
        until(lambda: "refused stopped" in timeline(bus), what="the refusal")
        feed.restart()  # first: what runs and does not beat is restarted
        until(lambda: not open_repairs(bus), what="the end of the second one")
        container.start_again()
        engine.answer = lambda *_: (403, b"")
        problem = "the engine's answer can't be used (list): it answers 403"
        until(lambda: problem in (fleet.system.cmd("GET", "beat:medic") or ""), what="its beats say so")
        assert engine.count("/restart") == 1


@pytest.mark.needs("dbus-daemon")
async def test_a_unit_that_hangs_is_restarted_by_systemd_and_one_that_was_stopped_is_left_alone(tmp_path):
    """The bus is real; systemd is a stand-in: three calls of its documented interface."""
    document = truth(mode="act", wait_sec=0.1)
    document["services"] = {**document["services"], "feed": {"heartbeat": BEATS}}
    del document["services"]["mesh"]
    with contextlib.ExitStack() as ends:
        address = ends.enter_context(run_bus(tmp_path))
        fleet = ends.enter_context(Fleet(tmp_path, document, ["healer"], tail=False))
        feed = ends.enter_context(contextlib.closing(Feed(fleet.system)))
        bus = ends.enter_context(redis.Redis.from_url(fleet.system.url, decode_responses=True))
        async with stand_in(address) as systemd:
            unit = systemd.add("agent-feed.service")

            def restart(restarted):
                restarted.start_again()
                feed.restart()

            systemd.on_restart = restart
            medic = fleet.start("medic", MEDIC_SYSTEMD=address, MEDIC_SYSTEMD_UNIT="agent-%s.service")
            await auntil(lambda: medic.logs("lease.held"))
            await auntil(lambda: '"up"' in (bus.hget("healer:roster", "feed") or ""))
            feed.is_up = False
            await auntil(lambda: is_over(bus), what="the end of the incident")
            told = timeline(bus)
            assert told == ["opened silent", "waiting", "intended", "acted", "verified", "resolved healed"]
            assert systemd.count("TryRestartUnit") == 1
            unit.active, unit.sub, feed.is_up = "inactive", "dead", False
            await auntil(lambda: "refused stopped" in timeline(bus), what="the refusal")
            feed.restart()  # first: what runs and does not beat is restarted
            await auntil(lambda: not open_repairs(bus), what="the end of the second one")
            unit.start_again()
        problem = "systemd's answer can't be used (list)"
        await auntil(lambda: problem in (bus.get("beat:medic") or ""), what="its beats say so")
        assert systemd.count("TryRestartUnit") == 1
        assert systemd.strange == []


def make_rules(severity, **limits):
    rule = {"metric": "process_memory", "severity": severity, "services": ["mesh"]}
    rules = {name: {**rule, "above": limit} for name, limit in limits.items()}
    return {"shipped_rules": False, "rules_every_sec": 1, "rules": rules}


def misses(fleet):
    return [event for event in fleet.alerts() if event["type"] == "monitor_miss"]


def test_a_rule_that_holds_is_published_by_the_healer_and_its_service_gets_a_remedy(tmp_path):
    document = truth(mode="act", **make_rules("critical", memory=0.0001))
    with UpFleet(tmp_path, "mesh", "medic", truth=document, timeout_sec=1.5) as fleet:
        bus = fleet.bus("system-redis")
        miss, *_ = fleet.until(lambda: misses(fleet), what="the event")
        assert (miss["svc"], miss["severity"], miss["by"]) == ("medic/memory/mesh", "critical", "medic")
        assert miss["reason"].endswith(", above 0.0001")
        fleet.until(lambda: "failed" in timeline(bus), 60, what="the verdict")
        told = [each for each in timeline(bus) if each != "refused start_grace"]
        assert told[:5] == ["opened alert", "waiting", "intended", "acted", "failed"]
        assert len(misses(fleet)) == 1


def test_lines_of_a_log_and_the_age_of_a_stream_are_measured_where_the_fleet_keeps_them(tmp_path):
    rules = {
        "bad_lines": {"metric": "log_matches", "pattern": "^boom [0-9]+", "above": 2, "within_sec": 60},
        "young": {"metric": "write_age", "key": "mesh:events", "below": 1000},
    }
    document = truth(shipped_rules=False, rules_every_sec=1, rules=rules)
    with UpFleet(tmp_path, "mesh", "medic", truth=document, timeout_sec=1.5) as fleet:
        (log,) = tmp_path.rglob("logs/mesh.log")
        lines = count(1)

        def find_reasons():
            with log.open("ab") as file:  # up to the first look, lines are those that were there before
                file.write(b"boom %d token=hunter2 \x1b[31m\n" % next(lines))
            return {event["svc"]: event["reason"] for event in misses(fleet)}

        found = fleet.until(
            lambda: len(reasons := find_reasons()) == 2 and reasons, what="the events of both rules"
        )
        assert sorted(found) == ["medic/bad_lines/mesh", "medic/young/mesh"]
        assert found["medic/bad_lines/mesh"].endswith(r"above 2 within 60 s: boom <n> <secret> \x1b[<n>m")
        assert found["medic/young/mesh"].startswith("write_age ")


class StaleReader(Feed):
    """Beats `degraded` while the market's bus has a stale quote, as a service that reads it would."""

    def __init__(self, server, market):
        self._market = market
        super().__init__(server)

    @property
    def status(self):
        return "degraded" if self._market.cmd("EXISTS", "quotes:SPY") else "ok"


def test_a_stale_cache_of_a_real_bus_is_cleared_and_verified_by_newer_beats_of_the_same_process(tmp_path):
    document = truth(mode="act", degraded_sec=0.2, targets={"feed": {"ladder": ["quotes_cache", "restart"]}})
    points = {"subscribe_to": [{"bus": "market-redis", "key": "quotes"}]}
    document["services"]["feed"] = {"heartbeat": BEATS, "access_points": points}
    del document["services"]["mesh"]
    with contextlib.ExitStack() as ends:
        fleet = ends.enter_context(Fleet(tmp_path, document, ["healer", "medic"], tail=False))
        fleet.market.cmd("MSET", *(word for i in range(1500) for word in (f"quotes:S{i}", "x")), "kept", "x")
        ends.enter_context(contextlib.closing(StaleReader(fleet.system, fleet.market)))
        bus = ends.enter_context(redis.Redis.from_url(fleet.system.url, decode_responses=True))
        until(lambda: '"up"' in (fleet.system.cmd("HGET", "healer:roster", "feed") or ""))
        fleet.market.cmd("SET", "quotes:SPY", "stale")
        until(lambda: is_over(bus), what="the end of the incident")
        told = ["opened degraded", "waiting", "intended", "acted", "verified", "resolved healed"]
        assert timeline(bus) == told
        (incident,) = incidents(bus)
        acted = next(each for each in incident.timeline if each.what == "acted")
        assert (acted.remedy, acted.text) == (
            "quotes_cache",
            "1501 keys of quotes:* on market-redis deleted",
        )
        assert fleet.market.cmd("KEYS", "*quotes*") == []
        assert fleet.market.cmd("GET", "kept") == "x"


DIAGNOSE = """
import json, sys
bundle = json.load(sys.stdin)["bundle"]
said = bundle["reason"] + "; " + "; ".join(bundle["notes"])
print(json.dumps({"diagnosis": said, "remedies": [{"remedy": "restart", "target": bundle["target"]}]}))
"""


def test_a_command_of_the_environment_diagnoses_what_is_left_to_people(tmp_path):
    script = tmp_path / "diagnose.py"
    script.write_text(DIAGNOSE)
    held = {"metric": "process_memory", "above": 0, "severity": "emergency", "services": ["mesh"]}
    document = truth(mode="act", rules_every_sec=1, rules={"held": held})
    env = {"MEDIC_DIAGNOSIS_COMMAND": f"{sys.executable} {script}"}
    with UpFleet(tmp_path, "mesh", "medic", truth=document, timeout_sec=1.5, env=env) as fleet:
        forget(fleet)
        bus, pid = fleet.bus("system-redis"), pid_of(fleet, "mesh")
        os.kill(pid, signal.SIGSTOP)
        fleet.until(lambda: "diagnosed" in timeline(bus), what="the diagnosis")
        found = orjson.loads(bus.hget("medic:state", "diagnosis:mesh"))
        assert found["text"].startswith("emergency; ")
        assert "rule held/mesh holds" in found["text"]
        assert found["remedies"] == ["restart"]
        assert not {"proposed", "intended"} & set(timeline(bus))
        assert pid_of(fleet, "mesh") == pid
        assert "## Diagnosis (emergency)" in show_incident(tmp_path, found["incident"])
        os.kill(pid, signal.SIGCONT)
