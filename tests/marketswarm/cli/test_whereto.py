"""The light reading of a truth is held to the full one."""

import orjson
import pytest

from marketswarm.bus import find_url
from marketswarm.cli.whereto import INTERVAL_SEC, SYSTEM, Whereto, document, given, url_of, whereto
from marketswarm.exit import Exit
from marketswarm.truth import load

HEALER = {
    "access_points": {"subscribe_to": [{"bus": "market-redis", "key": "shell:heartbeat"}]},
    "threshold": {"heartbeat_cadence": 40},
}
TRUTHS = {
    "plain": {"services": {"a": {}}},
    "own rhythm": {"services": {"a": {"heartbeat": {"interval_sec": 0.5, "timeout_sec": 90}}}},
    "own channel": {"services": {"a": {"heartbeat": {"channel": "team:a"}}}},
    "the other bus": {"services": {"a": {"heartbeat": {"redis_url": "redis://market-redis:6379"}}}},
    "a bus of its own": {
        "buses": {"Third": {"url": "redis://10.0.0.7:6390/2"}},
        "services": {"a": {"heartbeat": {"redis_url": "redis://third:6379"}}},
    },
    "a bus by its name alone": {
        "buses": {"third": {}},
        "services": {"a": {"heartbeat": {"redis_url": "redis://third:6379"}}},
    },
    "the bus said elsewhere": {"buses": {"system-redis": {"url": "redis://10.0.0.8"}}, "services": {"a": {}}},
    "a literal": {"services": {"a": {"heartbeat": {"redis_url": "redis://10.0.0.9:7000/3"}}}},
    "a literal of six": {"services": {"a": {"heartbeat": {"redis_url": "redis://[::1]:7000"}}}},
    "a socket": {"services": {"a": {"heartbeat": {"redis_url": "unix:///run/redis.sock"}}}},
    "behind sentinels": {
        "buses": {"market-redis": {"url": "redis+sentinel://s1:26379,[::1]:26379/mymaster"}},
        "services": {"a": {"heartbeat": {"redis_url": "redis://market-redis:6379"}}},
    },
    "a literal of sentinels": {
        "services": {"a": {"heartbeat": {"redis_url": "rediss+sentinel://s1,market-redis/mymaster/2"}}}
    },
    "by the environment": {"services": {"a": {"heartbeat": {"redis_url": "env:MY_BUS"}}}},
    "a bus by the environment": {
        "buses": {"market-redis": {"url": "env:MY_BUS"}},
        "services": {"a": {"heartbeat": {"redis_url": "redis://market-redis:6379"}}},
    },
    "with a healer": {"services": {"a": {}, "healer": HEALER}},
}
ENVIRONS = [{}, {"SYSTEM_REDIS_URL": "redis://127.0.0.1:7379", "MARKET_REDIS_URL": "redis://127.0.0.1:7380"}]


@pytest.mark.parametrize("environ", ENVIRONS, ids=["bare", "told"])
@pytest.mark.parametrize("name", TRUTHS)
def test_a_section_is_read_as_by_those_who_read_all_of_it(name, environ):
    raw = orjson.dumps(TRUTHS[name])
    environ = environ | {"MY_BUS": "redis://u:p@127.0.0.1:7381"}
    svc = next(iter(TRUTHS[name]["services"]))
    truth = load(raw).truth
    found = whereto(document(raw), svc, 30.0)
    beats = truth.services[svc].heartbeat
    assert (found.bus, found.channel, found.interval_sec, found.timeout_sec, found.named) == (
        truth.bus_of(svc),
        beats.channel,
        beats.interval_sec,
        truth.timeout_of(svc),
        True,
    )
    url = find_url(truth.bus_of(svc), environ, truth)
    assert url_of(found.bus, found.url, environ) == url


def test_one_that_the_healer_alone_knows_is_where_the_healer_listens():
    document = {"services": {"healer": HEALER}}
    [watch] = load(orjson.dumps(document)).truth.watched()
    assert whereto(document, "shell", 30.0) == Whereto(
        watch.bus, None, watch.channel, watch.interval_sec, watch.timeout_sec, named=True
    )


@pytest.mark.parametrize("truth", [None, {"services": {}}, {"services": {"b": {}}}])
def test_one_that_nobody_knows_has_the_defaults(truth):
    assert whereto(truth, "a", 30.0) == Whereto(SYSTEM, None, "a:heartbeat", INTERVAL_SEC, 30.0, named=False)


@pytest.mark.parametrize(
    "heartbeat", [5, {"interval_sec": "x", "timeout_sec": True, "channel": 7}, {"interval_sec": -1}]
)
def test_what_is_odd_counts_as_not_said(heartbeat):
    found = whereto({"services": {"a": {"heartbeat": heartbeat}}}, "a", 30.0)
    assert found == Whereto(SYSTEM, None, "a:heartbeat", INTERVAL_SEC, 30.0, named=True)


@pytest.mark.parametrize("raw", [None, b"", b"[]", b"{", b'{"services": 3}', b"[" * 100_000, b"\xff"])
def test_what_is_no_truth_is_none(raw):
    assert document(raw) is None


def test_the_embedded_fleet_is_where_only_the_name_says():
    embedded = {"system-redis": "redis://127.0.0.1:7379"}
    assert url_of("system-redis", None, {}, embedded) == "redis://127.0.0.1:7379"
    assert url_of("system-redis", "redis://system-redis:6379", {}, embedded) == "redis://127.0.0.1:7379"
    assert url_of("system-redis", "redis://10.0.0.8", {}, embedded) == "redis://10.0.0.8"
    told = {"SYSTEM_REDIS_URL": "redis://127.0.0.1:1"}
    assert url_of("system-redis", None, told, embedded) == "redis://127.0.0.1:1"


def test_a_url_may_come_from_a_file_and_one_that_is_none_is_named_without_its_value(tmp_path):
    (tmp_path / "url").write_text("redis://:hunter2@127.0.0.1:7379\n", encoding="utf-8")
    assert given("REDIS_URL", {"REDIS_URL_FILE": str(tmp_path / "url")}) == "redis://:hunter2@127.0.0.1:7379"
    assert given("REDIS_URL", {}) is None
    for environ in ({"REDIS_URL": "http://hunter2"}, {"REDIS_URL_FILE": str(tmp_path / "nothing")}):
        with pytest.raises(Exit) as caught:
            given("REDIS_URL", environ)
        assert caught.value.code == 2
        assert caught.value.message.startswith("REDIS_URL")
        assert "hunter2" not in caught.value.message
