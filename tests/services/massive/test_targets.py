import orjson
import pytest

from marketswarm.agent.own import own_part
from marketswarm.exit import Exit
from marketswarm.truth import Heartbeat, Service
from services.massive.targets import Probe, Section, changed, summed_up

WELL = Probe("a", "h:1", 5.0, "done", None, 1.5, 2.0)
ILL = Probe("b", "h:2", 5.0, "tcp", "refused", 1.5, 0.25)


def section(*targets):
    return Service(heartbeat=Heartbeat(channel="massive:heartbeat"), settings={"targets": list(targets)})


def test_a_target_is_a_host_and_a_port_or_a_bus():
    found = own_part(
        Section,
        "massive",
        section({"name": "a", "host": "h", "port": 1}, {"name": "b", "bus": "system-redis"}),
    )
    assert [(one.host, one.port, one.bus) for one in found.settings.targets] == [
        ("h", 1, None),
        (None, None, "system-redis"),
    ]


@pytest.mark.parametrize(
    "target",
    [
        {"name": "a"},
        {"name": "a", "host": "h"},
        {"name": "a", "port": 1},
        {"name": "a", "host": "h", "port": 1, "bus": "b"},
        {"name": "a", "host": "h", "port": 0},
        {"name": "a", "host": "h", "port": 65536},
        {"host": "h", "port": 1},
    ],
)
def test_a_target_that_is_neither_is_named(target):
    with pytest.raises(Exit, match=r"services\.massive\.settings\.targets\.0"):
        own_part(Section, "massive", section(target))


def test_a_result_is_flat_on_the_stream_and_an_object_in_its_key():
    assert ILL.fields() == {
        "target": "b",
        "ok": "0",
        "where": "h:2",
        "ts": "5.000",
        "stage": "tcp",
        "error": "refused",
        "dns_ms": "1.500",
        "tcp_ms": "0.250",
    }
    assert orjson.loads(WELL.encoded()) == {
        "target": "a",
        "ok": True,
        "where": "h:1",
        "ts": 5.0,
        "stage": "done",
        "dns_ms": 1.5,
        "tcp_ms": 2.0,
    }


def test_those_that_fail_are_summed_up():
    assert summed_up([WELL]) is None
    assert summed_up([WELL, ILL]) == "1 of 2 targets fail: b (tcp refused)"
    assert summed_up([ILL] * 6).endswith("and 2 more")


def test_only_what_changed_is_news():
    assert changed({}, [WELL, ILL]) == [WELL, ILL]
    assert changed({"a": None, "b": None}, [WELL, ILL]) == [ILL]
    assert changed({"a": "timeout", "b": "refused"}, [WELL, ILL]) == [WELL]
