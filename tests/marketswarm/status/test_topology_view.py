import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from marketswarm.cli.topology import draw_topology
from marketswarm.status.topology_graph import build_graph, format_dot, format_mermaid
from marketswarm.status.topology_view import (
    MAX_FAULTS,
    MAX_INSTANCES,
    FlowView,
    MeshSnapshot,
    ReaderView,
    ServiceView,
    build_topology,
    format_rate,
)
from marketswarm.truth import parse_truth
from support.examples import examples

ITEMS = {"bus": "market-redis", "key": "rss:items"}
DOCUMENT = {
    "services": {
        "rss_agg": {"access_points": {"publish_to": [ITEMS]}, "replicas": 2},
        "vexy_ai": {"access_points": {"subscribe_to": [ITEMS]}},
        "mesh": {},
    }
}
TRUTH = parse_truth(json.dumps(DOCUMENT).encode()).truth
INSTANCE = {
    "boot": "b00t",
    "host": "web1",
    "version": "0.3.0",
    "rev": 3,
    "uptime_sec": 100.0,
    "last_ts": 990.0,
    "restarts_hour": 7,
    "skew_sec": -70.0,
    "status": "degraded",
    "detail": "no feed",
    "crash_loop": True,
}
SEEN = {
    "ts": 1000.0,
    "services": {"rss_agg": {"instances": [INSTANCE], "conflict": True}},
    "deaf": ["market-redis"],
    "strangers": ["who"],
}
MOVING = {
    "every_sec": 5.0,
    "revision": 2,
    "keys": [{**ITEMS, "kind": "stream", "length": 12, "rate": 1.25, "last_sec": 0.4}],
    "edges": [
        {**ITEMS, "svc": "vexy_ai", "does": "reads", "group": "g", "lag": 3, "pending": 2, "oldest_sec": 5}
    ],
    "faults": [{**ITEMS, "what": "falls_behind", "svc": "vexy_ai", "text": "group g falls behind"}],
    "away": {"other": "refused"},
    "unmeasured": 7,
}


def made(topology=SEEN, flow=MOVING, age_sec=1.0, truth=TRUTH):
    return build_topology(truth, 3, MeshSnapshot(topology, age_sec), MeshSnapshot(flow, age_sec))


def on_paper(found, width=80, **how):
    console = Console(width=width, highlight=False, markup=False, emoji=False, no_color=True)
    with console.capture() as captured:
        console.print(draw_topology(found, **how))
    return captured.get()


def test_the_truth_is_drawn_with_what_mesh_saw_of_it():
    found = made()
    (one,) = found.services[0].instances
    assert (one.boot, one.host, one.version, one.rev, one.up_sec) == ("b00t", "web1", "0.3.0", 3, 110.0)
    assert found.services[1].instances == []
    (flow,) = found.flows
    assert (flow.writers, flow.rate, flow.length) == (("rss_agg",), 1.25, 12)
    assert flow.readers == [ReaderView("vexy_ai", "g", 3, 2, 5.0)]
    assert [(one.what, one.key, one.svc) for one in found.wrong] == [("falls_behind", "rss:items", "vexy_ai")]
    assert found.notes == [
        "mesh is deaf on market-redis",
        "bus other does not answer mesh: refused",
        "strangers beat here: who",
        "7 keys are too many to be measured",
        "mesh goes by revision 2 of the truth, and 3 is the latest",
    ]
    paper = on_paper(found, 120)
    assert "rss_agg  b00t  web1  0.3.0      3  110 s         7  crash loop; degraded: no feed; " in paper
    assert "its clock is 70 s behind; conflict: 1 of 2 run" in " ".join(paper.split())
    assert "rss_agg →  rss:items  1.2/s, 12 entries  → vexy_ai (lag 3, 2 pending, oldest 5 s)" in paper
    assert "✗ rss:items on market-redis: group g falls behind" in paper


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (MeshSnapshot(), "mesh has written no mesh:flow"),
        (MeshSnapshot(MOVING, 31.0), "mesh:flow is 31 s old"),
        (MeshSnapshot(MOVING | {"every_sec": 300}, 901.0), "mesh:flow is 15 min 1 s old"),
        (MeshSnapshot(MOVING), "how old mesh:flow is can't be told"),
        (
            MeshSnapshot(why="bus system-redis does not answer: refused"),
            "bus system-redis does not answer: refused",
        ),
    ],
)
def test_without_a_word_of_mesh_it_is_the_truth_alone_and_says_so(written, why):
    found = build_topology(TRUTH, 3, MeshSnapshot(), written)
    assert not found.live
    assert {service.instances for service in found.services} == {None}
    assert [(flow.key, flow.kind, flow.rate) for flow in found.flows] == [("rss:items", None, None)]
    assert found.notes[1] == f"{why}: what flows is drawn from the truth alone"
    paper = on_paper(found)
    assert "services: rss_agg, vexy_ai, mesh" in paper
    assert "rss_agg →  rss:items    → vexy_ai" in paper


