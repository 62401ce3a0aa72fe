"""Where a leader goes on with the stream of places: each place once, whichever log the stream had before."""

from types import SimpleNamespace

import pytest

from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.signals.publisher import PlacePublisher
from services.signals.settings import SignalOptions
from services.tables.signals import parse_signal_fields
from support.signal_log import make_row, make_signal

PUBLISHED = "signals:log:published"
SECTION = parse_truth(b'{"services": {"signals": {}}}').truth.services["signals"]
THIS, OTHER = b"\1" * 32, b"\2" * 32


@pytest.fixture
def bus():
    return MemoryBus("market-redis")


def make_publisher(bus):
    """Return the publisher of a leader that has just begun."""
    me = SimpleNamespace(section=SECTION, bus=lambda _: bus)
    return PlacePublisher(me, lambda: SimpleNamespace(settings=SignalOptions(keep=1000)))


async def stored_rows(*ticks):
    for tick in ticks:
        yield make_row(tick, 0, 1_793_000_000_000 + tick, make_signal(tick, "SPY"))


async def go_on(bus, epoch, log, *ticks):
    """Publish as the leader of a log does after the last of these ticks; return how many places were new."""
    publisher = make_publisher(bus)
    first, _ = await publisher.begin(epoch, ticks[-1] - 1, log)
    rows = stored_rows(*(tick for tick in ticks if tick >= first))
    return await publisher.publish_stored(epoch, rows, {})


async def read_ticks(bus):
    return [parse_signal_fields(fields).tick for _, fields in await bus.client.xrange("signals:log")]


async def test_the_next_leader_publishes_what_the_one_before_did_not(bus):
    assert await go_on(bus, 1, THIS, 1, 2, 3) == 1
    assert await go_on(bus, 2, THIS, 1, 2, 3, 4, 5) == 2
    assert await read_ticks(bus) == [3, 4, 5]


async def test_places_are_not_published_again_after_a_database_was_empty_until_it_was_restored(bus):
    """The ticks that were decided meanwhile are of another log, and have small numbers."""
    for last in range(1, 7):
        await go_on(bus, 1, THIS, *range(1, last + 1))
    assert await go_on(bus, 2, OTHER, 1) == 1
    assert await go_on(bus, 2, OTHER, 1, 2) == 1
    assert await go_on(bus, 3, THIS, 1, 2, 3, 4, 5) == 1, "the restored database is a tick behind"
    assert await go_on(bus, 3, THIS, 1, 2, 3, 4, 5, 6) == 1
    assert await read_ticks(bus) == [1, 2, 3, 4, 5, 6, 1, 2, 5, 6]


async def test_a_position_of_an_older_release_names_no_log_and_counts(bus):
    await bus.client.hset(PUBLISHED, mapping={"upto": "2 0", "epoch": "1"})
    assert await go_on(bus, 2, THIS, 1, 2, 3, 4) == 2
    assert await bus.client.hget(PUBLISHED, "log") == THIS.hex().encode()
