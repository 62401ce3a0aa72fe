"""A fleet on a bus that Redis Sentinel looks after: what is heard and told over real failovers."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from support.rig import Proc, Server
from support.rig.receiver import Receiver
from support.rig.redis_sentinel import Guarded
from support.scenes.faults import service, truth_of
from support.waiting import until

AGENTS = ("healer", "sentinel", "notifier", "services.mesh")


class Swarm:
    """The shipped agents on a guarded system-redis and a plain market-redis."""

    def __init__(self, folder: Path, guarded: Guarded, market: Server, webhook: str) -> None:
        self.guarded = guarded
        truth = truth_of(
            # the living are silent for about as long as a failover takes
            {"mesh": service(timeout_sec=1.5), "notifier": service(), "sentinel": service()},
            timeout_sec=4.0,
            bus_timeout_sec=150.0,  # how long a failover takes is the machine's business
        )
        path = folder / "truth.json"
        path.write_bytes(orjson.dumps(truth))
        self.env = {
            "SYSTEM_REDIS_URL": guarded.url,
            "MARKET_REDIS_URL": market.url,
            "TRUTH_PATH": str(path),
            "WEBHOOK_URL": webhook,
            "HEALER_LEASE_SEC": "1",
            "SENTINEL_TIMEOUT_SEC": "150",
        }
        self.folder, self.raw = folder, path.read_bytes()
        self.agents: dict[str, Proc] = {}

    def start(self) -> None:
        with Proc("bootstrap", self.env, self.folder) as bootstrap:
            assert bootstrap.wait(30) == 0, bootstrap
        for name in AGENTS:
            self.agents[name] = Proc(name, self.env, self.folder)
        server = self.guarded.servers[0]
        until(lambda: self.up(server) >= {"mesh", "notifier", "sentinel"}, what="all to be up")

    def close(self) -> None:
        for agent in self.agents.values():
            agent.close()

    def up(self, server: Server) -> set[str]:
        roster = server.cmd("HGETALL", "healer:roster")
        return {svc for svc, entry in roster.items() if orjson.loads(entry)["verdict"] == "up"}

    def log(self, server: Server) -> list[dict[str, Any]]:
        """All alerts on a server's log; not who came up for the first time."""
        entries = server.cmd("XRANGE", "healer:alerts:log", "-", "+")
        events = [orjson.loads(fields["event"]) for _, fields in entries]
        return [event for event in events if not event["type"].endswith("_ok") or "down_sec" in event]

    def wait(self, server: Server, kind: str, svc: str, within: float = 20.0) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((e for e in self.log(server) if (e["type"], e["svc"]) == (kind, svc)), None)

        event: dict[str, Any] = until(found, within, f"{kind} of {svc}")
        return event

    def heard_again(self) -> None:
        """Waits until the healer hears system-redis in another session than its first."""
        heard = self.agents["healer"].logs

        def again() -> bool:
            return sum(line["bus"] == "system-redis" for line in heard("monitor.listening")) > 1

        until(again, what=lambda: f"the healer to hear again: {self.agents['healer']}")


@pytest.fixture
def swarm(tmp_path, request):
    how = getattr(request, "param", {})
    with Guarded(tmp_path, **how) as guarded, Server(tmp_path / "market") as market, Receiver() as receiver:
        swarm = Swarm(tmp_path, guarded, market, receiver.url)
        swarm.people = receiver
        try:
            swarm.start()
            yield swarm
        finally:
            swarm.close()


@pytest.mark.parametrize("swarm", [{"wires": True}], indirect=True)
def test_a_master_dies_with_what_its_replicas_never_got_and_everything_is_told_once(swarm):
    old = swarm.guarded.servers[0]
    for wire in swarm.guarded.wires:
        wire.swallow()  # from now on the replicas get nothing
    swarm.agents["services.mesh"].kill()
    told = swarm.wait(old, "heartbeat_miss", "mesh")
    until(lambda: told_people(swarm, "mesh is down"), what="people to be told")
    old.kill()

    new = swarm.guarded.successor()
    swarm.heard_again()
    again = swarm.wait(new, "heartbeat_miss", "mesh")
    assert again == told, "the same event, under the same id"
    assert swarm.agents["healer"].wait_log("publish.lost")["count"] == 1
    swarm.agents["services.mesh"].start()
    swarm.wait(new, "heartbeat_ok", "mesh")
    assert [(event["type"], event["svc"]) for event in swarm.log(new)] == [
        ("heartbeat_miss", "mesh"),
        ("heartbeat_ok", "mesh"),
    ], "of the living, and of the bus, nothing"
    assert new.cmd("GET", "truth:doc").encode() == swarm.raw
    until(lambda: told_people(swarm, "mesh is up"), what="people to be told")
    assert told_people(swarm, "mesh is down") == 1
    assert all(agent.running for agent in swarm.agents.values())


@pytest.mark.nightly("test_a_master_dies_with_…; bus/test_failover: a replica is not taken")
def test_a_master_that_froze_and_comes_back_as_if_nothing_was_is_not_taken_again(swarm):
    old = swarm.guarded.servers[0]
    before = swarm.log(old)
    old.freeze()
    new = swarm.guarded.successor()
    swarm.heard_again()
    old.thaw()
    assert says_of_itself(old) == "master", "it does not know yet"
    swarm.agents["services.mesh"].kill()
    swarm.wait(new, "heartbeat_miss", "mesh")
    log = swarm.log(old)
    assert log == before or says_of_itself(old) != "master", "a replica by now has what the new master has"
    swarm.agents["services.mesh"].start()
    swarm.wait(new, "heartbeat_ok", "mesh")
    told = Counter((event["type"], event["svc"]) for event in swarm.log(new))
    assert told == {("heartbeat_miss", "mesh"): 1, ("heartbeat_ok", "mesh"): 1}
    until(lambda: says_of_itself(old) == "slave", what="the old master to be made a replica")
    until(lambda: says_of_itself(old) and swarm.log(old) == swarm.log(new), what="it to have all")


def says_of_itself(server: Server) -> str:
    with contextlib.suppress(redis.ConnectionError):  # who is made a replica hangs up on all
        return str(server.cmd("ROLE")[0])
    return ""


def told_people(swarm: Swarm, title: str) -> int:
    return sum(request.data["title"].startswith(title) for request in swarm.people.seen)