def test_what_is_wrong_comes_first_on_a_screen_that_cuts():
    first = on_paper(made(), problems_first=True).splitlines()[0]
    last = on_paper(made()).splitlines()[-1]
    assert first.rstrip() == last.rstrip() == "✗ rss:items on market-redis: group g falls behind"


def test_what_limits_the_picture_stands_on_top():
    assert on_paper(build_topology(TRUTH, 3, MeshSnapshot(), MeshSnapshot())).startswith(
        "mesh has written no mesh:topology: who runs is not known"
    )


def test_a_flow_that_is_looked_at_seldom_is_old_later():
    assert made(flow=MOVING | {"every_sec": 60}, age_sec=100.0).flows[0].length == 12


def test_what_is_wrong_with_the_truth_alone_is_found_without_mesh():
    reader = {"services": {"vexy_ai": {"access_points": {"subscribe_to": [ITEMS]}}}}
    found = build_topology(parse_truth(json.dumps(reader).encode()).truth, 1, MeshSnapshot(), MeshSnapshot())
    assert [one.what for one in found.wrong] == ["no_writer"]
    assert "nobody  rss:items" in on_paper(found)


def test_what_mesh_wrote_of_what_the_truth_does_not_name_is_left_out():
    moving = MOVING | {"keys": [{"bus": "x", "key": "y"}], "faults": [{"bus": "x", "key": "y", "text": "z"}]}
    seen = SEEN | {"services": {"stranger": {"instances": [INSTANCE]}}}
    found = made(seen, moving)
    assert [service.svc for service in found.services] == ["rss_agg", "vexy_ai", "mesh"]
    assert found.wrong == []


def test_names_of_strangers_steer_no_terminal_and_are_bounded():
    evil = "\x1b[2J\x07" + "x" * 10_000
    moving = MOVING | {
        "faults": [{**ITEMS, "what": evil, "svc": evil, "text": evil}] * (3 * MAX_FAULTS),
        "edges": [{**ITEMS, "svc": "vexy_ai", "does": "reads", "group": evil}],
        "away": {evil: evil},
    }
    evil_instance = INSTANCE | {"host": evil, "detail": evil}
    seen = SEEN | {
        "strangers": [evil] * 1000,
        "deaf": [evil] * 1000,
        "services": {"rss_agg": {"instances": [evil_instance] * (3 * MAX_INSTANCES)}},
    }
    found = made(seen, moving)
    assert len(found.wrong) == MAX_FAULTS
    assert len(found.services[0].instances) == MAX_INSTANCES
    for text in (
        on_paper(found),
        "\n".join(format_mermaid(build_graph(found))),
        "\n".join(format_dot(build_graph(found))),
        orjson.dumps(found).decode(),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert len(text) < 200_000


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from([*SEEN, *MOVING, *INSTANCE])


@settings(max_examples=examples(150))
@given(st.data())
def test_no_picture_whatever_crashes_the_drawing(data):
    def bent(found):
        if isinstance(found, dict):
            return {
                key: data.draw(values) if data.draw(st.integers(0, 5)) == 0 else bent(value)
                for key, value in found.items()
            }
        return [bent(each) for each in found] if isinstance(found, list) else found

    found = made(bent(SEEN), bent(MOVING))
    on_paper(found)
    assert list(format_mermaid(build_graph(found)))
    assert list(format_dot(build_graph(found)))
    orjson.dumps(found)


@pytest.mark.parametrize(
    ("per_sec", "words"),
    [(0, "0/s"), (1234.56, "1234.6/s"), (2, "2/s"), (0.5, "30/min"), (0.001, "3.6/h"), (0.0001, "0.4/h")],
)
def test_a_rate_is_told_in_the_unit_that_fits(per_sec, words):
    assert format_rate(per_sec) == words


def test_a_key_is_told_by_what_stands_there():
    assert FlowView("b", "k").words == ""
    assert FlowView("b", "k", kind="hash").words == "hash"
    assert FlowView("b", "k", kind="none").words == "nothing there"
    assert FlowView("b", "k", kind="channel", subscribers=2).words == "channel, 2 subscribed"
    assert (
        FlowView("b", "k", kind="stream", length=1, rate=0.0, last_sec=90).words
        == "0/s, 1 entry, last 90 s ago"
    )
    assert ReaderView("a").words == ""
    assert ReaderView("a", "g").words == "lag ?"
    assert ServiceView("a", 3, []).words == "nobody runs"
