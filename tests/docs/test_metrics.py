"""Holds the page on metrics to what is told, and what it shows to Prometheus' own checker."""

import shutil
import subprocess
from collections import Counter
from types import SimpleNamespace

import pytest

from healer.relay import Relay, collect_relays
from healer.service_alert import RULES
from marketswarm.agent.metrics import AgentMetrics, AgentState
from marketswarm.agent.shards import collect_shares
from marketswarm.bus.stored_values import collect_unusable
from marketswarm.detector import Moment
from marketswarm.monitor import Monitor, VerdictEncoder
from marketswarm.monitor.leadership import Fence
from marketswarm.monitor.publisher import LogLength
from notifier.metrics import NotifierMetrics
from sentinel.follow import SkippedEntries
from services.archive.metrics import ArchiveMetrics
from services.bars.metrics import BarsMetrics
from services.board.guard import Guard
from services.board.market.metrics import collect_market
from services.board.market.updates import UpdateHub
from services.board.metrics import BoardMetrics
from services.board.recorder import HistoryRecorder
from services.board.stream import StreamHub
from services.massive.market.status import MarketStatus
from services.massive.probes.alerts import AlertPublisher
from services.massive.probes.metrics import collect_metrics
from services.massive.probes.publish import ResultPublisher
from services.sources.metrics import SourcesMetrics
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


BOX = {"retries": 0, "superseded": 0, "forgotten": 0, "log_length": LogLength()}


def row(family):
    labels = ", ".join(f"`{label}`" for label in family.labels) or "-"
    return f"`{family.name}`", family.kind, labels


def shown(heading):
    return [tuple(cells[:3]) for cells in table("docs/metrics.md", heading)]


def test_the_table_of_every_agent_is_what_every_agent_tells():
    own = AgentMetrics("healer", "abc")
    own.get_state = lambda: AgentState(1, degraded=False, beats_sent=1, beats_failed=0, last_beat_at=0.0)
    assert sorted(shown("Every agent")) == sorted(map(row, [*own.collect(), *collect_unusable()]))


def test_the_table_of_who_shares_is_what_a_share_tells():
    assert sorted(shown("Agents that share their work")) == sorted(map(row, collect_shares([])))


async def test_the_table_of_the_healer_is_what_a_monitor_collects():
    monitor = Monitor(
        MonitorOwner(),
        VerdictEncoder(family="heartbeat", by="healer", channel="c"),
        home="bus",
        leadership=Lead(),
    )
    monitor.detector.set_roster([], {"bus": 10.0}, Moment(0.0, 0.0))
    monitor.links["bus"] = type(
        "Post", (), {"publisher": type("Box", (), {**BOX, "__len__": lambda _: 0})()}
    )()
    relay = Relay(RULES[0], lambda: None, lambda: "c", Lead(), LogLength())
    assert sorted(shown("Healer and sentinel")) == sorted(
        map(row, [*monitor.metrics.collect(), *collect_relays([relay]), *SkippedEntries().collect()])
    )


def test_the_table_of_the_notifier_is_what_it_tells():
    assert sorted(shown("Notifier")) == sorted(map(row, NotifierMetrics().collect()))


def test_the_table_of_market_data_is_what_it_tells():
    assert sorted(shown("Market data")) == sorted(map(row, MarketStatus().collect()))


def test_the_table_of_massive_is_what_its_probes_tell():
    nowhere = lambda: None  # noqa: E731 - nothing is put anywhere
    told = collect_metrics({}, {}, ResultPublisher(nowhere), AlertPublisher(nowhere, "abc"))
    assert sorted(shown("massive")) == sorted(map(row, told))


def test_the_table_of_the_board_is_what_it_tells():
    reader = type("Reader", (), {"took_sec": 0.1})()
    writer = type("Writer", (), {"acknowledged": Counter(), "waiting": 0})()
    guard = Guard(None, (), None)
    told = BoardMetrics(reader, StreamHub("boot"), guard, HistoryRecorder(None), writer).collect()
    assert shown("board") == list(map(row, told))


def test_the_tables_of_the_market_services_are_what_they_tell():
    assert shown("sources") == list(map(row, SourcesMetrics().collect()))
    assert shown("bars") == list(map(row, BarsMetrics().collect()))
    assert shown("archive") == list(map(row, ArchiveMetrics().collect()))


def test_the_table_of_the_market_on_the_board_is_what_it_tells():
    counts = SimpleNamespace(memory=0, redis=0, archive=0)
    parts = {"charts": SimpleNamespace(counts=counts), "live": SimpleNamespace(malformed=0)}
    parts["feed"] = SimpleNamespace(has_market=True, problem=None)
    parts["archive"] = SimpleNamespace(is_configured=True, problem=None)
    market = SimpleNamespace(hub=UpdateHub("boot"), answers=SimpleNamespace(hits=0), **parts)
    assert shown("The market on the board") == list(map(row, collect_market(market)))


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
