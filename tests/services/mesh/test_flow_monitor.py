import json

from marketswarm.beat import Beat
from marketswarm.truth import parse_truth
from services.mesh.flow_monitor import find_presence
from services.mesh.topology import Topology

FAR = {"heartbeat": {"redis_url": "redis://market-redis:6379"}}
DOCUMENT = {"services": {"a": {}, "b": {}, "far": FAR, "silent": {"heartbeat": {"monitored": False}}}}
TRUTH = parse_truth(json.dumps(DOCUMENT).encode()).truth


def listening(since=0.0):
    mesh = Topology(lambda _svc: 3.0)
    mesh.mark_heard("system-redis", since)
    return mesh


def of(mesh, now):
    found = find_presence(mesh, TRUTH, TRUTH.services, now)
    return dict(found.up_sec), set(found.down)


def test_who_was_not_heard_for_its_timeout_is_down_and_nobody_knows_before():
    mesh = listening()
    mesh.record_beat("system-redis", Beat("a", 1, 1.0, "x"), 1.0, 1001.0)
    assert of(mesh, 3.0) == ({"a": 2.0}, set())
    assert of(mesh, 3.1) == ({"a": 2.1}, {"b"})


def test_nobody_is_down_on_a_bus_that_is_not_heard():
    mesh = listening()
    mesh.deaf.add("system-redis")
    assert of(mesh, 99.0) == ({}, set())
    mesh.mark_heard("system-redis", 100.0)
    assert of(mesh, 102.0) == ({}, set())
    assert of(mesh, 103.1) == ({}, {"a", "b"})


def test_a_mesh_that_stood_still_knows_nobody_to_be_down():
    mesh = listening()
    mesh.reset_silence(100.0)
    assert of(mesh, 101.0) == ({}, set())


def test_several_are_up_since_the_first_of_them():
    mesh = listening()
    for boot, now in (("x", 1.0), ("y", 5.0)):
        mesh.record_beat("system-redis", Beat("a", 1, 1.0, boot), now, 1000.0)
    assert of(mesh, 6.0)[0] == {"a": 5.0}


def test_who_the_truth_names_no_more_is_neither():
    found = find_presence(listening(), TRUTH, ["gone"], 99.0)
    assert (found.up_sec, found.down) == ({}, frozenset())
