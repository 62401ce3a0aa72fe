"""Holds mesh to the fleets that are shipped: one that is well accuses nobody; a missing group is told."""

import ast
import json
from pathlib import Path

import pytest

from marketswarm.access.services import reads_by_group
from marketswarm.cli.new import STARTER_TRUTH
from marketswarm.truth import parse_truth
from marketswarm.truth.flows import build_flows
from services.archive.settings import find_streams as find_streams_of_archive
from services.mesh.flow import FaultFinder, Presence, Rates, build_graph, named_groups
from services.mesh.flow_reader import ConsumerGroup, KeyReading
from services.mesh.settings import MeshSettings
from services.vexy_ai.settings import find_streams as find_streams_of_vexy

ROOT = Path(__file__).parents[3]
SHIPPED = {
    path.relative_to(ROOT).as_posix(): path.read_bytes()
    for path in (ROOT / "truth.json", *sorted((ROOT / "examples").glob("*.json")))
} | {"marketswarm init": json.dumps(STARTER_TRUTH).encode()}
DAY_SEC = 86_400.0
# what is written all the time in a fleet that is well, whoever reads it
ALWAYS_WRITTEN = ("massive:probes",)
NO_STREAM = ("mesh:topology", "mesh:flow", "preload:status", "market:series", "market:sources")


def truth_of(name):
    return parse_truth(SHIPPED[name]).truth


def list_real_groups(truth):
    """Return the consumer groups that the services really make: (bus, key) by service."""
    groups = {
        svc: {(stream.bus, stream.key) for stream in find(truth.services[svc].access_points.subscribe_to)}
        for svc, find in (("archive", find_streams_of_archive), ("vexy_ai", find_streams_of_vexy))
        if svc in truth.services
    }
    if "notifier" in truth.services:
        groups["notifier"] = {(bus, "healer:alerts:log") for bus in ("system-redis", "market-redis")}
    return groups


def find_faults(truth, groups, is_written):
    """Return the faults of a fleet that is up for a day; what is not `is_written` holds nothing yet."""
    flows, seen = build_flows(truth), {}
    for key in flows.keys:
        if key.is_pattern or key.name in NO_STREAM or key.name == "healer:alerts":
            continue
        its = tuple(
            ConsumerGroup(svc, 1, 0, 0, 9, None) for svc, at in groups.items() if (key.bus, key.name) in at
        )
        if is_written(key.name):
            seen[key] = KeyReading("stream", length=9, added=9, last_sec=1.0, groups=its)
        elif its:
            seen[key] = KeyReading("stream", length=0, added=0, groups=its)
        else:
            seen[key] = KeyReading("none")
    named = named_groups(truth)
    graph = build_graph(flows, named, seen, Rates(), 10.0, window_sec=60.0)
    up = Presence(dict.fromkeys(truth.services, DAY_SEC))
    mesh = truth.services.get("mesh")
    settings = MeshSettings.model_validate({"settings": mesh.settings if mesh else {}}).settings
    return [(fault.what, fault.key, fault.svc) for fault in FaultFinder(graph, up, settings).faults()]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_fleet_that_is_well_does_not_accuse_itself(name):
    truth = truth_of(name)
    groups = list_real_groups(truth)
    assert find_faults(truth, groups, lambda _key: True) == []
    assert find_faults(truth, groups, lambda key: key in ALWAYS_WRITTEN) == [], "nothing has happened yet"


@pytest.mark.parametrize("name", SHIPPED)
def test_each_group_that_is_missing_in_a_shipped_fleet_is_told(name):
    truth = truth_of(name)
    read = {(edge.key.bus, edge.key.name) for edge in build_flows(truth).edges if edge.does == "reads"}
    groups = list_real_groups(truth)
    for svc, places in groups.items():
        for bus, key in places & read:
            rest = groups | {svc: places - {(bus, key)}}
            assert find_faults(truth, rest, lambda _key: True) == [("no_group", key, svc)]


def test_the_services_that_read_by_a_group_are_those_whose_code_does():
    found = set()
    for path in [*ROOT.glob("services/*/**/*.py"), *ROOT.glob("notifier/**/*.py")]:
        text = path.read_text()
        if "marketswarm.bus.consumer" not in text:  # to parse all of them takes a second
            continue
        imported = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
        if "marketswarm.bus.consumer" in imported:
            parts = path.relative_to(ROOT).parts
            found.add(parts[1] if parts[0] == "services" else parts[0])
    ours = {svc for name in SHIPPED for svc in truth_of(name).services}
    assert {
        svc for svc in ours if reads_by_group(svc, "healer:alerts:log") or reads_by_group(svc, "k")
    } == found


def test_a_service_of_one_s_own_may_read_either_way_but_not_by_a_group_what_others_are_told_by():
    assert reads_by_group("mine", "rss:items") is None
    assert reads_by_group("mine", "healer:alerts:log") is False
    assert reads_by_group("archive", "my:quotes") is True
    assert reads_by_group("archive", "my:incidents") is False
