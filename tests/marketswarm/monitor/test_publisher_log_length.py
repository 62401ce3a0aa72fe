"""How long the log of alerts is kept."""

from structlog.testing import capture_logs

from marketswarm.bus import BusError
from marketswarm.monitor import publisher
from marketswarm.monitor.publisher import LENGTH_MARGIN, MIN_LOG_LENGTH, LogLength, compute_log_length


class Client:
    def __init__(self, *groups):
        self.groups = list(groups)

    async def xinfo_groups(self, _stream):
        return self.groups


class Bus:
    name = "bus"

    def __init__(self, *groups):
        self.client, self.away, self.asked = Client(*groups), False, 0

    async def ask(self, request, _within_sec):
        self.asked += 1
        found = await request
        if self.away:
            raise BusError("bus", "timeout")
        return found


def test_a_death_and_a_recovery_of_all_services_fit():
    assert compute_log_length(10) == MIN_LOG_LENGTH
    assert compute_log_length(100_000) >= 200_000


async def test_what_the_notifier_has_not_read_is_kept_up_to_a_bound_that_is_said(monkeypatch):
    other = {"name": b"archive", "lag": 190_000, "pending": 5}  # of an older release, and read by nobody
    bus = Bus({"name": b"notifier", "lag": 40_000, "pending": 3}, other)
    length = LogLength(100)
    assert await length.compute_length(bus) == MIN_LOG_LENGTH
    bus.client.groups[0]["lag"] = 150_000
    assert await length.compute_length(bus) == MIN_LOG_LENGTH, "asked once a second"
    monkeypatch.setattr(publisher, "READ_UNREAD_EVERY_SEC", 0.0)
    assert await length.compute_length(bus) == 150_003 + LENGTH_MARGIN
    assert not length.is_overflowing
    bus.client.groups[0]["lag"] = 5_000_000
    with capture_logs() as said:
        assert await length.compute_length(bus) == 2 * MIN_LOG_LENGTH
        await length.compute_length(bus)
    assert [line["event"] for line in said] == ["publish.log_full"]
    assert length.is_overflowing
    bus.away = True
    assert await length.compute_length(bus) == 2 * MIN_LOG_LENGTH
    bus.away, bus.client.groups = False, []
    assert await length.compute_length(bus) == MIN_LOG_LENGTH
    assert not length.is_overflowing


async def test_all_that_may_be_kept_is_kept_while_the_server_does_not_know_how_much_is_unread(monkeypatch):
    monkeypatch.setattr(publisher, "READ_UNREAD_EVERY_SEC", 0.0)
    bus, length = Bus({"name": b"notifier", "lag": None, "pending": 5}), LogLength(100)
    with capture_logs() as said:
        assert await length.compute_length(bus) == length.max_length
    assert said == []
    assert not length.is_overflowing
    bus.client.groups[0]["lag"] = 0
    assert await length.compute_length(bus) == MIN_LOG_LENGTH
