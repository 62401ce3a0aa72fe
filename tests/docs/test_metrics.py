"""Holds the page, the dashboards and the rules to what is told, and the page to Prometheus' own checker."""

import re
import shutil
import subprocess
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml

from healer.relay import Relay, collect_relays
from marketswarm.agent.metrics import AgentMetrics
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import MONITOR, PROBES, RULES
from marketswarm.agent.shards import collect_shares
from marketswarm.bus.stored_values import collect_unusable
from marketswarm.detector import Moment
from marketswarm.monitor import Monitor, VerdictEncoder
from marketswarm.monitor.leadership import Fence
from marketswarm.monitor.publisher import LogLength
from marketswarm.monitor.verdict_queue import RecentWrites, VerdictQueue
from marketswarm.web.event_stream import StreamHub
from marketswarm.web.guard import Guard
from marketswarm.web.updates import UpdateHub
from notifier.metrics import NotifierMetrics
from sentinel.fallback import collect_skipped
from services.archive.metrics import ArchiveMetrics
from services.bars.metrics import BarsMetrics
from services.board.answer_times import AnswerTimes
from services.board.fleet.recorder import HistoryRecorder
from services.board.market.archive_reader import ArchiveReader
from services.board.metrics import collect_backtests, collect_board, collect_market
from services.board.site_rules import SITE_RULES
from services.massive.market.status import MarketStatus
from services.massive.probes.monitor import ProbeMonitor
from services.massive.probes.publish import ResultPublisher
from services.medic.alert_follower import AlertFollower
from services.medic.loop import collect_metrics as collect_medic_metrics
from services.medic.medic import Medic
from services.medic.rules.monitor import RuleMonitor
from services.medic.settings import HealingSettings, MedicEnvironment
from services.mesh.listener import BeatListener
from services.mesh.loop import collect_metrics as collect_mesh_metrics
from services.mesh.topology import Topology
from services.rss_agg.metrics import RssMetrics
from services.signals.ask.metrics import AskMetrics
from services.signals.metrics import SignalsMetrics
from services.signals.observer import SignalObserver
from services.sources.metrics import SourcesMetrics
from services.vexy_ai.metrics import VexyMetrics
from support.dashboards import FOLDER, list_queries
from support.pages import ROOT, blocks, table

PAGE = ROOT / "docs" / "metrics.md"


class Lead:
    """A leadership that has a lease."""

    def fence(self, _bus):
        return Fence("abc", 1)

    def deny_leadership(self, _bus):
        pass

    def leader_seen_at(self, _bus):
        return 0.0

    def leader_heard_bus_at(self, _bus):
        return 0.0


class MonitorOwner:
    name, boot = "healer", "abc"

    def progress(self) -> None: ...


BOX = {"retries": 0, "queue": VerdictQueue(), "recent": RecentWrites(), "log_length": LogLength()}


def row(family):
    labels = ", ".join(f"`{label}`" for label in family.labels) or "-"
    return f"`{family.name}`", family.kind, labels


def collect_of_every_agent():
    own = AgentMetrics(SimpleNamespace(name="healer", boot="abc", revision=1))
    own.sender = SimpleNamespace(is_degraded=False, sent=1, failed=0, sent_at=0.0)
    return [*own.collect(), *collect_unusable()]


def collect_of_a_monitor():
    encoder = VerdictEncoder(family="heartbeat", by="healer", channel="c")
    monitor = Monitor(MonitorOwner(), encoder, home="bus", leadership=Lead())
    monitor.detector.set_roster([], {"bus": 10.0}, Moment(0.0, 0.0))
    publisher = type("Box", (), {**BOX, "__len__": lambda _: 0})()
    monitor.links["bus"] = type("Post", (), {"publisher": publisher})()
    relay = Relay(RULES[0], None, "bus", encoder, Lead(), LogLength())
    return [*monitor.metrics.collect(), *collect_relays([relay]), *collect_skipped({})]


def collect_of_massive():
    nowhere = lambda: None  # noqa: E731 - nothing is put anywhere
    results, alerts = ResultPublisher(nowhere), OutageAlerts(None, PROBES)
    parts = {"scheduler": SimpleNamespace(latest=dict), "results": results, "alerts": alerts}
    return ProbeMonitor.collect(SimpleNamespace(**parts))


