"""A real Prometheus, a real healer: what is told is what Prometheus takes, keeps and alerts on."""

import subprocess

import pytest

from support.pages import ROOT
from support.rig import free_port
from support.rig.metrics import Prometheus, answers, asked
from support.scenes.faults import TIMEOUT_SEC, WARM_UP_SEC, Scene, service
from support.waiting import until

pytestmark = pytest.mark.needs("prometheus", "promtool")

RULES = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
NO_NOTIFIER = {("NobodyNotifies", "")}
"""What is right here, if the machine takes a minute for this."""
SEEN_SEC = 5.0
"""A scrape, an evaluation, and a busy machine."""


def known(prometheus: Prometheus, query: str) -> float:
    """Return the value of a query; while a scrape that took too long left none, wait for the next."""
    found = until(lambda: [each for each in [prometheus.value(query)] if each is not None], SEEN_SEC, query)
    return float(found[0])


def test_prometheus_sees_a_service_go_and_come_back_and_the_rules_that_we_ship_fire(tmp_path):
    ports = {"healer": free_port(), "sentinel": free_port()}
    services = {"alpha": service(), "beta": service(), "sentinel": service()}
    with Scene(tmp_path, services, (), idle={"sentinel"}) as scene:
        for name, port in ports.items():
            scene.start(name, METRICS_PORT=str(port))
            until(lambda port=port: answers(port), what=scene[name])
        with Prometheus(tmp_path / "prometheus", list(ports.values()), RULES) as prometheus:
            healer = f'instance="127.0.0.1:{ports["healer"]}"'
            alpha = f'marketswarm_service_up{{svc="alpha",{healer}}}'
            until(lambda: prometheus.value(alpha) == 1, what="alpha to be up")
            until(lambda: prometheus.value('sum(up{job="marketswarm"})') == 2, SEEN_SEC, "both to answer")
            until(lambda: not prometheus.alerts() - NO_NOTIFIER, what="nothing to alert on")

            died = scene.stop_beating("alpha")
            until(
                lambda: prometheus.value(alpha) == 0, TIMEOUT_SEC + WARM_UP_SEC + SEEN_SEC, "alpha to be down"
            )
            assert known(prometheus, f'marketswarm_service_up{{svc="beta",{healer}}}') == 1
            last = known(
                prometheus, f'marketswarm_service_last_beat_timestamp_seconds{{svc="alpha",{healer}}}'
            )
            assert last == pytest.approx(died, abs=1)
            until(lambda: ("ServiceDown", "alpha") in prometheus.alerts(), SEEN_SEC, "the rule")
            scene.beat_again("alpha")
            until(lambda: prometheus.value(alpha) == 1, SEEN_SEC, "alpha to be up again")
            until(lambda: not prometheus.alerts() - NO_NOTIFIER, SEEN_SEC, "the end of the alert")
            assert known(prometheus, f'marketswarm_service_misses_total{{svc="alpha",{healer}}}') == 1
            assert prometheus.value(f"sum(increase(marketswarm_beats_heard_total{{{healer}}}[1m]))") > 0

            scene["healer"].kill()
            until(lambda: prometheus.value(f"up{{{healer}}}") == 0, SEEN_SEC, "the healer to be gone")
            until(lambda: prometheus.value(alpha) is None, SEEN_SEC, "no stale word on alpha")
            scene.start("healer")
            until(lambda: prometheus.value(alpha) == 1, what="the next healer's word")


def test_the_linter_of_prometheus_has_nothing_to_say_to_what_a_healer_tells(tmp_path):
    port = free_port()
    with Scene(tmp_path, {"alpha": service()}, env={"METRICS_PORT": str(port)}) as scene:
        scene.stop_beating("alpha")
        scene.wait_logged("heartbeat_miss", "alpha")
        text = asked(port)
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
