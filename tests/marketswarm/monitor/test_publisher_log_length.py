"""How long the log of alerts is kept: by what the notifier and archive have stored of it, on a real bus."""

import pytest
from structlog.testing import capture_logs

from marketswarm.bus import stream_length
from marketswarm.keys import ALERT_LOG, ARCHIVE_POSITIONS
from marketswarm.monitor import publisher
from marketswarm.monitor.publisher import MIN_LOG_LENGTH, LogLength, compute_log_length
from support.rig.one_server import empty_bus, server

__all__ = ["server"]

KEEP = 100

bus = empty_bus("system-redis")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(publisher, "MIN_LOG_LENGTH", KEEP)
    monkeypatch.setattr(stream_length, "READ_EVERY_SEC", 0.0)


async def add(bus, count):
    """Events on the log, untrimmed; return their ids."""
    pipe = bus.pipeline()
    for _ in range(count):
        pipe.xadd(ALERT_LOG, {"event": "{}"})
    return await pipe.execute()


async def read_as_notifier(bus, count):
    found = await bus.client.xreadgroup("notifier", "me", {ALERT_LOG: ">"}, count=count)
    await bus.client.xack(ALERT_LOG, "notifier", *[ident for ident, _ in found[0][1]])


def test_a_death_and_a_recovery_of_all_services_fit(monkeypatch):
    monkeypatch.undo()
    assert compute_log_length(10) == MIN_LOG_LENGTH == 100_000
    assert compute_log_length(100_000) >= 200_000


async def test_what_the_notifier_has_not_read_is_kept_up_to_a_bound_that_is_said(bus):
    length = LogLength()
    assert await length.compute_length(bus) == KEEP
    await add(bus, 1)
    await bus.client.xgroup_create(ALERT_LOG, "notifier", id="0")
    await add(bus, 119)
    assert await length.compute_length(bus) >= 120 + KEEP // 4
    assert (length.unread, length.is_overflowing) == (120, False)
    await add(bus, 80)
    with capture_logs() as said:
        assert await length.compute_length(bus) == 2 * KEEP
        await length.compute_length(bus)
    assert [line["event"] for line in said] == ["publish.log_full"]
    assert length.is_overflowing
    await read_as_notifier(bus, 200)
    assert await length.compute_length(bus) == KEEP
    assert (length.unread, length.is_overflowing) == (0, False)


async def test_a_group_that_a_stranger_left_counts_for_nothing(bus):
    await add(bus, 150)
    await bus.client.xgroup_create(ALERT_LOG, "mine", id="0")
    await bus.client.xgroup_create(ALERT_LOG, "notifier", id="$")
    assert await LogLength().compute_length(bus) == KEEP


async def test_what_archive_has_not_stored_is_kept_too_but_is_no_trouble_of_the_healer(bus):
    await add(bus, 10)
    length, (*_, newest) = LogLength(), await add(bus, 10)
    await bus.client.hset(ARCHIVE_POSITIONS, f"archive {ALERT_LOG}", newest)
    assert await length.compute_length(bus) == KEEP
    await add(bus, 120)
    assert await length.compute_length(bus) >= 120 + KEEP // 4
    await add(bus, 200)
    with capture_logs() as said:
        assert await length.compute_length(bus) == 2 * KEEP
    assert (said, length.unread, length.is_overflowing) == ([], 0, False)


async def test_all_that_may_be_kept_is_kept_while_the_server_does_not_know_how_much_is_unread(bus):
    first, second, *_ = await add(bus, 10)
    length = LogLength()
    await bus.client.xgroup_create(ALERT_LOG, "notifier", id=first)
    await bus.client.xdel(ALERT_LOG, second)
    with capture_logs() as said:
        assert await length.compute_length(bus) == length.max_length == 2 * KEEP
    assert (said, length.unread, length.is_overflowing) == ([], None, False)
    await read_as_notifier(bus, 10)
    assert await length.compute_length(bus) == KEEP
