"""Asks agents for their metrics, and a real Prometheus for what it made of them."""

import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from support.rig.process import HOST, Process, free_port
from support.waiting import PATIENT_SEC, until

Key = tuple[str, frozenset[tuple[str, str]]]


def asked(port: int, within: float = PATIENT_SEC) -> str:
    """Return an agent's metrics, as text."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=within) as answer:
        return str(answer.read().decode())


def samples(port: int) -> dict[Key, float]:
    """The same, by name and labels; the library's own parser must understand it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(asked(port))
        for sample in family.samples
    }


def key(name: str, **labels: str) -> Key:
    """Return the key of a value in `samples`; the name is given without its first word."""
    return f"marketswarm_{name}", frozenset(labels.items())


def answers(port: int) -> bool:
    """Return True if the agent answers."""
    try:
        return bool(asked(port, 2.0))
    except OSError:
        return False


class Prometheus(Process):
    """A real Prometheus with a folder of its own that asks `ports` every half second."""

    def __init__(self, folder: Path, ports: list[int], rules: str = "") -> None:
        super().__init__()
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"] if rules else [],
            "scrape_configs": [
                {
                    "job_name": "marketswarm",
                    "static_configs": [{"targets": [f"{HOST}:{port}" for port in ports]}],
                }
            ],
        }
        (folder / "rules.yml").write_text(rules, encoding="utf-8")
        (folder / "prometheus.yml").write_bytes(orjson.dumps(config))  # JSON is YAML
        with (folder / "log").open("wb") as log:
            self.spawn(
                [
                    "prometheus",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={HOST}:{self.port}",
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        until(lambda: self._ready() or not self.running, what="Prometheus to be ready")
        assert self.running, (folder / "log").read_text(encoding="utf-8")[-1000:]

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.stop(20)
        self.close()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """Return the reply of its HTTP API."""
        where = f"http://{HOST}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(where, timeout=10) as answer:
            return orjson.loads(answer.read())["data"]

    def value(self, query: str) -> float | None:
        """The one value of a query; None when there is none."""
        found = self.ask("query", query=query)["result"]
        assert len(found) <= 1, f"{query}: {found}"
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> set[tuple[str, str]]:
        """Return the alerts that fire: the rule, and the service, the bus or nothing."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("svc") or alert["labels"].get("bus", ""))
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }
