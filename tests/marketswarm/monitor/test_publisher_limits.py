"""What waits, and what may be told again, has bounds that follow what is watched; reaching one is logged."""

from structlog.testing import capture_logs

from marketswarm.bus import Bus
from marketswarm.detector import Publication, State, Verdict
from marketswarm.monitor import Monitor, publisher
from marketswarm.testing import MemoryBus
from marketswarm.truth import Watch
from support.simulation.publishers import NOTICES, down, recording_publisher

BUS = "system-redis"
COUNT = 8_000


class MonitorOwner:
    name, boot = "healer", "b1"

    def __init__(self) -> None:
        self.opened = Bus(BUS, "redis://127.0.0.1:1")

    def bus(self, _name):
        return self.opened

    def progress(self):
        """Nobody waits for it."""

    def set_degraded(self, detail):
        """Nobody looks."""


def up(svc: str, ts: float) -> Verdict:
    return Verdict(svc, State.UP, Publication.ALERT, ts, timeout_sec=30.0, age_sec=0.0, down_sec=31.0)


def limits_in(lines) -> list[tuple[int, int, int]]:
    return [
        (line["waiting"], line["superseded"], line["forgotten"])
        for line in lines
        if line["event"] == "publish.bound_reached"
    ]


async def test_a_death_and_a_recovery_of_all_that_is_watched_wait_for_a_bus_and_none_is_dropped():
    monitor = Monitor(MonitorOwner(), NOTICES, home=BUS)
    names = [f"svc{n:05}" for n in range(COUNT)]
    monitor.set_roster([Watch(svc, BUS, f"{svc}:heartbeat", 10.0, 30.0) for svc in names], {BUS: 10.0}, [BUS])
    box = monitor.links[BUS].publisher
    for ts, verdict in ((1.0, down), (2.0, up)):
        for svc in names:
            box.enqueue(verdict(svc, ts))
    assert (len(box), box.queue.superseded) == (2 * COUNT, 0)
    assert monitor.log_lengths[BUS].services == COUNT


async def test_a_limit_that_is_reached_is_logged_when_verdicts_are_superseded(monkeypatch):
    monkeypatch.setattr(publisher, "compute_queue_limit", lambda _services: 3)
    bus = MemoryBus()
    box = recording_publisher(bus, NOTICES, [])
    box.set_service_count(1)
    with capture_logs() as lines:
        for svc in ("a", "b", "c"):
            box.enqueue(down(svc, 1.0))
        assert not limits_in(lines)
        box.enqueue(up("a", 2.0))
    assert limits_in(lines) == [(2, 2, 0)]
    await bus.aclose()


async def test_a_limit_that_is_reached_is_logged_when_what_the_bus_took_is_forgotten(monkeypatch):
    monkeypatch.setattr(publisher, "compute_queue_limit", lambda _services: 3)
    bus = MemoryBus()
    box = recording_publisher(bus, NOTICES, [])
    box.set_service_count(1)
    with capture_logs() as lines:
        for svc in ("a", "b", "c"):
            box.enqueue(down(svc, 1.0))
        await box.work_off()
        assert not limits_in(lines)
        box.enqueue(down("d", 2.0))
        await box.work_off()
    assert limits_in(lines) == [(0, 0, 1)]
    await bus.aclose()
