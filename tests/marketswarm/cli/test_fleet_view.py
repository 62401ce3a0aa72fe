import orjson
import pytest

from marketswarm.agent.truth_source import FoundTruth, TruthReading
from marketswarm.bus import BusError
from marketswarm.cli import fleet_view
from marketswarm.cli.fleet_view import open_fleet, with_embedded_buses
from marketswarm.exit import Code, Exit
from marketswarm.status.fleet_state import FleetState
from marketswarm.status.service_rows import make_service_rows
from marketswarm.truth import parse_truth

HERE = {"system-redis": "redis://127.0.0.1:7379", "market-redis": "redis://127.0.0.1:7380"}


def truth(url: str):
    return parse_truth(orjson.dumps({"buses": {"system-redis": {"url": url}}, "services": {"a": {}}})).truth


@pytest.mark.parametrize(
    ("environ", "said", "url"),
    [
        ({}, None, HERE["system-redis"]),
        ({}, "redis://system-redis:6379", HERE["system-redis"]),
        ({}, "redis://far:6379", None),
        ({"SYSTEM_REDIS_URL": "redis://mine:1"}, None, "redis://mine:1"),
        ({"SYSTEM_REDIS_URL": "redis://system-redis:6379"}, None, "redis://system-redis:6379"),
    ],
)
def test_the_embedded_fleet_is_the_last_to_be_asked_where_a_bus_is(environ, said, url):
    told = with_embedded_buses(environ, HERE, truth(said) if said else None)
    assert told.get("SYSTEM_REDIS_URL") == url
    assert told["MARKET_REDIS_URL"] == HERE["market-redis"]


def test_a_file_that_names_a_bus_goes_before_the_embedded_fleet(tmp_path):
    (tmp_path / "url").write_text("redis://system-redis:6379\n")
    told = with_embedded_buses({"SYSTEM_REDIS_URL_FILE": str(tmp_path / "url")}, HERE, None)
    assert "SYSTEM_REDIS_URL" not in told


async def test_a_command_has_the_timeout_that_the_environment_sets_wherever_it_asks_the_truth(
    monkeypatch, tmp_path
):
    """So `status`, `top`, `doctor`, `history` and `simulate` have it: they ask the truth of `open_fleet`."""
    loaded = parse_truth(orjson.dumps({"services": {"a": {}, "b": {"heartbeat": {"timeout_sec": 50}}}}))

    async def read(buses, *_args):
        found = FoundTruth(loaded, 1, buses[0])
        return [TruthReading(bus, found) for bus in buses]

    monkeypatch.setattr(fleet_view, "read_all_truths", read)
    monkeypatch.setenv("DEFAULT_TIMEOUT_SEC", "45")
    async with open_fleet(tmp_path) as fleet:
        truth = fleet.truth
    assert (truth.timeout_of("a"), truth.timeout_of("b"), truth.timeout_of("healer")) == (45.0, 50.0, 45.0)
    assert {row.svc: row.timeout_sec for row in make_service_rows(truth, FleetState())} == {"a": 45, "b": 50}


async def test_a_bus_that_fails_while_a_command_asks_it_ends_the_command_with_code_3(monkeypatch, tmp_path):
    async def read(buses, *_args):
        return [TruthReading(bus, None, "missing", has_answered=True) for bus in buses]

    monkeypatch.setattr(fleet_view, "read_all_truths", read)
    with pytest.raises(Exit, match="market-redis") as caught:
        async with open_fleet(tmp_path):
            raise BusError("market-redis", "timeout")
    assert caught.value.code == Code.NO_BUS
