"""The whole fleet as `marketswarm up --acl` has it: all of it works, and no server refuses anyone.

What a server refused it counts (INFO errorstats), what its caller passed over in silence as well.
"""

import contextlib
import itertools
import time
from pathlib import Path

import orjson
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.rig import HOST, Proc, free_port
from support.rig.feed_site import Page, Site, rss
from support.rig.forkserver import real_starts
from support.rig.process import descendants
from support.rig.receiver import Receiver
from support.rig.shell import Shell
from support.waiting import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc"),
]

SHIPPED = Path(__file__).parents[2] / "truth.json"
BUSES = ("system-redis", "market-redis")
TIMEOUT_SEC = 3.0
REFUSALS = ("errorstat_NOPERM", "errorstat_NOAUTH", "errorstat_WRONGPASS")


def truth(feed: str) -> dict:
    document = orjson.loads(SHIPPED.read_bytes())
    services = document["services"]
    for section in services.values():
        section["heartbeat"]["interval_sec"] = 0.5
    services["healer"]["threshold"] = {"heartbeat_cadence": TIMEOUT_SEC}
    services["rss_agg"] |= {
        "endpoints": [{"url": feed, "name": "wire"}],
        "settings": {"poll_sec": 1, "host_spacing_sec": 0},
    }
    services["massive"]["settings"] = {
        "probe_sec": 0.5,
        "targets": [{"name": "gone", "host": HOST, "port": free_port()}],
    }
    services["vexy_ai"]["settings"] = {"digest_sec": 2}
    return document


class Guarded:
    """A fleet with ACLs in a folder, and an operator's clients."""

    def __init__(self, folder: Path, document: dict, webhook: str, ends: contextlib.ExitStack) -> None:
        self.folder, port, self.shell = folder, free_port(), Shell(folder)
        self.shell.write(document)
        with real_starts():  # its command line and environment are looked at
            env = {"WEBHOOK_URL": webhook, "BOARD_PORT": str(free_port())}
            self.up = Proc("marketswarm", env, folder, "up", "--acl", "--port", str(port))
        ends.callback(lambda: self.up.stop(15))
        self.up.wait_log("fleet.up", 60)
        self.ports = dict(zip(BUSES, (port, port + 1), strict=True))
        self.buses = {
            bus: ends.enter_context(contextlib.closing(self.enter(bus, "operator"))) for bus in BUSES
        }

    def enter(self, bus: str, user: str) -> redis.Redis:
        url = self.file(f"urls/{user}/{bus}")
        return redis.Redis.from_url(url, decode_responses=True, protocol=2)

    def file(self, name: str) -> str:
        return (self.folder / ".marketswarm" / name).read_text(encoding="utf-8").strip()

    def refused(self) -> dict[str, dict]:
        """What each server counted of what it refused to its users."""
        counted = {bus: client.info("errorstats") for bus, client in self.buses.items()}
        return {
            bus: found
            for bus, stats in counted.items()
            if (found := {name: count for name, count in stats.items() if name in REFUSALS})
        }

    def misses(self) -> list[dict]:
        with contextlib.closing(self.enter("system-redis", "operator")) as operator:
            events = [orjson.loads(fields["event"]) for _, fields in operator.xrange("healer:alerts:log")]
        return [event for event in events if event["type"] in ("heartbeat_miss", "bus_miss")]

    def marketswarm(self, *words: str) -> str:
        return self.shell.said(*words, COLUMNS="160")


def work_is_done_and_told(fleet, receiver):
    vexy = fleet.enter("market-redis", "vexy_ai")
    with contextlib.closing(vexy):
        until(lambda: vexy.xlen("rss:items") == 3, what="the items of the feed")
        kinds = until(
            lambda: (
                (found := {entry["kind"] for _, entry in vexy.xrange("vexy:notes")}) >= {"note", "digest"}
                and found
            ),
            what="notes and a digest",
        )
    assert kinds == {"note", "digest"}
    # a service is missed and comes back, a target fails, and people hear of both
    fleet.marketswarm("stop", "vexy_ai")
    receiver.wait("heartbeat_miss", "vexy_ai", 20)
    fleet.marketswarm("start", "vexy_ai")
    receiver.wait("heartbeat_ok", "vexy_ai", 20)
    receiver.wait("probe_miss", "massive/gone", 20)


