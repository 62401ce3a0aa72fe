"""The dashboards of deploy/grafana as Grafana loads them: their shape, and what they name."""

import copy
import itertools
import re

import orjson
import yaml

from support.pages import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
PATHS = sorted((GRAFANA / "dashboards").glob("*.json"))
DASHBOARDS = [orjson.loads(path.read_bytes()) for path in PATHS]
VOLUMES = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"][
    "volumes"
]
KINDS = {"timeseries", "stat", "state-timeline", "bargauge"}
BUILT_IN = {"datasource", "__rate_interval", "__range"}


def panels_of(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_there_are_nine_and_each_has_an_id_of_its_own():
    assert [path.stem for path in PATHS] == [
        *(
            "api",
            "buses",
            "collectors",
            "database",
            "fleet",
            "notifications",
            "processors",
            "service",
            "signals",
        )
    ]
    assert len({dashboard["uid"] for dashboard in DASHBOARDS}) == 9
    assert len({dashboard["title"] for dashboard in DASHBOARDS}) == 9


def find_mistakes(dashboard):
    """Yield what Grafana would refuse or show wrongly of a dashboard, as sentences."""
    if (dashboard["schemaVersion"], dashboard["id"]) != (41, None):
        yield "it has a schema of Grafana 12 and no id of a database"
    if not (
        re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"]) and dashboard["title"] and dashboard["description"]
    ):
        yield "it has an id, a title and a description"
    panels = panels_of(dashboard)
    for key, of in (("id", dashboard["panels"]), ("title", panels)):
        if len({panel[key] for panel in of}) < len(of):
            yield f"each panel has a {key} of its own"
    for panel in panels:
        is_whole = panel["type"] in KINDS and panel["description"].endswith(".") and panel["targets"]
        if not (is_whole and panel["title"] and panel["fieldConfig"]["defaults"]["unit"]):
            yield f"{panel['title']!r} has a kind, a description, a unit and a query"
    yield from find_misplaced([(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]])
    yield from find_wrong_queries(dashboard)


def find_misplaced(places):
    for title, place in places:
        if min(place["x"], place["y"]) < 0 or place["x"] + place["w"] > 24:
            yield f"{title} lies within the grid"
    for (one, a), (other, b) in itertools.combinations(places, 2):
        sides = (("x", "w"), ("y", "h"))
        if not any(p[at] + p[size] <= q[at] for at, size in sides for p, q in ((a, b), (b, a))):
            yield f"{one} does not lie on {other}"


def find_wrong_queries(dashboard):
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    source = variables["datasource"]
    if (source["type"], source["query"]) != ("datasource", "prometheus"):
        yield "its data source is chosen among those of Prometheus"
    used = set()
    for panel in panels_of(dashboard):
        if len({target["refId"] for target in panel["targets"]}) < len(panel["targets"]):
            yield f"each query of {panel['title']} has a letter of its own"
        for target in panel["targets"]:
            if panel["datasource"]["uid"] != "${datasource}" or target["datasource"] != panel["datasource"]:
                yield f"{panel['title']} asks the chosen data source"
            if target["instant"] is target["range"]:
                yield f"{panel['title']} asks for a moment or for a range"
            used |= set(re.findall(r"\$(\w+)", target["expr"]))
    if used - BUILT_IN - variables.keys() or variables.keys() - {"datasource"} - used:
        yield "each variable that is used is there, and each that is there is used"


def test_each_dashboard_is_one_that_grafana_shows_rightly():
    mistakes = [(dashboard["uid"], what) for dashboard in DASHBOARDS for what in find_mistakes(dashboard)]
    assert mistakes == []


def test_a_mistake_in_a_dashboard_is_found():
    broken = copy.deepcopy(DASHBOARDS[0])
    first, second = panels_of(broken)[:2]
    second["gridPos"], second["title"] = first["gridPos"], first["title"]
    first["targets"][0]["expr"] += "$unknown"
    found = " ".join(find_mistakes(broken))
    assert "a title of its own" in found
    assert "does not lie on" in found
    assert "each variable that is used is there" in found


def test_each_metric_that_is_named_is_on_the_page():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(marketswarm_\w+)`", page, re.MULTILINE))
    panels = [panel for dashboard in DASHBOARDS for panel in panels_of(dashboard)]
    text = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    named = {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"\bmarketswarm_\w+", text)}
    assert len(named) > 20
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
