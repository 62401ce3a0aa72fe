"""What the webhooks of the peers say, and a peer that is not installed."""

import json
from types import SimpleNamespace

import pytest

from bench.peers import __main__ as peers
from bench.peers import healthchecks, kuma, nats, ours, peer, prometheus


def test_our_webhook_names_the_services_that_are_missed():
    events = [
        {"type": "heartbeat_miss", "svc": "a", "reason": "silent"},
        {"type": "heartbeat_miss", "svc": "c", "reason": "never_seen"},
        {"type": "heartbeat_ok", "svc": "b"},
    ]
    assert ours.find_names(json.dumps({"data": {"events": events}}).encode()) == ["a"]


def test_that_of_alertmanager_names_the_jobs_that_fire():
    alerts = [
        {"status": "firing", "labels": {"job": "svc1"}},
        {"status": "resolved", "labels": {"job": "svc2"}},
    ]
    assert prometheus.find_names(json.dumps({"alerts": alerts}).encode()) == ["svc1"]


def test_that_of_healthchecks_names_one_check():
    assert healthchecks.find_names(b'{"check": "svc1"}') == ["svc1"]


def test_our_watcher_of_nats_names_the_keys_that_ended():
    assert nats.find_names(b'{"gone": ["svc1", "svc2"]}') == ["svc1", "svc2"]


def test_services_that_die_while_they_are_pinged_are_no_figures(monkeypatch):
    told = SimpleNamespace(arrivals={"svc2": 0.1})  # before it was pinged, which is none

    def send_slowly(*_):
        told.arrivals["svc1"] = 0.5
        return 100.0, 1.0

    monkeypatch.setattr(peer, "send_pings", send_slowly)
    with pytest.raises(RuntimeError, match="1 died while they were pinged"):
        peer.measure_peer(peer.Peer(1, ["/svc1"], ["svc1"], []), told, 10.0)


def test_that_of_kuma_names_a_monitor_that_is_down():
    told = [{"monitor": {"name": f"svc{status}"}, "heartbeat": {"status": status}} for status in (0, 1)]
    assert [kuma.find_names(json.dumps(each).encode()) for each in told] == [["svc0"], []]


def test_a_peer_is_looked_for_in_the_folder_that_a_variable_names(monkeypatch, tmp_path, capsys):
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").touch(0o755)
    monkeypatch.setattr(peers, "PEERS", {"Healthchecks": healthchecks})
    monkeypatch.setenv("HEALTHCHECKS_FOLDER", str(tmp_path))
    peers.main()
    said = capsys.readouterr().out
    assert said == "SKIPPED Healthchecks: not installed: $HEALTHCHECKS_FOLDER/.venv/bin/uwsgi\n"


def test_a_peer_that_is_not_installed_is_named_and_skipped(monkeypatch, capsys):
    monkeypatch.setattr(peers, "PEERS", {"Prometheus": prometheus})
    monkeypatch.setattr(peers.shutil, "which", lambda name: name == "prometheus")
    peers.main()
    said = capsys.readouterr().out
    assert "SKIPPED Prometheus: not installed: prometheus-pushgateway, prometheus-alertmanager" in said
