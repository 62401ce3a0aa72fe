import json

import pytest

from marketswarm.truth import parse_truth
from marketswarm.truth.flows import Edge, FlowFault, Key, build_flows, find_unwritten_keys


def points(*keys, bus="market-redis"):
    return [{"bus": bus, "key": key} for key in keys]


def graph(**services):
    document = {
        "services": {
            svc: {"access_points": {"publish_to": writes, "subscribe_to": reads}}
            for svc, (writes, reads) in services.items()
        }
    }
    return build_flows(parse_truth(json.dumps(document).encode()).truth)


ITEMS = Key("market-redis", "rss:items")


def test_the_graph_says_who_writes_and_who_reads_each_key():
    flows = graph(
        rss=(points("rss:items"), []), vexy=(points("vexy:notes"), points("rss:items")), idle=([], [])
    )
    assert flows.keys == (ITEMS, Key("market-redis", "vexy:notes"))
    assert flows.edges[0] == Edge("rss", "writes", ITEMS)
    assert (flows.writers(ITEMS), flows.readers(ITEMS)) == (("rss",), ("vexy",))
    assert flows.readers(Key("market-redis", "vexy:notes")) == ()
    assert find_unwritten_keys(flows) == []


def test_heartbeats_are_left_out_whatever_their_channel_is_called():
    document = {
        "services": {
            "cron": {
                "heartbeat": {"channel": "nightly"},
                "access_points": {"publish_to": points("nightly", bus="system-redis")},
            },
            "mesh": {"access_points": {"subscribe_to": points("*:heartbeat", "rss:heartbeat")}},
        }
    }
    flows = build_flows(parse_truth(json.dumps(document).encode()).truth)
    assert flows.edges == ()
    assert find_unwritten_keys(flows) == []


def test_the_same_name_on_another_bus_is_another_key():
    flows = graph(
        rss=(points("rss:items", bus="system-redis"), []),
        vexy=([], points("rss:items")),
    )
    text = "vexy reads it, and no service writes it (rss writes rss:items on system-redis)"
    assert find_unwritten_keys(flows) == [FlowFault("no_writer", *ITEMS, None, text)]


@pytest.mark.parametrize(
    ("written", "read", "fed"),
    [
        ("health:*", "health:rss_agg", True),
        ("health:rss_agg", "health:*", True),
        ("health:*", "health:*", True),
        ("health:*", "probe:x", False),
        ("health:a", "health:b", False),
        ("health:[ab]", "health:a", False),
        ("health:[ab]*", "health:a1", False),
        ("health:[ab]*", "health:[ab]1", True),
    ],
)
def test_a_star_stands_for_many(written, read, fed):
    flows = graph(one=(points(written), []), other=([], points(read)))
    assert (find_unwritten_keys(flows) == []) is fed


def test_a_star_on_another_bus_stands_for_nothing_here():
    flows = graph(one=(points("health:*", bus="system-redis"), []), other=([], points("health:a")))
    assert [fault.what for fault in find_unwritten_keys(flows)] == ["no_writer"]


def test_a_key_that_is_named_twice_is_one():
    flows = graph(one=(points("k", "k"), points("k", "k")))
    assert len(flows.edges) == 2
    assert flows.writers(Key("market-redis", "k")) == ("one",)
