"""What the truth may say of a target, and what is refused, with its path."""

import re

import pytest

from marketswarm.agent.service_config import require_config
from marketswarm.exit import Exit
from marketswarm.truth import Heartbeat, Service
from services.massive.settings import MassiveSettings
from services.massive.targets import Dns, Https, Polygon, Tcp, Tls, split_host_port


def wishes(*targets, **settings):
    section = Service(
        heartbeat=Heartbeat(channel="massive:heartbeat"), settings={"targets": list(targets), **settings}
    )
    return require_config(MassiveSettings, "massive", section).settings


def only(**target):
    return wishes({"name": "a", **target}).targets[0]


def test_what_has_always_been_a_target_still_is_one():
    found = wishes({"name": "a", "host": "h", "port": 1}, {"name": "b", "bus": "system-redis"}).targets
    assert [(type(one), one.host, one.port, one.bus) for one in found] == [
        (Tcp, "h", 1, None),
        (Tcp, None, None, "system-redis"),
    ]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ({"host": "h", "port": 1}, Tcp),
        ({"url": "https://h/"}, Https),
        ({"url": "http://127.0.0.1:8080/x?y"}, Https),
        ({"kind": "dns", "host": "h"}, Dns),
        ({"kind": "tls", "host": "h"}, Tls),
        ({"kind": "https", "url": "https://h/"}, Https),
        ({"kind": "polygon"}, Polygon),
    ],
)
def test_a_kind_is_said_or_seen(target, kind):
    assert type(only(**target)) is kind


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ({}, ""),
        ({"host": "h"}, ""),
        ({"port": 1}, ""),
        ({"host": "h", "port": 1, "bus": "b"}, ""),
        ({"host": "h", "port": 0}, ".port"),
        ({"host": "h", "port": 65536}, ".port"),
        ({"host": "h\n", "port": 1}, ".host"),
        ({"host": "h", "port": 1, "every_sec": 0}, ".every_sec"),
        ({"host": "h", "port": 1, "timeout_sec": 61}, ".timeout_sec"),
        ({"host": "h", "port": 1, "down_after": 0}, ".down_after"),
        ({"host": "h", "port": 1, "severity": "fatal"}, ".severity"),
        ({"kind": "ftp"}, ".kind"),
        ({"kind": 7}, ".kind"),
        ({"kind": "dns"}, ".host"),
        ({"kind": "dns", "host": "h", "record": "AXFR"}, ".record"),
        ({"kind": "dns", "host": "h", "resolvers": ["one.example"]}, ".resolvers[0]"),
        ({"kind": "dns", "host": "h", "resolvers": ["127.0.0.1:0"]}, ".resolvers[0]"),
        ({"kind": "dns", "host": "h", "resolvers": ["127.0.0.1:99999"]}, ".resolvers[0]"),
        ({"kind": "tls", "host": "h", "warn_days": -1}, ".warn_days"),
        ({"url": "ftp://h/"}, ".url"),
        ({"url": "https:///x"}, ".url"),
        ({"url": "https://h:0/"}, ".url"),
        ({"url": "https://who@h/"}, ".url"),
        ({"url": "https://h/", "max_bytes": 100_000_000}, ".max_bytes"),
        ({"url": "https://h/", "status": [99]}, ".status[0]"),
        ({"url": "https://h/", "redirects": 11}, ".redirects"),
    ],
)
def test_what_is_no_target_is_named_with_its_path(target, where):
    with pytest.raises(Exit, match=re.escape(f"services.massive.settings.targets[1]{where}: ")):
        wishes({"name": "good", "host": "h", "port": 1}, {"name": "a", **target})


def test_what_is_no_object_is_no_target():
    with pytest.raises(Exit, match=r"targets\[0\]: text is not an object"):
        wishes("db.example:5432")


def test_a_target_has_a_name_and_no_other_has_it():
    with pytest.raises(Exit, match=r"targets\[0\]\.name: missing"):
        wishes({"host": "h", "port": 1})
    with pytest.raises(Exit, match="'a'"):
        wishes({"name": "a", "host": "h", "port": 1}, {"name": "a", "host": "h", "port": 2})


def test_a_target_that_depends_on_none_that_is_there_is_refused():
    target = {"host": "h", "port": 1}
    found = wishes({"name": "a", **target}, {"name": "b", **target, "depends_on": ["massive/a", "mesh"]})
    assert found.targets[1].depends_on == ("massive/a", "mesh")
    with pytest.raises(Exit, match="'massive/c'"):
        wishes({"name": "a", **target, "depends_on": ["massive/c"]})


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"a": ["massive/a"]}, "'a' depends on itself"),
        ({"a": ["massive/b"], "b": ["mesh", "massive/a"]}, 'circular: "massive/a" → "massive/b"'),
        ({"a": ["massive/b"], "b": ["massive/c"], "c": ["massive/b"]}, 'circular: "massive/b" → "massive/c"'),
    ],
)
def test_targets_that_need_each_other_are_refused(needs, said):
    with pytest.raises(Exit, match=re.escape(said)):
        wishes(*({"name": name, "host": "h", "port": 1, "depends_on": on} for name, on in needs.items()))


def test_what_is_refused_is_not_shown():
    with pytest.raises(Exit) as refused:
        only(url="https://me:s3cret@h/")
    assert "s3cret" not in str(refused.value)


def test_nobody_is_told_twice_of_a_bus_unless_that_is_wanted():
    assert only(host="h", port=1).alerts
    assert not only(bus="market-redis").alerts
    assert only(bus="market-redis", alert=True).alerts
    assert not only(host="h", port=1, alert=False).alerts


def test_a_target_may_be_more_patient_than_the_others():
    found = wishes(
        {"name": "a", "host": "h", "port": 1},
        {"name": "b", "host": "h", "port": 1, "down_after": 5, "every_sec": 60},
        down_after=2,
        up_after=4,
        probe_sec=10,
    )
    thresholds = [found.thresholds(target) for target in found.targets]
    assert [(each.down_after, each.up_after) for each in thresholds] == [(2, 4), (5, 4)]
    assert [target.every_sec or found.probe_sec for target in found.targets] == [10, 60]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("a:b", ("a", 0)),
        ("a:123456", ("a", 0)),
    ],
)
def test_a_place_is_a_host_with_a_port_or_without(text, place):
    assert split_host_port(text, 53) == place
