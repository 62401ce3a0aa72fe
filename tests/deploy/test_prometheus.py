"""Holds the rules and the configuration of Prometheus to compose.yaml and to Prometheus' own checker."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from support.pages import ROOT, table

FOLDER = ROOT / "deploy" / "prometheus"
CASES = Path(__file__).parent / "rules_test.yml"
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
SERVICES, MARKET = (
    yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"]
    for file in ("compose.yaml", "compose.market.yaml")
)


def run_promtool(*arguments):
    found = subprocess.run(
        ["promtool", *map(str, arguments)],
        cwd=CASES.parent,
        capture_output=True,
        text=True,
        timeout=240,  # it computes for half a minute, and a busy machine for longer
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_every_agent_of_the_compose_files_is_scraped():
    agents = {
        name
        for name, service in SERVICES.items()
        if service.get("healthcheck", {}).get("test") == ["CMD", "marketswarm", "check"]
    }
    agents |= {name for name, service in MARKET.items() if "file" in service.get("extends", {})}
    [job] = CONFIG["scrape_configs"]
    [discovery] = job["dns_sd_configs"]
    assert set(discovery["names"]) == agents
    assert len(agents) >= 11
    assert job["job_name"] == "marketswarm"


def test_each_rule_says_what_is_wrong_and_how_bad_it_is():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_the_page_explains_each_rule():
    shown = {row[0].strip("`") for row in table("docs/metrics.md", "What to alert on")}
    assert shown == {rule["alert"] for rule in RULES}


def test_each_rule_has_a_case_in_which_it_is_quiet_and_one_in_which_it_fires():
    found = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    assert sorted(set(found)) == sorted((rule["alert"], fires) for rule in RULES for fires in (False, True))


def test_each_metric_in_a_rule_is_in_a_table_of_the_page():
    named = {name for rule in RULES for name in re.findall(r"\bmarketswarm_\w+", rule["expr"])}
    tables = {
        cells[0].strip("`")
        for head in (
            "Every agent",
            "Healer and sentinel",
            "Notifier",
            "medic",
            "board",
            "The market on the board",
            "sources",
            "archive",
            "signals",
        )
        for cells in table("docs/metrics.md", head)
    }
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} <= tables


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_configuration_and_the_rules():
    assert f"{len(RULES)} rules found" in run_promtool("check", "config", FOLDER / "prometheus.yml")


@pytest.mark.needs("promtool")
def test_each_rule_fires_in_its_case_and_in_no_other():
    assert "SUCCESS" in run_promtool("test", "rules", CASES)
