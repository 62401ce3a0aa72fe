"""What massive tells of its probes, on its way over the healer: checked, copied once each, in order."""

import orjson
import redis

from support.fixtures import opened
from support.rig import HOST
from support.rig.limits import without_limits
from support.scenes.faults import Scene, service
from support.waiting import until

ALERTS = "massive:alerts"
PROBES = ("probe_miss", "probe_ok", "probe_unwatched")
TS = 1762433458.0
LONG_AGO = TS + 1000


def event(number: int, kind: str = "probe_miss", svc: str = "massive/shop", **more) -> bytes:
    ts = TS + number
    ident = f"{kind}.{svc.replace('/', ':')}.{round(ts * 1000)}"
    return orjson.dumps({"type": kind, "svc": svc, "ts": ts, "id": ident, "by": "massive", **more})


class Probed(Scene):
    """A healer, and a hand that writes what massive writes."""

    def write(self, raw: bytes) -> None:
        with redis.Redis(HOST, self.system.port, socket_timeout=30) as client:
            client.xadd(ALERTS, {"event": raw})

    def copied(self) -> list[dict]:
        """What a hand wrote has a time long ago; what the healer itself concludes meanwhile is none of it."""
        return [each for each in self.log() if each["ts"] < LONG_AGO]

    def judge(self) -> None:
        """The order of what a hand wrote is the test's own business; nothing is told twice all the same."""
        idents = [each["id"] for each in self.log()]
        assert len(set(idents)) == len(idents)


scene = opened(lambda tmp_path: Probed(tmp_path, {"alpha": service()}))


def test_what_massive_tells_is_on_the_log_and_on_the_channel_in_its_order(scene):
    written = [event(n, kind) for n, kind in enumerate(["probe_miss", "probe_ok", "probe_miss"])]
    for raw in written:
        scene.write(raw)
    until(lambda: len(scene.copied()) == 3, what="all three on the log")
    assert scene.copied() == [orjson.loads(raw) for raw in written]
    until(lambda: len(scene.alerts.of("probe_miss")) == 2, what="both losses on the channel")
    scene.system.cmd("XADD", ALERTS, "99999999999999-0", "event", event(4))
    until(lambda: len(scene.copied()) == 4, what="the fourth")
    scene.system.cmd("DEL", ALERTS)  # a stream that begins anew is read from its beginning
    scene.write(event(5))
    until(lambda: len(scene.copied()) == 5, what="the first of the new stream")


def test_an_outage_that_massive_left_open_is_closed_once_as_the_truth_does_not_name_it(scene):
    scene.write(event(1))
    closed = scene.alerts.wait("probe_unwatched", "massive/shop")
    assert closed["by"] == "healer"
    scene["healer"].kill()
    scene["healer"].start()
    scene.write(event(2, svc="massive/db"))
    scene.alerts.wait("probe_unwatched", "massive/db")
    assert [each["svc"] for each in scene.log() if each["type"] == "probe_unwatched"] == [
        "massive/shop",
        "massive/db",
    ]


FOREIGN = [
    event(1, "heartbeat_ok", "alpha"),
    event(1, "bus_miss", "market-redis"),
    event(1, "probe_miss", "alpha"),
    event(1, "probe_ok", "massive/"),
    event(1, id="heartbeat_miss.alpha.1762433459000"),
    event(1, id="probe_ok.massive:shop.1762433459000"),
    event(1, by="healer"),
    event(1, svc="massive/\x1b[2Jshop"),
    event(1, reason="x" * 20_000),
    b"{",
    b"x" * (110 * 1024 * 1024),
]


def test_row_41_what_massive_may_not_tell_is_skipped_counted_and_said_once(scene):
    without_limits(scene.system)
    for raw in FOREIGN:
        scene.write(raw)
    scene.write(event(2))
    until(scene.copied, what="what comes behind them")
    assert [each["ts"] for each in scene.copied()] == [TS + 2]
    healer = scene["healer"]

    def said() -> int:
        return sum(line["count"] for line in healer.logs("relay.skipped"))

    until(lambda: said() == len(FOREIGN), what="all to be said")
    healer.kill()
    healer.start()
    scene.write(event(3))
    until(lambda: len(scene.copied()) == 2, what=lambda: f"what a later healer copies: {healer}")
    assert said() == len(FOREIGN), "read again at the next start"
    healer.kill()
    scene.system.cmd("HSET", "healer:relayed", ALERTS, "-inf")
    scene.system.cmd("DEL", ALERTS)
    healer.start()
    scene.write(event(4))
    until(lambda: len(scene.copied()) == 3, what="what is copied from a position that nobody can read")
    assert healer.logs("relay.position_unreadable")
