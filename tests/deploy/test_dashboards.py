"""The dashboards of deploy/grafana as Grafana loads them: their shape, and what they name."""

import itertools
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location

import orjson
import pytest
import yaml

from support.pages import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
PATHS = sorted((GRAFANA / "dashboards").glob("*.json"))
DASHBOARDS = [orjson.loads(path.read_bytes()) for path in PATHS]
VOLUMES = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"][
    "volumes"
]
every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=[path.stem for path in PATHS])
KINDS = {"timeseries", "stat", "state-timeline", "bargauge"}
BUILT_IN = {"datasource", "__rate_interval", "__range"}


def panels_of(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_there_are_four_and_each_has_an_id_of_its_own():
    assert [path.stem for path in PATHS] == ["buses", "fleet", "notifications", "service"]
    assert len({dashboard["uid"] for dashboard in DASHBOARDS}) == 4
    assert len({dashboard["title"] for dashboard in DASHBOARDS}) == 4


def test_the_files_are_what_the_tool_makes(monkeypatch):
    place = spec_from_file_location("dashboards", ROOT / "tools" / "dashboards.py")
    tool = module_from_spec(place)
    monkeypatch.setitem(sys.modules, "dashboards", tool)
    place.loader.exec_module(tool)
    for each in tool.DASHBOARDS:
        path = tool.FOLDER / f"{each.name}.json"
        assert path.read_bytes() == tool.render_dashboard(each), "run .venv/bin/python tools/dashboards.py"


@every_dashboard
def test_it_has_a_schema_of_grafana_12_and_no_id_of_a_database(dashboard):
    assert dashboard["schemaVersion"] == 41
    assert dashboard["id"] is None
    assert re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"])
    assert dashboard["title"]
    assert dashboard["description"]


@every_dashboard
def test_each_panel_has_an_id_a_title_a_description_and_a_unit(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] for panel in dashboard["panels"])
    titles = [panel["title"] for panel in panels_of(dashboard)]
    assert len(titles) == len(set(titles))
    for panel in panels_of(dashboard):
        assert panel["type"] in KINDS
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


@every_dashboard
def test_no_panel_lies_on_another_or_beside_the_grid(dashboard):
    places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
    for title, place in places:
        assert place["x"] >= 0, title
        assert place["y"] >= 0, title
        assert place["x"] + place["w"] <= 24, title
    for (one, a), (other, b) in itertools.combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one} lies on {other}"


@every_dashboard
def test_each_query_goes_to_the_chosen_data_source_and_uses_variables_that_are_there(dashboard):
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    known = BUILT_IN | variables.keys()
    used = set()
    for panel in panels_of(dashboard):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["instant"] is not target["range"]
            used |= set(re.findall(r"\$(\w+)", target["expr"]))
    assert used <= known
    assert variables.keys() - {"datasource"} <= used


@every_dashboard
def test_each_metric_that_is_named_is_on_the_page(dashboard):
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(marketswarm_\w+)`", page, re.MULTILINE))
    text = " ".join(target["expr"] for panel in panels_of(dashboard) for target in panel["targets"])
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bmarketswarm_\w+", text)}
    assert named
    assert named <= shown


def test_the_container_has_the_data_source_and_the_folder_that_are_provisioned():
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/marketswarm.yml").read_text("utf-8"))[
        "providers"
    ]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in VOLUMES
    for volume in VOLUMES:
        source, _, _ = volume.partition(":")
        assert not source.startswith("./") or (ROOT / source).exists(), volume


def test_nobody_logs_in_to_grafana_and_it_calls_nobody():
    settings = (GRAFANA / "grafana.ini").read_text(encoding="utf-8")
    for line in (
        "disable_initial_admin_creation = true",
        "disable_login_form = true",
        "org_role = Viewer",
        "enforce_domain = true",
        "reporting_enabled = false",
        "check_for_updates = false",
        "preinstall_disabled = true",
    ):
        assert f"\n{line}\n" in settings