def commands_find_their_way(fleet):
    """By the operator's files in the data folder."""
    rows = orjson.loads(fleet.marketswarm("status", "--json"))["services"]
    assert {row["verdict"] for row in rows} == {"up"}
    assert "rss:items" in fleet.marketswarm("topology")
    assert "✓" in fleet.marketswarm("notify", "test")
    target = orjson.loads(fleet.marketswarm("history", "massive/gone", "--json"))
    assert target["failures"]
    assert "rss_agg" in fleet.marketswarm("silence", "rss_agg", "--for", "1h", "--why", "x", "--by", "kim")
    assert fleet.marketswarm("dead") == "everything was delivered\n"
    assert "rss_agg beats on" in fleet.marketswarm("beat", "rss_agg", "--verbose")
    until(lambda: fleet.buses["system-redis"].get("mesh:topology"), what="who runs")


def passwords_are_nowhere_but_in_their_files(fleet, services):
    secrets = [path.read_text().strip() for path in (fleet.folder / ".marketswarm/secrets").iterdir()]
    assert len(secrets) == len(services) + 2
    shown = {"log": fleet.up.text(), "fleet.json": fleet.file("fleet.json")}
    own = {}
    for pid in [fleet.up.pid, *dict(descendants(fleet.up.pid))]:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
            environ = Path(f"/proc/{pid}/environ").read_text()
            shown[f"{pid} {words}"] = f"{words} {environ}"
            names = dict(pair.partition("=")[::2] for pair in environ.split("\0"))
            own[words[-1].rpartition(".")[2]] = names.get("SYSTEM_REDIS_URL_FILE", "")
    assert not [where for where, text in shown.items() if any(secret in text for secret in secrets)]
    assert services <= own.keys()
    # it was started again, and so not by fork: only then /proc shows its own environment
    assert own["vexy_ai"].endswith("/urls/vexy_ai/system-redis"), own


def who_has_no_password_looks_and_changes_nothing(fleet):
    with contextlib.closing(redis.Redis(HOST, fleet.ports["system-redis"], decode_responses=True)) as anybody:
        assert "health:rss_agg" in anybody.keys("health:*")
        assert orjson.loads(anybody.get("health:rss_agg"))["type"] == "heartbeat_ok"
        assert dict(anybody.pubsub_numsub("rss_agg:heartbeat"))["rss_agg:heartbeat"] >= 1
        for words in (("PUBLISH", "rss_agg:heartbeat", "{}"), ("KEYS", "*"), ("FLUSHALL",)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                anybody.execute_command(*words)


def a_service_that_a_reseed_adds_is_let_in_by_that_and_watched_and_nobody_is_missed(fleet, document):
    pulse = {"heartbeat": {"interval_sec": 0.5, "channel": "b.pulse"}}
    added = {**document, "services": {**document["services"], "b": pulse}}
    fleet.shell.write(added)
    assert "users and passwords follow it" in fleet.marketswarm("seed")
    url = fleet.file("urls/b/system-redis")
    missed = {event["svc"] for event in fleet.misses()}
    new = redis.Redis.from_url(url)

    def beats() -> bool:
        payload = orjson.dumps({"svc": "b", "i": next(numbers), "ts": time.time()})
        new.set("beat:b", payload, px=3000)
        return new.publish("b.pulse", payload) > 0

    numbers = itertools.count(1)
    with contextlib.closing(new):
        until(beats, what="somebody to hear it")
        until(lambda: beats() and b"heartbeat_ok" in (new_health(fleet) or b""), what="the new one watched")
        assert "nothing to do" in (said := fleet.marketswarm("seed"))
        assert "users" not in said
        until(lambda: {event["svc"] for event in fleet.misses()} - missed == {"b"}, what="the new one missed")
    # the others went on, though a bus cuts everybody off when it loads its users
    fleet.shell.write(document)
    assert "users and passwords follow it" in fleet.marketswarm("seed")
    with (
        contextlib.closing(redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))) as old,
        pytest.raises(redis.AuthenticationError),
    ):
        old.ping()


def new_health(fleet) -> bytes | None:
    with contextlib.closing(redis.Redis(HOST, fleet.ports["system-redis"])) as anybody:
        return anybody.get("health:b")


@pytest.mark.timeout(900)
def test_all_that_the_fleet_does_it_does_with_acls_too(tmp_path):
    """One fleet for all of it: its start is what costs."""
    with Site() as site, Receiver() as receiver, contextlib.ExitStack() as ends:
        site.pages["/feed"] = Page(rss("one", "two", "three"))
        document = truth(site.url("/feed"))
        fleet = Guarded(tmp_path, document, receiver.url, ends)
        work_is_done_and_told(fleet, receiver)
        commands_find_their_way(fleet)
        assert fleet.refused() == {}
        assert "NOPERM" not in fleet.up.text()
        assert '"reason":"auth"' not in fleet.up.text()
        passwords_are_nowhere_but_in_their_files(fleet, set(document["services"]))
        who_has_no_password_looks_and_changes_nothing(fleet)
        a_service_that_a_reseed_adds_is_let_in_by_that_and_watched_and_nobody_is_missed(fleet, document)