def collect_of_medic():
    rules = RuleMonitor(None, HealingSettings, OutageAlerts(None, MONITOR))
    me = SimpleNamespace(settings=MedicEnvironment())
    medic = Medic(me, HealingSettings, rules)
    return collect_medic_metrics(medic, AlertFollower(None, HealingSettings, medic.wake))


def collect_of_mesh():
    topology = Topology(lambda _svc: 1.0)
    flowing = SimpleNamespace(graph=None, faults=[])
    return collect_mesh_metrics(topology, BeatListener(None, topology), flowing)


def collect_of_the_board():
    reader = SimpleNamespace(took_sec=0.1, hub=StreamHub("boot"))
    writer = SimpleNamespace(acknowledged=Counter(), waiting=0)
    guard, tls = Guard(None, SITE_RULES, None), SimpleNamespace(refused=0)
    return collect_board(reader, guard, HistoryRecorder(None), writer, AnswerTimes(guard), tls=tls)


def collect_of_its_market():
    kept = SimpleNamespace(counts=SimpleNamespace(memory=0, redis=0, source=0))
    market = SimpleNamespace(
        hub=UpdateHub("boot"),
        answers=kept,
        charts=SimpleNamespace(bases=kept),
        live=SimpleNamespace(malformed=0),
        streams=(),
        feed=SimpleNamespace(has_market=True, problem=None),
        archive=ArchiveReader("postgresql://host/database"),
    )
    queue = SimpleNamespace(
        waiting=0, running=0, finished={}, took_sec=0.0, store=SimpleNamespace(set_aside=0)
    )
    return [*collect_market(market), *collect_backtests(queue)]


TOLD = {
    "Every agent": collect_of_every_agent,
    "Agents that share their work": lambda: collect_shares([]),
    "Healer and sentinel": collect_of_a_monitor,
    "Notifier": lambda: NotifierMetrics().collect(),
    "Market data": lambda: MarketStatus().collect(),
    "massive": collect_of_massive,
    "medic": collect_of_medic,
    "mesh": collect_of_mesh,
    "board": collect_of_the_board,
    "The market on the board": collect_of_its_market,
    "sources": lambda: SourcesMetrics().collect(),
    "bars": lambda: BarsMetrics().collect(),
    "archive": lambda: ArchiveMetrics().collect(),
    "Voters of signals": lambda: AskMetrics().collect(),
}
"""What the agents tell, by the heading of its table."""
UNLISTED = (
    lambda: RssMetrics().collect(),
    lambda: VexyMetrics().collect(),
    lambda: SignalsMetrics().collect(),
    lambda: SignalObserver.collect(SimpleNamespace(status=None, _now=lambda: 0.0)),
)
"""What further ones tell, whose tables are held to nothing."""


async def test_each_table_is_what_the_agents_tell():
    for heading, collect in TOLD.items():
        shown = [tuple(cells[:3]) for cells in table("docs/metrics.md", heading)]
        assert sorted(shown) == sorted(map(row, collect())), heading


def find_unexported(text):
    """Return the names of metrics in PromQL that no program exports."""
    families = [family for collect in (*TOLD.values(), *UNLISTED) for family in collect()]
    exported = {family.name for family in families if family.kind != "histogram"}
    exported |= {
        family.name + end
        for family in families
        for end in ("_bucket", "_count", "_sum")
        if family.kind == "histogram"
    }
    return set(re.findall(r"\bmarketswarm_\w+", text)) - exported


async def test_each_metric_of_a_dashboard_or_a_rule_is_one_that_a_program_exports():
    dashboards = [path.stem for path in FOLDER.glob("*.json")]
    for name in dashboards:
        assert not find_unexported(" ".join(one.expr for one in list_queries([name]))), name
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    assert not find_unexported(" ".join(rule["expr"] for group in rules for rule in group["rules"]))
    assert find_unexported("sum(marketswarm_no_such_total)") == {"marketswarm_no_such_total"}


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_configuration_that_is_shown(tmp_path):
    [config] = blocks(PAGE, "yaml")
    (tmp_path / "prometheus.yml").write_text(config, encoding="utf-8")
    found = subprocess.run(
        [str(shutil.which("promtool")), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr + found.stdout
    assert "SUCCESS" in found.stdout
