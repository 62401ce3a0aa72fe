"""What the webhooks of the peers say, and a peer that is not installed."""

import json

from bench.peers import __main__ as peers
from bench.peers import ours, prometheus


def test_our_webhook_names_the_services_that_are_missed():
    events = [{"type": "heartbeat_miss", "svc": "a"}, {"type": "heartbeat_ok", "svc": "b"}]
    assert ours.find_names(json.dumps({"data": {"events": events}}).encode()) == ["a"]


def test_that_of_alertmanager_names_the_jobs_that_fire():
    alerts = [
        {"status": "firing", "labels": {"job": "svc1"}},
        {"status": "resolved", "labels": {"job": "svc2"}},
    ]
    assert prometheus.find_names(json.dumps({"alerts": alerts}).encode()) == ["svc1"]


def test_a_peer_that_is_not_installed_is_named_and_skipped(monkeypatch, capsys):
    monkeypatch.setattr(peers, "PEERS", {"Prometheus": prometheus})
    monkeypatch.setattr(peers.shutil, "which", lambda name: name == "prometheus")
    peers.main()
    said = capsys.readouterr().out
    assert "SKIPPED Prometheus: not installed: prometheus-pushgateway, prometheus-alertmanager" in said
