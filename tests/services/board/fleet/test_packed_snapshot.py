"""The snapshot that pages read is the one of the API, with less of what all services share."""

from dataclasses import replace

import orjson
import pytest

from services.board.fleet.snapshot import FleetSnapshot, Uptime, pack_snapshot
from support.board_examples import make_large, make_service


def unpack(text):
    """Return a snapshot as static/stream.js does."""
    found = orjson.loads(text)
    usual, recent, uptime = (found.pop(name) for name in ("usual", "recent", "uptime"))
    found["services"] = [
        {**usual, **one, "recent": recent[one["recent"]], "uptime": uptime[one["uptime"]]}
        for one in found["services"]
    ]
    return found


def make_odd():
    """Services that differ in what the others share."""
    share = Uptime(0.5, 3.0)
    first = replace(make_service("a"), uptime={"24h": share}, detail="busy", rev=3)
    return FleetSnapshot(
        5.0,
        services=(
            first,
            replace(first, svc="b", uptime={"7d": share}, detail=None, rev=0),
            replace(first, svc="c", uptime={"24h": share, "7d": share}, recent=()),
            replace(first, svc="d", uptime={}),
        ),
    )


@pytest.mark.parametrize("snapshot", [FleetSnapshot(5.0), make_large(50), make_odd()])
def test_a_packed_snapshot_says_the_same(snapshot):
    assert unpack(pack_snapshot(snapshot)) == orjson.loads(orjson.dumps(snapshot))


def test_what_services_share_is_there_once():
    one = replace(make_service("a"), uptime={"24h": Uptime(0.5)}, description="what it is for")
    services = tuple(replace(one, svc=f"s{number}") for number in range(100))
    text = pack_snapshot(FleetSnapshot(5.0, services=services))
    assert (text.count(b"what it is for"), text.count(b"0.5")) == (1, 1)
    assert len(text) < 60 * len(services)
