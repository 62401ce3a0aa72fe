import orjson
import pytest

from marketswarm.cli.fleet_view import with_embedded_buses
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
