"""Every query of every dashboard, put to a real Prometheus that scraped a real fleet."""

import orjson
import pytest

from support.dashboards import find_empty, list_queries, list_variables
from support.pages import ROOT
from support.rig import free_port
from support.rig.metrics import Prometheus, answers, key, samples
from support.rig.receiver import Receiver
from support.scenes.faults import Scene, service
from support.scenes.notifier import hooks
from support.waiting import until

pytestmark = pytest.mark.needs("prometheus")

RULES = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
SHIPPED = orjson.loads((ROOT / "truth.json").read_bytes())["services"]
AGENTS = ("massive", "mesh", "rss_agg", "vexy_ai", "sentinel", "notifier", "board", "medic", "healer")
NAMES = ("buses", "fleet", "notifications", "service")
"""The dashboards of any fleet: tests/market has that of signals."""
MAY_BE_EMPTY = {
    ("fleet", "Flow between services", "A"),
    ("buses", "Saves that were refused", "A"),
    ("notifications", "Alerts of massive", "B"),
    ("service", "Values that could not be used", "A"),
}
"""Queries of what a fleet that is well has none of."""


def sections(receiver):
    """The shipped services with quick beats, a channel, and a service that only beats."""
    found = {
        svc: {**SHIPPED[svc], **service(timeout_sec=10)}
        for svc in AGENTS
        if svc not in ("healer", "sentinel")
    }
    found["notifier"]["settings"] = {"group_wait_sec": 0.2, "channels": hooks(one=receiver)}
    found["massive"]["settings"] = {**found["massive"]["settings"], "probe_sec": 1}
    return {**found, "sentinel": service(timeout_sec=10), "alpha": service()}


@pytest.mark.timeout(600)
def test_each_query_of_each_dashboard_has_an_answer_from_a_fleet_that_runs(tmp_path):
    ports, board_port = {name: free_port() for name in AGENTS}, free_port()
    with (
        Receiver() as receiver,
        Scene(tmp_path, sections(receiver), (), idle=AGENTS) as scene,
    ):
        for name, port in ports.items():
            scene.start(name, METRICS_PORT=str(port), BOARD_PORT=str(board_port))
        for name, port in ports.items():
            until(lambda port=port: answers(port) and key("truth_revision") in samples(port), what=name)
        healer = ports["healer"]
        until(lambda: samples(healer).get(key("service_up", svc="alpha")) == 1, what=scene["healer"])
        with Prometheus(tmp_path / "prometheus", list(ports.values()), RULES) as prometheus:
            until(lambda: prometheus.value('sum(up{job="marketswarm"})') == len(AGENTS), what="all to answer")
            scene.stop_beating("alpha")
            receiver.wait("heartbeat_miss", "alpha", 30)
            until(lambda: ("ServiceDown", "alpha") in prometheus.alerts(), what="the rule")

            def missing():
                empty, refused = find_empty(prometheus, list_queries(NAMES))
                assert not refused, refused
                return [one for one in empty if one.place not in MAY_BE_EMPTY]

            until(lambda: not missing(), 40, lambda: f"a series for each: {missing()}")
            for metric, label in list_variables(NAMES):
                found = prometheus.ask("query", query=f"group by ({label}) ({metric})")["result"]
                assert all(series["metric"][label] for series in found), metric
                assert found, metric


def test_the_exceptions_are_queries_that_there_are():
    assert {one.place for one in list_queries(NAMES)} >= MAY_BE_EMPTY
