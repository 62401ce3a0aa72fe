"""Prometheus with Pushgateway and Alertmanager, as fast as their settings allow."""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.notify import Receiver
from bench.peers.peer import SERVICES, TIMEOUT_SEC, Peer
from bench.server import find_free_port, wait_for_port

DIFFERENCE: Final = (
    "scrapes and evaluates each second, and groups nothing; by default it does so each minute, and groups "
    "for 30 s. Pushes are acknowledged from memory, and not checked against those of others, which its "
    "manual calls dangerous: checked, it takes 300 a second"
)
PROGRAMS: Final = ("prometheus", "prometheus-pushgateway", "prometheus-alertmanager")


def find_names(document: bytes) -> list[str]:
    """Return the jobs that a webhook says are silent."""
    alerts = json.loads(document)["alerts"]
    return [alert["labels"]["job"] for alert in alerts if alert["status"] == "firing"]


def write_settings(folder: Path, gateway: int, alerts: int, url: str) -> None:
    """Write the files of both programs. They are YAML, which JSON is, too."""
    rule = {"alert": "Silent", "expr": f'time() - push_time_seconds{{job=~"svc.*"}} > {TIMEOUT_SEC:g}'}
    files: dict[str, Any] = {
        "prometheus.yml": {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "pushes",
                    "honor_labels": True,
                    "static_configs": [{"targets": [f"127.0.0.1:{gateway}"]}],
                }
            ],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts}"]}]}]},
        },
        "rules.yml": {"groups": [{"name": "silence", "rules": [rule]}]},
        "alertmanager.yml": {
            "route": {"receiver": "hook", "group_by": ["job"], "group_wait": "0s", "group_interval": "1s"},
            "receivers": [{"name": "hook", "webhook_configs": [{"url": url}]}],
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), "utf-8")


@contextlib.contextmanager
def run_peer(receiver: Receiver) -> Iterator[Peer]:
    gateway, alerts, queries = find_free_port(), find_free_port(), find_free_port()
    names = [f"svc{n}" for n in range(SERVICES)]
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as name, contextlib.ExitStack() as ends:
        folder = Path(name)
        write_settings(folder, gateway, alerts, receiver.url)
        commands = [
            ["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{gateway}",
             # Debian's keeps pushes in a file of the system, so those of an earlier run would fire at once.
             "--persistence.file=", "--push.disable-consistency-check"],
            ["prometheus-alertmanager", f"--web.listen-address=127.0.0.1:{alerts}",
             "--config.file=alertmanager.yml", "--storage.path=alerts", "--cluster.listen-address="],
            ["prometheus", f"--web.listen-address=127.0.0.1:{queries}", "--config.file=prometheus.yml",
             "--storage.tsdb.path=data"],
        ]  # fmt: skip
        pids = [ends.enter_context(run_command(command, folder)) for command in commands]
        for port in (gateway, alerts, queries):
            wait_for_port(port)
        yield Peer(gateway, [f"POST /metrics/job/{each}" for each in names], names, pids)


@contextlib.contextmanager
def run_command(command: list[str], folder: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a program in a folder, and yield its process id; `env` is its environment if it is not ours."""
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(15)
