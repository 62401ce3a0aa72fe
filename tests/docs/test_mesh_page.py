"""Holds the page on mesh to the code: none missing, none made up."""

import re

from marketswarm.beat import Beat
from marketswarm.status.topology_view import OLD_SEC
from marketswarm.truth import parse_truth
from marketswarm.truth.flows import build_flows
from services.mesh.flow import FAULT_KINDS
from services.mesh.instance import CALM_RESTARTS_PER_HOUR, MAX_RESTARTS_PER_HOUR, Instance
from services.mesh.settings import FlowSettings
from services.mesh.topology import EVENT_KINDS
from support.pages import ROOT, blocks, documents, table

PAGE = ROOT / "docs" / "services" / "mesh.md"


def column(heading, number=0, part=0):
    """The words in one column; `part` is which of the tables under the heading."""
    tables, last = [], None
    for row in table("docs/services/mesh.md", heading):
        if len(row) != last:
            tables.append([])
        last = len(row)
        tables[-1].append(row)
    return [name for row in tables[part] for name in re.findall(r"`([\w:]+)`", row[number])]


def test_each_key_of_an_instance_is_explained():
    shown = Instance("a", "b", "bus", Beat("a", 1, 1.0), 0, 0, 0, 0).to_json(0, 0)
    assert set(column("Who runs")) == set(shown)


def test_each_event_is_explained():
    assert column("What happened") == list(EVENT_KINDS)
    text = PAGE.read_text(encoding="utf-8")
    assert f"more than {MAX_RESTARTS_PER_HOUR} times within an hour. The event" in text
    assert f"only after it calmed down to {CALM_RESTARTS_PER_HOUR} |" in text


def test_each_fault_is_explained():
    assert [name for name in column("What flows") if name in FAULT_KINDS] == list(FAULT_KINDS)


def test_each_setting_is_explained_with_its_default():
    rows = table("docs/services/mesh.md", "Settings")
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows}
    assert set(shown) == set(FlowSettings.model_fields)
    for name, field in FlowSettings.model_fields.items():
        if isinstance(field.default, float):
            assert shown[name] == f"{field.default:g}"
    assert shown["quiet"] == str(list(FlowSettings().quiet)).replace("'", '"')


def test_the_truth_that_is_shown_flows():
    (document,) = documents(PAGE)
    flows = build_flows(parse_truth(document.encode()).truth)
    assert [(edge.svc, edge.does) for edge in flows.edges] == [("rss_agg", "writes"), ("vexy_ai", "reads")]


def test_the_picture_that_is_called_old_is_old():
    ages = [float(age) for age in re.findall(r"is ([\d.]+) s old", "".join(blocks(PAGE, "text")))]
    assert ages
    assert min(ages) > OLD_SEC
