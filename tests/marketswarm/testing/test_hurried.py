import orjson
import pytest

from marketswarm.testing.hurried import hurried
from marketswarm.truth import load

TRUTH = {
    "buses": {"system-redis": {"url": "redis://10.0.0.8"}, "third": {"url": "env:ELSEWHERE"}},
    "services": {
        "prices": {
            "heartbeat": {"redis_url": "redis://third:6379", "interval_sec": 60},
            "depends_on": ["feeds", "quotes"],
            "settings": {"every_sec": 5},
        },
        "quotes": {"heartbeat": {"redis_url": "redis://10.0.0.9:7000", "channel": "team:quotes"}},
        "feeds": {},
        "healer": {
            "threshold": {"heartbeat_cadence": 30, "bus_timeout_sec": 5},
            "access_points": {
                "subscribe_to": [{"bus": "system-redis", "key": "shell:heartbeat"}],
                "publish_to": [{"bus": "system-redis", "key": "team:alerts"}],
            },
        },
    },
}


def test_what_is_wanted_is_kept_and_hurries_on_buses_of_its_own():
    made = hurried(TRUTH, ["prices", "quotes"], 0.2, 1.0)
    truth = load(orjson.dumps(made)).truth
    assert list(truth.services) == ["prices", "quotes", "healer"]
    assert {(each.svc, each.interval_sec, each.timeout_sec) for each in truth.watched()} == {
        ("prices", 0.2, 1.0),
        ("quotes", 0.2, 1.0),
    }
    assert truth.bus_of("prices") == "third"
    assert truth.bus_of("quotes") == "system-redis"
    assert truth.services["quotes"].heartbeat.channel == "team:quotes"
    assert truth.services["prices"].settings == {"every_sec": 5}
    assert truth.services["prices"].depends_on == ("quotes",)
    assert {name: truth.bus_url(name) for name in truth.bus_names()} == {
        name: f"redis://{name}:6379" for name in ("system-redis", "market-redis", "third")
    }
    assert truth.alert_target("") == ("system-redis", "team:alerts")


def test_a_truth_without_a_healer_gets_one():
    made = hurried({"services": {"prices": {}}}, ["prices"], 0.2, 1.0)
    assert [each.svc for each in load(orjson.dumps(made)).truth.watched()] == ["prices"]


def test_one_that_the_truth_does_not_have_is_named():
    with pytest.raises(KeyError, match="absent"):
        hurried(TRUTH, ["absent"], 0.2, 1.0)
